"""Grants: what one credential, or one row of the rules, allows and denies, as checked filters.

Knows the grammar of filters, not who is granted what. The surprising decision: nothing is passed over. An unknown
word or one filter that breaks the grammar makes the whole wrong, because what is left out of a list of denials
opens something (S14).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, BadTopic, check_filter

from triode_broker.core.placeholders import placeholder_in
from triode_broker.core.rights import ACTIONS, Action

MAX_FILTERS: Final = 256  # of one action in one credential

Filters = tuple[str, ...]


class BadGrants(Exception):
    """What is wrong with them; a sentence without its beginning."""


@attrs.frozen
class Grants:
    """Checked filters by action."""

    allow: Mapping[Action, Filters] = attrs.field(factory=dict)
    deny: Mapping[Action, Filters] = attrs.field(factory=dict)


NOTHING: Final = Grants()


def parse_grants(given: object) -> Grants:
    """What an object grants: {"publish": ["a/#"], "deny_publish": ["a/b"]}. Raises BadGrants."""
    if not isinstance(given, Mapping):
        raise BadGrants("permissions are not an object")
    allow: dict[Action, Filters] = {}
    deny: dict[Action, Filters] = {}
    for word, filters in given.items():
        action = word.removeprefix("deny_") if isinstance(word, str) else ""
        if action not in ACTIONS:
            raise BadGrants(
                f"permissions hold a word that is none of {', '.join(ACTIONS)}, each with or without deny_"
            )
        into = allow if word == action else deny
        into[action] = check_filters(filters, f"permissions.{word}")
    return Grants(allow, deny)


def check_filters(filters: object, what: str) -> Filters:
    """A list of filters. Raises BadGrants."""
    if not isinstance(filters, Sequence) or isinstance(filters, str | bytes):
        raise BadGrants(f"{what} is not a list")
    if len(filters) > MAX_FILTERS:
        raise BadGrants(f"{what} has more than {MAX_FILTERS} filters")
    for one in filters:
        if not isinstance(one, str):
            raise BadGrants(f"{what} holds something that is not text")
        try:
            check_filter(one, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        except BadTopic as error:
            raise BadGrants(f"{what} holds what is not a filter: {error}") from None
        placeholder = placeholder_in(one)
        if placeholder is not None:  # letter by letter it would be a level that nobody has
            wrong = "stands for nothing in a credential's own rules, only in [[permissions]]: name whom it is for"
            raise BadGrants(f"{what} holds {placeholder}, which {wrong}")
    return tuple(filters)

"""Placeholders: rules that name who they are for, `rooms/{user}/#` (S12). Pure functions on strings.

A placeholder is a whole level: `{user}`, `{tenant}`, or `{claims.NAME}` of a token. Its value is one level,
letter by letter, whatever it looks like. The surprising decision: a value that cannot be one level makes an allow
rule match nothing and a deny rule match more than it names. Nobody gets more by being called `+`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from triode_protocol.topics import (
    HARD_MAX_BYTES,
    HARD_MAX_LEVELS,
    BadTopic,
    check_filter,
    check_topic,
    is_reserved,
)

from triode_broker.core.rights import BadRules

_PLACEHOLDER: Final = re.compile(r"\{(user|tenant|claims\.[A-Za-z0-9_.:@-]{1,64})\}")
_CLAIM: Final = "claims."

#: What placeholders stand for, by the name between the braces; a name that is missing has no value.
Values = Mapping[str, str]


def check_rule(rule: str) -> None:
    """Raise BadRules unless this is a filter whose levels may be placeholders that there are."""
    levels = rule.split("/")
    for level in levels:
        if ("{" in level or "}" in level) and not _PLACEHOLDER.fullmatch(level):
            raise BadRules(
                f"{level!r} is no placeholder: {{user}}, {{tenant}} or {{claims.NAME}} as a whole level"
            )
    try:
        check_filter("/".join("x" if "{" in level else level for level in levels), HARD_MAX_LEVELS, HARD_MAX_BYTES)
    except BadTopic as error:
        raise BadRules(f"{rule!r} is not a filter: {error}") from None


def placeholder_in(rule: str) -> str | None:
    """The first placeholder that a rule seems to have, as a level or inside of one; None: it has none."""
    found = _PLACEHOLDER.search(rule)
    return found[0] if found is not None else None


def values(user: str, tenant: str, claims: Mapping[str, object] | None = None) -> Values:
    """What the placeholders stand for; a claim is used that is a text or a whole number."""
    found = {"user": user, "tenant": tenant}
    for name, claim in (claims or {}).items():
        if isinstance(claim, str):
            found[_CLAIM + name] = claim
        elif isinstance(claim, int) and not isinstance(claim, bool):
            found[_CLAIM + name] = str(claim)
    return found


def expand_allow(rules: Iterable[str], values: Values) -> tuple[str, ...]:
    """Filters of checked rules that allow; those with a value that is no level match nothing and are left out."""
    return tuple(filter for rule in rules for filter in _allowed(rule.split("/"), values))


def expand_deny(rules: Iterable[str], values: Values) -> tuple[str, ...]:
    """Filters of checked rules that deny; a value that is no level stands for all it could be."""
    return tuple(filter for rule in rules for filter in _denied(rule.split("/"), values))


def _allowed(levels: list[str], values: Values) -> tuple[str, ...]:
    for place, level in enumerate(levels):
        if level[0] == "{":
            value = values.get(level[1:-1], "")
            # What begins with $ is the broker's: only a rule that names it reaches it.
            if not _is_level(value) or (place == 0 and is_reserved(value)):
                return ()
            levels[place] = value
    return ("/".join(levels),)


def _denied(levels: list[str], values: Values) -> tuple[str, ...]:
    for place, level in enumerate(levels):
        if level[0] != "{":
            continue
        value = values.get(level[1:-1], "")
        if _is_level(value):
            levels[place] = value
        elif "/" in value or "#" in value:  # it could be more than one level
            wide = "/".join([*levels[:place], "#"])
            first = value.partition("/")[0]
            # A wildcard as the first level leaves out what is the broker's; the value may have meant that.
            is_own = place == 0 and _is_level(first) and is_reserved(first)
            return (wide, f"{first}/#") if is_own else (wide,)
        else:
            levels[place] = "+"
    return ("/".join(levels),)


def _is_level(value: str) -> bool:
    try:
        check_topic(value, 1, HARD_MAX_BYTES)
    except BadTopic:
        return False
    return True

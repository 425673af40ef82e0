"""Which events a webhook wants: by kind and by topic. Pure.

The surprising decision: all of a tenant's events go to each of its webhooks, and are left out there. A filter that
changes by a reload then needs no other subscription, and nothing of what waits is lost.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw, Struct
from triode_protocol.topics import matches

from triode_broker.config import Webhook
from triode_broker.core.events import LOST, TOPICS


class _Seen(Struct):
    """What of an event is read here."""

    kind: str
    topic: str = ""


_seen = msgspec.json.Decoder(_Seen).decode


def kinds_of(row: Webhook) -> frozenset[str]:
    """The kinds that a row asks for; loss is told to everybody. Raises ValueError for what is no kind."""
    found = {LOST} | (set() if row.events else set(TOPICS))
    for wish in row.events:
        group = wish.removesuffix("*")
        those = {kind for kind in TOPICS if kind == wish or (group != wish and kind.startswith(group))}
        if not those or not group:
            raise ValueError(wish)
        found |= those
    return frozenset(found)


def by_tenant(rows: Iterable[Webhook]) -> Mapping[str, frozenset[str]]:
    """What all rows together ask for."""
    found: dict[str, frozenset[str]] = {}
    for row in rows:
        found[row.tenant] = found.get(row.tenant, frozenset()) | kinds_of(row)
    return found


class Wanted:
    """What one webhook wants."""

    def __init__(self, row: Webhook) -> None:
        self._kinds = kinds_of(row)
        self._filters = row.topics

    def is_for(self, event: Raw) -> bool:
        """Whether this event is for it; one that cannot be read is not."""
        try:
            seen = _seen(event)
        except msgspec.MsgspecError:
            return False
        if seen.kind not in self._kinds:
            return False
        if not self._filters or not seen.topic:
            return True
        return any(matches(filter, seen.topic) for filter in self._filters)

"""Watchers: who is told of `joined` and `left`, and what is owed to those that cannot take it now (SPEC 10.6).

Knows outboxes and encoded packets, not who is present. These are state packets, so none is dropped (G6). The
surprising decision is how that stays bounded: for a connection that is full one change per member is kept, and one
who came and went meanwhile is not told of at all. A connection that is owed too many is closed as too slow.
"""

from msgspec import Struct
from triode_protocol.errors import CloseCode

from triode_broker.config import Limits
from triode_broker.core.outbox import Outbox
from triode_broker.core.topic_tree import TopicTree


class Watching(Struct, eq=False):
    """One subscription that watches; told apart by identity."""

    filter: str
    outbox: Outbox


class Owed(Struct):
    """The newest change of one member that a full connection was not told of."""

    payload: bytes
    was_told: bool  # of the member before: a `left` is not spared


def _boxes(values: list[Watching], topic: str) -> tuple[Outbox, ...]:
    """Each connection once, however many of its subscriptions match."""
    return tuple(dict.fromkeys(value.outbox for value in values))


class Watchers:
    """Filters and connections, and what is owed to the connections."""

    def __init__(self, limits: Limits) -> None:
        self._tree: TopicTree[Watching, tuple[Outbox, ...]] = TopicTree(_boxes, limits.match_cache_values)
        self._limits = limits
        self._owed: dict[Outbox, dict[tuple[str, str], Owed]] = {}
        self.filters: dict[str, int] = {}  # how many watch each

    def limits_changed(self) -> None:
        """What it reads once."""
        self._tree.max_cached = self._limits.match_cache_values

    def add(self, watching: Watching) -> bool:
        """From here on it is told; whether it is the first one of its filter."""
        self._tree.add(watching.filter, watching)
        count = self.filters[watching.filter] = self.filters.get(watching.filter, 0) + 1
        return count == 1

    def remove(self, watching: Watching) -> bool:
        """It is told no more, nor owed anything because of it; whether it was the last one of its filter."""
        self._tree.remove(watching.filter, watching)
        self._forgive(watching.outbox)
        self.filters[watching.filter] -= 1
        if self.filters[watching.filter]:
            return False
        del self.filters[watching.filter]
        return True

    def _forgive(self, box: Outbox) -> None:
        """A connection watches less than before: it is owed only what it would still be told (G10)."""
        owed = self._owed.get(box, {})
        for key in [key for key in owed if box not in self._tree.match(key[0])]:
            del owed[key]

    def has_any(self, topic: str) -> bool:
        """Whether anybody watches a topic."""
        return bool(self._tree.match(topic))

    def joined(self, topic: str, id: str, payload: bytes, *, is_new: bool) -> None:
        """Tell all who watch the topic that a member is there, or has another state."""
        for box in self._tree.match(topic):
            if not self._is_behind(box):
                box.put(payload)
                continue
            owed = self._owed.setdefault(box, {})
            before = owed.get((topic, id))
            owed[topic, id] = Owed(payload, not is_new if before is None else before.was_told)
            self._keep_bounded(box, owed)

    def left(self, topic: str, id: str, payload: bytes) -> None:
        """Tell all who watch the topic that a member is gone."""
        for box in self._tree.match(topic):
            if not self._is_behind(box):
                box.put(payload)
                continue
            owed = self._owed.setdefault(box, {})
            before = owed.pop((topic, id), None)
            if before is None or before.was_told:
                owed[topic, id] = Owed(payload, was_told=True)
            self._keep_bounded(box, owed)

    def _is_behind(self, box: Outbox) -> bool:
        """Whether changes have to wait: for room, and for those that wait already."""
        return box.is_over or box in self._owed

    def _keep_bounded(self, box: Outbox, owed: dict[tuple[str, str], Owed]) -> None:
        box.wants_room = True
        if len(owed) > self._limits.max_presence_owed:
            owed.clear()
            box.connection.close(CloseCode.SLOW_CONSUMER)

    def told_all(self, box: Outbox, topic: str) -> None:
        """A connection has just been told who is present: of those it hears when they are gone."""
        for (owed_topic, _), owed in self._owed.get(box, {}).items():
            if owed_topic == topic:
                owed.was_told = True

    def room(self, box: Outbox) -> None:
        """There is room: say what is owed, as far as it fits."""
        owed = self._owed.get(box)
        if owed is None:
            return
        while owed and box.has_room:
            key = next(iter(owed))
            box.put(owed.pop(key).payload)
        if owed:
            box.wants_room = True
        else:
            del self._owed[box]

    def forget(self, box: Outbox) -> None:
        """Its connection is gone."""
        self._owed.pop(box, None)

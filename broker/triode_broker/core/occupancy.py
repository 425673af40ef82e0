"""Occupancy: which exact topics have subscriptions, here and on other nodes, told by the owner of their shard.

Stands where the core has its `Coverage`, and passes on to the one behind it: so it hears of each subscription once
when it begins and once when it ends, whatever it does in between. Wildcards occupy nothing: "#" would occupy every
topic there could be. The surprising decision: what was told is read from the events (`core.ledger`), not kept by
whoever told it. A new owner, or the same node in its next life, knows what it has to take back.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from triode_protocol.topics import is_wildcard

from triode_broker.config import Limits
from triode_broker.core.events import OCCUPIED, Event, Events, end_of
from triode_broker.core.interfaces import Coverage
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.core.tenants import is_own, tenant_of
from triode_broker.core.timers import Alarm, Timers

#: After an owner has changed, or a node has begun, until topics that nobody has asked for again count as vacated.
SETTLE_MS: Final = 15_000


class Occupancy:
    """One node's. `core.interfaces.Coverage`."""

    def __init__(
        self, events: Events, router: Router, limits: Limits, timers: Timers, behind: Coverage | None
    ) -> None:
        self._events = events
        self._router = router
        self._limits = limits
        self._timers = timers
        self._behind = behind
        self._held: dict[str, int] = {}  # exact topics of the core, and how many hold them: subscriptions, peers
        self._told: OrderedDict[str, Event] = OrderedDict()  # as occupied, by topic of the core
        self._due: OrderedDict[str, int] = OrderedDict()  # that nobody holds, and when that is told
        self._alarm = Alarm(timers, self._ring)

    def __len__(self) -> int:
        return len(self._told)

    # `core.interfaces.Coverage`

    def cover(
        self,
        filter: str,
        shards: Sequence[Any],
        position: Mapping[str, int] | None,
        then: Callable[[list[str]], None],
    ) -> None:
        """A subscription begins."""
        self.hold(filter)
        if self._behind is None:
            then([])
        else:
            self._behind.cover(filter, shards, position, then)

    def uncover(self, filter: str, shards: Sequence[Any]) -> None:
        """It has ended."""
        self.release(filter)
        if self._behind is not None:
            self._behind.uncover(filter, shards)

    # Who holds what

    def hold(self, filter: str) -> None:
        """Once more."""
        if is_wildcard(filter) or is_own(filter):
            return
        count = self._held.get(filter, 0)
        self._held[filter] = count + 1
        if not count:
            self._due.pop(filter, None)
            self._tell(filter)

    def release(self, filter: str) -> None:
        """Once less."""
        if (count := self._held.get(filter, 0)) > 1:
            self._held[filter] = count - 1
        elif count:
            del self._held[filter]
            if filter in self._told:
                self._leave(filter, self._limits.vacated_after_ms)

    def _tell(self, topic: str) -> None:
        """If nobody has, and it is this node's to tell."""
        if topic in self._told or not self._router.shard_of(topic).is_here:
            return
        if self._events.wants(tenant_of(topic), OCCUPIED):
            self._note(topic, self._events.occupied(topic))

    def _note(self, topic: str, event: Event) -> None:
        self._told[topic] = event
        if len(self._told) > self._limits.max_open_events:
            self._told.popitem(last=False)

    def _leave(self, topic: str, after_ms: int) -> None:
        due_ms = self._timers.steady_ms() + after_ms
        self._due[topic] = due_ms
        self._alarm.by(due_ms)

    def _ring(self, now_ms: int) -> None:
        now = self._timers.steady_ms()
        for topic, due_ms in list(self._due.items()):
            if due_ms <= now:
                del self._due[topic]
                self._vacate(topic)
        if self._due:
            self._alarm.by(min(self._due.values()))

    def _vacate(self, topic: str) -> None:
        if topic not in self._held and topic in self._told and self._router.shard_of(topic).is_here:
            self._events.end(self._told.pop(topic))

    # What events say

    def heard(self, event: Event, topic: str, *, is_own: bool) -> None:
        """Somebody has told that a topic of the core is occupied."""
        if is_own:
            return
        if topic not in self._told:
            self._note(topic, event)
        if topic not in self._held:
            self._leave(topic, SETTLE_MS)

    def ended(self, event: Event, topic: str) -> None:
        """Somebody has told that it is vacated."""
        known = self._told.get(topic)
        if known is not None and end_of(known) == event.id:
            del self._told[topic]
            if topic in self._held:
                self._tell(topic)

    def owned(self, shard: Shard) -> None:
        """This node is the owner of a shard from here on: what is held there and was not told is told by it."""
        shard_of = self._router.shard_of
        for topic in [topic for topic in self._held if shard_of(topic) is shard]:
            self._tell(topic)
        for topic in [topic for topic in self._told if topic not in self._held and shard_of(topic) is shard]:
            self._leave(topic, SETTLE_MS)

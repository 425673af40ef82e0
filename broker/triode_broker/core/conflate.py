"""Conflation: what a slow subscription with overflow `conflate` is told once there is room (G7, SPEC 3.2).

It follows the live stream and keeps the newest message of each topic and key, in the order in which they came: one
that is replaced goes to the end, so what is delivered rises in `pos` all the same. The surprising decision: it
asks no log. What nobody retains can be conflated too, and a reader that is slow all the time costs no reads.
"""

from collections import OrderedDict
from collections.abc import Callable

from triode_protocol.codec import encode
from triode_protocol.errors import GapReason
from triode_protocol.packets import CaughtUp

from triode_broker.core.catch_up import put_delivery
from triode_broker.core.record import Record
from triode_broker.core.subscription import Subscription

#: What a kept message costs beside its record, in bytes (measured: 200).
KEPT_OVERHEAD_BYTES = 200


class _Topic:
    """What is known of a topic while messages of it are kept."""

    __slots__ = ("kept", "prev")

    def __init__(self, prev: int) -> None:
        self.prev = prev  # the offset up to which this subscription has had what was due to it
        self.kept = 0


class Conflation:
    """A `subscription.Pending` that is a `router.Follower` too; whoever makes it lets it follow, and ends that."""

    __slots__ = (
        "_go_live",
        "_has_expired",
        "_kept",
        "_log_of",
        "_max_bytes",
        "_owes_gap",
        "_position",
        "_size",
        "_sub",
        "_topics",
    )

    def __init__(
        self,
        sub: Subscription,
        position: dict[str, int],
        max_bytes: int,
        log_of: Callable[[str], str],
        go_live: Callable[[Subscription], None],
    ) -> None:
        """`position`: where the subscription left live. `log_of`: the name of a topic's log."""
        self._sub = sub
        self._position = position
        self._max_bytes = max_bytes
        self._log_of = log_of
        self._go_live = go_live
        # Ordered, because a plain dict is slow to find its first entry again and again.
        self._kept: OrderedDict[tuple[str, str], Record] = OrderedDict()
        self._topics: dict[str, _Topic] = {}
        self._size = 0  # bytes
        self._owes_gap = False
        self._has_expired = False

    @property
    def position(self) -> dict[str, int]:
        """Everything up to there was delivered, or replaced, or is owed as a gap."""
        return self._position

    def offer(self, record: Record) -> None:
        """Keep it; what it replaces is not due any more. Past the bound the oldest go, and a gap is owed."""
        if not self._sub.may_have(record.topic):
            return
        topic = self._topics.get(record.topic)
        if topic is None:
            topic = self._topics[record.topic] = _Topic(self._had_before(record))
        place = (record.topic, record.key)
        if (replaced := self._kept.pop(place, None)) is not None:
            self._size -= replaced.size + KEPT_OVERHEAD_BYTES
            topic.kept -= 1
        self._kept[place] = record
        self._size += record.size + KEPT_OVERHEAD_BYTES
        topic.kept += 1
        while self._size > self._max_bytes:
            oldest, topic = self._take_oldest()
            self._let_go(oldest, topic)
            self._owes_gap = True

    def _had_before(self, record: Record) -> int:
        """Everything of this topic before the record was had: live, or since. A number that is surely not too high
        where that is not the one before: offsets were skipped, or what had expired was dropped here."""
        skips = record.offset == record.pos and any(shard.has_forgotten for shard in self._sub.shards)
        return 0 if skips or self._has_expired else record.offset - 1

    def _take_oldest(self) -> tuple[Record, _Topic]:
        _, record = self._kept.popitem(last=False)
        self._size -= record.size + KEPT_OVERHEAD_BYTES
        topic = self._topics[record.topic]
        topic.kept -= 1
        self._position[self._log_of(record.topic)] = record.pos
        return record, topic

    def _let_go(self, record: Record, topic: _Topic) -> None:
        if not topic.kept:
            del self._topics[record.topic]

    def advance(self, now_ms: int) -> None:
        """Deliver what fits; when all is delivered, go live in the same step."""
        sub = self._sub
        while sub.outbox.has_room:
            if self._owes_gap:  # SPEC 4.6.1: before the next message
                self._owes_gap = False
                self.report(GapReason.SLOW)
            elif self._kept:
                self._deliver_oldest(now_ms)
            else:
                self._go_live(sub)
                sub.outbox.put(encode(CaughtUp(sub.number, sub.whole(sub.heads()))))
                return
        sub.outbox.wants_room = True

    def report(self, reason: GapReason) -> None:
        """Tell the client that something due is missing; delivery goes on behind the position so far."""
        sub = self._sub
        sub.tell_gap(self._position, reason)

    def _deliver_oldest(self, now_ms: int) -> None:
        record, topic = self._take_oldest()
        if record.is_expired(now_ms):
            self._has_expired = True
        else:
            put_delivery(self._sub, record, topic.prev)
            topic.prev = record.offset
        self._let_go(record, topic)

"""Catch-up: serves a subscription from the logs until it has everything, then hands it over to live.

The one rule: the hand-over happens in a single synchronous step in which every covered log was read up to its
head (G4); nothing can be published in between, so nothing is lost or doubled. Reads may answer later (a store
thread); the step then happens inside the answer. Pages stop when the outbox is half full and go on when it has
drained; they stop too when the catch-ups of one connection have looked at enough records for one turn, and
`wants_room` is how they ask for the next one.

Several logs that answer later may never be at their heads in the same moment: while one answers, another goes on.
So one that was read up to its head is joined: what it gets from then on is taken as it is published.
"""

from collections.abc import Callable
from functools import partial

from triode_protocol.codec import encode
from triode_protocol.errors import GapReason
from triode_protocol.packets import CaughtUp, ServerPing

from triode_broker.core.interfaces import PAGE_RECORDS, Page
from triode_broker.core.outbox import Outbox
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard
from triode_broker.core.subscription import Subscription

#: One page is at most so much, so that a tick stays short.
PAGE_BYTES = 262_144
_PING = encode(ServerPing())


class CatchUp:
    """How far one subscription has been served, per log."""

    __slots__ = (
        "_follow",
        "_go_live",
        "_joined",
        "_log_of",
        "_reading",
        "_sub",
        "_topics",
        "excused",
        "is_following",
        "is_reading",
        "position",
        "snapshot",
    )

    def __init__(
        self,
        sub: Subscription,
        position: dict[str, int],
        go_live: Callable[[Subscription], None],
        follow: "Callable[[str, CatchUp], None]",
        log_of: Callable[[str], str],
    ) -> None:
        """`follow` makes it a `router.Follower`; who ends it ends that. `log_of`: the name of a topic's log."""
        self._sub = sub
        self._go_live = go_live
        self._follow = follow
        self._log_of = log_of
        self._joined: set[str] = set()  # logs of which everything so far was taken
        self._topics: set[str] = set()  # offered since a log was joined
        self.is_following = False
        self.position = position
        self.excused: dict[str, int] = {}  # per log: losses up to this number were not due, or are reported
        self.snapshot: dict[str, int] = {}  # per log: how far its snapshot was sent; it ends at the position
        self.is_reading = False  # a read is under way
        self._reading: list[str] = []  # ... of this log; a new list for each read

    def advance(self, now_ms: int) -> None:
        """Send what fits; go live when everything has been sent."""
        sub = self._sub
        while sub.is_open and not sub.is_live and not self.is_reading:
            if not sub.outbox.has_room or not _may_look(sub.outbox):
                sub.outbox.wants_room = True
                return
            if (shard := self._next()) is not None:
                self._read(shard, now_ms)
            else:
                self._finish()

    def _next(self) -> Shard | None:
        position = self.position
        if self.snapshot:  # before anything else
            return next(shard for shard in self._sub.shards if shard.log.name in self.snapshot)
        for shard in self._sub.shards:
            name = shard.log.name
            if position[name] < shard.log.head() and name not in self._joined:
                return shard
        return None

    def _read(self, shard: Shard, now_ms: int) -> None:
        self.is_reading = True
        self._reading = reading = [shard.log.name]
        is_inside = [True]
        take = partial(self._answered, reading, is_inside, now_ms)
        log, filter, looks, clock = shard.log, self._sub.filter, self._sub.outbox.looks_left, shard.clock(now_ms)
        self._sub.outbox.questions += 1
        after = position = self.position[log.name]
        newest_at = 0
        if self.snapshot:
            after, newest_at = self.snapshot[log.name], position
        log.read(filter, after, PAGE_BYTES, looks, clock, take, newest_at)
        is_inside.clear()

    def _answered(self, reading: list[str], is_inside: list[bool], now_ms: int, page: Page) -> None:
        outbox = self._sub.outbox
        outbox.questions -= 1
        if not reading or not self._sub.is_open:
            return
        self.is_reading = False
        (log,) = reading
        if self.snapshot:
            self._take_snapshot(log, page)
        else:
            self._take(log, page)
        if is_inside:
            _have_looked(outbox, page.looked_at)
            return
        self._join_if_all(log)
        # The answer came later: nobody else goes on, and it is a turn of its own.
        outbox.looks_left = PAGE_RECORDS
        self.advance(now_ms)
        if outbox.wants_room and not outbox.size:
            outbox.put(_PING)  # the edge looks at `wants_room` after a write only

    def _take_snapshot(self, log: str, page: Page) -> None:
        for record in page.records:
            put_delivery(self._sub, record, None)
        self.snapshot[log] = page.upto
        if page.upto == self.position[log]:
            del self.snapshot[log]

    def _take(self, log: str, page: Page) -> None:
        sub = self._sub
        if page.loss > self.excused.get(log, 0):  # SPEC 4.6: the gap comes before the next message
            self.report(GapReason.RETENTION)
        self.excused[log] = page.known
        for record, prev in zip(page.records, page.prevs, strict=True):
            put_delivery(sub, record, prev)
        self.position[log] = page.upto

    def _join_if_all(self, log: str) -> None:
        """Where a log that answers later was read up to its head, and there are others to wait for."""
        shards = self._sub.shards
        if self.snapshot or len(shards) == 1:
            return
        head = next(shard.log.head() for shard in shards if shard.log.name == log)
        if self.position[log] == head:
            self._topics.clear()
            self._joined.add(log)
            if not self.is_following:
                self.is_following = True
                self._follow(self._sub.filter, self)

    def offer(self, record: Record) -> None:
        """From the router: a message, in the step in which it becomes the head of its log."""
        log = self._log_of(record.topic)
        if log not in self._joined:
            return
        if not self._sub.outbox.has_room:  # to be read, when there is
            self._joined.remove(log)
            self.position[log] = record.pos - 1
            return
        # The first one of its topic may follow some that had expired when they were read.
        put_delivery(self._sub, record, None if record.topic in self._topics else 0)
        self._topics.add(record.topic)
        self.position[log] = record.pos

    def part_from(self, log: str) -> None:
        """What comes next of this log is not all there is: it is read again, from where it was served up to."""
        self._joined.discard(log)

    def leave_out(self, log: str) -> int:
        """Go on without this log; how far it was served. What was asked of it is nobody's."""
        if log in self._reading and self.is_reading:
            self._reading.clear()
            self.is_reading = False
        self._joined.discard(log)
        self.snapshot.pop(log, None)
        self.excused.pop(log, None)
        return self.position.pop(log, 0)

    def report(self, reason: GapReason) -> None:
        """Tell the client that something due is missing; delivery goes on behind the position so far."""
        sub = self._sub
        sub.tell_gap(self.position, reason)

    def _finish(self) -> None:
        sub = self._sub
        if sub.allows_past is not None:  # topics without it came in meanwhile, and were left out
            self.report(GapReason.PERMISSION)
        if not sub.missing:
            sub.is_past, sub.allows_past = False, None
        self._go_live(sub)
        sub.outbox.put(encode(CaughtUp(sub.number, sub.whole(sub.heads()))))


class Skip:
    """The overflow policy `gap`: once there is room, say what was not delivered and go on live from the heads."""

    __slots__ = ("_go_live", "_others", "_sub")

    def __init__(self, sub: Subscription, go_live: Callable[[Subscription], None]) -> None:
        self._sub = sub
        self._go_live = go_live
        self._others: dict[GapReason, None] = {}  # to be told of too

    def report(self, reason: GapReason) -> None:
        """Tell of it with the rest: nothing is delivered before that."""
        self._others[reason] = None

    def advance(self, now_ms: int) -> None:
        """Report and go live, or wait for room."""
        sub = self._sub
        if not sub.outbox.has_room:
            sub.outbox.wants_room = True
            return
        heads = sub.heads()
        for reason in (GapReason.SLOW, *self._others):
            sub.tell_gap(heads, reason)
        self._go_live(sub)
        sub.outbox.put(encode(CaughtUp(sub.number, sub.whole(heads))))


def _may_look(outbox: Outbox) -> bool:
    """Whether this turn's records are not all looked at. `room` takes `wants_room` back: a new turn."""
    if not outbox.looks_left and not outbox.wants_room:
        outbox.looks_left = PAGE_RECORDS
    return outbox.looks_left > 0


def _have_looked(outbox: Outbox, records: int) -> None:
    """Count what a page cost. Who uses up the turn asks for the next one, so that none begins before it."""
    outbox.looks_left = max(outbox.looks_left - records, 0)
    if not outbox.looks_left:
        outbox.wants_room = True


def put_delivery(sub: Subscription, record: Record, prev: int | None) -> None:
    """Put a `delivery` (SPEC 4.3) if it is allowed; a `prev` of None, or of offset − 1, is left out.

    The one door of what is not live, and so where permission is asked for (G10).
    """
    if not sub.may_have(record.topic):
        return
    if prev is None or prev == record.offset - 1:
        prev = -1
    sub.outbox.put(record.delivery(sub.number, 1, prev))

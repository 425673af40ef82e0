"""Source: what one name has taken in from one log, and what of that is settled.

Live it takes what the router offers, else it reads pages of the log, never more than its consumer wants. Knows
its log and its items, nothing of members. The surprising decision: a restart and the absence of all members are
the same. Then only places are kept (`restored`), and the log is read again from the oldest unsettled one.
"""

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from triode_protocol.errors import GapReason
from triode_protocol.positions import MAX_INTEGER

from triode_broker.core.interfaces import PAGE_RECORDS, Page
from triode_broker.core.item import Item, State
from triode_broker.core.shard import Shard

if TYPE_CHECKING:
    from triode_broker.core.consumer import Consumer

#: One page is at most so much: a name reads ahead, but not far.
PAGE_BYTES = 65_536


class Before(NamedTuple):
    """What was taken in and is to be read again."""

    failed: int  # of its deliveries
    due_ms: int  # not before that, on the wall clock
    reason: str  # why it is to become a dead letter; "": it is none


class Place(Struct, array_like=True):
    """Where a source stands, as it is kept on disk. New fields go to the end, with a default."""

    cursor: int  # all up to there was taken in
    pending: list[int]  # of that, what is not settled
    failed: list[int]  # and how many of its deliveries failed
    due: dict[int, int]  # and what is not to come before a time of the wall clock
    gap_reason: str
    gap_at: int
    reasons: dict[int, str] = {}  # why one of them is to become a dead letter, before its letter is taken


class Source:
    """One log that a name is fed from."""

    __slots__ = (
        "_consumer",
        "_epoch",
        "cursor",
        "delivered_upto",
        "excused",
        "gap_at",
        "gap_reason",
        "is_live",
        "is_placed",
        "is_reading",
        "items",
        "restored",
        "restored_upto",
        "shard",
    )

    def __init__(self, consumer: "Consumer", shard: Shard) -> None:
        self._consumer = consumer
        self._epoch = 0  # of the reading: answers to what was asked before a new start are nobody's
        self.shard = shard
        self.cursor = 0  # taken in; while live the log's head is
        self.delivered_upto = 0  # what was taken in behind that was never delivered
        self.is_live = False
        self.is_placed = shard.log.name != ""  # else it waits until its log is known (`core.carrying`)
        self.is_reading = False
        self.items: dict[int, Item] = {}  # unsettled, by pos, in that order
        self.restored: dict[int, Before] = {}  # unsettled and to be read again
        self.restored_upto = 0  # behind that everything is new
        self.excused = 0  # losses of the log up to this number were not due, or are reported
        self.gap_reason = ""  # "": none that members have to be told of
        self.gap_at = 0  # it lies behind this pos

    # Position

    @property
    def taken(self) -> int:
        """Everything up to there was taken in, once."""
        return max(self.restored_upto, self.shard.log.head() if self.is_live else self.cursor)

    @property
    def floor(self) -> int:
        """Everything up to there is settled."""
        first = min(min(self.items, default=MAX_INTEGER), min(self.restored, default=MAX_INTEGER))
        return first - 1 if first != MAX_INTEGER else self.taken

    def is_unsettled(self, pos: int) -> bool:
        """Whether it was not taken in yet, or waits to be read again; `items` has the others."""
        return pos in self.restored or pos > self.taken

    def standing(self, pos: int) -> str:
        """What became of a message that matches: "waiting", "sent" to a member, or "settled"."""
        if (item := self.items.get(pos)) is not None:
            return "sent" if item.state is State.IN_FLIGHT else "waiting"
        return "waiting" if self.is_unsettled(pos) else "settled"

    def start(self, cursor: int, excused: int = 0) -> None:
        """From here on, as if nothing had been before."""
        self._epoch += 1
        self.is_live = self.is_reading = False
        self.items.clear()
        self.restored.clear()
        self.restored_upto = self.delivered_upto = 0
        self.cursor = cursor
        self.excused = excused
        self.gap_reason = ""

    def note_gap(self, reason: GapReason, at: int) -> None:
        """Something due is missing behind `at`."""
        self.gap_reason, self.gap_at = reason, at

    # Reading

    def pull(self, now_ms: int) -> bool:
        """Ask the log for a page, or go live where there is none; whether anything was asked."""
        if self.is_live or self.is_reading or not self.is_placed:
            return False
        shard = self.shard
        if self.cursor >= shard.log.head():
            self.is_live = True
            return False
        self.is_reading = True
        take = partial(self._answered, self._epoch, now_ms)
        clock = shard.clock(now_ms)
        shard.log.read(self._consumer.filter, self.cursor, PAGE_BYTES, PAGE_RECORDS, clock, take)
        return True

    def _answered(self, epoch: int, now_ms: int, page: Page) -> None:
        if epoch != self._epoch:
            return
        self.is_reading = False
        if self.cursor < self.restored_upto:
            upto = self._take_restored(page, now_ms)
        else:
            upto = page.upto
            if page.loss > self.excused:  # SPEC 4.6: the gap comes before the next message
                self._consumer.lost(self, GapReason.RETENTION, self.cursor)
            self.excused = page.known
            for record, prev in zip(page.records, page.prevs, strict=True):
                self._consumer.take(self, record, prev)
        self.cursor = upto
        if upto == self.shard.log.head():
            self.is_live = True
        self._consumer.have_read(page.looked_at, now_ms)

    def _take_restored(self, page: Page, now_ms: int) -> int:
        """What was taken in before: of that only what is unsettled, and nothing new yet."""
        upto = min(page.upto, self.restored_upto)
        wanted = {pos for pos in self.restored if pos <= upto}
        if page.loss > self.excused and not wanted <= {record.pos for record in page.records}:
            self._consumer.lost(self, GapReason.RETENTION, self.cursor)
            self.excused = page.known
        for record in page.records:
            if (kept := self.restored.pop(record.pos, None)) is not None:
                wanted.discard(record.pos)
                self._consumer.take_again(self, record, kept, now_ms)
        for pos in wanted:  # expired, replaced, or lost and reported
            del self.restored[pos]
        return upto

    def leave_live(self, pos: int) -> None:
        """Take no more from `pos` on; what comes is read when there is room for it."""
        self.is_live = False
        self.cursor = pos - 1

    # Rest and restart

    def fold(self, wall_offset_ms: int) -> None:
        """Nobody is there: let go of the messages, keep their places."""
        place = self.place(wall_offset_ms, is_over=True)
        dying = {pos: item for pos, item in self.items.items() if item.reason}
        gap = (self.gap_reason, self.gap_at)
        excused = self.excused
        self.start(0, excused)
        self.restore(place)
        self.gap_reason, self.gap_at = gap
        self.items |= dying

    def place(self, wall_offset_ms: int, *, is_over: bool = False) -> Place:
        """What is to be kept. `is_over`: what was in flight has been given back already."""
        in_flight, dying, delayed = State.IN_FLIGHT, State.DYING, State.DELAYED
        cursor = self.taken
        items = [item for item in self.items.values() if item.state != dying]
        had = max(self.delivered_upto, self.restored_upto)
        while items and items[-1].record.pos > had:
            cursor = items.pop().record.pos - 1  # only read ahead
        if is_over:
            items = [item for item in items if not item.reason]
        pending = [item.record.pos for item in items]
        failed = [item.failed + (item.state == in_flight) for item in items]
        due = {
            item.record.pos: item.due_ms + wall_offset_ms
            for item in items
            if item.state == delayed and not item.reason
        }
        reasons = {item.record.pos: item.reason for item in items if item.reason}
        for pos, before in self.restored.items():
            pending.append(pos)
            failed.append(before.failed)
            if before.due_ms:
                due[pos] = before.due_ms
            if before.reason:
                reasons[pos] = before.reason
        return Place(cursor, pending, failed, due, self.gap_reason, self.gap_at, reasons)

    def restore(self, place: Place) -> None:
        """Go on from what was kept."""
        due, reasons = place.due, place.reasons
        self.restored = {
            pos: Before(failed, due.get(pos, 0), reasons.get(pos, ""))
            for pos, failed in zip(place.pending, place.failed, strict=True)
        }
        self.restored_upto = place.cursor
        self.cursor = min(self.restored, default=place.cursor + 1) - 1
        self.gap_reason, self.gap_at = place.gap_reason, place.gap_at

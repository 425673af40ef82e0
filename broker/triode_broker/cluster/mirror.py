"""Mirror: the log of a shard that another node owns, as this node knows it: a `Log` that answers later.

Pure. Everything that this node has registered interest in, up to `head()`, has been delivered here, once and in
order; the head moves in the very step in which a message is delivered. What is read is asked of the owner, and
never goes beyond the head, so the core's own hand-over from reading to live holds for remote logs as they are.

A stream is whole while each frame says that it goes on where the one before ended. Whenever it does not (a link
was lost, the owner stopped because the link was full, the log is new here), the node reads its own interest behind
the head, page by page, until the owner says that it goes on live: what a client does that resumes.

The surprising decision: a page that is not all there ever was between two positions is not delivered. It moves
the head, and every subscription is told to read on by itself: each then finds out precisely what it has lost.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from triode_protocol.packets import Start

from triode_broker.cluster.at_home import ANSWERED_HERE
from triode_broker.cluster.frames import Behind, Deliver, Found, Mark, Older, Read, ReadBack, Rows, Seek
from triode_broker.cluster.questions import Answer, Asked, Take
from triode_broker.config import TopicRule
from triode_broker.core.interfaces import PAGE_RECORDS, Log, Page, Place
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard

if TYPE_CHECKING:
    from triode_broker.cluster.owner import Owner

#: One page of what was missed.
REPAIR_BYTES = 262_144
#: As the place to read one's interest from: the owner's head.
AT_HEAD = -1


class Shown:
    """What a mirror does to its node; joined to the router by `cluster`."""

    __slots__ = ("changed", "deliver", "interrupt")

    def __init__(
        self,
        deliver: Callable[[Record], None],
        interrupt: Callable[[Shard, int], None],
        changed: "Callable[[Mirror], None]",
    ) -> None:
        """`interrupt(shard, at)`: the head has moved on; what lies behind `at` each one is to read by itself.

        `changed(mirror)`: its head has become known, or its stream live; once that is live, nobody has to do
        without the shard any longer (`Moving.back`, where `owes` says that somebody does).
        """
        self.deliver = deliver
        self.interrupt = interrupt
        self.changed = changed


class Mirror:
    """One life of one sequence elsewhere."""

    __slots__ = (
        "_head",
        "_is_over",
        "_is_repairing",
        "_parked",
        "_shown",
        "is_live",
        "is_ready",
        "level",
        "name",
        "owes",
        "owner",
        "shard",
    )

    def __init__(
        self, name: str, level: str, shard: Shard, owner: "Owner", shown: Shown, *, is_new: bool, head: int = 0
    ) -> None:
        """`is_new`: the log took the place of one that this node knew: it is read from `head`, its start, or where
        this node has handed it over."""
        self.name = name
        self.level = level
        self.shard = shard
        self.owner = owner
        self._shown = shown
        self._head = head
        self.is_ready = is_new  # the head says something
        self.is_live = False  # what comes is streamed
        # Some subscribers do without this shard: a gap precedes its first message to them (SPEC 4.2).
        self.owes: bool = not shard.is_reachable or (isinstance(shard.log, Mirror) and bool(shard.log.owes))
        self._is_repairing = False
        self._is_over = False
        self._parked: list[Asked] = []

    # Its life

    def begin(self) -> None:
        """From here on the owner is asked for it."""
        self.owner.mirrors[self.name] = self
        if self.is_ready:
            self._shown.changed(self)
        if self.owner.is_confirmed:
            self._read_on()

    def end(self) -> None:
        """The shard has another log, or none: nothing comes any more, and who waits is answered with nothing."""
        self._is_over = True
        self.is_live = False
        if self.owner.mirrors.get(self.name) is self:
            del self.owner.mirrors[self.name]
        self.fail_pending()

    # Hand-over

    def go_over(self, owner: "Owner") -> None:
        """Another node goes on with the log, and is asked from here on; `go_on` when it knows what is wanted."""
        asked = self.owner.questions.take_out(self.name)
        self.owner.mirrors.pop(self.name, None)
        self.cut()
        self.owner = owner
        owner.mirrors[self.name] = self
        for kind, fields, take in asked:
            owner.questions.ask(kind, fields, take)

    def go_on(self) -> None:
        """Read what the new owner has, and stream it."""
        if self.owner.is_confirmed:
            self._read_on()

    def complete(self, log: Log, now_ms: int) -> None:
        """The whole log is at this node: what is behind the head is delivered, as if it had come on the link."""
        self.is_live = False
        pages: list[Page] = []
        while self.is_ready and self._head < log.head():
            after = self._head
            log.read("", after, REPAIR_BYTES, PAGE_RECORDS, now_ms, pages.append)
            page = pages.pop()
            if len(page.records) < page.upto - after or self.owes or not self.shard.is_reachable:
                self._move_over(log.head())
            else:
                self._hand_over(page.records)
                self._head = max(self._head, page.upto)
        self._head = log.head()

    def end_in(self, log: Log, now_ms: int) -> None:
        """The shard has that log now, which is this one: it answers what was asked."""
        asked, self._parked = [*self.owner.questions.take_out(self.name), *self._parked], []
        self.end()
        for kind, fields, take in asked:
            ANSWERED_HERE[kind](log, now_ms, fields, take)

    def fail_pending(self) -> None:
        """The owner was not reached for a while: who waits is answered with nothing, and does without."""
        self.owes = True
        parked, self._parked = self._parked, []
        for take in [*self.owner.questions.withdraw(self.name), *(take for _, _, take in parked)]:
            take(None)

    def joined(self, head: int | None) -> None:
        """All interest is registered at the owner; its head there and then, None: it does not serve this log."""
        if head is not None and not self.is_ready:
            self._head = head
            self.is_ready = True
            self._go_live()
        elif head == self._head:
            self._go_live()
        else:
            self._read_on()

    def cut(self) -> None:
        """The link is lost."""
        self.is_live = self._is_repairing = False

    def tick(self) -> None:
        """Ask again what the owner did not know."""
        if self.owner.is_confirmed and not self.is_live:
            self._read_on()
        self._ask_parked()

    def pay(self) -> None:
        """Have those who did without told of it, before anything else comes to them.

        Once the owner has registered what they want: what it did not send before that is behind their gap.
        """
        if self.is_live and (self.owes or not self.shard.is_reachable) and self.owner.has_all_due:
            self._shown.changed(self)
            self.owes = False

    def _go_live(self) -> None:
        self.is_live = True
        self.pay()
        self._ask_parked()

    def _ask_parked(self) -> None:
        parked, self._parked = self._parked, []
        for kind, fields, take in parked:
            self.owner.questions.ask(kind, fields, take)

    # The stream

    def deliver(self, frame: Deliver) -> None:
        """Messages, where nothing is missing before them."""
        if self._follows(frame.prev):
            self.pay()
            if self.owes:  # it is for others
                self._move_over(frame.records[-1].pos)
            else:
                self._hand_over(frame.records)

    def mark(self, frame: Mark) -> None:
        """There is nothing else up to there."""
        if self._follows(frame.prev):
            self._head = max(self._head, frame.pos)

    def behind(self, frame: Behind) -> None:
        """The owner has stopped."""
        if self.is_live:
            self._read_on()

    def _follows(self, prev: int) -> bool:
        """Whether the stream goes on where this log ends; if it does not, what is missing is read."""
        if self.is_live and prev != self._head:
            self._read_on()
        return self.is_live

    def _hand_over(self, records: list[Record]) -> None:
        deliver = self._shown.deliver
        for record in records:
            if record.pos > self._head:
                self._head = record.pos
                deliver(record)

    def _read_on(self) -> None:
        """Read what was missed, and have it streamed from there."""
        self.is_live = False
        if not self._is_repairing:
            self._is_repairing = True
            after = self._head if self.is_ready else AT_HEAD
            fields = (self.name, "", after, REPAIR_BYTES, PAGE_RECORDS, 0)
            self.owner.questions.ask_first(fields, self._repair)

    def _repair(self, rows: Answer | None) -> None:
        assert isinstance(rows, Rows), "a repair is never withdrawn"
        self._is_repairing = False
        if self._is_over or not rows.is_known:
            return  # `tick` asks again; the table will say where the log is
        if not self.is_ready:
            self.is_ready = True
            self._head = rows.upto
            self._shown.changed(self)
        elif rows.loss or self.owes or not self.shard.is_reachable:
            self._move_over(rows.upto)
        else:
            self._hand_over(rows.records)
            self._head = max(self._head, rows.upto)
        if rows.is_live:
            self._go_live()
        else:
            self._read_on()
        self.owner.progressed(self)

    def _move_over(self, upto: int) -> None:
        at, self._head = self._head, upto
        self._shown.interrupt(self.shard, at)

    # `core.interfaces.Log`

    def head(self) -> int:
        """Everything of this node's interest up to there was delivered."""
        return self._head

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """Never called: who owns the shard appends to its log."""
        raise AssertionError("another node owns this shard")

    def read(
        self,
        filter: str,
        after: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[Page], None],
        newest_at: int = 0,
    ) -> None:
        """As the owner answers, up to this node's head. The owner's clock decides what has expired."""
        fields = (self.name, filter, after, max_bytes, max_records, newest_at)

        def take(rows: Answer | None) -> None:
            if isinstance(rows, Rows) and rows.is_known:
                done(self._page(rows))
            else:
                self._park_or(Read, fields, take, rows, lambda: done(Page([], [], after, 0, 0, 0)))

        self._ask(Read, fields, take)

    def _page(self, rows: Rows) -> Page:
        """What the head reaches; what is more has not been delivered here yet."""
        self.notice(rows.upto)
        page = Page(rows.records, rows.prevs, rows.upto, rows.loss, rows.known, rows.looked_at)
        if page.upto > self._head:
            page.upto = self._head
            page.records = [record for record in rows.records if record.pos <= self._head]
            page.prevs = rows.prevs[: len(page.records)]
        return page

    def notice(self, upto: int) -> None:
        """The owner has sent everything up to there before its answer: if it did not come, there is a hole."""
        if self.is_live and upto > self._head:
            self._read_on()

    def read_back(
        self,
        topic: str,
        before: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[list[Record], bool], None],
    ) -> None:
        """As the owner answers."""
        fields = (self.name, topic, before, max_bytes, max_records)

        def take(older: Answer | None) -> None:
            if isinstance(older, Older) and older.is_known:
                self.notice(older.head)
                done(older.records, older.has_older)
            else:
                self._park_or(ReadBack, fields, take, older, lambda: done([], False))

        self._ask(ReadBack, fields, take)

    def seek(self, filter: str, start: Start, now_ms: int, done: Callable[[Place], None]) -> None:
        """As the owner answers; a place that the head has not reached is asked for again when it has."""
        fields = (self.name, filter, start.last, start.since)

        def take(found: Answer | None) -> None:
            if isinstance(found, Found) and found.is_known:
                self.notice(found.head)
            if isinstance(found, Found) and found.is_known and found.pos <= self._head:
                done(Place(found.pos, found.is_complete, found.loss))
            else:
                self._park_or(Seek, fields, take, found, lambda: done(Place(self._head, False, 0)))

        self._ask(Seek, fields, take)

    def trim(self, now_ms: int) -> None:
        """The owner's business."""

    def _ask(self, kind: type[Read | ReadBack | Seek], fields: tuple[str | int, ...], take: Take) -> None:
        if self._is_over:
            take(None)
        else:
            self.owner.questions.ask(kind, fields, take)

    def _park_or(
        self,
        kind: type[Read | ReadBack | Seek],
        fields: tuple[str | int, ...],
        take: Take,
        answer: Answer | None,
        give_up: Callable[[], None],
    ) -> None:
        """An answer that is of no use is asked for again; if there is none, that is the end."""
        if answer is None:
            give_up()
        else:
            self._parked.append((kind, fields, take))

"""Forwarding: publishes of one shard on their way to the node that owns it; the entry node's side.

Knows no table and no clock: who the owner is and which link leads there is told, the clock is injected. What is
accepted in one turn of the loop leaves in one `Forward` when the cluster calls `flush`.

A publish is *waiting* until it was put on a link, from then on *asked*, until it is *settled*: answered, or given
up. The rules (cluster.md), and what follows from them:

- Asked ones belong to one owner's incarnation and are sent again, in order and under their numbers, only to that
  one, on its next link; its answers make up for those that were lost. When there is no such link and another owner
  is known, nobody will ever answer: they end as `timeout` at once, else 5 s after they were accepted.
- Nothing waiting is written while asked ones belong to another incarnation, or while one of them came back as
  `moved` and others are out: whoever comes behind must not overtake. `moved` ones surely were not applied; once
  all asked ones are settled they wait again, before all others, and get new numbers.
- `unavailable` is the end of waiting ones alone.
- Nothing is written to a link that is full, or the publishes of all its shards together would close it: what is
  new goes on waiting, what is to be sent again is sent later, before anything new.

The surprising decision: numbers rise over all owners, never from 1 again. `Forward.answered` tells an owner that
no number up to there will be sent (again), so it may begin anywhere, nothing has to be remembered by owner, and
where an owner comes back (A, B, A) its old answers cannot be taken for new ones.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from triode_protocol.codec import Refused
from triode_protocol.packets import ABSENT, Publish, Published

from triode_broker.cluster.forwarded import (
    MOVED,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Flushing,
    Link,
    RefusedThere,
    moving,
    overloaded,
    packet_of,
    too_many,
    unavailable,
    unknown,
)
from triode_broker.cluster.frames import Answered, Forward, Forwarded, Refusal
from triode_broker.config import Limits
from triode_broker.core.histogram import Histogram
from triode_broker.core.interfaces import Publisher

#: What one costs beside its content, in bytes (measured: 432 with a short topic).
ROW_OVERHEAD_BYTES = 440
#: Rows of one frame, about, in bytes.
FRAME_BYTES = 262_144
#: From acceptance to the answer at the latest, plus one tick (I15: 10 s).
PUBLISH_TIMEOUT_MS = 5_000
#: How long a publish waits for a hand-over, then `overloaded`.
HAND_OVER_MS = 1_000
#: Who says `moved` though nothing newer is known of its shard is asked again after this.
RETRY_MOVED_MS = 100


class _Row(Struct, gc=False):
    """One accepted publish. `gc=False`: it never outlives its answer."""

    forwarded: Forwarded
    publisher: Publisher | None
    id: int
    size: int
    accepted_ms: int
    is_settled: bool = False  # while one before it is not
    has_moved: bool = False  # ... by `moved`


_Rows = deque[_Row]


class Forwarder:
    """A `core.interfaces.Acceptor`: the publishes of one shard that is owned elsewhere, in order of acceptance."""

    __slots__ = (
        "_asked",
        "_asked_link",
        "_asked_log",
        "_asked_of",
        "_dirty",
        "_incarnation",
        "_is_dirty",
        "_is_turning",
        "_last_seq",
        "_limits",
        "_link",
        "_log",
        "_moved",
        "_now_ms",
        "_retry_ms",
        "_steady_ms",
        "_suspended_ms",
        "_told",
        "_waiting",
        "_written",
        "answering",
        "forwarded",
        "moved",
        "shard",
        "timeouts",
        "waiting_bytes",
    )

    def __init__(
        self, shard_name: str, limits: Limits, steady_ms: Callable[[], int], dirty: list[Flushing]
    ) -> None:
        """It puts itself into `dirty` when there is something to `flush`; who flushes, empties that."""
        self.shard = shard_name
        self._limits = limits
        self._steady_ms = steady_ms
        self._dirty = dirty
        self._is_dirty = False
        self._now_ms = 0  # of the turn: read once for all that is accepted in it
        self._link: Link | None = None  # to the present owner
        self._incarnation = ""  # of the present owner
        self._log = ""
        self._suspended_ms = -1  # since when; -1: it is not
        self._waiting: _Rows = deque()  # never written, or moved
        self._asked: _Rows = deque()  # written, numbers without holes; the first one is not settled
        self._asked_link: Link | None = None  # where their answers come from
        self._asked_of = ""  # the incarnation they were written to
        self._asked_log = ""
        self._moved: list[_Row] = []  # refused by it; those behind them are still out
        self._is_turning = False  # since the first of them
        self._retry_ms = -1  # of `moved` ones to whom refused them; -1: they wait for no clock
        self._last_seq = 0
        self._written = 0  # asked ones behind this number are still to be sent again
        self._told = 0  # the last `answered` that was written
        self.waiting_bytes = 0  # of all that are not settled
        self.answering = Histogram()  # publishes, from acceptance to their owner's answer, in whole ms
        self.forwarded = 0  # publishes written, since the start
        self.moved = 0  # ... that came back
        self.timeouts = 0

    # `interfaces.Acceptor`

    def accept(
        self, topic: Any, packet: Publish, user: str, publisher: Publisher | None, now_ms: int
    ) -> Published | None:
        """Take a checked publish; its publisher hears what became of it, within 5 s and a tick.

        Raises Refused: it was surely not handed on.
        """
        if publisher is not None:
            if publisher.inflight >= self._limits.max_inflight_publishes:
                raise too_many(self._limits.max_inflight_publishes)
            publisher.inflight += 1
        data = bytes(packet.data)
        b64 = b"" if packet.b64 is ABSENT else bytes(packet.b64)
        headers = packet.headers
        size = ROW_OVERHEAD_BYTES + len(data) + len(b64)
        if headers:
            size += sum([len(name) + len(value) for name, value in headers.items()])
        waiting = self._waiting
        total = self.waiting_bytes + size
        count = len(waiting) + len(self._asked) + len(self._moved)
        is_over = total > WINDOW_BYTES or count >= WINDOW_MESSAGES
        if (is_lost := self._link is None and self._suspended_ms < 0) or is_over:
            if publisher is not None:
                publisher.inflight -= 1
            raise unavailable() if is_lost else overloaded()
        if not self._is_dirty:
            self._mark()
        self.waiting_bytes = total
        forwarded = Forwarded(
            0,
            packet.topic,
            data,
            b64,
            user,
            packet.key,
            headers,
            packet.message_id,
            packet.ttl_ms,
            packet.deliver_at_ms,
        )
        waiting.append(_Row(forwarded, publisher, packet.id, size, self._now_ms))
        return None

    def _mark(self) -> None:
        self._is_dirty = True
        self._now_ms = self._steady_ms()
        self._dirty.append(self)

    # The cluster tells who owns the shard, and which links there are

    def link_to(self, link: Link, owner_incarnation: str, log: str) -> None:
        """The node at the other end owns the shard and serves it as `log`. Ends a suspension. Idempotent."""
        self._suspended_ms = -1
        self._link = link
        self._incarnation = owner_incarnation
        self._log = log
        if self._asked and link is not self._asked_link:
            if owner_incarnation == self._asked_of:
                self._asked_link, self._asked_log = link, log
                self._written = 0
                self._ask_again()
            elif self._asked_link is None:
                self._give_up_asked()
        self._go_on()

    def link_lost(self) -> None:
        """No owner is reached. What waits was never written: `unavailable`, unless a hand-over is under way."""
        self._link = None
        if self._suspended_ms < 0:
            self._refuse_waiting()

    def closed(self, link: Link) -> None:
        """A link is gone; the answers on it too, until there is another to the same incarnation."""
        if link is self._asked_link:
            self._asked_link = None
            if self._link is not None and self._link is not link:
                self._give_up_asked()
        if link is self._link:
            self.link_lost()
        self._go_on()

    def suspend(self) -> None:
        """The owner hands the shard over: from here on publishes wait, a second at most, then `overloaded`."""
        if self._suspended_ms < 0:
            self._suspended_ms = self._steady_ms()

    def resume(self) -> None:
        """It came to nothing. (The heir is told of by `link_to`.)"""
        self._suspended_ms = -1
        if self._link is None:
            self.link_lost()
        self._go_on()

    def restart(self) -> None:
        """This node has a new incarnation, whose publishes the old one's are not: none is asked for again."""
        self._asked_link = None
        self._give_up_asked()
        self._go_on()

    def own(self, publish: Callable[[Publish, str, int, Publisher | None], Published | None], now_ms: int) -> None:
        """This node owns the shard from here on: `publish` there what waits, before anything else is.

        What was asked of others is given up, for it must not be published again; who wants those that come back as
        `moved` to be published here too (the heir of a hand-over) waits until `is_asking` is false, or a second.
        """
        self._link = None
        self._asked_link = None
        self._suspended_ms = -1
        self._give_up_asked()
        self._join_moved()
        self._is_turning = False
        while self._waiting:
            row = self._waiting.popleft()
            self._release(row)
            try:
                published = publish(packet_of(row.forwarded, row.id), row.forwarded.user, now_ms, row.publisher)
            except Refused as refused:
                _refuse(row, refused)
            else:
                if published is not None and row.publisher is not None and row.id:
                    row.publisher.answer(published)

    @property
    def unanswered(self) -> int:
        """Publishes that are not settled, and those that others keep in the window."""
        return len(self._waiting) + len(self._asked) + len(self._moved)

    @property
    def is_asking(self) -> bool:
        """Whether an owner has publishes that it has not answered."""
        return bool(self._asked)

    # Frames

    def flush(self) -> None:
        """Put what waits on the owner's link, if it may go, and as far as the link takes it."""
        self._is_dirty = False
        if self._is_behind():
            self._ask_again()
        link, waiting = self._link, self._waiting
        if link is None or not waiting or self._is_turning or self._suspended_ms >= 0 or link.is_full:
            return
        asked = self._asked
        if not asked:
            self._asked_link, self._asked_of = link, self._incarnation
        elif link is not self._asked_link:
            return
        self._asked_log = self._log
        while waiting and not link.is_full:
            part = _part(waiting)
            asked.extend(part)
            seq = self._last_seq
            for row in part:
                seq += 1
                row.forwarded.seq = seq
            self._last_seq = seq
            self.forwarded += len(part)
            self._put(link, part)

    def _put(self, link: Link, rows: list[_Row]) -> None:
        """In one frame."""
        self._told = answered = self._settled()
        self._written = rows[-1].forwarded.seq
        link.put(Forward(self.shard, answered, [row.forwarded for row in rows], self._asked_log))

    def _settled(self) -> int:
        """Not past one that has `moved` while others are out: were these taken now, they would overtake it."""
        return (self._moved or self._asked)[0].forwarded.seq - 1

    def _is_behind(self) -> bool:
        """Whether there are asked ones that were not sent again yet."""
        return bool(self._asked) and self._asked[-1].forwarded.seq > self._written

    def _ask_again(self) -> None:
        """Those that are settled were applied, or refused, before; so there are no holes for who is asked."""
        link, written = self._asked_link, self._written
        if link is None:
            return
        rows = deque(row for row in self._asked if row.forwarded.seq > written and not row.is_settled)
        while rows and not link.is_full:
            self._put(link, _part(rows))
        if not rows:
            self._written = self._last_seq

    def answered(self, link: Link, frame: Answered) -> None:
        """The owner tells what became of publishes, in any order. Raises ValueError for one that was never asked.

        From another link than the asked ones' newest it is passed over: it will be said again.
        """
        if link is not self._asked_link:
            return
        asked = self._asked
        if asked:  # the oldest that is out: what was asked together is answered together
            waited_ms = self._steady_ms() - asked[0].accepted_ms
            self.answering.add(waited_ms / 1000, len(frame.answers))
        for answer in frame.answers:
            if asked and (row := asked[0]).forwarded.seq == answer.seq and not row.is_settled:
                asked.popleft()
            elif (found := self._settle(answer.seq)) is not None:
                row = found
            else:
                continue
            self.waiting_bytes -= row.size  # `_release`, written out
            publisher = row.publisher
            if publisher is not None:
                publisher.inflight -= 1
                if row.id:
                    publisher.answer(
                        Published(
                            row.id,
                            answer.log,
                            answer.pos,
                            answer.offset,
                            answer.level,
                            answer.is_duplicate,
                            answer.is_delayed,
                        )
                    )
        for refusal in frame.refusals:
            self._refused(refusal)
        self._sweep()
        if not asked and (self._waiting or self._is_turning):
            self._go_on()

    def _settle(self, seq: int) -> _Row | None:
        """One that is not the first; None: it is settled already."""
        if seq > self._last_seq:
            raise ValueError(f"an answer to publish {seq} of {self.shard}: only {self._last_seq} were forwarded")
        asked = self._asked
        index = seq - asked[0].forwarded.seq if asked else -1
        if index < 0 or asked[index].is_settled:
            return None
        row = asked[index]
        row.is_settled = True
        return row

    def _refused(self, refusal: Refusal) -> None:
        row = self._settle(refusal.seq)
        if row is None:
            return
        if refusal.name == MOVED:
            row.has_moved = self._is_turning = True
            self.moved += 1
        else:
            self._release(row)
            _refuse(row, RefusedThere(refusal))

    def _sweep(self) -> None:
        """Settled ones leave when all before them have: what is left begins with one that is not."""
        asked = self._asked
        while asked and asked[0].is_settled:
            row = asked.popleft()
            if row.has_moved:
                self._moved.append(row)

    # Going on, giving up

    def _go_on(self) -> None:
        """Write what waits, as soon as everything that was asked is settled; moved ones first."""
        if self._is_turning and not self._asked:
            self._join_moved()
            if self._link is None and self._suspended_ms < 0:
                self._refuse_waiting()
            self._turn()
        if (self._waiting or self._is_behind()) and not self._is_dirty:
            self._mark()

    def _join_moved(self) -> None:
        for row in self._moved:
            row.is_settled = row.has_moved = False
        self._waiting.extendleft(reversed(self._moved))
        self._moved.clear()

    def _turn(self) -> None:
        """Whoever said `moved` is asked again as soon as something newer is known of the shard, or a bit later."""
        is_same = (self._incarnation, self._log) == (self._asked_of, self._asked_log)
        now_ms = self._steady_ms()
        if is_same and self._retry_ms < 0:
            self._retry_ms = now_ms + RETRY_MOVED_MS
        if not is_same or now_ms >= self._retry_ms:
            self._is_turning = False
            self._retry_ms = -1

    def tick(self) -> None:
        """Give up what is too old; try again what is due. Called several times a second."""
        now_ms = self._steady_ms()
        accepted_ms = now_ms - PUBLISH_TIMEOUT_MS
        while self._asked and self._asked[0].accepted_ms <= accepted_ms:
            self._give_up(self._asked.popleft())
            self._sweep()
        while self._moved and self._moved[0].accepted_ms <= accepted_ms:
            self._drop(self._moved.pop(0), unavailable())
        waiting = self._waiting
        while waiting and waiting[0].accepted_ms <= accepted_ms:
            self._drop(waiting.popleft(), unavailable())
        if 0 <= self._suspended_ms <= now_ms - HAND_OVER_MS:
            while waiting and waiting[0].accepted_ms <= now_ms - HAND_OVER_MS:
                self._drop(waiting.popleft(), moving())
        if self._asked or self._waiting or self._is_turning:
            self._go_on()
        elif self._told < self._last_seq and self._link is not None and self._link is self._asked_link:
            self._told = self._last_seq
            self._link.put(Forward(self.shard, self._told, []))  # the owner need not keep the last answers

    def _give_up_asked(self) -> None:
        """Nobody will answer: moved ones wait again, the others may have been applied."""
        asked = self._asked
        while asked:
            self._give_up(asked.popleft())
            self._sweep()

    def _give_up(self, row: _Row) -> None:
        self.timeouts += 1
        self._drop(row, unknown())

    def _refuse_waiting(self) -> None:
        self._join_moved()
        while self._waiting:
            self._drop(self._waiting.popleft(), unavailable())

    def _drop(self, row: _Row, refused: Refused) -> None:
        self._release(row)
        _refuse(row, refused)

    def _release(self, row: _Row) -> None:
        self.waiting_bytes -= row.size
        if row.publisher is not None:
            row.publisher.inflight -= 1


def _part(rows: _Rows) -> list[_Row]:
    """Take the first ones, as many as travel in one frame."""
    part = []
    size = 0
    while rows and size < FRAME_BYTES:
        row = rows.popleft()
        size += row.size
        part.append(row)
    return part


def _refuse(row: _Row, refused: Refused) -> None:
    if row.publisher is not None:
        refused.id = row.id
        row.publisher.refuse(refused)

"""Serving: what this node tells others of its logs: it streams what they are interested in, and answers reads.

Pure. A peer is a resuming subscriber: its stream of a log begins at a head, and each frame says where the one
before ended; when its link is full the stream stops, and begins again where the peer has read up to. Everything of
one log goes out in one order with the answers to reads: what is told of a head is never ahead of what was sent.

The surprising decision: before every answer about a log stands a Mark, if its head has moved. So the peer's own
head is the owner's at that moment, and no rule beside `prev` is needed for what it may take for complete.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Protocol

from triode_protocol.packets import Start

from triode_broker.cluster.forwarded import Flushing as Flushes
from triode_broker.cluster.frames import (
    Behind,
    Deliver,
    Found,
    Frame,
    Interest,
    Interested,
    Mark,
    Older,
    Read,
    ReadBack,
    Rows,
    Seek,
)
from triode_broker.cluster.mirror import Mirror
from triode_broker.cluster.questions import MAX_RUNNING, Link
from triode_broker.core.interfaces import PAGE_RECORDS, Log, Page, Place
from triode_broker.core.record import Record
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.core.topic_tree import TopicTree, is_any

#: Rows of answers on their way to one peer, those counted that a log is being read for.
ROWS_IN_FLIGHT_BYTES: Final = 262_144
#: One page: four logs on disk are read for one peer at the same time.
PAGE_BYTES: Final = 65_536
#: Questions of one peer that wait; it never has more than MAX_RUNNING under way, over one link.
MAX_QUESTIONS: Final = 4 * MAX_RUNNING


class Holding(Protocol):
    """Wants to know which filters are wanted."""

    def hold(self, filter: str) -> None:
        """By one peer more."""

    def release(self, filter: str) -> None:
        """By one less."""


class Stream:
    """One log on its way to one peer."""

    __slots__ = ("is_live", "last", "records", "sent")

    def __init__(self, head: int) -> None:
        self.is_live = True
        self.sent = head  # the last pos the peer was told of
        self.last = head  # ... or will be
        self.records: list[Record] = []  # since the last flush


class Serving:
    """All peers of one node."""

    def __init__(self, router: Router, now_ms: Callable[[], int], dirty: list[Flushes]) -> None:
        """`now_ms`: the wall clock. `dirty`: who is in it is flushed at the end of the turn."""
        self._router = router
        self._now_ms = now_ms
        self._dirty = dirty
        self._askers: dict[Link, Asker] = {}
        self.holding: Holding | None = None

    def opened(self, link: Link, peer: str = "") -> None:
        """A peer has dialled: the node of that name."""
        self._askers[link] = asker = Asker(link, self._router, self._now_ms, self._dirty, peer)
        asker.holding = self.holding
        link.drained = partial(_both, link.drained, asker.go_on)

    def closed(self, link: Link) -> None:
        """It is gone."""
        if (asker := self._askers.pop(link, None)) is not None:
            asker.close()

    def tell(self, holding: Holding) -> None:
        """From now on it is told which filters peers want."""
        self.holding = holding
        for asker in self._askers.values():
            asker.holding = holding
            for filter in asker.filters:
                holding.hold(filter)

    def received(self, link: Link, frame: Frame) -> None:
        """One of the frames of HANDLERS."""
        if (asker := self._askers.get(link)) is not None:
            HANDLERS[type(frame)](asker, frame)

    def tick(self) -> None:
        """About once a second: tell peers of heads that have moved without anything for them."""
        for asker in list(self._askers.values()):
            asker.tick()


class Asker:
    """One peer that asks; a follower of the router."""

    def __init__(
        self, link: Link, router: Router, now_ms: Callable[[], int], dirty: list[Flushes], peer: str = ""
    ) -> None:
        self._link = link
        self.peer = peer
        self._router = router
        self._now_ms = now_ms
        self._dirty = dirty
        self._is_dirty = False
        self._is_closed = False
        self.filters: dict[str, None] = {}
        self.holding: Holding | None = None
        self._wanted: TopicTree[str, bool] = TopicTree(is_any, 10_000)  # for pages of everything
        self._streams: dict[str, Stream] = {}
        self._questions: deque[Read | ReadBack | Seek] = deque()
        self._running = 0
        self._reserved = 0  # bytes that running reads may find
        self._rows = 0  # bytes of rows put, as far as they have not left surely
        self._is_going_on = False

    def close(self) -> None:
        """Nothing is wanted any more."""
        self._is_closed = True
        self._forget()
        self._questions.clear()

    def tick(self) -> None:
        """See `Serving.tick`."""
        served = {shard.log.name for shard in self._served()}
        for name in [name for name in self._streams if name not in served]:
            del self._streams[name]
        self._mark_all()
        self.go_on()

    def _served(self) -> Iterator[Shard]:
        """The shards whose logs are here."""
        for shard in self._router.shards:
            if shard.log.name and not isinstance(shard.log, Mirror):
                yield shard

    # The stream

    def offer(self, record: Record) -> None:
        """From the router, in the step in which the head moves to it; once for each filter that matches."""
        stream = self._streams.get(self._router.shard_of(record.topic).log.name)
        if stream is None or not stream.is_live or record.pos <= stream.last:
            return
        stream.records.append(record)
        stream.last = record.pos
        if not self._is_dirty:
            self._is_dirty = True
            self._dirty.append(self)

    def flush(self) -> None:
        """Send what came in this turn."""
        self._is_dirty = False
        for name, stream in self._streams.items():
            self._send(name, stream)
        self.go_on()

    def _send(self, name: str, stream: Stream) -> None:
        if not stream.records:
            return
        records, stream.records = stream.records, []
        if self._link.is_full:
            stream.is_live = False
            self._link.put(Behind(name))
            return
        self._link.put(Deliver(name, stream.sent, records))
        stream.sent = stream.last

    def _mark(self, name: str, head: int) -> None:
        """Before an answer: the peer knows of everything up to the head."""
        stream = self._streams.get(name)
        if stream is None or not stream.is_live:
            return
        self._send(name, stream)
        if stream.is_live and head > stream.sent:
            self._link.put(Mark(name, head, stream.sent))
            stream.sent = stream.last = head

    def _mark_all(self) -> None:
        for shard in self._served():
            self._mark(shard.log.name, shard.log.head())

    # Interest

    def interest(self, frame: Interest) -> None:
        """From here on it gets what matches; the heads say from where on."""
        if frame.kind == "snapshot":
            self._forget()
            self._streams = {shard.log.name: Stream(shard.log.head()) for shard in self._served()}
        if frame.kind == "drop":
            for filter in frame.filters:
                if filter in self.filters:
                    self._drop(filter)
        else:
            for filter in frame.filters:
                if filter not in self.filters:
                    self.filters[filter] = None
                    self._wanted.add(filter, filter)
                    self._router.follow(filter, self)
                    if self.holding is not None:
                        self.holding.hold(filter)
        self._mark_all()
        heads = {shard.log.name: shard.log.head() for shard in self._served()}
        self._link.put(Interested(frame.seq, heads))

    def _drop(self, filter: str) -> None:
        del self.filters[filter]
        self._wanted.remove(filter, filter)
        self._router.unfollow(filter, self)
        if self.holding is not None:
            self.holding.release(filter)

    def _forget(self) -> None:
        for filter in list(self.filters):
            self._drop(filter)
        self._streams.clear()

    # Questions

    def question(self, frame: Read | ReadBack | Seek) -> None:
        """Answer it when its turn has come."""
        if len(self._questions) >= MAX_QUESTIONS:
            self._link.close("too many questions")
            return
        if isinstance(frame, Read) and not frame.filter and (stream := self._streams.get(frame.log)) is not None:
            stream.is_live = False  # it has lost its place; what it reads has all that
            stream.records = []
        self._questions.append(frame)
        self.go_on()

    def go_on(self) -> None:
        """Begin what there is room for."""
        if self._is_going_on:
            return
        self._is_going_on = True
        while self._questions and self._has_room(_cost(self._questions[0])):
            self._begin(self._questions.popleft())
        self._is_going_on = False

    def _has_room(self, cost: int) -> bool:
        self._rows = min(self._rows, self._link.outbox_bytes)
        in_flight = self._rows + self._reserved
        is_small = in_flight + cost <= ROWS_IN_FLIGHT_BYTES or not in_flight
        return is_small and self._running < MAX_RUNNING and not self._link.is_full

    def _begin(self, frame: Read | ReadBack | Seek) -> None:
        shard = next((one for one in self._served() if one.log.name == frame.log), None)
        if shard is None:
            self._link.put(UNKNOWN[type(frame)](frame))
            return
        self._running += 1
        self._reserved += _cost(frame)
        ASKS[type(frame)](self, frame, shard, shard.clock(self._now_ms()))

    def _read(self, frame: Read, shard: Shard, now_ms: int) -> None:
        log = shard.log
        after = frame.after if frame.after >= 0 else log.head()
        max_bytes, max_records = min(frame.max_bytes, PAGE_BYTES), min(frame.max_records, PAGE_RECORDS)
        take = self._take_interest if not frame.filter else self._take_page
        log.read(
            frame.filter, after, max_bytes, max_records, now_ms, partial(take, frame, log, after), frame.newest_at
        )

    def _take_page(self, frame: Read, log: Log, after: int, page: Page) -> None:
        self._answer(frame, log, _rows(frame, page, page.records, page.prevs, page.loss, is_live=False))

    def _take_interest(self, frame: Read, log: Log, after: int, page: Page) -> None:
        """What of everything is wanted. Where anything of it was taken, that may have been wanted."""
        wanted = self._wanted
        chosen = [index for index, record in enumerate(page.records) if wanted.match(record.topic)]
        records, prevs = [page.records[index] for index in chosen], [page.prevs[index] for index in chosen]
        loss = int(len(page.records) < page.upto - after)
        is_live = page.upto == log.head() and not self._link.is_full and not self._is_closed
        if is_live:
            self._streams[log.name] = Stream(page.upto)
        self._answer(frame, log, _rows(frame, page, records, prevs, loss, is_live=is_live))

    def _read_back(self, frame: ReadBack, shard: Shard, now_ms: int) -> None:
        log = shard.log

        def take(records: list[Record], has_older: bool) -> None:
            self._answer(frame, log, Older(frame.id, frame.log, records, has_older, log.head()))

        log.read_back(frame.topic, frame.before, frame.max_bytes, frame.max_records, now_ms, take)

    def _seek(self, frame: Seek, shard: Shard, now_ms: int) -> None:
        log = shard.log

        def take(place: Place) -> None:
            self._answer(
                frame, log, Found(frame.id, log.name, place.pos, place.is_complete, place.loss, log.head())
            )

        log.seek(frame.filter, Start(last=frame.last, since=frame.since), now_ms, take)

    def _answer(self, frame: Read | ReadBack | Seek, log: Log, answer: Rows | Older | Found) -> None:
        """In the very step in which the log has answered: on the link it stands where it is true."""
        self._running -= 1
        self._reserved -= _cost(frame)
        if self._is_closed:
            return
        self._mark(log.name, log.head())
        if not isinstance(answer, Found):
            self._rows += sum([record.size for record in answer.records])
        self._link.put(answer)
        self.go_on()


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


def _cost(frame: Read | ReadBack | Seek) -> int:
    """Bytes that its answer may have."""
    if isinstance(frame, Seek):
        return 0
    return min(frame.max_bytes, PAGE_BYTES if isinstance(frame, Read) else ROWS_IN_FLIGHT_BYTES)


def _rows(frame: Read, page: Page, records: list[Record], prevs: list[int], loss: int, *, is_live: bool) -> Rows:
    return Rows(
        frame.id, frame.log, records, prevs, page.upto, loss, page.known, page.looked_at, is_live, is_known=True
    )


UNKNOWN: Final[dict[type[Frame], Callable[[Any], Frame]]] = {
    Read: lambda frame: Rows(frame.id, frame.log, [], [], 0, 0, 0, 0, False, False),
    ReadBack: lambda frame: Older(frame.id, frame.log, [], False, 0, False),
    Seek: lambda frame: Found(frame.id, frame.log, 0, False, 0, 0, False),
}
ASKS: Final[dict[type[Frame], Callable[[Asker, Any, Shard, int], None]]] = {
    Read: Asker._read,
    ReadBack: Asker._read_back,
    Seek: Asker._seek,
}
HANDLERS: Final[dict[type[Frame], Callable[[Asker, Any], None]]] = {
    Interest: Asker.interest,
    Read: Asker.question,
    ReadBack: Asker.question,
    Seek: Asker.question,
}

"""Publishes on their way: the queue, the window, acknowledgements, and what is sent again after a reconnect.

Knows packets and time, nothing of connections beyond "detached". The surprising decision: a message keeps its id
for good, so a packet is encoded once however often it is sent; and it keeps its number in the order of publishing,
by which whatever has to be put back in order is sorted (G3).
"""

import logging
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any, Final

from attrs import define
from triode_protocol import codec, packets
from triode_protocol.errors import ErrorName
from triode_protocol.hops import Hop

from triode.backoff import Backoff, asked_seconds, clamp
from triode.errors import Expired, OutcomeUnknown, PublishManyFailed, PublishRefused, QueueFull, TriodeError
from triode.options import Options
from triode.outgoing import Outgoing
from triode.records import Complaint, Event, HeldBack, Published, Traced
from triode.resting import Resting

#: Told what becomes of a message, from within the client's loop: must not wait.
OnTrace = Callable[[Traced], None]

_log: Final = logging.getLogger("triode")
_OVERHEAD_BYTES: Final = 512  # of a waiting publish, beside its packet
_MAX_IMMEDIATE: Final = 3  # `retry: now` in a row that are believed
#: What a broker says that has more on its way than it can take: the window is halved, and grows again by one with
#: each window that is acknowledged, as TCP's does. Sending all of it again and again would only feed the overload.
_TOO_MUCH: Final = frozenset({ErrorName.OVERLOADED, ErrorName.INFLIGHT})
#: What a store says that is full, failed or away: other topics may be in another one.
_OF_ONE_TOPIC: Final = frozenset({ErrorName.UNAVAILABLE, ErrorName.TIMEOUT})


@define(eq=False)
class Publication:
    """One message on its way. Done once `result` is set; `waiter` is the front's to use."""

    id: int  # 0 = without acknowledgement
    order: int  # rises with every publish of the client
    topic: str
    packet: bytes
    message_id: str
    expires_at: float
    size: int  # what it takes in memory, about
    resend_until: float = inf  # set when first sent: the broker forgets message ids after this (G2)
    is_unknown: bool = False  # sent at least once without a definite answer
    is_abandoned: bool = False
    refusal: PublishRefused | None = None  # the last one that allowed another try
    result: Published | TriodeError | None = None
    waiter: Any = None

    @property
    def was_sent(self) -> bool:
        """Whether it has left at least once."""
        return self.resend_until < inf

    @property
    def deadline(self) -> float:
        """Until when it may be sent. What is surely not stored may be sent again after any time (G2)."""
        return min(self.expires_at, self.resend_until) if self.is_unknown else self.expires_at


class Publisher:
    """The publishes of one client, in order.

    A publish is in exactly one of `_queue` (never sent), `_again` (older ones, to be sent before the queue, in
    order), `_resting` (its topic rests) and `_inflight` (sent on this connection, unanswered). The bounds hold for
    all together.
    """

    def __init__(
        self,
        options: Options,
        outgoing: Outgoing,
        random: Callable[[], float],
        finished: list[Any],
        events: list[Event],
    ) -> None:
        self._options = options
        self._outgoing = outgoing
        self._backoff = Backoff(random)
        self._resting = Resting(random)
        self._last_order = 0
        self._window = inf  # what may be unanswered, below the broker's own limit
        self._finished = finished
        self._events = events
        self._queue: deque[Publication] = deque()
        self._again: list[Publication] = []
        self._inflight: dict[int, Publication] = {}
        self._traces: dict[int, tuple[str, OnTrace]] = {}  # by id: the message id, and who is told
        self._hold_until = -inf
        self._immediate = 0
        self.waiting_bytes = 0
        self.limits = packets.Limits(
            max_packet_bytes=65_536,
            max_frame_bytes=65_536,
            max_subscriptions=1,
            max_inflight_publishes=1,
            dedupe_window_ms=0,
        )  # until the broker announces its own

    # What programs ask for

    @property
    def waiting(self) -> int:
        """How many publishes are not done."""
        return len(self._queue) + len(self._again) + self._resting.count + len(self._inflight)

    @property
    def has_room(self) -> bool:
        """Whether a small message may join the queue."""
        options = self._options
        return self.waiting < options.max_queue_messages and self.waiting_bytes < options.max_queue_bytes

    def add(self, packet: packets.Publish, now: float, *, is_acknowledged: bool) -> Publication:
        """Queue a publish. Raises QueueFull."""
        if is_acknowledged:
            packet.id = self._outgoing.next_id()
        options = self._options
        expires_at = now + options.publish_expiry_seconds
        encoded = codec.encode(packet)
        size = len(encoded) + _OVERHEAD_BYTES
        bytes_then = self.waiting_bytes + size
        if self.waiting >= options.max_queue_messages or bytes_then > options.max_queue_bytes:
            raise QueueFull(f"{self.waiting} messages, {self.waiting_bytes} bytes are waiting to be sent")
        self._last_order += 1
        publication = Publication(
            packet.id, self._last_order, packet.topic, encoded, packet.message_id, expires_at, size
        )
        self._queue.append(publication)
        self.waiting_bytes = bytes_then
        return publication

    def trace(self, publication: Publication, told: OnTrace) -> None:
        """Tell what becomes of it."""
        self._traces[publication.id] = publication.message_id, told

    def abandon(self, *publications: Publication) -> None:
        """Nobody waits for these any more. Unsent: never sent. Sent: not sent again, the answer ignored."""
        gone = set(publications)
        left = {each for each in publications if self._resting.remove(each)}
        for place in (self._queue, self._again):
            found = gone.intersection(place)
            if found:
                left |= found
                kept = [each for each in place if each not in found]
                place.clear()
                place.extend(kept)
        for publication in gone:
            publication.is_abandoned = True
        self.waiting_bytes -= sum(each.size for each in left)

    # What goes out

    @property
    def has_unsent(self) -> bool:
        """Whether anything is to be sent, unless its topic rests."""
        return bool(self._queue or self._again)

    def has_next(self, now: float, *, is_resumed: bool) -> bool:
        """Whether `take` has something to give."""
        if now < self._hold_until:
            return False
        if self._resting:
            self._let_rest()
        if self._again:
            following = self._again[0]
        elif self._queue and is_resumed:
            following = self._queue[0]
        else:
            return False
        if not following.id:
            return True
        window = max(1, min(self.limits.max_inflight_publishes, self._window))
        return len(self._inflight) + 1 <= window

    def _let_rest(self) -> None:
        """What is next and of a topic that rests steps aside."""
        while self._again and self._resting.take_along(self._again[0]):
            self._again.pop(0)
        while self._queue and self._resting.take_along(self._queue[0]):
            self._queue.popleft()

    def take(self, room: int, now: float, *, is_resumed: bool) -> Iterator[bytes]:
        """The next packets that fit into `room` bytes and the window; from now on they count as sent.

        Before `connected` (not `is_resumed`) only what was sent on an earlier connection and is unanswered.
        """
        while self.has_next(now, is_resumed=is_resumed):
            following = self._again[0] if self._again else self._queue[0]
            size = len(following.packet)
            is_too_large = size > self.limits.max_packet_bytes
            if size >= room and not is_too_large:
                return
            self._again.pop(0) if self._again else self._queue.popleft()
            if is_too_large:  # known only now: it was queued before the first `connected`
                self._fail(following, _too_large(self.limits.max_packet_bytes))
                continue
            if now >= following.deadline:
                self._expire(following)
                continue
            room -= size + 1
            self._count_as_sent(following, now)
            yield following.packet

    def _count_as_sent(self, publication: Publication, now: float) -> None:
        if not publication.id:
            self.waiting_bytes -= publication.size
            return
        if publication.resend_until == inf:
            publication.resend_until = now + clamp(self.limits.dedupe_window_ms, 0, _FOREVER_MS) / 1000
        self._inflight[publication.id] = publication

    # What comes back

    def published(self, packet: packets.Published) -> None:
        """The broker acknowledged one; an unknown id is ignored."""
        publication = self._inflight.pop(packet.id, None)
        if publication is None:
            return
        self._backoff.reset()
        self._immediate = 0
        if self._window < self.limits.max_inflight_publishes:
            self._window += 1 / self._window
        if self._resting:
            self._send_again(self._resting.succeeded(publication.topic))
        place = Published(
            packet.log,
            packet.pos,
            packet.offset,
            packet.level,
            packet.duplicate,
            publication.message_id,
            packet.delayed,
        )
        self._finish(publication, place)

    def traced(self, packet: packets.Traced) -> None:
        """The broker tells more of what became of one; an unknown id is ignored."""
        if packet.id in self._traces:
            self._tell(packet.id, tuple(packet.hops), packet.end)

    def _tell(self, id: int, hops: tuple[Hop, ...], end: str) -> None:
        message_id, told = self._traces.pop(id) if end else self._traces[id]
        try:
            told(Traced(message_id, hops, end))
        except Exception:  # noqa: BLE001  # the program's own mistake must not cost it the connection
            _log.exception("on_trace has failed")

    def refused(self, packet: packets.Error, now: float) -> bool:
        """The broker refused one: act by `retry`. False: it is none of ours."""
        publication = self._inflight.pop(packet.id, None)
        if publication is None:
            return False
        publication.is_unknown |= packet.name == ErrorName.TIMEOUT
        refusal = PublishRefused(
            packet.name,
            packet.message,
            field=packet.field,
            retry=packet.retry,
            retry_after_ms=packet.retry_after_ms,
        )
        if packet.retry not in ("now", "backoff") or publication.is_abandoned:
            self._fail(publication, refusal)
            return True
        publication.refusal = refusal
        if packet.name in _OF_ONE_TOPIC:
            asked = asked_seconds(packet.retry_after_ms, self._options.max_wait_seconds)
            self._resting.add(publication, now, asked)
        else:
            insort(self._again, publication, key=_order)
            self._hold(packet, now)
        return True

    def _send_again(self, publications: Iterable[Publication]) -> None:
        self._again = sorted([*self._again, *publications], key=_order)

    def _hold(self, packet: packets.Error, now: float) -> None:
        """Send nothing for a while: what follows would be refused for the same reason."""
        self._immediate += packet.retry == "now"
        if packet.retry == "now" and self._immediate <= _MAX_IMMEDIATE:
            return
        if now < self._hold_until:  # one of many refused together: they count as one attempt
            return
        asked = asked_seconds(packet.retry_after_ms, self._options.max_wait_seconds)
        seconds = max(self._backoff.delay_seconds(), asked)
        self._hold_until = now + seconds
        self._events.append(HeldBack(packet.name, packet.message, seconds))
        if packet.name in _TOO_MUCH:
            most = clamp(self.limits.max_inflight_publishes, 1, self._options.max_queue_messages)
            self._window = max(1.0, min(self._window, most) / 2)

    # The connection is gone

    def fail_largest(self) -> None:
        """The connection was closed with 1009: the largest packet in flight is to blame and is not sent again."""
        if self._inflight:
            largest = max(self._inflight.values(), key=_size)
            del self._inflight[largest.id]
            self._fail(largest, PublishRefused(ErrorName.TOO_LARGE, "the broker closed the connection with 1009"))

    def detach(self) -> None:
        """The connection is gone: what is unanswered may be stored, and goes out again with its id (G2)."""
        waiting = [*self._again, *self._resting.clear()]
        for publication in self._inflight.values():
            publication.is_unknown = True
            if publication.is_abandoned:
                self.waiting_bytes -= publication.size
            else:
                waiting.append(publication)
        self._inflight.clear()
        waiting.sort(key=_order)
        self._again = [each for each in waiting if each.was_sent]
        self._queue.extendleft(each for each in reversed(waiting) if not each.was_sent)
        self._hold_until = -inf
        if self._traces:
            open_ones = {each.id for each in waiting}
            for id in [id for id in self._traces if id not in open_ones and not self._is_queued(id)]:
                self._tell(id, (), "lost")

    def _is_queued(self, id: int) -> bool:
        return any(each.id == id for each in self._queue)

    def close(self, error: TriodeError) -> None:
        """The client is closed: nothing will be sent any more."""
        self.detach()
        waiting = [*self._again, *self._queue]
        self._again.clear()
        self._queue.clear()
        for publication in waiting:
            self._fail(publication, error)

    # Time

    def deadline(self) -> float:
        """When `tick` has something to do: queue, again and in flight are in the order of their deadlines."""
        at = self._resting.deadline()
        if self._queue:
            at = min(at, self._queue[0].expires_at)
        if self._again:
            at = min(at, self._again[0].deadline)
        for oldest in self._inflight.values():
            at = min(at, oldest.expires_at)
            break
        if self._hold_until > -inf:
            at = min(at, self._hold_until)
        return at

    def tick(self, now: float) -> None:
        """End what has waited too long, and a pause that is over."""
        if now >= self._hold_until:
            self._hold_until = -inf
        released, expired = self._resting.tick(now)
        if released:
            self._send_again(released)
        for publication in expired:
            self._expire(publication)
        while self._queue and now >= self._queue[0].expires_at:
            self._expire(self._queue.popleft())
        while self._again and now >= self._again[0].deadline:
            self._expire(self._again.pop(0))
        while self._inflight:
            oldest = next(iter(self._inflight.values()))
            if now < oldest.expires_at:
                break
            del self._inflight[oldest.id]
            oldest.is_unknown = True
            self._expire(oldest)

    def _expire(self, publication: Publication) -> None:
        self._fail(publication, publication.refusal or Expired("it could not be sent in time"))

    def _fail(self, publication: Publication, error: TriodeError) -> None:
        if publication.is_unknown:
            unknown = OutcomeUnknown(
                "it was sent, and no answer came in time: it may be stored", message_id=publication.message_id
            )
            unknown.__cause__ = error
            error = unknown
        if not publication.id:  # nobody waits for this one: it must not vanish without a word
            name = "expired" if isinstance(error, Expired) else getattr(error, "name", "") or "closed"
            self._events.append(Complaint(name, f"a message without acknowledgement was not sent: {error}"))
        if publication.id in self._traces:
            self._tell(publication.id, (), "failed")
        self._finish(publication, error)

    def _finish(self, publication: Publication, result: Published | TriodeError) -> None:
        publication.result = result
        if self._resting:
            self._resting.ended(publication.topic)
        self.waiting_bytes -= publication.size
        self._finished.append(publication)


_FOREVER_MS: Final = 2**53


def all_published(results: list[Published | TriodeError]) -> list[Published]:
    """The places, where all have one. Raises PublishManyFailed."""
    places = [each for each in results if isinstance(each, Published)]
    if len(places) < len(results):
        raise PublishManyFailed(results)
    return places


def _order(publication: Publication) -> int:
    return publication.order


def _size(publication: Publication) -> int:
    return len(publication.packet)


def _too_large(limit: int) -> PublishRefused:
    return PublishRefused(ErrorName.TOO_LARGE, f"a packet has at most {limit} bytes")

"""Awaiting: publishes that a durable shard has accepted and its log has not committed yet.

A message on disk has its place at acceptance, but is delivered and acknowledged at commit (G1): what arrives here
waits in the order of its places until the log tells what became of it. The surprising decision: when a commit came
to nothing the numbers given out are taken back, so that offsets stay without holes; nobody has seen them.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from msgspec import Struct
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, Published

from triode_broker.config import Limits
from triode_broker.core.interfaces import DurableLog, Outcome, Publisher
from triode_broker.core.message_ids import Key, Remembered, check_same, lasting_digest_of
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard, Topic

#: When a publisher may try again, in ms: a full disk is looked at once a second, a queue drains in a few commits.
RETRY_STORE_MS = 1_000
RETRY_QUEUE_MS = 100


class Delay(Protocol):
    """A publish that is not due yet: it gets no place now, it is kept under a name."""

    @property
    def name(self) -> str:
        """The name."""

    def begin(self, remembered: Remembered | None) -> None:
        """It is to be kept from now on. Raises Refused where there is no room."""

    def settle(self, is_kept: bool) -> None:
        """What became of it."""

    def value(self) -> bytes:
        """What is to be kept."""


class Waiting(Struct, gc=False):
    """One accepted publish."""

    record: Record
    topic: Topic
    offset_before: int  # the topic's counter, should this come to nothing
    publisher: Publisher | None  # None: the broker's own message
    id: int
    remembered: Remembered | None


class Awaiting:
    """The accepted, uncommitted messages of one durable shard, in order of pos."""

    __slots__ = ("_again", "_deliver", "_keeping", "_limits", "_log", "_shard", "_waiting", "is_ending")

    def __init__(self, shard: Shard, log: DurableLog, limits: Limits, deliver: Callable[[Record], None]) -> None:
        self._shard = shard
        self._log = log
        self._limits = limits
        self._deliver = deliver
        self.is_ending = False  # the node is: nothing more is taken
        self._waiting: deque[Waiting] = deque()
        self._again: dict[int, list[tuple[Publisher, int]]] = {}  # by pos: publishes sent again meanwhile
        self._keeping: dict[Key, list[tuple[Publisher, int, bool]]] = {}  # delayed ones: who waits, whether again
        log.listen(self.told)

    def check(self) -> None:
        """Raise Refused while the store takes nothing more: then nothing was stored (G2, G6)."""
        log = self._log
        if self.is_ending:
            raise Refused(ErrorName.UNAVAILABLE, "this node is shutting down", retry_after_ms=RETRY_STORE_MS)
        if log.state != "ok":
            message = "the disk is full" if log.state == "full" else "the store has failed: restart the node"
            raise Refused(ErrorName.UNAVAILABLE, message, retry_after_ms=RETRY_STORE_MS)
        if log.uncommitted_bytes >= self._limits.max_uncommitted_bytes:
            message = "the disk cannot keep up: publish more slowly"
            raise Refused(ErrorName.OVERLOADED, message, retry_after_ms=RETRY_QUEUE_MS)

    def accept(
        self,
        topic: Topic,
        packet: Publish,
        user: str,
        publisher: Publisher | None,
        now_ms: int,
        delay: Delay | None = None,
    ) -> Published | None:
        """Take a checked publish; its answer comes at commit, or at once where it is known already.

        Raises Refused: then it was surely not stored.
        """
        if publisher is not None and publisher.inflight >= self._limits.max_inflight_publishes:
            message = (
                f"more than {self._limits.max_inflight_publishes} publishes in flight: wait for their answers"
            )
            raise Refused(ErrorName.INFLIGHT, message, retry_after_ms=RETRY_QUEUE_MS)
        remembered: Remembered | None = None
        seconds = topic.rule.dedupe_seconds
        if packet.message_id and seconds:
            key = (topic.name, user, packet.message_id)
            digest = lasting_digest_of(packet)
            if (first := self._shard.ids.find(key, now_ms)) is not None:
                return self._duplicate(first, digest, packet, publisher)
            remembered = Remembered(key, digest, 0, 0, now_ms + seconds * 1000)
        self.check()
        if delay is not None:
            self._keep(delay, packet, publisher, remembered)
        else:
            self.take(topic, packet, user, publisher, packet.id, now_ms, remembered)
        if remembered is not None:
            self._shard.ids.remember(remembered)
        return None

    def take(
        self,
        topic: Topic,
        packet: Publish,
        user: str,
        publisher: Publisher | None,
        id: int,
        now_ms: int,
        remembered: Remembered | None,
    ) -> None:
        """Give a publish that passed `check` its place; what becomes of it is told to the publisher."""
        before = topic.offset
        record = self._shard.accept(topic, packet, user, now_ms, remembered)
        self._waiting.append(Waiting(record, topic, before, publisher, id, remembered))
        if publisher is not None:
            publisher.inflight += 1

    def _keep(
        self, delay: Delay, packet: Publish, publisher: Publisher | None, remembered: Remembered | None
    ) -> None:
        delay.begin(remembered)
        waiting: list[tuple[Publisher, int, bool]] = []
        if publisher is not None:
            waiting.append((publisher, packet.id, False))
            publisher.inflight += 1
        if remembered is not None:
            self._keeping[remembered.key] = waiting
        self._log.save(delay.name, delay.value, partial(self._kept, delay, waiting, remembered))

    def _kept(
        self,
        delay: Delay,
        waiting: list[tuple[Publisher, int, bool]],
        remembered: Remembered | None,
        outcome: Outcome,
    ) -> None:
        """The log tells what became of a delayed message that was to be kept."""
        if remembered is not None:
            if self._keeping.get(remembered.key) is waiting:
                del self._keeping[remembered.key]
            if outcome != "committed":
                self._shard.ids.forget(remembered)
        delay.settle(outcome == "committed")
        for publisher, id, is_again in waiting:
            if outcome != "committed":
                _refuse(publisher, id, outcome)
                continue
            publisher.inflight -= 1
            if id:
                publisher.answer(Published(id, level=self._log.level, duplicate=is_again, delayed=True))

    def _duplicate(
        self, first: Remembered, digest: int, packet: Publish, publisher: Publisher | None
    ) -> Published | None:
        check_same(first, digest)
        log = self._log
        if not first.pos:
            return self._delayed_duplicate(first, packet, publisher)
        if first.pos <= log.head():
            return Published(packet.id, log.name, first.pos, first.offset, log.level, True)
        if publisher is not None:  # the first one is in its commit: this one hears what becomes of it
            self._again.setdefault(first.pos, []).append((publisher, packet.id))
            publisher.inflight += 1
        return None

    def _delayed_duplicate(
        self, first: Remembered, packet: Publish, publisher: Publisher | None
    ) -> Published | None:
        waiting = self._keeping.get(first.key)
        if waiting is None:
            return Published(packet.id, level=self._log.level, duplicate=True, delayed=True)
        if publisher is not None:
            waiting.append((publisher, packet.id, True))
            publisher.inflight += 1
        return None

    def told(self, upto: int, outcome: Outcome) -> None:
        """The log tells what became of everything up to there."""
        if outcome == "committed":
            self._committed(upto)
        else:
            self._came_to_nothing(upto, outcome)

    def _committed(self, upto: int) -> None:
        waiting, log, again = self._waiting, self._log, self._again
        name, level = log.name, log.level
        while waiting and waiting[0].record.pos <= upto:
            one = waiting.popleft()
            record = one.record
            self._deliver(record)
            if (publisher := one.publisher) is not None:
                publisher.inflight -= 1
                if one.id:
                    publisher.answer(Published(one.id, name, record.pos, record.offset, level))
            if again and (others := again.pop(record.pos, None)) is not None:
                for publisher, id in others:
                    publisher.inflight -= 1
                    if id:
                        publisher.answer(Published(id, name, record.pos, record.offset, level, True))

    def _came_to_nothing(self, upto: int, outcome: Outcome) -> None:
        taken: list[Waiting] = []
        while self._waiting and self._waiting[0].record.pos <= upto:
            taken.append(self._waiting.popleft())
        for one in reversed(taken):
            one.topic.offset = one.offset_before
            if one.remembered is not None:
                self._shard.ids.forget(one.remembered)
        if not self._waiting:
            self._shard.pos = self._log.head()
        for one in taken:
            if one.publisher is not None:
                _refuse(one.publisher, one.id, outcome)
            for publisher, id in self._again.pop(one.record.pos, ()):
                _refuse(publisher, id, outcome)


def _refuse(publisher: Publisher, id: int, outcome: Outcome) -> None:
    publisher.inflight -= 1
    if outcome == "refused":
        message = "the store stopped before this message came to it"
        refused = Refused(ErrorName.UNAVAILABLE, message, retry_after_ms=RETRY_STORE_MS)
    else:
        message = "the write to disk failed: send it again with the same message_id"
        refused = Refused(ErrorName.TIMEOUT, message, retry_after_ms=RETRY_STORE_MS)
    refused.id = id
    publisher.refuse(refused)

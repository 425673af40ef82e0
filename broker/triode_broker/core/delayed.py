"""Delayed messages: accepted now, for a time to come (SPEC 3.4, `deliver_at_ms`).

Until it is due such a message has no place; then it is accepted like one that is published at that moment, for its
topic as it is then. What a topic on disk is to get is kept in that topic's log under a name, and forgotten in the
transaction that stores the message, so neither a crash nor a full disk loses or doubles it. The surprising
decision: what is due and not taken by its store is refused to nobody; it is tried again a second later, for ever.

Where its shard has moved to another node meanwhile, it goes there and stays here until that node has answered. An
answer that was lost means another try: with a message_id its duplicate is recognised, without one it may come
twice. At least once is right here, for it was acknowledged when it was accepted.

Times here are the wall clock's, for they come from clients.
"""

from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush

import msgspec
from msgspec import Struct
from triode_protocol.codec import Refused, encode
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, ServerPacket

from triode_broker.config import Limits
from triode_broker.core.awaiting import Awaiting
from triode_broker.core.interfaces import Acceptor, DurableLog
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard, Topic

#: What a delayed message costs beside its content, in bytes (measured: 670; 830 with headers and an id).
DELAYED_OVERHEAD_BYTES = 830
#: Messages that one tick delivers, so that it stays short.
TICK_MESSAGES = 500
#: When a store that did not take what is due is asked again.
RETRY_MS = 1_000
_PREFIX = "delayed/"


class _Saved(Struct, omit_defaults=True):
    """A delayed message as a durable log keeps it."""

    packet: Publish
    user: str = ""
    digest: int = 0  # with `expires_ms`: of its message_id, while the window lasts
    expires_ms: int = 0


class Later:
    """One delayed message: kept until it is due, then the `Publisher` of itself."""

    __slots__ = (
        "_delayed",
        "due_ms",
        "inflight",
        "is_over",
        "packet",
        "remembered",
        "serial",
        "shard",
        "size",
        "user",
    )

    def __init__(self, delayed: "Delayed", shard: Shard, packet: Publish, user: str) -> None:
        self._delayed = delayed
        self.shard = shard  # whose log keeps it, where it is on disk
        self.packet = packet
        self.user = user
        self.serial = 0  # its number in the order of acceptance
        self.due_ms = packet.deliver_at_ms
        self.remembered: Remembered | None = None
        self.is_over = False  # delivered, or never accepted: nothing is to be kept
        self.inflight = 0
        content = len(memoryview(packet.data)) + len(memoryview(packet.b64)) + len(packet.key) + len(user)
        headers = sum(len(name) + len(value) for name, value in packet.headers.items())
        self.size = content + headers + DELAYED_OVERHEAD_BYTES  # bytes

    # `awaiting.Delay`

    @property
    def name(self) -> str:
        """Under which it is kept."""
        return f"{_PREFIX}{self.serial}"

    def begin(self, remembered: Remembered | None) -> None:
        """Count it. Raises Refused where there is no room."""
        self.remembered = remembered
        self._delayed.begin(self)

    def settle(self, is_kept: bool) -> None:
        """It is accepted and will be delivered, or it has come to nothing."""
        if is_kept:
            self._delayed.schedule(self, self.due_ms)
        else:
            self._delayed.forget(self)

    def value(self) -> bytes:
        """What is to be kept of it now."""
        if self.is_over:
            return b""
        saved = _Saved(self.packet, self.user)
        if self.remembered is not None:
            saved.digest, saved.expires_ms = self.remembered.digest, self.remembered.expires_ms
        return encode(saved)

    # `interfaces.Publisher`: what became of it when it was due

    def answer(self, packet: ServerPacket) -> None:
        """It is stored."""
        self._delayed.placed(self)

    def refuse(self, refused: Refused) -> None:
        """It is not stored, or not surely: it goes on to be kept, and to be tried."""
        self._delayed.try_again(self)


class Delayed:
    """What is not due yet, of all shards."""

    def __init__(
        self,
        limits: Limits,
        awaiting: Mapping[Shard, Awaiting],
        logs: Mapping[Shard, DurableLog],
        topic_of: Callable[[str], Topic],
        deliver: Callable[[Record], None],
    ) -> None:
        """`topic_of` knows every topic that a message was ever accepted for."""
        self._limits = limits
        self._awaiting = awaiting
        self._logs = logs
        self._topic_of = topic_of
        self._deliver = deliver
        self._due: list[tuple[int, int, int, Later]] = []  # a heap: when, due_ms, serial
        self._sizes: dict[Shard, int] = {}
        self._last_serial = 0
        self._ticked_ms = 0
        self.count = 0  # messages, those included whose keeping or delivery is in its commit
        self.sooner: Callable[[], None] = lambda: None  # called when `next_due_ms` has become earlier

    @property
    def size(self) -> int:
        """Bytes kept."""
        return sum(self._sizes.values())

    @property
    def next_due_ms(self) -> int | None:
        """When `tick` is to be called; in the past while one tick has not delivered all."""
        return self._due[0][0] if self._due else None

    def later(self, shard: Shard, packet: Publish, user: str, now_ms: int) -> Later | None:
        """A message for a time to come, not accepted yet; None: it is due. Raises Refused."""
        if not self._limits.max_delay_seconds:
            message = "this node does not offer deliver_at_ms"
            raise Refused(ErrorName.UNSUPPORTED, message, field="deliver_at_ms")
        if packet.deliver_at_ms <= now_ms:
            return None
        if packet.deliver_at_ms - now_ms > self._limits.max_delay_seconds * 1000:
            message = f"deliver_at_ms is at most {self._limits.max_delay_seconds} seconds ahead"
            raise Refused(ErrorName.TOO_LARGE, message, field="deliver_at_ms")
        return Later(self, shard, packet, user)

    def begin(self, later: Later) -> None:
        """Give it its number and count it. Raises Refused: then nothing has happened."""
        size = self._sizes.get(later.shard, 0) + later.size
        if size > self._limits.max_delayed_bytes:
            message = "too many delayed messages wait already: publish it later, or without deliver_at_ms"
            raise Refused(ErrorName.QUOTA, message, field="deliver_at_ms")
        self._sizes[later.shard] = size
        self.count += 1
        self._last_serial = later.serial = self._last_serial + 1

    def schedule(self, later: Later, at_ms: int) -> None:
        """Deliver it then."""
        heappush(self._due, (at_ms, later.due_ms, later.serial, later))
        if self._due[0][3] is later:
            self.sooner()

    def forget(self, later: Later) -> None:
        """It was delivered, or never accepted."""
        later.is_over = True
        self._uncount(later)

    def _count(self, later: Later) -> None:
        self._sizes[later.shard] = self._sizes.get(later.shard, 0) + later.size
        self.count += 1

    def _uncount(self, later: Later) -> None:
        self._sizes[later.shard] -= later.size
        self.count -= 1

    def placed(self, later: Later) -> None:
        """It is stored; what is kept of it here is forgotten, unless it was with the commit that stored it."""
        is_elsewhere = not later.is_over
        self.forget(later)
        if is_elsewhere:
            self._save(later)

    def try_again(self, later: Later) -> None:
        """The commit that should have stored it came to nothing, and with it the forgetting of what is kept.

        Or another node has not taken it, as far as is known: then nothing was forgotten yet.
        """
        if later.is_over and (remembered := later.remembered) is not None:
            remembered.pos = remembered.offset = 0
            later.shard.ids.remember(remembered)
        later.is_over = False
        self.schedule(later, self._ticked_ms + RETRY_MS)

    def load(self, shard: Shard, values: Mapping[str, bytes]) -> None:
        """Go on with what a durable log kept for the process before."""
        for name in values:
            if name.startswith(_PREFIX):
                self._load(shard, values[name], int(name[len(_PREFIX) :]))

    def _load(self, shard: Shard, value: bytes, serial: int) -> None:
        saved = msgspec.json.decode(value, type=_Saved)
        later = Later(self, shard, saved.packet, saved.user)
        later.serial = serial
        self._last_serial = max(self._last_serial, serial)
        self._count(later)
        if saved.expires_ms:
            key = (saved.packet.topic, saved.user, saved.packet.message_id)
            self._load_id(later, Remembered(key, saved.digest, 0, 0, saved.expires_ms))
        self.schedule(later, later.due_ms)

    def _load_id(self, later: Later, remembered: Remembered) -> None:
        """The id may have been used again since its window was over: then that one counts."""
        known = later.shard.ids.find(remembered.key, 0)
        if known is None or known.expires_ms < remembered.expires_ms:
            later.remembered = remembered
            later.shard.ids.remember(remembered)

    # A shard in memory that is handed over to another node

    def take_out(self, shard: Shard) -> list[Later]:
        """What waits for its topics is another node's to deliver; in the order of delivery."""
        taken = sorted(one for one in self._due if one[3].shard is shard)
        self._due = [one for one in self._due if one[3].shard is not shard]
        heapify(self._due)
        for _, _, _, later in taken:
            self._uncount(later)
        return [later for _, _, _, later in taken]

    def put_back(self, laters: Iterable[Later]) -> None:
        """The other node does not: what was taken out goes on to be this one's."""
        for later in laters:
            self._count(later)
            self.schedule(later, later.due_ms)

    def take_in(self, shard: Shard, values: Iterable[bytes]) -> None:
        """What another node has taken out; values of `Later`s, in its order."""
        for value in values:
            self._load(shard, value, self._last_serial + 1)

    def tick(self, now_ms: int) -> None:
        """Deliver what is due; those of the same time in the order in which they were accepted."""
        self._ticked_ms = now_ms
        for _ in range(TICK_MESSAGES):
            if not self._due or self._due[0][0] > now_ms:
                return
            later = heappop(self._due)[3]
            try:
                self._place(later, now_ms)
            except Refused:
                self.schedule(later, now_ms + RETRY_MS)

    def _place(self, later: Later, now_ms: int) -> None:
        """Accept it like a publish of this moment. What is kept is forgotten in the same step. Raises Refused."""
        topic = self._topic_of(later.packet.topic)
        shard = topic.shard
        if later.remembered is not None and later.remembered.expires_ms <= now_ms:
            later.remembered = None
        if shard.acceptor is None:
            record = shard.accept(topic, later.packet, later.user, now_ms, later.remembered)
            self.forget(later)
            self._deliver(record)
        elif shard.acceptor is self._awaiting.get(shard):
            awaiting = self._awaiting[shard]
            awaiting.check()
            awaiting.take(topic, later.packet, later.user, later, 1, now_ms, later.remembered)
            later.is_over = True
        else:
            self._hand_on(later, topic, shard.acceptor, now_ms)
            return
        self._save(later)

    def _hand_on(self, later: Later, topic: Topic, acceptor: Acceptor, now_ms: int) -> None:
        """Another node is to take it. With its time, which is part of what its message_id stands for."""
        packet = msgspec.structs.replace(later.packet, id=1)
        if acceptor.accept(topic, packet, later.user, later, now_ms) is not None:
            self.placed(later)

    def _save(self, later: Later) -> None:
        if (log := self._logs.get(later.shard)) is not None:
            log.save(later.name, later.value)

"""Events: what happens to clients, members and topics, told as messages of `$events/…` (docs/webhooks.md).

Makes the messages and gets them to their shard; who reads them is not known here. Nothing is made that nobody
wants. The surprising decision: an event says which life of a node it comes from, and its end has an id made from
that of its beginning. So what is open can be read from the events alone (`core.ledger`): the end of a lost node's
clients is told by all who notice, and the shard keeps one.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import MAX_KEY_BYTES, Publish, ServerPacket

from triode_broker.config import Limits
from triode_broker.core.identity import Identity
from triode_broker.core.interfaces import Publisher
from triode_broker.core.item import Item
from triode_broker.core.tenants import inside, name_outside, outside, tenant_of, tenant_of_name
from triode_broker.core.timers import Timers

PREFIX: Final = "$events/"
#: All of a tenant's events.
ALL: Final = PREFIX + "#"
CONNECTED, DISCONNECTED = "client.connected", "client.disconnected"
JOINED, LEFT = "member.joined", "member.left"
OCCUPIED, VACATED = "topic.occupied", "topic.vacated"
DEAD, LOST = "dead_letter", "events.lost"
#: Kinds, and the topic that each is told on: what belongs together is told in order.
TOPICS: Final[Mapping[str, str]] = {
    CONNECTED: PREFIX + "clients",
    DISCONNECTED: PREFIX + "clients",
    JOINED: PREFIX + "members",
    LEFT: PREFIX + "members",
    OCCUPIED: PREFIX + "topics",
    VACATED: PREFIX + "topics",
    DEAD: PREFIX + "dead-letters",
    LOST: PREFIX + "lost",
}
#: Those that begin something, and those that end it.
OPENING: Final = frozenset({CONNECTED, JOINED, OCCUPIED})
ENDING: Final[Mapping[str, str]] = {CONNECTED: DISCONNECTED, JOINED: LEFT, OCCUPIED: VACATED}
#: The life of the node that an event is of, in its headers.
LIFE: Final = "triode-life"
_END: Final = "~end"
#: Names of webhooks' consumers begin with it; no client's does. Their own dead letters are no events.
HOOK: Final = "webhook:"
#: How clients are known that are the broker's own.
METHOD: Final = "webhook"
#: On their way to one shard.
MAX_IN_FLIGHT: Final = 256
RETRY_MS: Final = 500
#: Whether it was stored is not known, or it was not: again. All other refusals will not change.
_AGAIN: Final = frozenset({
    ErrorName.UNAVAILABLE, ErrorName.OVERLOADED, ErrorName.TIMEOUT, ErrorName.INFLIGHT, ErrorName.RATE_LIMITED,
})  # fmt: skip
_NULL: Final = Raw(b"null")
_REASONS: Final = {1000: "normal", 1006: "lost", **{int(code): code.name.lower() for code in CloseCode}}


#: `Router.publish_own`.
PublishOwn = Callable[[Publish, str, int, Publisher], None]


class Event(Struct, omit_defaults=True):
    """What is told; what does not belong to a kind, or is "" or 0, is left out."""

    id: str
    kind: str
    time: int  # ms since 1970
    node: str
    tenant: str = ""
    topic: str = ""
    user: str = ""
    client: str = ""  # `client_of` its connection
    method: str = ""
    address: str = ""
    code: int = 0  # of the close
    reason: str = ""
    member: str = ""
    state: Raw = Raw()
    name: str = ""  # of a durable subscription or group
    attempts: int = 0
    pos: int = 0  # of a dead letter's message
    log: str = ""
    count: int = 0  # of lost events

    @property
    def key(self) -> str:
        """What it is about: what is told of that is told in order."""
        return self.client or self.member or self.name or self.topic


class _Member(Struct):
    """What of a member's JSON is told."""

    id: str
    state: Raw = _NULL
    user: str = ""


_member: Final = msgspec.json.Decoder(_Member).decode
encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Event).decode


def client_of(connection: str) -> str:
    """What a connection is called in events: its id itself is a secret of its client (SPEC 3.1.4)."""
    return sha256(connection.encode()).hexdigest()[:32]


def end_of(opening: Event) -> str:
    """The id of the event that ends what this one began."""
    return opening.id + _END


class _Sending:
    """One event on its way. `interfaces.Publisher`."""

    __slots__ = ("inflight", "packet", "queue")

    def __init__(self, queue: "_Queue", packet: Publish) -> None:
        self.inflight = 0
        self.queue = queue
        self.packet = packet

    def answer(self, packet: ServerPacket) -> None:
        """It is stored."""
        self.queue.settled(self)

    def refuse(self, refused: Refused) -> None:
        """It is not."""
        self.queue.refused(self, refused)


class _Queue:
    """The events of one topic of the core, in order as far as their keys are the same."""

    __slots__ = ("_events", "_is_pumping", "_is_waiting", "_keys", "waiting")

    def __init__(self, events: "Events") -> None:
        self._events = events
        self._keys: set[str] = set()  # in flight
        self._is_pumping = self._is_waiting = False
        self.waiting: deque[Publish] = deque()

    def __len__(self) -> int:
        return len(self.waiting) + len(self._keys)

    def put(self, packet: Publish) -> None:
        """Behind the others."""
        self.waiting.append(packet)
        self.pump()

    def pump(self, now_ms: int = 0) -> None:
        """Hand over what can be."""
        if self._is_pumping or self._is_waiting:
            return
        self._is_pumping = True
        while self.waiting and not self._is_waiting and len(self._keys) < MAX_IN_FLIGHT:
            if self.waiting[0].key in self._keys:
                break
            packet = self.waiting.popleft()
            self._keys.add(packet.key)
            self._events.publish(packet, _Sending(self, packet))
        self._is_pumping = False

    def settled(self, sending: _Sending) -> None:
        """One is stored, or will never be."""
        self._keys.discard(sending.packet.key)
        self._events.settled()
        self.pump()

    def refused(self, sending: _Sending, refused: Refused) -> None:
        """Before all others again, in a moment; but one with its id may be there already, from another node."""
        if refused.name not in _AGAIN:
            self._events.note_refused(sending.packet, refused)
            self.settled(sending)
            return
        self._keys.discard(sending.packet.key)
        self.waiting.appendleft(sending.packet)
        if not self._is_waiting:
            self._is_waiting = True
            timers = self._events.timers
            timers.at(timers.steady_ms() + RETRY_MS, self._again)

    def _again(self, now_ms: int) -> None:
        self._is_waiting = False
        self.pump()


class Events:
    """Those of one node."""

    def __init__(
        self, node: str, publish_own: PublishOwn, limits: Limits, timers: Timers, random_id: Callable[[], str]
    ) -> None:
        self.node = node
        self.timers = timers
        self.life = random_id()[:32]
        self._publish_own = publish_own
        self._limits = limits
        self._random_id = random_id
        self._queues: dict[str, _Queue] = {}
        self._wanted: Mapping[str, frozenset[str]] = {}
        self._lost: Counter[str] = Counter()  # by tenant, and not told yet
        self._is_telling = False
        self.open: dict[str, Event] = {}  # by key: clients and members of this node, as they were told
        self.told: Counter[str] = Counter()  # by kind, since the start
        self.lost = 0  # since the start

    # Who wants what

    def want(self, kinds: Mapping[str, frozenset[str]]) -> None:
        """From now on these, by tenant; what ends is told with what begins, or nobody could know which ends."""
        self._wanted = {
            tenant: wanted | {kind for pair in ENDING.items() if wanted.intersection(pair) for kind in pair}
            for tenant, wanted in kinds.items()
        }

    def wants(self, tenant: str, kind: str) -> bool:
        """Whether anybody does."""
        return kind in self._wanted.get(tenant, ())

    @property
    def tenants(self) -> list[str]:
        """Whose events somebody wants."""
        return list(self._wanted)

    @property
    def waiting(self) -> int:
        """Events that their shard has not taken."""
        return sum(map(len, self._queues.values()))

    def is_own_life(self, life: str) -> bool:
        """Whether it is this node as it is."""
        return life == self.life

    # What happens

    def connected(self, connection: str, who: Identity, address: str) -> None:
        """A client is in."""
        if self.wants(who.tenant, CONNECTED) and who.method != METHOD:
            client = client_of(connection)
            self._begin(
                self._event(
                    CONNECTED, who.tenant, client, user=who.user, client=client, method=who.method, address=address
                )
            )

    def disconnected(self, connection: str, code: int) -> None:
        """It is not any more; 0 and 1006: it was lost."""
        if (opening := self.open.pop(client_of(connection), None)) is not None:
            code = code or 1006
            self.end(opening, code=code, reason=_REASONS.get(code, ""))

    def joined(self, topic: str, json: bytes) -> None:
        """Somebody is on a topic of the core, who was not before."""
        tenant = tenant_of(topic)
        if self.wants(tenant, JOINED):
            seen = _member(json)
            self._begin(
                self._event(
                    JOINED, tenant, seen.id, topic=outside(topic), member=seen.id, user=seen.user, state=seen.state
                )
            )

    def left(self, member: str) -> None:
        """Somebody is not any more."""
        if (opening := self.open.pop(member, None)) is not None:
            self.end(opening)

    def occupied(self, topic: str) -> Event:
        """A topic of the core has a subscription, and had none."""
        event = self._event(OCCUPIED, tenant_of(topic), self._random_id(), topic=outside(topic))
        self._tell(event)
        return event

    def buried(self, name: str, item: Item) -> None:
        """A dead letter of a name of the core is written."""
        tenant, own = tenant_of_name(name), name_outside(name)
        if not self.wants(tenant, DEAD) or own.startswith(HOOK):
            return
        record, log = item.record, item.source.shard.log.name
        facts = {"topic": outside(record.topic), "log": log, "pos": record.pos}
        facts |= {"reason": item.reason, "attempts": item.failed}
        self._tell(self._event(DEAD, tenant, f"{name} {log} {record.pos}", name=own, **facts))

    def end(self, opening: Event, **how: Any) -> None:
        """What this began is over: told once, whoever says so and however often."""
        kind, now_ms = ENDING[opening.kind], self.timers.now_ms
        facts = {"user": opening.user, "client": opening.client, "member": opening.member, "topic": opening.topic}
        event = Event(end_of(opening), kind, now_ms, self.node, opening.tenant, **(facts | how))
        self._tell(event)

    def contradict(self, ended: Event) -> None:
        """Another node has told the end of what goes on here: begin it anew."""
        opening = self.open.get(ended.key)
        if opening is not None and end_of(opening) == ended.id:
            again = msgspec.structs.replace(opening, id=self._random_id()[:32], time=self.timers.now_ms)
            self._begin(again)

    def _begin(self, event: Event) -> None:
        self.open[event.key] = event
        self._tell(event)

    def _event(self, kind: str, tenant: str, of: str, **facts: Any) -> Event:
        """`of`: makes its id, with the life of the node and the kind."""
        id = sha256(f"{self.life} {kind} {of}".encode()).hexdigest()[:32]
        return Event(id, kind, self.timers.now_ms, self.node, tenant, **facts)

    # Telling

    def _tell(self, event: Event) -> None:
        if not self.wants(event.tenant, event.kind) and event.kind != LOST:
            return
        topic = inside(event.tenant, TOPICS[event.kind])
        queue = self._queues.get(topic)
        if queue is None:
            queue = self._queues[topic] = _Queue(self)
        if self.waiting >= self._limits.max_waiting_events and event.kind != LOST:
            self._lose(event.tenant)
            return
        self.told[event.kind] += 1
        headers = {LIFE: self.life}
        queue.put(Publish(topic, Raw(encode(event)), 1, event.id, _bounded(event.key or "-"), headers))

    def publish(self, packet: Publish, sending: _Sending) -> None:
        """Hand one over; it is answered or refused."""
        try:
            self._publish_own(packet, "", self.timers.now_ms, sending)
        except Refused as refused:
            sending.refuse(refused)

    def note_refused(self, packet: Publish, refused: Refused) -> None:
        """It is there already, or never will be."""
        if refused.name != ErrorName.CONFLICT and outside(packet.topic) != TOPICS[LOST]:
            self._lose(tenant_of(packet.topic))

    def _lose(self, tenant: str) -> None:
        self.lost += 1
        self._lost[tenant] += 1

    def settled(self) -> None:
        """There is room again: tell of what was lost."""
        if not self._lost or self._is_telling or self.waiting * 2 > self._limits.max_waiting_events:
            return
        self._is_telling = True
        lost, self._lost = self._lost, Counter()
        for tenant, count in lost.items():
            self._tell(self._event(LOST, tenant, self._random_id(), count=count, reason="shard_not_reached"))
        self._is_telling = False


def _bounded(key: str) -> str:
    raw = key.encode()
    return key if len(raw) <= MAX_KEY_BYTES else sha256(raw).hexdigest()

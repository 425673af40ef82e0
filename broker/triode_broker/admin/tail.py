"""Tail: what a client says and is told, or what is published on a filter, for an operator who follows it.

Knows sessions, taps and the other nodes, not how an operator reaches it. The surprising decision: whoever follows
asks again and again (a long poll), and who stops asking is forgotten after half a minute: so nothing goes on
because somebody's terminal was closed, and the same call serves the socket, HTTP and other nodes.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import msgspec
import trio
from triode_protocol.codec import Refused, encode
from triode_protocol.packets import ClientInfo, Connect, Subscribe

from triode_broker.admin.clients import Whom, whom_of
from triode_broker.admin.elsewhere import PREFIX
from triode_broker.admin.everywhere import AllOthers
from triode_broker.admin.listener import BadCall, Call, Missing
from triode_broker.admin.parameters import flag_in
from triode_broker.admin.spoken import packets, payload_of
from triode_broker.core.errors import Disconnect
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.session import NORMAL_CLOSE, Session
from triode_broker.core.tapping import Taps

#: What one tap holds for whoever follows; then the oldest goes, and is counted.
MAX_EVENTS: Final = 2_000
MAX_BYTES: Final = 1_048_576
#: One answer has no more; the rest waits for the next one.
MAX_ANSWER_BYTES: Final = 262_144
MAX_TAPS: Final = 8  # of a node, at a time
IDLE_MS: Final = 30_000
MAX_WAIT_MS: Final = 10_000
DEFAULT_WAIT_MS: Final = 5_000
#: Where others are asked too: as long as all of them wait for something to happen on one of them.
WAIT_FOR_OTHERS_MS: Final = 300
PATIENCE_SECONDS: Final = 5.0
METHOD: Final = "operator"
MAX_FILTER_CHARACTERS: Final = 1_024


@attrs.frozen
class Spec:
    """What is followed."""

    whom: Whom
    topic: str = ""  # a filter, of `whom.tenant`; "": connections are
    payloads: bool = False

    def as_data(self) -> dict[str, Any]:
        """As parameters of a call."""
        said = {name: getattr(self.whom, name) for name in ("user", "tenant", "connection")}
        given = {name: value for name, value in said.items() if value is not None}
        return {**given, **({"topic": self.topic} if self.topic else {}), "payloads": self.payloads}


def spec_of(parameters: Mapping[str, Any]) -> Spec:
    """Raises BadCall."""
    tenant = parameters.get("tenant") or None  # "": of no tenant, or of any where a connection is named
    whom = whom_of({**parameters, "tenant": tenant}, "user", "tenant", "connection", also_nameless=True)
    topic = parameters.get("topic") or ""
    if not isinstance(topic, str) or len(topic) > MAX_FILTER_CHARACTERS:
        raise BadCall(f"topic is a filter of at most {MAX_FILTER_CHARACTERS} characters")
    if sum((bool(topic), whom.user is not None, whom.connection is not None)) != 1:
        raise BadCall("follow what? one of user, connection and topic")
    return Spec(whom, topic, flag_in(parameters, "payloads"))


class Tap:
    """What happened and was not read yet; `core.tapping.Ear`."""

    def __init__(self, node: str, spec: Spec, now_ms: Callable[[], int]) -> None:
        self.spec = spec
        self.lost = 0
        self.seen_ms = 0  # by a steady clock, when it was last asked
        self.heard_of: dict[str, tuple[int, int]] = {}  # of other nodes: what was read there, what was lost
        self._node = node
        self._now_ms = now_ms
        self._events: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._number = 0
        self._bell = trio.Event()

    def add(self, **facts: Any) -> None:
        """Something has happened."""
        event = msgspec.json.encode({"at_ms": self._now_ms(), "node": self._node, **facts})
        self._number += 1
        self._events.append((self._number, event))
        self._size += len(event)
        while len(self._events) > MAX_EVENTS or self._size > MAX_BYTES:
            self._forget()
            self.lost += 1
        self._bell.set()

    def _forget(self) -> None:
        _, event = self._events.popleft()
        self._size -= len(event)

    async def wait(self, wait_ms: int) -> None:
        """Until there is something to read, but not longer."""
        self.collect()
        if not self._events:
            self._bell = trio.Event()
            with trio.move_on_after(wait_ms / 1000):
                await self._bell.wait()
        self.collect()

    def collect(self) -> None:
        """Take what has come meanwhile; a connection's events come by themselves."""

    def end(self) -> None:
        """It is over."""

    def take(self, after: int) -> dict[str, Any]:
        """What came behind the event of this number, which was read."""
        while self._events and self._events[0][0] <= after:
            self._forget()
        found: list[Any] = []
        size = 0
        for number, event in self._events:
            size += len(event)
            if found and size > MAX_ANSWER_BYTES:
                break
            found.append(msgspec.json.decode(event))
            after = number
        return {"events": found, "upto": after, "lost": self.lost}

    # `core.tapping.Ear`

    def wants(self, session: Session) -> bool:
        """Whether it is one of those who are meant."""
        return self.spec.whom.is_meant(session)

    def entered(self, session: Session) -> None:
        """A connection, that is there or comes in."""
        facts = {"address": session.address, "method": session.identity.method}
        self.add(event="connected", **_who(session), **facts, subscriptions=session.subscription_count)

    def heard(self, session: Session, text: str) -> None:
        """It says something."""
        for packet in packets(text, with_payloads=self.spec.payloads):
            self.add(event="says", **_who(session), packet=packet)

    def told(self, session: Session, item: bytes, *, is_payload: bool) -> None:
        """It is told something."""
        payload = item if is_payload else payload_of(item)
        if payload is None:
            self.add(event="told", **_who(session), packet={"bytes": len(item), "is_malformed": True})
            return
        for packet in packets(payload, with_payloads=self.spec.payloads):
            self.add(event="told", **_who(session), packet=packet)

    def left(self, session: Session, code: int) -> None:
        """It is gone."""
        self.add(event="disconnected", **_who(session), code=code)


def _who(session: Session) -> dict[str, str]:
    identity = session.identity
    return {"connection": session.connection_id, "user": identity.user, "tenant": identity.tenant}


class _Bell(list[Outbox]):
    """Stands where the edge's list of outboxes stands that have something to be sent."""

    ring: Callable[[], None]

    def append(self, outbox: Outbox, /) -> None:
        self.ring()


class TopicTap(Tap):
    """A subscription of the node's own, of a client that is an operator; its own `core.interfaces.Connection`.

    The surprising decision: what comes is left in the outbox until it is read. So its bound holds, and an operator
    who is too slow is told of the gap as any subscriber is.
    """

    def __init__(self, node: Node, spec: Spec, now_ms: Callable[[], int]) -> None:
        super().__init__(node.name, spec, now_ms)
        self.close_code = 0
        bell = _Bell()
        bell.ring = self._ring
        self._outbox = Outbox(self, bell, bytes, node.limits.max_outbox_bytes)
        self._outbox.hold_payloads()
        self._identity = Identity(METHOD, spec.whom.tenant or "", method=METHOD)
        self._session = Session(node, self._outbox, Arrival(gate=self, is_request=True))

    def begin(self) -> None:
        """Raises BadCall where the filter is none, or the node takes nobody in."""
        self._say(Connect(client=ClientInfo("tail")))
        self._say(Subscribe(filter=self.spec.topic, sub=1, id=1))
        self.collect()

    def _say(self, packet: Any) -> None:
        self._serve(self._session.receive_text, encode(packet).decode())

    def _serve(self, serve: Callable[..., None], *values: Any) -> None:
        try:
            serve(*values, self._now_ms())
        except Disconnect as end:
            self.close(end.code)

    def ask(self, token: str, arrival: Arrival, done: Callable[[Identity | Refused], None]) -> None:
        """`core.interfaces.Gate`: this session is the node's own."""
        done(self._identity)

    def _ring(self) -> None:
        self._bell.set()

    def collect(self) -> None:
        """Take what is in the outbox."""
        outbox = self._outbox
        items = list(outbox.items)
        outbox.items.clear()
        outbox.size = 0
        for item in items:
            for packet in packets(item, with_payloads=self.spec.payloads):
                self._take(packet)
        if outbox.wants_room and not self.close_code:
            self._serve(self._session.room)

    def _take(self, packet: dict[str, Any]) -> None:
        kind = packet.pop("type", "")
        if kind == "error":
            self.close_code = self.close_code or NORMAL_CLOSE
            raise BadCall(str(packet.get("message", "this cannot be followed")))
        if kind in ("message", "gap", "unsubscribed"):
            self.add(event=kind, **packet)

    def end(self) -> None:
        """The subscription goes."""
        self.close_code = self.close_code or NORMAL_CLOSE
        self._session.detach()

    # `core.interfaces.Connection`

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """It is told, and that is all."""
        if not self.close_code:
            self.close_code = int(code)
            self.add(event="closed", code=int(code))

    def drop(self) -> None:
        """The same."""
        self.close(NORMAL_CLOSE)

    def wake(self) -> None:
        """Its catch-up goes on when it is read."""
        self._outbox.wants_room = True
        self._bell.set()


@attrs.define(eq=False)
class Tails:
    """The calls: of this node, and of the others through it."""

    node: Node
    others: AllOthers
    now_ms: Callable[[], int]
    flush: Callable[[], None]
    log: Any
    has_others: bool = False
    _taps: dict[str, Tap] = attrs.field(init=False, factory=dict)
    _own: Taps = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._own = Taps(self.node)

    def own(self) -> dict[str, Call]:
        """What other nodes may ask."""
        return {"tail.follow": self.follow, "tail.end": self.end}

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {"tail.open": self.open, "tail.read": self.read, "tail.close": self.close}

    async def open(self, parameters: Mapping[str, Any]) -> object:
        """Begin. The log has who asks already; here it is what holds from now on."""
        spec = spec_of(parameters)
        id = "t-" + self.node.random_id()
        self._open(id, spec)
        unanswered: list[str] = []
        if self.has_others and not spec.topic:
            asked = {**spec.as_data(), "tap": id, "wait_ms": 0}
            _, unanswered = await self.others.ask_all(PREFIX + "tail.follow", asked, PATIENCE_SECONDS)
        return {"tap": id, "unanswered": unanswered}

    def _open(self, id: str, spec: Spec) -> Tap:
        if len(self._taps) >= MAX_TAPS:
            raise BadCall(f"{MAX_TAPS} follow something here: end one of them, or wait for half a minute")
        tap: Tap
        if spec.topic:
            tap = topic_tap = TopicTap(self.node, spec, self.now_ms)
            try:
                topic_tap.begin()
            except BadCall:
                tap.end()
                raise
            finally:
                self.flush()
        else:
            tap = Tap(self.node.name, spec, self.now_ms)
            self._own.open(tap)
        self._taps[id] = tap
        self.log.info("tail_begun", tap=id, **spec.as_data())
        tap.seen_ms = self.node.steady_ms()
        self._watch(id)
        return tap

    def _watch(self, id: str) -> None:
        """Who stops asking is forgotten."""
        self.node.timers.at(self._taps[id].seen_ms + IDLE_MS, lambda _: self._look(id))

    def _look(self, id: str) -> None:
        tap = self._taps.get(id)
        if tap is None:
            return
        if self.node.steady_ms() - tap.seen_ms >= IDLE_MS:
            self._end(id)
        else:
            self._watch(id)

    def _end(self, id: str) -> None:
        tap = self._taps.pop(id)
        if tap.spec.topic:
            tap.end()
        else:
            self._own.close(tap)
        self.log.info("tail_ended", tap=id)

    async def follow(self, parameters: Mapping[str, Any]) -> object:
        """What this node has, for one that follows through another node; it begins where it was not followed."""
        id, read = parameters.get("tap"), parameters.get("read", {})
        after = read.get(self.node.name, 0) if isinstance(read, dict) else None
        if not isinstance(id, str) or type(after) is not int:
            raise BadCall("tap and read: which, and what was read of each node")
        tap = self._taps.get(id) or self._open(id, spec_of(parameters))
        tap.seen_ms = self.node.steady_ms()
        await tap.wait(_wait_ms(parameters, WAIT_FOR_OTHERS_MS))
        return tap.take(after)

    async def end(self, parameters: Mapping[str, Any]) -> object:
        """No more, for another node."""
        if parameters.get("tap") in self._taps:
            self._end(parameters["tap"])
        return {}

    async def read(self, parameters: Mapping[str, Any]) -> object:
        """What has happened since the last time, of all nodes; waits for something."""
        id, tap = self._find(parameters)
        tap.seen_ms = self.node.steady_ms()
        is_everywhere = self.has_others and not tap.spec.topic
        most = WAIT_FOR_OTHERS_MS if is_everywhere else MAX_WAIT_MS
        wait_ms = _wait_ms(parameters, most)
        answers: dict[str, Any] = {}
        unanswered: list[str] = []

        async def ask_others() -> None:
            read = {node: upto for node, (upto, _) in tap.heard_of.items()}
            asked = {**tap.spec.as_data(), "tap": id, "wait_ms": wait_ms, "read": read}
            found, missing = await self.others.ask_all(PREFIX + "tail.follow", asked, PATIENCE_SECONDS)
            answers.update(found)
            unanswered.extend(missing)

        async with trio.open_nursery() as nursery:
            if is_everywhere:
                nursery.start_soon(ask_others)
            await tap.wait(wait_ms)
        answers[self.node.name] = tap.take(tap.heard_of.get(self.node.name, (0, 0))[0])
        tap.seen_ms = self.node.steady_ms()
        self.flush()
        return {**_joined(tap, answers), "unanswered": unanswered}

    async def close(self, parameters: Mapping[str, Any]) -> object:
        """No more."""
        id, tap = self._find(parameters)
        self._end(id)
        self.flush()
        if self.has_others and not tap.spec.topic:
            await self.others.ask_all(PREFIX + "tail.end", {"tap": id}, PATIENCE_SECONDS)
        return {"closed": id}

    def _find(self, parameters: Mapping[str, Any]) -> tuple[str, Tap]:
        id = parameters.get("tap")
        tap = self._taps.get(id) if isinstance(id, str) else None
        tenant = parameters.get("tenant")
        if tap is None or (tenant and tenant != tap.spec.whom.tenant):
            raise Missing("nobody is followed under this id here any more: begin anew")
        assert isinstance(id, str)
        return id, tap


def _joined(tap: Tap, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Events of all nodes in the order of their clocks, and how many were lost since the last time."""
    events, lost = [], 0
    for node, answer in answers.items():
        _, known = tap.heard_of.get(node, (0, 0))
        lost += max(answer["lost"] - known, 0)
        tap.heard_of[node] = answer["upto"], answer["lost"]
        events += answer["events"]
    return {"events": sorted(events, key=lambda one: one["at_ms"]), "lost": lost}


def _wait_ms(parameters: Mapping[str, Any], most: int) -> int:
    wait_ms = parameters.get("wait_ms", DEFAULT_WAIT_MS)
    if type(wait_ms) is not int or not 0 <= wait_ms <= MAX_WAIT_MS:
        raise BadCall(f"wait_ms is from 0 to {MAX_WAIT_MS}")
    return min(wait_ms, most)

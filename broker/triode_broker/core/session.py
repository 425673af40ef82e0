"""Session: the protocol state of one connection, and what each packet does (SPEC 3).

States: connecting → connected → closed; what is allowed where is the table HANDLERS and nothing else. Runs to its
end when called; replies go into the outbox. A packet that fails costs its sender an `error`; only what breaks the
protocol itself raises Disconnect.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET
from triode_protocol.codec import Refused, decode, encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import (
    Ack,
    Auth,
    ClientPacket,
    ClientPing,
    ClientPong,
    Connect,
    Extend,
    HistoryRequest,
    Nack,
    PresenceRequest,
    Publish,
    ServerPacket,
    ServerPing,
    ServerPong,
    Subscribe,
    Unsubscribe,
)
from triode_protocol.packets import Disconnect as DisconnectPacket
from triode_protocol.topics import is_wildcard

from triode_broker.core.acknowledged import Acknowledged, no_such_subscription
from triode_broker.core.asking import (
    QUESTIONS_A_SUBSCRIPTION,
    check_asked,
    check_name,
    check_questions,
    is_acknowledged,
)
from triode_broker.core.away import Homes
from triode_broker.core.door import check_consume, check_topic, judged_topics
from triode_broker.core.entering import Entering
from triode_broker.core.errors import Disconnect, answer_to, close_code
from triode_broker.core.identity import OPEN, UNKNOWN, Arrival, Identity
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.rates import Meter, metered
from triode_broker.core.requests import ask_history, ask_presence
from triode_broker.core.standing import Standing
from triode_broker.core.start import start
from triode_broker.core.subscription import Subscription
from triode_broker.core.unacknowledged import Unacknowledged
from triode_broker.core.used_numbers import UsedNumbers
from triode_broker.core.wills import SILENT_CLOSES

NORMAL_CLOSE = 1000

_PONG = encode(ServerPong())
_PING = encode(ServerPing())


class Session:
    """One connection's side of the protocol. The edge calls it; see `edge.application` for the contract."""

    __slots__ = (
        "_acknowledged",
        "_backlog",
        "_entering",
        "_judged",
        "_max_packet_bytes",
        "_metered",
        "_node",
        "_outbox",
        "_standing",
        "_tenant",
        "_unacknowledged",
        "_used",
        "_will",
        "address",
        "connection_id",
        "counts",
        "histories",
        "identity",
        "inflight",
        "meter",
        "since_ms",
        "user",
        "wildcards",
    )

    def __init__(self, node: Node, outbox: Outbox, arrival: Arrival = UNKNOWN) -> None:
        self._node = node
        self._max_packet_bytes = node.limits.max_packet_bytes
        self._outbox = outbox
        self._backlog: Sequence[ClientPacket | Refused] = ()  # decoded, waiting for room in the outbox
        self._entering: Entering | None = Entering(node, outbox, arrival)  # until connect has succeeded
        self._standing: Standing | None = None  # from then on, where clients have credentials
        self._judged: dict[str, bool] | None = None  # topics it may or may not publish to; None: it may to all
        self._unacknowledged: Unacknowledged | None = None  # made at need: idle connections are many
        self._acknowledged: Acknowledged | None = None
        self._used: UsedNumbers | None = None
        self._tenant = node.router.tenants.default  # until it is known
        self.counts = node.router.tenants.nobody
        self.meter = node.rates.unlimited  # until it is known what it may do
        self._metered: Meter | None = None  # the same, where it bounds what is sent: those without pay nothing
        self._will: tuple[Publish, int] | None = None  # what, and how long after the connection is lost
        self.connection_id = ""
        self.address, self.since_ms = arrival.address, 0  # since when it is connected, on the wall clock
        self.identity = OPEN  # until it is known
        self.user = OPEN.user  # its own: what is published is stamped with it
        self.wildcards = 0
        self.inflight = 0  # publishes that wait for a disk
        self.histories = 0  # requests for history or presence that wait for an answer

    @property
    def is_connected(self) -> bool:
        """Whether connect has succeeded."""
        return self.connection_id != ""

    @property
    def is_answered(self) -> bool:
        """Whether no publish, no request and no `auth` waits for its answer."""
        return not self.inflight and not self.histories and (self._standing is None or self._standing.is_answered)

    @property
    def subscriptions(self) -> list[Subscription]:
        """The open ones without acknowledgements."""
        return list(self._unacknowledged or ())

    @property
    def acknowledged(self) -> Acknowledged | None:
        """Those with acknowledgements, where there were any."""
        return self._acknowledged

    @property
    def outbox_bytes(self) -> int:
        """What waits to be sent to it."""
        return self._outbox.size

    @property
    def subscription_count(self) -> int:
        """Open subscriptions."""
        return len(self._unacknowledged or ()) + len(self._acknowledged or ())

    def attend(self, connection_id: str, identity: Identity, homes: Homes | None = None) -> None:
        """Instead of `connect`: its client is connected to another node, and names of its are at home here.

        Or it is no client: one of the broker's own, whose names may be at home on other nodes (`homes`).
        """
        self._entering = None
        self.connection_id = connection_id
        self.identity, self.user = identity, identity.user
        self._tenant = self._node.router.tenants.of(identity.tenant)
        self._acknowledged = self._acknowledge(homes)  # without them nothing is passed on

    # Called by the edge

    def receive_text(self, text: str, now_ms: int) -> None:
        """Serve the packets of one text message, in order. Raises Disconnect.

        The edge does not call while the outbox is over its bound; what comes in spite of that waits for `room`.
        """
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        self.counts.received_bytes += size
        if self._metered is not None:
            self._metered.bytes.credit -= size
        if self._entering is not None:
            self._serve(self._entering.receive(text), now_ms)
        else:
            self._serve(decode(text, self._max_packet_bytes), now_ms)

    def receive_binary(self, data: bytes, now_ms: int) -> None:
        """Binary messages are not part of this version; the connection stays (SPEC 1.6)."""
        message = "binary messages are not supported: send JSON as text"
        self._serve([Refused(ErrorName.UNSUPPORTED, message)], now_ms)

    def room(self, now_ms: int) -> None:
        """The outbox has drained to half: go on with what had to wait."""
        self._outbox.wants_room = False
        backlog, self._backlog = self._backlog, ()
        if self._entering is not None:
            backlog = self._entering.go_on() or backlog
        self._serve(backlog, now_ms)
        if self._unacknowledged is not None:
            self._unacknowledged.room(now_ms)
        if self._acknowledged is not None:
            self._acknowledged.room(now_ms)
        self._node.presence.room(self._outbox)

    def keepalive(self, now_ms: int) -> None:
        """Send a ping, with the bookmark of what live subscriptions have had (SPEC 4.8)."""
        heads = self._unacknowledged.bookmark() if self._unacknowledged is not None else {}
        self._outbox.put(encode(ServerPing(heads)) if heads else _PING)

    def detach(self) -> None:
        """The connection is gone: nothing of it stays."""
        self._backlog = ()
        if self._entering is not None:
            self._entering.leave()
        if self._standing is not None:
            self._standing.end()
        self._outbox.is_closed = True  # what one of its members held goes to none of its others
        node = self._node
        is_own = self._entering is not None or node.sessions.pop(self.connection_id, None) is self
        self.counts.connections -= 1
        self.count(-self.subscription_count, -self.wildcards)
        node.rates.leave(self.meter)
        code = self._outbox.connection.close_code
        if is_own:  # not the part here of one that is connected to another node
            node.departed(self, self._outbox.connection)
            if node.events is not None:
                node.events.disconnected(self.connection_id, code)
        self._be_absent(is_clean=code == NORMAL_CLOSE)
        if self._unacknowledged is not None:
            self._unacknowledged.detach()
            self._unacknowledged = None
        if self._acknowledged is not None:
            self._acknowledged.detach(code)
        if self._will is not None and code not in SILENT_CLOSES:
            node.wills.lost(self.connection_id, self.identity, *self._will)

    def give_way(self) -> None:
        """Another connection of its client takes its place, its members included; its will is not needed."""
        self._outbox.connection.close(CloseCode.REPLACED)
        if self._acknowledged is not None:  # before the other one asks there for the same names
            self._acknowledged.leave_others(CloseCode.REPLACED)
        self._will = None
        self._be_absent(is_clean=False)

    def close(self, code: int) -> None:
        """Say goodbye when the turn ends; safe at any time."""
        self._outbox.connection.close(code)

    def drop(self) -> None:
        """What the goodbye has not ended by now ends without a word."""
        self._outbox.connection.drop()

    # Who it is

    def _be(self, identity: Identity) -> None:
        self.identity, self.user = identity, identity.user
        self._judged = judged_topics(identity.rights)

    def _spend(self, meter: Meter) -> None:
        self.meter, self._metered = meter, None if meter.is_shared else meter

    def meter_anew(self) -> None:
        """Quotas, or limits that meters are made by, are others now."""
        counts = self.subscription_count, self.wildcards
        self._spend(self._node.rates.change(self.meter, self.identity, *counts, self.address, is_anew=True))

    def become(self, identity: Identity) -> None:
        """Its time and its rights are these from now on; what it may not have any more ends, one by one (G10)."""
        before = self.identity.rights
        self._be(identity)
        counts = self.subscription_count, self.wildcards
        self._spend(self._node.rates.change(self.meter, identity, *counts, self.address))
        if self._standing is not None:
            self._standing.hold(identity)
        if identity.rights is before:
            return
        if self._unacknowledged is not None:
            self._unacknowledged.judge(before)
        if self._acknowledged is not None:
            self._acknowledged.judge(identity.rights)

    def _be_absent(self, *, is_clean: bool) -> None:
        """What it has to do with presence is over; first nobody is told anything here."""
        self._node.presence.gone(self._outbox)
        if self._unacknowledged is not None:
            self._unacknowledged.be_absent(is_clean=is_clean)

    # Serving

    def _serve(self, packets: Sequence[ClientPacket | Refused], now_ms: int) -> None:
        outbox = self._outbox
        rest = iter(packets)
        for packet in rest:
            if outbox.size > outbox.limit:  # G6: nothing more is taken in; the rest waits with its bytes
                self._backlog = [*self._backlog, packet, *rest]
                outbox.wants_room = True
                return
            try:
                HANDLERS[type(packet)](self, packet, now_ms)
            except Refused as refused:
                refused.id = refused.id or getattr(packet, "id", 0)
                refused.sub = refused.sub or getattr(packet, "sub", 0)
                if not self.meter.keeps_silent(refused):
                    self._answer_refused(refused)
                if not self.connection_id:
                    raise Disconnect(close_code(refused)) from None

    def _answer_refused(self, refused: Refused, *_: object) -> None:
        self.counts.refused += 1
        self._outbox.put(answer_to(refused))

    def _connect(self, packet: Connect, now_ms: int) -> None:
        if self._entering is None:
            raise Refused(ErrorName.BAD_STATE, "this connection is connected already")
        node = self._node
        self._be(self._entering.identity)
        will = None
        if packet.will is not UNSET:
            node.router.check_topic(packet.will.topic)
            check_topic(self.identity.rights, "publish", packet.will.topic)
            will = node.wills.check(packet.will, self.identity), packet.will.delay_ms
        self._spend(node.enter(self.identity, packet.replaces, self.address))
        self._will = will
        # Not where something waits that was framed already: it cannot go into an array.
        if "batch" in packet.capabilities and not self._outbox.items:
            self._outbox.hold_payloads()
        self.connection_id, self.since_ms = "c-" + node.random_id(), now_ms
        arrival = self._entering.arrival
        left_ms = self._stand(arrival, now_ms)
        self._entering = None
        self._tenant = node.router.tenants.of(self.identity.tenant)
        self.counts = self._tenant.enter()
        if packet.replaces:
            node.replace(packet.replaces, self.connection_id, self.identity)
            node.presence.elsewhere.replaced(packet.replaces, self.identity)
        node.sessions[self.connection_id] = self
        if node.taps is not None:
            node.taps.entered(self)
        if node.events is not None and not arrival.is_request:
            node.events.connected(self.connection_id, self.identity, self.address)
        self._outbox.put(encode(node.greet(self.connection_id, packet.id, self.meter.quota, left_ms)))

    def _stand(self, arrival: Arrival, now_ms: int) -> int:
        """From here on its credential's time counts: how much is left, 0: without end."""
        node = self._node
        gate = arrival.gate or node.gate
        if gate is None:
            return 0
        node.timers.hear(now_ms)
        self._standing = Standing(node, gate, self, self._outbox, arrival)
        self._standing.hold(self.identity)
        return self._standing.left_ms(self.identity)

    def _auth(self, packet: Auth, now_ms: int) -> None:
        if self._standing is None:
            raise Refused(ErrorName.UNSUPPORTED, "this node asks nobody for a credential", field="type")
        self._standing.renew(packet, now_ms)

    def _publish(self, packet: Publish, now_ms: int) -> None:
        self.counts.publishes += 1
        if (meter := self._metered) is not None:
            purse = meter.publishes
            purse.credit -= 1
            if purse.credit < 0 or meter.bytes.credit < 0:
                meter.publish()
        own, tenant, node = packet.topic, self._tenant, self._node
        if own not in tenant.topics:  # half of what `get` takes
            tenant.let_in(own, node.router.check_topic)
        if tenant.name:
            packet.topic = tenant.topics[own]
        if self._judged is not None and not self._judged.get(own):
            check_topic(self.identity.rights, "publish", own)
        if packet.trace:
            may_name = self.identity.rights.may("operate", "trace")
            node.tracing.publish(packet, self.user, now_ms, self, self.connection_id, may_name=may_name)
            return
        publish = node.publish  # in two steps: else what an instance holds is looked for on its type first (30 ns)
        acknowledgement = publish(packet, self.user, now_ms, self)
        if acknowledgement is not None and packet.id:
            self._outbox.put(encode(acknowledgement))

    def _subscribe(self, packet: Subscribe, now_ms: int) -> None:
        if is_acknowledged(packet):
            self._consume(packet, now_ms)
        else:
            if self._unacknowledged is None:
                self._unacknowledged = Unacknowledged(self._node, self._outbox, self)
            start(self._node.router, self._unacknowledged.open(packet), packet, now_ms)

    def _consume(self, packet: Subscribe, now_ms: int) -> None:
        """An acknowledged subscription (SPEC 9.1)."""
        self.check_subscribe(packet)
        check_consume(self.identity.rights, packet.filter)
        asked = check_asked(packet, self._node.limits, self._tenant.name)
        check_name(self.identity.method, asked)
        self.check_room(is_wildcard=is_wildcard(packet.filter))
        if self._acknowledged is None:
            self._acknowledged = self._acknowledge(self._node.homes)
        self._acknowledged.open(asked, packet)
        self.use(packet)
        self._acknowledged.begin(packet, now_ms)

    def _acknowledge(self, homes: Homes | None) -> Acknowledged:
        return Acknowledged(
            self._node, homes, self._outbox, self.connection_id, self.identity, self, self._acknowledged_ended
        )

    def _acknowledged_ended(self, filter: str) -> None:
        self.count(-1, -is_wildcard(filter))

    def _unsubscribe(self, packet: Unsubscribe, now_ms: int) -> None:
        if self._unacknowledged is not None and packet.sub in self._unacknowledged:
            self._unacknowledged.unsubscribe(packet)
        elif self._acknowledged is not None and packet.sub in self._acknowledged:
            self._acknowledged.unsubscribe(packet, now_ms)
        else:
            raise Refused(ErrorName.NO_SUCH_SUBSCRIPTION, "there is no such subscription", field="sub")

    # What all its subscriptions share

    def check_subscribe(self, packet: Subscribe) -> None:
        """Raise Refused where its number or its filter cannot be, or too much is asked of the logs already."""
        node = self._node
        logs = len(node.router.shards) if node.router.coverage else max(len(node.router.durable_logs), 1)
        check_questions(self._outbox.questions, QUESTIONS_A_SUBSCRIPTION * logs * node.limits.max_subscriptions)
        node.router.check_filter(packet.filter)
        used = self._used = self._used or UsedNumbers()
        if packet.sub in used:
            raise Refused(ErrorName.CONFLICT, "this sub was used on this connection already", field="sub")
        used.check(packet.sub)

    def check_room(self, *, is_wildcard: bool) -> None:
        """Raise Refused where one more would be too many."""
        self.meter.check_room(self.subscription_count, self.wildcards, is_wildcard=is_wildcard)

    def use(self, packet: Subscribe) -> None:
        """It takes up its number and its place."""
        assert self._used is not None
        self._used.add(packet.sub)
        self.count(1, is_wildcard(packet.filter))

    def count(self, subscriptions: int, wildcards: int) -> None:
        """So many more, or fewer."""
        self.wildcards += wildcards
        self.counts.subscriptions += subscriptions
        self.meter.subscribed(subscriptions, wildcards)

    # Asking, settling

    def _history(self, packet: HistoryRequest, now_ms: int) -> None:
        ask_history(self, self._node, packet, now_ms)

    def _presence(self, packet: PresenceRequest, now_ms: int) -> None:
        ask_presence(self, self._node, self._outbox, packet)

    def _ack(self, packet: Ack, now_ms: int) -> None:
        self._with_acknowledgements().ack(packet, now_ms)

    def _nack(self, packet: Nack, now_ms: int) -> None:
        self._with_acknowledgements().nack(packet, now_ms)

    def _extend(self, packet: Extend, now_ms: int) -> None:
        self._with_acknowledgements().extend(packet, now_ms)

    def _with_acknowledgements(self) -> Acknowledged:
        if self._acknowledged is None:
            raise no_such_subscription()
        return self._acknowledged

    # `interfaces.Publisher`: answers that come later

    def answer(self, packet: ServerPacket) -> None:
        """Answer, maybe late: not into the outbox of a connection that is gone."""
        if not self._outbox.is_closed:
            self._outbox.put(encode(packet))

    def refuse(self, refused: Refused, id: int = 0) -> None:
        """Answer an error, maybe late; `id`: of the packet, where the error does not know it."""
        if not self._outbox.is_closed:
            self.counts.refused += 1
            self._outbox.put(answer_to(refused, id))

    def _ping(self, packet: ClientPing, now_ms: int) -> None:
        self._outbox.put(encode(ServerPong(packet.id)) if packet.id else _PONG)

    def _pong(self, packet: ClientPong, now_ms: int) -> None:
        """Any frame counts as life; the edge has seen it."""

    def _disconnect(self, packet: DisconnectPacket, now_ms: int) -> None:
        raise Disconnect(NORMAL_CLOSE)


HANDLERS: dict[type, Callable[[Session, Any, int], None]] = {
    Connect: Session._connect,
    Publish: Session._publish,  # meters itself
    Subscribe: metered(Meter.request, Session._subscribe),
    Unsubscribe: metered(Meter.control, Session._unsubscribe),
    HistoryRequest: metered(Meter.request, Session._history),
    ClientPing: metered(Meter.control, Session._ping),
    ClientPong: metered(Meter.control, Session._pong),
    DisconnectPacket: Session._disconnect,
    Refused: metered(Meter.request, Session._answer_refused),  # its bytes count, and settling is not held up
    Ack: metered(Meter.control, Session._ack),
    Nack: metered(Meter.control, Session._nack),
    Extend: metered(Meter.control, Session._extend),
    PresenceRequest: metered(Meter.request, Session._presence),
    Auth: metered(Meter.request, Session._auth),
}

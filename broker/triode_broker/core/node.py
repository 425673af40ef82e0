"""Node: what all sessions of a node share, and what a new connection is told of it."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import attrs
from triode_protocol import packets
from triode_protocol.codec import Refused
from triode_protocol.packets import PROTOCOL, Connected, Reconnect

from triode_broker.config import Limits, Quota
from triode_broker.core.admission import Admission
from triode_broker.core.away import Homes
from triode_broker.core.calendar import Calendar
from triode_broker.core.consumers import Consumers
from triode_broker.core.errors import close_code
from triode_broker.core.events import Events
from triode_broker.core.guarded import Done, Guarded
from triode_broker.core.identity import Identity
from triode_broker.core.interfaces import Gate, Publisher
from triode_broker.core.moving import Moving
from triode_broker.core.presence import Presence
from triode_broker.core.quotas import Quotas, announced
from triode_broker.core.rates import Meter, Rates
from triode_broker.core.revocations import Revocations
from triode_broker.core.rounds import Round
from triode_broker.core.router import Router
from triode_broker.core.standing import DROP_MS
from triode_broker.core.subscription import Subscription
from triode_broker.core.timers import Timers
from triode_broker.core.tracing import Tracing
from triode_broker.core.wills import Wills

if TYPE_CHECKING:
    from triode_broker.core.session import Session
    from triode_broker.core.tapping import Taps

#: What this broker offers, as announced in `connected` (SPEC 7.2).
CAPABILITIES = [
    "batch",
    "history",
    "resume",
    "dedupe",
    "conflate",
    "delay",
    "compact",
    "group",
    "durable",
    "presence",
    "will",
    "auth",
    "trace",
]


Publish = Callable[[packets.Publish, str, int, Publisher | None], packets.Published | None]


def _nobody_asks(session: "Session", connection: Any) -> None:
    """Why it has ended."""


@attrs.define
class Node:
    """What all sessions of a node share."""

    name: str
    router: Router
    limits: Limits
    random_id: Callable[[], str]  # ≥ 128 bits, URL-safe (S28)
    steady_ms: Callable[[], int] = attrs.field(default=lambda: 0)  # a clock that only goes forward, in ms
    sessions: "dict[str, Session]" = attrs.field(factory=dict)  # connected ones by connection id
    homes: Homes | None = None  # of names that are at home on other nodes
    gate: Gate | None = None  # None: nobody is asked who they are, everybody is OPEN
    guarded: Guarded | None = attrs.field(init=False, default=None)  # the same, as who may hold it knows it
    notice_ms: int = 60_000  # a client is told so long before its identity expires
    quotas: Quotas = attrs.field(factory=Quotas)
    _round: "Round[Session] | None" = attrs.field(init=False, default=None)  # the last, of all sessions
    rules_serial: int = 0  # of the rules in force: who was judged by others and is not in yet is judged again
    timers: Timers = attrs.field(init=False)  # to be ticked at `next_due_ms`
    consumers: Consumers = attrs.field(init=False)
    admission: Admission = attrs.field(init=False)
    moving: Moving = attrs.field(init=False)
    presence: Presence = attrs.field(init=False)
    wills: Wills = attrs.field(init=False)
    calendar: Calendar = attrs.field(init=False)
    rates: Rates = attrs.field(init=False)
    revocations: Revocations = attrs.field(init=False)
    tracing: Tracing = attrs.field(init=False)
    taps: "Taps | None" = None  # None: no operator looks into a connection
    departed: "Callable[[Session, Any], None]" = _nobody_asks  # a connection has ended; told by the edge how
    publish: Publish = attrs.field(init=False)  # `Router.publish`, or what stands before it
    events: Events | None = attrs.field(init=False, default=None)  # None: nobody wants any
    _reconnect: Reconnect = attrs.field(init=False)
    _capabilities: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = self.limits
        self.timers = Timers(self.steady_ms)
        self.rates = Rates(self.quotas, limits, self.timers)
        self.calendar = Calendar(self.timers)
        self.consumers = Consumers(self.router, limits, self.timers)
        self.moving = Moving(self.router, self.consumers, self._subscriptions, self.timers)
        self.router.moved, self.router.interrupt = self.moving.moved, self.moving.interrupt
        self.admission = Admission(limits, self.timers)
        self.tracing = Tracing(self.name, self.router, self.consumers, limits, self.timers)
        self.publish = self.router.publish
        self.presence = Presence(limits, self.timers, self.random_id)
        self.revocations = Revocations(limits.max_revocations)
        self.wills = Wills(self.router, limits, self.timers, self.revocations)
        if self.gate is not None:
            self.gate = self.guarded = Guarded(self.gate, self.revocations, self.timers)
        self._read_limits()

    def _read_limits(self) -> None:
        limits = self.limits
        offered = {
            "delay": limits.max_delay_seconds > 0,
            "durable": self.router.has_disk,
            "auth": self.gate is not None,
            "trace": limits.max_traces_per_second > 0,
        }
        self._capabilities = [name for name in CAPABILITIES if offered.get(name, True)]
        self._reconnect = Reconnect(limits.reconnect_min_ms, limits.reconnect_max_ms)

    def limits_changed(self) -> None:
        """`limits` holds others: what was derived from them is made anew. Sessions' meters are the caller's."""
        self._read_limits()
        self.revocations.most = self.limits.max_revocations
        self.router.limits_changed()
        self.rates.limits_changed()
        self.admission.limits_changed()
        self.presence.limits_changed()

    def tell(self, events: Events, lost: Callable[[str], object]) -> None:
        """From now on what happens is told there; and to `lost` which other node counts as lost."""
        self.events = self.presence.events = self.consumers.events = events
        self.presence.lost = lost

    def open_filters(self) -> Iterator[str]:
        """Of all that is covered now: once for each subscription, and for each name that has members."""
        for session in list(self.sessions.values()):
            for sub in session.subscriptions:
                yield sub.filter
        for consumer in self.consumers.by_name.values():
            if consumer.members:
                yield consumer.filter

    def _subscriptions(self) -> Iterator[Subscription]:
        return chain.from_iterable(session.subscriptions for session in list(self.sessions.values()))

    def greet(self, connection: str, id: int, quota: Quota, expires_in_ms: int = 0) -> Connected:
        """What a new connection is told (SPEC 4.1)."""
        return Connected(
            connection,
            self.name,
            PROTOCOL,
            self._capabilities,
            announced(quota, self.limits, self.router.dedupe_window_ms),
            self.limits.ping_ms,
            self._reconnect,
            id,
            expires_in_ms,
        )

    def enter(self, who: Identity, replaces: str, address: str = "") -> Meter:
        """What a new connection may do. Raises Disconnect where its user or tenant has enough of them."""
        old = self.sessions.get(replaces)
        return self.rates.enter(who, old is not None and old.identity.is_same(who), address)

    def give_up(self, asked: Done | None) -> None:
        """Whoever has asked the gate, if it has, is gone."""
        if asked is not None and self.guarded is not None:
            self.guarded.forget(asked)

    def judge_all(self, judge: Callable[[Identity], Identity | Refused]) -> None:
        """The rules have changed: have everybody judged by them, soon and in pieces; who is refused is closed.

        `judge` says who an identity is now: itself, where nothing has changed for it.
        """

        def visit(session: "Session") -> None:
            judged = judge(session.identity)
            if isinstance(judged, Refused):
                session.close(close_code(judged))  # who reads slowly reads no longer
                self.timers.at(self.timers.steady_ms() + DROP_MS, lambda _: session.drop())
            elif judged is not session.identity:
                session.become(judged)

        self.visit_all(visit)

    def visit_all(self, visit: Callable[["Session"], None]) -> None:
        """Have every connected session visited, soon and in pieces; the gate is asked anew about who connects."""
        self.rules_serial += 1
        self._round = Round(self.sessions, visit, self.timers, self._round)

    def replace(self, connection: str, by: str, who: Identity) -> None:
        """A client says that its connection `by` takes the place of an earlier one of its own (SPEC 3.1.4)."""
        old = self.sessions.get(connection)
        if old is not None and old.identity.is_same(who):
            old.give_way()
        self.presence.replace(connection, by, who)
        self.wills.cancel(connection, who)

    def replaced_elsewhere(self, connection: str, who: Identity) -> None:
        """The same where the new connection is another node's: members that are held go when their time is up."""
        self.replace(connection, connection, who)

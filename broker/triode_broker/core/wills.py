"""Wills: what a client wants to have published when its connection is lost (SPEC 10.7-10.10).

Knows publishes and time, nothing of sessions: they say which connections are lost and which came back. The
surprising decision: where too many wait, one is published early. Never to publish it would be worse than too soon.

Whose will it is was allowed to publish it when it connected, and is asked about again when the time has come: who
has been revoked by then, or may not publish there any more, has none. A token that ran out meanwhile is no reason.
"""

from collections.abc import Callable
from functools import partial

from msgspec import Struct
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, ServerPacket, Will

from triode_broker.config import Limits
from triode_broker.core.door import check_topic
from triode_broker.core.identity import Identity
from triode_broker.core.revocations import Revocations
from triode_broker.core.router import Router
from triode_broker.core.tenants import inside, outside
from triode_broker.core.timers import Timers

#: Closes after which a connection is not lost: goodbye, revoked, replaced, shutdown, draining (SPEC 10.8).
SILENT_CLOSES = frozenset({1000, 4002, 4005, 4100, 4200})
#: What a will that waits costs beside its payload, in bytes: names, timer.
WILL_OVERHEAD_BYTES = 1_024


class _Waiting(Struct):
    """The will of a lost connection."""

    who: Identity
    packet: Publish
    serial: int  # of the timer

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return _size(self.packet)


def _unchanged(who: Identity) -> Identity | Refused:
    """Rules stay as they are."""
    return who


class Wills:
    """The wills of lost connections that wait, and how the others went."""

    def __init__(self, router: Router, limits: Limits, timers: Timers, revocations: Revocations) -> None:
        self._router = router
        self._revocations = revocations
        self._limits = limits
        self._timers = timers
        self._waiting: dict[str, _Waiting] = {}  # by connection
        self.size = 0  # bytes of those that wait
        #: Who an identity is by the rules in force, or why it is nobody any more.
        self.judge: Callable[[Identity], Identity | Refused] = _unchanged
        self.published = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def check(self, will: Will, who: Identity) -> Publish:
        """The publish that it stands for, as the core knows it. Raises Refused, as for one, with its field."""
        limit = self._limits.max_will_delay_ms
        if will.delay_ms > limit:
            raise Refused(ErrorName.MALFORMED, f"delay_ms is at most {limit}", field="delay_ms")
        packet = Publish(will.topic, will.data, 1, key=will.key, b64=will.b64)  # with an id: answered
        self._router.check_publishable(packet)
        packet.topic = inside(who.tenant, packet.topic)
        return packet

    def lost(self, connection: str, who: Identity, packet: Publish, delay_ms: int) -> None:
        """A connection is lost: its will is published after the delay, or at the next tick if too many wait."""
        size = _size(packet)
        if self.size + size > self._limits.max_will_bytes:
            delay_ms = 0
        due_ms = self._timers.steady_ms() + delay_ms
        serial = self._timers.at(due_ms, partial(self._is_due, connection))
        self._waiting[connection] = _Waiting(who, packet, serial)
        self.size += size

    def cancel(self, connection: str, who: Identity) -> None:
        """A connection of the same identity takes its place."""
        waiting = self._waiting.get(connection)
        if waiting is not None and waiting.who.is_same(who):
            del self._waiting[connection]
            self.size -= waiting.size
            self._timers.drop(waiting.serial)

    def _is_due(self, connection: str, now_ms: int) -> None:
        waiting = self._waiting.pop(connection)
        self.size -= waiting.size
        teller = _Teller(self)
        try:
            self._check_in_force(waiting, now_ms)
            published = self._router.publish(waiting.packet, waiting.who.user, now_ms, teller)
        except Refused as refused:
            teller.refuse(refused)
        else:
            if published is not None:
                teller.answer(published)

    def _check_in_force(self, waiting: _Waiting, now_ms: int) -> None:
        """Raise Refused unless it may be published by the rules in force (G10)."""
        judged = self._revocations.check(waiting.who, now_ms) or self.judge(waiting.who)
        if isinstance(judged, Refused):
            raise judged
        check_topic(judged.rights, "publish", outside(waiting.packet.topic))


class _Teller:
    """Counts what became of one will; `interfaces.Publisher`."""

    __slots__ = ("_wills", "inflight")

    def __init__(self, wills: Wills) -> None:
        self._wills = wills
        self.inflight = 0

    def answer(self, packet: ServerPacket) -> None:
        """It was published."""
        self._wills.published += 1

    def refuse(self, refused: Refused) -> None:
        """It was not, and there is nobody to tell."""
        self._wills.refused += 1


def _size(packet: Publish) -> int:
    return len(memoryview(packet.data)) + len(memoryview(packet.b64)) + WILL_OVERHEAD_BYTES

"""Standing: how long a connected client's credential is good for, and how it shows another one (SPEC 11.2, 11.3).

Knows times and the gate; what an identity may do is the session's business. The surprising decision: nothing runs
for a connection. What is due stands in the node's calendar, one date at a time: the notice, then the end.
"""

from typing import TYPE_CHECKING, Final

from triode_protocol.codec import Refused, encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import Auth, Authorized, Notice

from triode_broker.core.awaiting import RETRY_QUEUE_MS
from triode_broker.core.guarded import Done
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.interfaces import Gate
from triode_broker.core.outbox import Outbox

if TYPE_CHECKING:
    from triode_broker.core.node import Node
    from triode_broker.core.session import Session


#: After its goodbye an expired connection has so long to take what was sent: with all else within the 5 s of G10.
DROP_MS: Final = 3_000
#: No date.
NONE: Final = -1


class Standing:
    """Of one connection where clients have credentials; until `end`."""

    __slots__ = (
        "_address",
        "_asked",
        "_expires_ms",
        "_gate",
        "_is_encrypted",
        "_node",
        "_outbox",
        "_serial",
        "_session",
    )

    def __init__(self, node: "Node", gate: Gate, session: "Session", outbox: Outbox, arrival: Arrival) -> None:
        self._node = node
        self._gate = gate
        self._session = session
        self._outbox = outbox
        self._address, self._is_encrypted = arrival.address, arrival.is_encrypted  # for who decides by them
        self._expires_ms = 0
        self._serial = NONE  # of its date in the calendar
        self._asked: Done | None = None  # an `auth` that has no answer yet

    @property
    def is_answered(self) -> bool:
        """Whether no `auth` waits for its answer."""
        return self._asked is None

    def hold(self, identity: Identity) -> None:
        """This is who it is from now on: its time counts, and no other."""
        self._forget_date()
        self._expires_ms = identity.expires_ms
        if identity.expires_ms:
            left_ms = identity.expires_ms - self._node.timers.now_ms
            notice_ms = min(self._node.notice_ms, max(left_ms, 0) // 2)
            self._serial = self._node.calendar.at(identity.expires_ms - notice_ms, self._is_due)

    def left_ms(self, identity: Identity) -> int:
        """How long it is good for, as clients are told: at least 1, and 0 where it does not expire."""
        return max(identity.expires_ms - self._node.timers.now_ms, 1) if identity.expires_ms else 0

    def end(self) -> None:
        """The connection is gone; an answer of the gate that is still to come means nothing."""
        self._forget_date()
        asked, self._asked = self._asked, None
        self._node.give_up(asked)

    def _forget_date(self) -> None:
        if self._serial != NONE:
            self._node.calendar.drop(self._serial)
            self._serial = NONE

    def _is_due(self, now_ms: int) -> None:
        """Time for the notice; or for the end, which may come first where the clock was set (SPEC 11.2.4)."""
        self._serial = NONE
        left_ms = self._expires_ms - now_ms
        if left_ms <= 0:
            connection, timers = self._outbox.connection, self._node.timers
            connection.close(CloseCode.TOKEN_EXPIRED)
            timers.at(
                timers.steady_ms() + DROP_MS, lambda _: connection.drop()
            )  # who reads slowly reads no longer
            return
        self._outbox.put(encode(Notice(expires_in_ms=left_ms)))
        self._serial = self._node.calendar.at(self._expires_ms, self._is_due)

    # Another credential

    def renew(self, packet: Auth, now_ms: int) -> None:
        """Ask the gate; it may answer later. Raises Refused while it has not answered the last one."""
        if self._asked is not None:
            message = "the last auth is not answered yet: wait for its answer"
            raise Refused(ErrorName.INFLIGHT, message, retry_after_ms=RETRY_QUEUE_MS)
        self._node.timers.hear(now_ms)

        def done(answer: Identity | Refused) -> None:
            if self._asked is done:  # not the second time, nor when the connection is gone
                self._asked = None
                self._renewed(packet.id, answer)

        self._asked = done
        self._gate.ask(packet.token, Arrival(self._address, is_encrypted=self._is_encrypted), done)

    def _renewed(self, id: int, answer: Identity | Refused) -> None:
        session = self._session
        if isinstance(answer, Identity) and not answer.is_same(session.identity):
            message = "a connection keeps its user and tenant: for others make a new one"
            answer = Refused(ErrorName.UNAUTHORIZED, message, field="token")
        if isinstance(answer, Refused):
            session.refuse(answer, id)
            return
        session.answer(Authorized(id, self.left_ms(answer)))
        session.become(answer)

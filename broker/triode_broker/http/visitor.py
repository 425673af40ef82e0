"""Visitor: a client that came by HTTP, as the core sees it: a session like any other (S13: no side door).

Knows the session and its packets, nothing of bytes on a wire. An operation asks by a packet of SPEC 3 and gets the
packet that answers it; who the client is, what it may do, how much of it and for how long is decided where it is
decided for everybody. The surprising decision: a visitor stays with its connection, for the next requests that
come with the same credential. To be let in costs more than to publish, and a rate that began anew with every
request would be none.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import attrs
import trio
from triode_protocol.codec import Refused, decode_server, encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.hops import Hop
from triode_protocol.packets import (
    ClientInfo,
    ClientPacket,
    Connect,
    Connected,
    Error,
    Publish,
    ServerPacket,
    Traced,
)

from triode_broker.core.errors import Disconnect
from triode_broker.core.identity import Arrival
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.session import NORMAL_CLOSE, Session
from triode_broker.http.exchange import Line, Problem

#: Credentials of one connection that are remembered at a time: a proxy sends the requests of many over one.
MAX_VISITORS: Final = 8
CLIENT: Final = ClientInfo("http")

#: What a request is told that waits while its session is closed, by close code; others: 503.
_CLOSES: Final[dict[int, tuple[int, ErrorName, str]]] = {
    CloseCode.PROTOCOL: (400, ErrorName.MALFORMED, "this breaks the protocol"),
    CloseCode.AUTH_FAILED: (401, ErrorName.UNAUTHORIZED, "this credential is not taken"),
    CloseCode.REVOKED: (403, ErrorName.REVOKED, "this credential was revoked"),
    CloseCode.KICKED: (403, ErrorName.FORBIDDEN, "an operator has sent this client away"),
    CloseCode.TOKEN_EXPIRED: (401, ErrorName.TOKEN_EXPIRED, "the token has expired"),
    CloseCode.CONNECTION_LIMIT: (429, ErrorName.QUOTA, "this user or tenant has too many connections"),
    CloseCode.OVERLOADED: (503, ErrorName.OVERLOADED, "too much at once: come back later"),
    CloseCode.INTERNAL: (500, ErrorName.INTERNAL, "something went wrong here; it was logged"),
}


def problem_of_close(code: int, retry_after_ms: int = 0) -> Problem:
    """Why a request is not served whose session was closed."""
    unavailable = (503, ErrorName.UNAVAILABLE, "this node is being taken out of service")
    status, name, message = _CLOSES.get(code, unavailable)
    return Problem(status, name, message, retry_after_ms=retry_after_ms)


class Question:
    """One packet that was asked, and what answers it."""

    __slots__ = ("_answer", "_event")

    def __init__(self) -> None:
        self._answer: ServerPacket | Exception | None = None
        self._event: trio.Event | None = None  # made where somebody has to wait

    def settle(self, answer: ServerPacket | Exception) -> None:
        """This is the answer."""
        self._answer = answer
        if self._event is not None:
            self._event.set()

    async def answer(self) -> Any:
        """The packet that answers it. Raises Refused, or Problem where the session was closed."""
        if self._answer is None:
            self._event = trio.Event()
            await self._event.wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Following:
    """What becomes of one publish with `trace` (SPEC 4.12)."""

    def __init__(self, question: Question) -> None:
        self.question = question  # answered by its `published`
        self._hops: list[Hop] = []
        self._end = ""
        self._ended = trio.Event()

    def hear(self, told: Traced) -> None:
        """More of it."""
        self._hops += told.hops
        if told.end:
            self.end(told.end)

    def end(self, end: str) -> None:
        """That was all."""
        self._end = self._end or end
        self._ended.set()

    async def hops(self) -> tuple[list[Hop], str]:
        """All that became of it, and whether that is all: `complete`, `incomplete` or `truncated`."""
        await self._ended.wait()
        return self._hops, self._end


class _Collecting(Outbox):
    """Gives every packet to the visitor at once: nothing ever waits in it."""

    __slots__ = ()

    def put(self, payload: bytes) -> None:
        """Answers; a visitor has no subscriptions."""
        self.connection.hear(payload)


class Visitor:
    """One session. It is its own `core.interfaces.Connection`."""

    def __init__(self, node: Node, arrival: Arrival, line: Line, now_ms: Callable[[], int]) -> None:
        self._node = node
        self._line = line
        self._now_ms = now_ms
        self._questions: dict[int, Question] = {}
        self._following: dict[int, Following] = {}
        self._number = 0
        self._woken = trio.Event()
        self._reconnect_after_ms = 0
        self._is_gone = False
        self.close_code = 0
        outbox = _Collecting(self, [], bytes, node.limits.max_outbox_bytes)
        self.session = Session(node, outbox, attrs.evolve(arrival, is_request=True))

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be asked."""
        return self._is_gone or self.close_code != 0

    async def enter(self) -> Connected:
        """Be let in. Raises Refused, Problem."""
        question = self.ask(Connect(client=CLIENT))
        with trio.move_on_after(self._node.limits.connect_timeout_ms / 1000):
            while not self.session.is_connected and not self.is_over:
                await self._woken.wait()
                self._woken = trio.Event()
                self._call(self.session.room)
            connected: Connected = await question.answer()
            return connected
        raise Problem(
            503, ErrorName.UNAVAILABLE, "it takes too long to find out who this is", retry_after_ms=1_000
        )

    def ask(self, packet: ClientPacket) -> Question:
        """Have a packet served now; its answer may be there at once. The packet is given an id."""
        question = Question()
        if self.is_over:
            question.settle(problem_of_close(self.close_code, self._reconnect_after_ms))
            return question
        self._number += 1
        packet.id = self._number  # type: ignore[attr-defined]  # every packet that is asked has one
        self._questions[self._number] = question
        self._call(self.session.receive_text, encode(packet).decode())
        return question

    def trace(self, packet: Publish) -> Following:
        """The same with a publish, and what becomes of it."""
        packet.trace = True
        following = Following(Question())
        self._following[self._number + 1] = following
        following.question = self.ask(packet)
        return following

    def _call(self, serve: Callable[..., None], *values: Any) -> None:
        try:
            serve(*values, self._now_ms())
        except Disconnect as end:
            self.close(end.code, end.reconnect_after_ms)

    def hear(self, payload: bytes) -> None:
        """What the session says; what answers nothing, pings and notices, is not for anybody here."""
        for packet in decode_server(payload.decode()):
            if isinstance(packet, Traced):
                self._hear_trace(packet)
                continue
            question = self._questions.pop(getattr(packet, "id", 0), None)
            if question is None:
                continue
            if isinstance(packet, Error):
                self._following.pop(packet.id, None)  # nothing becomes of it
                question.settle(_refused(packet))
            else:
                question.settle(packet)

    def _hear_trace(self, told: Traced) -> None:
        following = self._following.get(told.id)
        if following is not None:
            following.hear(told)
            if told.end:
                del self._following[told.id]

    def leave(self) -> None:
        """Its connection is gone, or somebody else has come over it. Idempotent."""
        if not self._is_gone:
            self._is_gone = True
            self.close_code = self.close_code or NORMAL_CLOSE  # to end a connection is how HTTP says goodbye
            self._settle_all()
            self.session.detach()

    def _settle_all(self) -> None:
        questions, self._questions = self._questions, {}
        for question in questions.values():
            question.settle(problem_of_close(self.close_code, self._reconnect_after_ms))
        following, self._following = self._following, {}
        for one in following.values():
            one.end("incomplete")
        self._woken.set()

    # `core.interfaces.Connection`

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """What waits is told why; the connection under it ends behind that. Only marks; idempotent."""
        if not self.close_code:
            self.close_code, self._reconnect_after_ms = int(code), reconnect_after_ms
            self._settle_all()
            self._line.close(code, reconnect_after_ms)

    def drop(self) -> None:
        """The same: what is owed to a visitor never waits for long."""
        self.close(CloseCode.SLOW_CONSUMER)

    def wake(self) -> None:
        """Its turn to be let in has come."""
        self._woken.set()


def _refused(packet: Error) -> Refused:
    return Refused(
        ErrorName(packet.name), packet.message, field=packet.field, retry_after_ms=packet.retry_after_ms
    )


class Visitors:
    """The visitors of one connection, by what they come with; `exchange.Guest`."""

    def __init__(self) -> None:
        self._visitors: OrderedDict[Arrival, Visitor] = OrderedDict()
        self._has_left = False

    def leave(self) -> None:
        """All of them, and whoever is being let in."""
        self._has_left = True
        while self._visitors:
            self._visitors.popitem()[1].leave()

    async def find(self, node: Node, arrival: Arrival, line: Line, now_ms: Callable[[], int]) -> Visitor:
        """Whoever comes with this, let in. Raises Refused, Problem."""
        visitor = self._visitors.get(arrival)
        if visitor is not None and not visitor.is_over:
            self._visitors.move_to_end(arrival)
            return visitor
        if visitor is not None:
            self._visitors.pop(arrival).leave()
        elif len(self._visitors) >= MAX_VISITORS:
            self._visitors.popitem(last=False)[1].leave()
        visitor = Visitor(node, arrival, line, now_ms)
        try:
            await visitor.enter()
            if self._has_left:  # nobody would tell it
                raise problem_of_close(NORMAL_CLOSE)
        except BaseException:
            visitor.leave()
            raise
        self._visitors[arrival] = visitor
        return visitor

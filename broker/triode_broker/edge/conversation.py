"""Conversation: a connection that speaks HTTP, one exchange after another, to the services of this node.

Takes a connection over when a request head asks for what a service serves, and gives it back when one asks for a
WebSocket. Heads are read as everywhere (head.py), bodies by h11; what is asked is for the service to know. The
surprising decision: no exchange is served here. A service is told of it, in this turn, and answers in another one,
from a task of its own; meanwhile nothing that the client sends behind it is looked at, and hardly any of it read.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import h11
from triode_protocol.codec import Refused, encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import Bye

from triode_broker.core.errors import Disconnect
from triode_broker.edge import head
from triode_broker.edge.application import Guest
from triode_broker.edge.exchange import (
    LAST_CHUNK,
    WAITING_BYTES,
    Exchange,
    Frame,
    Stream,
    StreamOutbox,
    head_of,
    refusal_answer,
)
from triode_broker.edge.head import Refusal, Request
from triode_broker.edge.poller import HANGUP, READ, WRITE
from triode_broker.edge.shared import come_back
from triode_broker.edge.tls import TlsSocket
from triode_broker.edge.wire import GONE, LEAVING, LINGERING, NOTHING, OPEN, Wire

if TYPE_CHECKING:
    from triode_broker.edge.connection import Connection

RECV_BYTES: Final = 65_536
EVENTS_PER_TURN: Final = 256  # of one body: chunks may be tiny
_NORMAL: Final = 1000
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE_NAMES: Final = {int(code): code.name.lower() for code in CloseCode}


class Conversation(Wire):
    """The reactor calls it as it calls a connection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_ends",
        "_exchange",
        "_guest",
        "_has_ended",
        "_last_size",
        "_origin",
        "_owes_turn",
        "_parts_when_sent",
        "_pinged",
        "_since",
        "_stuck_since",
        "_tls",
    )

    def __init__(self, origin: "Connection", buffer: bytearray) -> None:
        client, shared = origin._socket, origin._shared  # of one family
        super().__init__(client, shared)
        self._origin = origin  # knows whom it is from, and goes on where a WebSocket is asked for
        half: object = client  # of a socket, as far as the types know
        self._tls = half if isinstance(half, TlsSocket) else None
        self._buffer = buffer
        self._exchange: Exchange | None = None
        self._guest: Guest | None = None
        self._body: h11.Connection | None = None  # reads the body of the exchange, while there is more
        self._ends = False  # with the next answer
        self._parts_when_sent = False  # it ends as soon as all has left
        self._has_ended = False  # the client sends nothing more; it may still read
        self._owes_turn = False  # there is something to be served that was read from the socket already
        self._since = self._pinged = self._stuck_since = shared.now  # idle, or with the beginning of a head
        self._last_size = 0
        self.phase = OPEN
        self._outbox = self.make_outbox(self, bytes)
        self._succeed(origin)
        shared.connections[self.fd] = self
        shared.exchange_deadlines.add(self, shared.now)

    def start(self, now: float) -> None:
        """Serve the request that made it one."""
        try:
            self._go_on(now, 0)  # the time is for WebSockets, and this asks for none
        except Exception as error:  # noqa: BLE001  # the connection's barrier (S1)
            self.fail(error)

    # Called by the reactor

    def receive(self, now: float, now_ms: int) -> None:
        """It is readable: one recv, and what can be served of it is."""
        try:
            data = self._socket.recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        if not data:
            self._end_of_input()
            return
        self._shared.bytes_in += len(data)
        if self.phase >= LINGERING:
            return  # nothing more is understood
        if not self._buffer and self._exchange is None:
            self._since = now
        self._buffer += data
        self._go_on(now, now_ms)

    def serve(self, event: int, now: float, now_ms: int) -> None:
        """It is ready for anything else than reading alone."""
        reads = bool(self._wanted() & READ)
        if event & HANGUP and not (event & READ and reads):
            self.drop()
            return
        if event & WRITE:
            self._writable(now, now_ms)
        if event & READ and reads and self.phase != GONE:
            self.receive(now, now_ms)

    def look(self, now: float, now_ms: int) -> None:
        """S2, S6: how long it has been waiting, for whatever it waits."""
        if self.phase > LEAVING:
            return
        self._shared.exchange_deadlines.add(self, now)
        if self._is_stuck(now):
            self.drop()
            return
        exchange, limits = self._exchange, self._shared.limits
        if exchange is None:
            self._look_idle(now)
        elif exchange.waits_for_body and (now - exchange.since) * 1000 >= limits.http_body_ms:
            exchange.fail(Refused(ErrorName.TIMEOUT, f"the body has not come within {limits.http_body_ms} ms"))
        if (stream := self._stream) is not None and (now - self._pinged) * 1000 >= limits.ping_ms:
            self._pinged = now
            if stream.application is not None:
                stream.application.keepalive(now_ms)

    def _is_stuck(self, now: float) -> bool:
        """Whether what waits to leave has not become less for drain_timeout."""
        size, before = self._outbox.size, self._last_size
        self._last_size = size
        if not size or size < before:
            self._stuck_since = now
        return (now - self._stuck_since) * 1000 >= self._shared.limits.drain_timeout_ms

    def _look_idle(self, now: float) -> None:
        waited_ms, limits = (now - self._since) * 1000, self._shared.limits
        if self._buffer and not self._owes_turn and waited_ms >= limits.connect_timeout_ms:
            self.refuse(Refusal(408, "A request head comes in one piece, or soon."))
        elif self._outbox.size:
            self._since = now  # its client is busy reading
        elif not self._buffer and waited_ms >= limits.http_idle_ms:
            self.end()

    # Reading

    def _end_of_input(self) -> None:
        """The client sends nothing more. Who waits for an answer may get it; who is streamed to has gone."""
        exchange = self._exchange
        if self.phase == OPEN and exchange is not None and exchange.is_whole and self._stream is None:
            self._has_ended = self._ends = True
            self._watch()
        else:
            self.drop()

    def _go_on(self, now: float, now_ms: int) -> None:
        """Serve the buffer as far as it goes."""
        self._owes_turn = False
        while self.phase == OPEN and not self._owes_turn:
            if self._exchange is None:
                if not self._read_head(now, now_ms):
                    break
            elif self._exchange.is_whole or not self._read_body(self._exchange, now):
                break
        if self.phase == OPEN:
            self._watch()

    def _read_head(self, now: float, now_ms: int) -> bool:
        """Whether a request has begun, or was answered; else there is none, or not all of it."""
        buffer, shared = self._buffer, self._shared
        while buffer.startswith(b"\r\n"):
            del buffer[:2]  # RFC 9112 section 2.2: some clients send one behind a body
        if not buffer:
            return False
        method = "GET"
        try:
            request = head.read_head(buffer, shared.limits)
            if request is None:
                return False
            method = request.method
            if request.path == shared.websocket_path:
                self._give_back(now_ms)
                return False
            del buffer[: request.size]
            self._begin(request, now)
        except Refusal as refusal:
            self.refuse(refusal, method)
        return True

    def _begin(self, request: Request, now: float) -> None:
        shared = self._shared
        shared.requests += 1
        service = shared.service(request.path)
        if service is None:
            self._show_page(request)
            return
        if self._guest is None and shared.crowd.is_full:
            raise come_back("Too many clients are connecting.", shared.crowd.later_ms())
        arrival, origin = self._origin.meet(request)
        exchange = Exchange(self, request, arrival, origin, now)
        self._exchange, self._body = exchange, request.http
        if self._seat is None:  # behind a proxy each request has an address, and is counted while it lasts
            exchange.seat, refusal = shared.addresses.enter(arrival.address, now)
            if refusal is not None:
                raise refusal
        service(exchange)

    def _show_page(self, request: Request) -> None:
        """What is no service, but a page as everywhere."""
        status, content_type, body = self._shared.page(request)
        keeps = not self._ends and request.http_version == b"1.1" and b"close" not in request.tokens(b"connection")
        size = ("Content-Length", str(len(body)))
        headers = [("Content-Type", content_type), size, *head.readable(content_type)]
        self._outbox.put(head_of(status, headers, keeps=keeps) + (b"" if request.method == "HEAD" else body))
        self._since = self._shared.now
        if not keeps:
            self.end()
        self._owes_turn = bool(self._buffer)

    def _read_body(self, exchange: Exchange, now: float) -> bool:
        """Whether there is more to be served at once."""
        body = self._body
        if body is None or exchange.has_failed:
            self._buffer.clear()  # nobody wants what is left of it
            return False
        if self._buffer:
            body.receive_data(bytes(self._buffer))
            self._buffer.clear()
        most = self._shared.limits.max_http_body_bytes
        try:
            for _ in range(EVENTS_PER_TURN):
                event = body.next_event()
                if type(event) is h11.Data:
                    exchange.take(bytes(event.data), most, now)
                elif type(event) is h11.EndOfMessage:
                    self._buffer += body.trailing_data[0]
                    self._body = None
                    exchange.finish()
                    return True
                else:
                    return False
        except h11.RemoteProtocolError as error:
            exchange.fail(Refused(ErrorName.MALFORMED, f"not a valid body: {error}"))
            return False
        self._owes_turn = True
        return False

    def _give_back(self, now_ms: int) -> None:
        """The next request asks for a WebSocket. Proxies send those over connections that have had others."""
        if self._ahead or self._outbox.items:
            self._owes_turn = True  # when everything has left
            return
        self._detach()
        self.phase = GONE
        self._outbox = self._shared.nowhere
        self._origin.go_on(self, self._buffer, now_ms)

    # Called by its exchange

    def invite(self) -> None:
        """The body is wanted: say so to a client that waits to hear it (RFC 9110 section 10.1.1)."""
        body = self._body
        if body is None or self.phase != OPEN or self._stream is not None:
            return
        if body.they_are_waiting_for_100_continue:
            body.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._send_ahead(_CONTINUE)
            self._shared.flush()

    def taken(self) -> None:
        """There is room for more of the body."""
        self._watch()

    def watch(self) -> None:
        """The outbox of a stream wants room."""
        self._watch()

    def make_outbox(self, connection: object, frame: Frame) -> StreamOutbox:
        """One of those that this connection writes."""
        shared = self._shared
        return StreamOutbox(connection, shared.dirty, frame, shared.limits.max_outbox_bytes)

    def keeps(self, exchange: Exchange) -> bool:
        """Whether another request may follow this one."""
        return exchange.keeps and exchange.is_whole and not self._ends and self._shared.reopens_at is None

    def reply(self, exchange: Exchange, data: bytes) -> None:
        """This is the answer, whole."""
        if self._exchange is not exchange or self.phase != OPEN:
            return  # the client has gone meanwhile
        is_last = not self.keeps(exchange)
        self._outbox.put(data)
        self._since = self._shared.now
        self._over()
        if is_last:
            self.end()
        else:
            self._owes_turn = bool(self._buffer)
        self._watch()

    def _over(self) -> None:
        """The exchange has its answer."""
        exchange, self._exchange, self._body = self._exchange, None, None
        if exchange is not None:
            exchange.is_answered = True
            if exchange.seat is not None:
                self._shared.addresses.leave(exchange.seat, self._shared.now)
                exchange.seat = None

    def go_on_with(self, stream: Stream, data: bytes) -> None:
        """This is the head of an answer that goes on."""
        exchange = self._exchange
        if self.phase != OPEN or exchange is None or exchange.stream_ is not stream:
            stream.detach()
            return
        self.invite()  # before the head, or never
        exchange.is_answered = stream.has_begun = True
        self._ahead += self._take_output() + data
        self._outbox = outbox = stream.outbox
        outbox.size += len(self._ahead)
        outbox.is_blocked = False
        self._pinged = self._shared.now
        self._shared.dirty.append(outbox)
        self._watch()

    def end(self) -> None:
        """Nothing more is said: it ends when all has left."""
        self._leave(_NORMAL, "")

    @property
    def _stream(self) -> Stream | None:
        """The answer that goes on, once it has begun."""
        stream = self._exchange.stream_ if self._exchange is not None else None
        return stream if stream is not None and stream.has_begun else None

    # `http.exchange.Line`

    @property
    def guest(self) -> Guest | None:
        """What is kept with this connection for the next requests."""
        return self._guest

    @guest.setter
    def guest(self, guest: Guest | None) -> None:
        before, self._guest = self._guest, guest
        if before is not None:
            before.leave()
        if self.phase > LEAVING:
            self._detach()  # who comes too late leaves at once

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """End it, behind the answer that is under way; one that goes on ends here. Idempotent; only marks."""
        if self._exchange is not None and self._stream is None:
            self._ends = True
        else:
            super().close(code, reconnect_after_ms)

    # Back-pressure

    def _wanted(self) -> int:
        interest = READ if self._wants_input() else 0
        if self._ahead or self._outbox.wants_room or self._owes_turn:
            interest |= WRITE
        if self._tls is not None and self._tls.is_waiting:
            interest |= WRITE
        return interest

    def _wants_input(self) -> bool:
        if self.phase != OPEN:
            return self.phase > LEAVING
        exchange = self._exchange
        if self._has_ended or self._owes_turn:
            return False
        if exchange is None:
            return not self._outbox.is_over
        if exchange.is_whole:
            return len(self._buffer) < self._shared.limits.max_head_bytes
        return exchange.waiting_bytes < WAITING_BYTES

    def _writable(self, now: float, now_ms: int) -> None:
        if self._tls is not None:
            try:
                self._tls.flush()
            except OSError:
                self.drop()
                return
        self.write()
        outbox = self._outbox
        if self.phase == OPEN and outbox.has_room:
            if outbox.wants_room:
                stream = self._stream
                if stream is None:
                    outbox.wants_room = False
                else:
                    stream.has_room(now_ms)
            if self._owes_turn:
                self._go_on(now, now_ms)
        elif self._parts_when_sent and not self._ahead:
            super().part()
        self._watch()

    # The end

    @property
    def is_answered(self) -> bool:
        """Whether nothing that it sent waits for an answer."""
        if (stream := self._stream) is not None:
            return stream.application is None or stream.application.is_answered
        return self._exchange is None

    def hush(self, code: int, reconnect_after_ms: int, urls: Sequence[str]) -> None:
        """Take no further request in; what is under way is answered."""
        if self._exchange is not None and self._stream is None:
            self._ends = True
        else:
            super().hush(code, reconnect_after_ms, urls)

    def part(self) -> None:
        """End what was hushed, when the tick ends; a request that is under way ends it with its answer."""
        if self.phase == LEAVING:
            super().part()

    def say_goodbye(self) -> None:
        """The tick in which the end was asked for is over."""
        if self.phase != LEAVING or self._farewell is None:
            return
        code, _, reconnect_after_ms, urls = self._farewell
        if code == _NORMAL:
            self.write()  # a long answer has drain_timeout, and not close_timeout, to leave
            self._parts_when_sent = bool(self._ahead) and self.phase == LEAVING
            if self._parts_when_sent:
                return
        stream, last = self._stream, NOTHING
        if stream is not None:
            if code >= CloseCode.PROTOCOL:
                bye = Bye(code, _CLOSE_NAMES.get(code, ""), reconnect_after_ms, list(urls))
                stream.outbox.put(encode(bye))
            last = LAST_CHUNK if stream.is_chunked else NOTHING
        if self.phase == LEAVING:
            self._finish(last, LINGERING)

    def refuse(self, refusal: Refusal, method: str = "GET") -> None:
        """Answer with an error, behind what has been answered, and end."""
        self._shared.refused += 1
        if self.phase == OPEN:
            self._finish(refusal_answer(refusal, method), LINGERING)

    def fail(self, error: Exception) -> None:
        """The one barrier, as of every connection."""
        if isinstance(error, Disconnect):
            self.close(error.code, error.reconnect_after_ms)
            return
        self._shared.log.error("connection_failed", phase=self.phase, address=self.address, exc_info=error)
        if self.phase == OPEN and self._stream is None:
            self.refuse(Refusal(500, "Something went wrong here; it was logged."))
        else:
            self.drop()

    def drop(self) -> None:
        """Gone at once, without a word. Idempotent."""
        if self.phase != GONE:
            self.phase = max(self.phase, LINGERING)  # it is no WebSocket whose close would be counted
            super().drop()

    def _forget_input(self) -> None:
        self._buffer = bytearray()
        self._body = None

    def _detach(self) -> None:
        exchange, guest = self._exchange, self._guest
        self._over()
        self._guest = None
        try:
            if exchange is not None:
                if exchange.stream_ is not None:
                    exchange.stream_.detach()
                exchange.on_lost()
            if guest is not None:
                guest.leave()
        except Exception as error:  # a service's bug must not end the process
            self._shared.log.error("connection_failed", phase=self.phase, address=self.address, exc_info=error)

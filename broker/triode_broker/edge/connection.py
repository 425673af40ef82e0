"""One socket's life as its input tells it: an HTTP head, then a WebSocket that feeds an application, then a close.

Knows bytes and deadlines; what the text means is the application's business. The surprising decision: a connection
is a plain object that the reactor calls. No task, no timer, no lock, and while idle nothing but its slots: 0.6 KiB
with socket, outbox and place in the queues.
"""

import socket
import zlib
from collections.abc import Callable
from typing import Any, Final

import attrs
from triode_protocol.errors import CloseCode
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.edge import head
from triode_broker.edge.conversation import Conversation
from triode_broker.edge.credentials import token_of
from triode_broker.edge.deflate import DeflatingOutbox, TooLong, inflate, negotiate
from triode_broker.edge.frames import (
    COMPRESSED_TEXT,
    INVALID_TEXT,
    POLICY_VIOLATION,
    TOO_BIG,
    close_frame,
    extent,
    is_plain,
    pong_frame,
    skip_to_close,
    text_frame,
)
from triode_broker.edge.poller import HANGUP, READ, WRITE
from triode_broker.edge.shared import LOOKS_PER_PING, Shared
from triode_broker.edge.websocket import Failure, Unusual
from triode_broker.edge.wire import CLIENTS, CLOSING, FINISHED, GONE, HEAD, LEAVING, LINGERING, NOTHING, OPEN, Wire

RECV_BYTES: Final = 65_536  # of one connection in one tick


class Connection(Wire):
    """The reactor calls it when its socket is ready or a deadline is due; the core ends it through `close`."""

    __slots__ = (
        "_buffer",
        "_control_frames",
        "_early_bytes",
        "_heard",
        "_inflated_bytes",
        "_looks",
        "_skip",
        "_unusual",
    )

    def __init__(self, client: socket.socket, shared: Shared) -> None:
        super().__init__(client, shared)
        self._buffer: bytes | bytearray = NOTHING  # read and not served; a bytearray where it is not empty
        self._unusual: Unusual | None = None
        self._early_bytes = 0  # read before it was live
        self._inflated_bytes = 0  # of compressed messages, since it has last let the others have their turn
        self._heard = 0.0  # when the last complete frame came
        self._looks = 0  # since the last ping
        self._control_frames = 0  # since then
        self._skip = 0  # bytes of the frame under way, once a close is awaited
        shared.poller.register(self.fd, READ)
        shared.connections[self.fd] = self
        shared.newcomers += 1
        self._is_new = True
        shared.connect_deadlines.add(self, shared.now)

    def take_seat(self, address: str) -> None:
        """Be counted as one from there; refused where that is one too many."""
        if (refusal := self._sit(address)) is not None:
            self.refuse(refusal)

    def _sit(self, address: str) -> head.Refusal | None:
        shared = self._shared
        self._seat, refusal = shared.addresses.enter(address, shared.now)
        if refusal is not None:
            shared.complaints.say("address_refused", shared.now, address=address, reason=refusal.text)
        return refusal

    # Called when the socket is ready

    def receive(self, now: float, now_ms: int) -> None:
        """It is readable: one recv, and what is whole in it goes to the application."""
        if not self._is_live:
            self._receive_early(now, now_ms)
            return
        try:
            data: bytes | bytearray = self._socket.recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = NOTHING
        if not data:
            self.drop()
            return
        self._shared.bytes_in += len(data)
        if self._buffer:
            self._buffer += data  # a bytearray: grows in place, however slowly a big frame drips in
            data = self._buffer
        if self._unusual is None:
            self._take_texts(data, now, now_ms)
        else:
            self._keep(data, 0)
        if self._buffer:
            self._take_rest(now, now_ms)

    def serve(self, event: int, now: float, now_ms: int) -> None:
        """It is ready for anything else than reading alone."""
        is_paused = self._paused_at is not None
        if event & HANGUP and (is_paused or not event & READ):
            self.drop()  # nothing else would end it, and level-triggered it would be reported for ever
            return
        if event & WRITE:
            self._writable(now, now_ms)
        if event & READ and not is_paused and self.phase != GONE:
            self.receive(now, now_ms)

    # Called by the sweep

    def check_connected(self, now: float, now_ms: int) -> None:
        """S2, S6: connect_timeout after accept."""
        if self.phase == HEAD:
            self.drop()
        elif self.phase == OPEN and not self._go_live(now):
            self.close(CloseCode.CONNECT_TIMEOUT)

    def look(self, now: float, now_ms: int) -> None:
        """LOOKS_PER_PING times per ping_ms: notice silence; each last time ping."""
        if not self._is_live:
            return
        shared = self._shared
        shared.look_deadlines.add(self, now)
        silent_seconds = now - max(self._heard, shared.awake_since)
        if self._paused_at is None and silent_seconds * 1000 >= 2 * shared.limits.ping_ms:
            self.close(CloseCode.PING_TIMEOUT)
            return
        self._looks += 1
        if self._looks == LOOKS_PER_PING:
            self._looks = self._control_frames = 0
            self._application.keepalive(now_ms)
            if self._outbox.is_over:
                self._pause(now)

    def check_drained(self, now: float, now_ms: int) -> None:
        """G6: drain_timeout after a pause began."""
        if self._paused_at is not None and now - self._paused_at >= self._shared.drain_deadlines.seconds:
            self.close(CloseCode.SLOW_CONSUMER)

    # Before the application is connected, and after it was detached

    def _receive_early(self, now: float, now_ms: int) -> None:
        """S2: until connect has succeeded max_before_connect_bytes are read, and one more to notice it."""
        if self.phase == LEAVING:
            return  # its bytes can wait for the end of the tick
        limit = self._shared.limits.max_before_connect_bytes
        allowed = max(limit + 1 - self._early_bytes, 1) if self.phase <= OPEN else RECV_BYTES
        try:
            data = self._socket.recv(min(allowed, RECV_BYTES))
        except BlockingIOError:
            return
        except OSError:
            data = NOTHING
        if not data:
            self.drop()
            return
        self._shared.bytes_in += len(data)
        if self.phase >= LINGERING:
            return  # nothing more is understood
        self._buffer = self._buffer + data if self._buffer else bytearray(data)
        self._early_bytes += len(data)
        self._serve_early(now, now_ms)

    def _serve_early(self, now: float, now_ms: int) -> None:
        if self.phase == HEAD:
            self._read_head()
        if self.phase == CLOSING:
            self._await_close()
        elif self.phase == OPEN:
            self._take_rest(now, now_ms)
            limit = self._shared.limits.max_before_connect_bytes
            if self.phase == OPEN and not self._go_live(now) and self._early_bytes > limit:
                self._leave(CloseCode.PROTOCOL, "too much before connect")

    def _go_live(self, now: float) -> bool:
        if not self._is_live and self._application.is_connected:
            self._is_live = True
            self._count_in()
            self._heard = now
            self._shared.look_deadlines.add(self, now)
        return self._is_live

    def _read_head(self) -> None:
        shared = self._shared
        method = "GET"
        try:
            request = head.read_head(self._buffer, shared.limits)
            if request is None:
                return
            method = request.method
            if request.path == shared.websocket_path:
                shared.check_open()
                self._upgrade(request)
                return
            if shared.service(request.path) is None:
                self._respond(head.response(*shared.page(request), method))
            else:
                Conversation(self, bytearray(self._buffer)).start(shared.now)
        except head.Refusal as refusal:
            self.refuse(refusal, method)

    def _upgrade(self, request: head.Request) -> None:
        shared = self._shared
        arrival = self._known(request)
        if self._seat is None and (refusal := self._sit(arrival.address)) is not None:
            raise refusal  # behind a proxy it has an address of its own only now
        extension = self._extension(request)
        answer = head.upgrade(request, extension)
        self._keep(self._buffer, request.size)  # frames may have come right behind
        self.phase = OPEN
        shared.upgraded += 1
        limit = shared.limits.max_outbox_bytes
        if extension:
            self._outbox = DeflatingOutbox(self, shared.dirty, shared.deflating.frame, limit)
        else:
            self._outbox = Outbox(self, shared.dirty, text_frame, limit)
        self._send_ahead(answer)
        if shared.door.may_enter(request, arrival):
            self._application = shared.accept(self._outbox, arrival)
        else:
            shared.complain_of_origin(request)
            self.close(CloseCode.FORBIDDEN_ORIGIN)

    def _known(self, request: head.Request) -> Arrival:
        """What is known of whoever sends this. Raises Refusal."""
        arrival = self._arrival(request)
        token = token_of(request, takes_query_token=self._shared.door.takes_query_token)
        return attrs.evolve(arrival, token=token) if token else arrival

    def _arrival(self, request: head.Request) -> Arrival:
        """What is known of the client, before it says anything."""
        return self._shared.door.front.arrival(request, self.address)

    def _extension(self, request: head.Request) -> bytes:
        if not self._shared.door.compresses:
            return b""
        return negotiate(request.headers.get(b"sec-websocket-extensions", b""))

    # Called by the conversation that it has become

    def meet(self, request: head.Request) -> tuple[Arrival, str]:
        """Who asks by HTTP, and which page does. Raises Refusal."""
        arrival, door = self._known(request), self._shared.door
        if not door.may_enter(request, arrival):
            self._shared.complain_of_origin(request)
            raise head.Refusal(403, "This page may not ask here: its origin is not listed in the setting origins.")
        origin = request.headers.get(b"origin", b"").decode("ascii")
        if not origin and not door.is_host_good(request, arrival):
            raise head.Refusal(
                403, "Ask by address, as localhost, or with a credential; or list the host in origins."
            )
        return arrival, origin

    def go_on(self, conversation: Conversation, buffer: bytearray, now_ms: int) -> None:
        """Its next request asks for a WebSocket, and begins the buffer."""
        shared = self._shared
        self.phase = HEAD
        self._buffer, self._early_bytes = buffer, len(buffer)
        self._succeed(conversation)
        shared.connections[self.fd] = self
        self._is_new = True
        shared.newcomers += 1
        shared.connect_deadlines.add(self, shared.now)
        self._serve_early(shared.now, now_ms)

    # Reading frames

    def _take_texts(self, data: bytes | bytearray, now: float, now_ms: int) -> None:
        """The fast path: serve plain frames up to the first that is not whole or not plain, and keep the rest."""
        shared = self._shared
        unmask = shared.unmasking.unmask
        limit = shared.plain_bytes
        outbox = self._outbox
        receive_text = self._application.receive_text
        end = len(data)
        at = count = 0
        try:
            while end - at >= 6 and data[at] == 0x81:
                length = data[at + 1] - 128  # below 0: not masked
                body = at + 6
                if length == 126:
                    length = (data[at + 2] << 8) | data[at + 3]
                    body = at + 8
                    if length < 126:
                        break
                elif length == 127:
                    length = int.from_bytes(data[at + 2 : at + 10])
                    body = at + 14
                    if length < 65_536:
                        break
                stop = body + length
                if stop > end or length < 0 or length > limit:
                    break
                try:
                    text = unmask(data[body:stop], data[body - 4 : body]).decode()  # str(…) takes 0.1 µs more
                except UnicodeDecodeError:
                    self._leave(INVALID_TEXT, "text must be UTF-8")
                    break
                at = stop
                count += 1
                receive_text(text, now_ms)
                if outbox.size > outbox.limit:
                    self._pause(now)
                    break
                if self.phase != OPEN:
                    break
        finally:
            if count:
                self._heard = now
                shared.frames_in += count
            if at != end or self._buffer:
                self._keep(data, at)

    def _take_rest(self, now: float, now_ms: int) -> None:
        """Serve the buffer, each frame by the path it needs, until more must come or nothing more may be read."""
        while self._buffer and self.phase == OPEN and self._paused_at is None:
            before = len(self._buffer)
            if self._unusual is None:
                if is_plain(self._buffer, self._shared.plain_bytes):
                    self._take_texts(self._buffer, now, now_ms)
                elif self._max_inflated_bytes() and is_plain(
                    self._buffer, self._shared.plain_bytes, COMPRESSED_TEXT
                ):
                    self._take_compressed(now, now_ms)
                else:
                    self._unusual = Unusual(self._shared.limits, self._max_inflated_bytes())
            if self._unusual is not None:
                self._take_unusual(self._unusual, now, now_ms)
            if len(self._buffer) == before:
                return

    def _take_compressed(self, now: float, now_ms: int) -> None:
        """The next frame, which is plain but compressed, if it is whole: 15 µs, where wsproto takes 75."""
        buffer = self._buffer
        bounds = extent(buffer)
        if bounds is None or (stop := sum(bounds)) > len(buffer):
            return
        body, most = bounds.header_bytes, self._max_inflated_bytes()
        try:
            data = inflate(self._shared.unmasking.unmask(buffer[body:stop], buffer[body - 4 : body]), most)
            text = data.decode()
        except TooLong:
            self._leave(TOO_BIG, f"a message has at most {most} bytes")
            return
        except (zlib.error, UnicodeDecodeError):
            self._leave(INVALID_TEXT, "text must be deflated UTF-8")
            return
        self._keep(buffer, stop)
        self._heard = now
        self._shared.frames_in += 1
        self._count_inflated(len(data))
        self._application.receive_text(text, now_ms)
        if self.phase == OPEN and (self._outbox.is_over or self._has_had_its_turn()):
            self._pause(now)

    def _take_unusual(self, unusual: Unusual, now: float, now_ms: int) -> None:
        used, events = unusual.read(self._buffer)
        self._keep(self._buffer, used)
        if used and unusual.left == 0:
            self._heard = now
            self._shared.frames_in += 1
        if unusual.is_over:
            self._unusual = None
        for event in events:
            _EVENTS[type(event)](self, event, now_ms)
        if self.phase == OPEN and (self._outbox.is_over or self._has_had_its_turn()):
            self._pause(now)

    def _max_inflated_bytes(self) -> int:
        """S3: of one compressed message; 0 = it takes none. Before connect it counts as read (S2)."""
        if type(self._outbox) is not DeflatingOutbox:
            return 0
        limits = self._shared.limits
        if self._is_live:
            return limits.max_frame_bytes
        return max(limits.max_before_connect_bytes - self._early_bytes, 1)

    def _keep(self, data: bytes | bytearray, at: int) -> None:
        """What is behind `at` waits in the buffer, which `data` may be."""
        if at == len(data):
            self._buffer = NOTHING
        elif isinstance(data, bytearray):
            del data[:at]
            self._buffer = data
        else:
            self._buffer = bytearray(data[at:])

    def _on_text(self, event: TextMessage, now_ms: int) -> None:
        self._count_inflated(len(event.data))
        self._application.receive_text(event.data, now_ms)

    def _on_binary(self, event: BytesMessage, now_ms: int) -> None:
        self._count_inflated(len(event.data))
        self._application.receive_binary(bytes(event.data), now_ms)

    def _count_inflated(self, size: int) -> None:
        if type(self._outbox) is DeflatingOutbox:
            self._inflated_bytes += size
            if not self._is_live:
                self._early_bytes += size

    def _has_had_its_turn(self) -> bool:
        """S3: what one read holds may be 60 MiB once it is inflated; more than a read's worth waits for a turn."""
        if self._inflated_bytes <= RECV_BYTES:
            return False
        self._inflated_bytes = 0
        return True

    def _on_ping(self, event: Ping, now_ms: int) -> None:
        self._on_pong(event, now_ms)
        self._send_ahead(pong_frame(bytes(event.payload)))

    def _on_pong(self, event: Ping | Pong, now_ms: int) -> None:
        """S4: a bounded number of control frames between two pings of ours."""
        self._control_frames += 1
        if self._control_frames > self._shared.limits.max_control_frames:
            self._leave(POLICY_VIOLATION, "too many control frames")

    def _on_close(self, event: CloseConnection, now_ms: int) -> None:
        """The client ends it: what it is still owed, then its own code back."""
        code = int(event.code)
        self._shared.closes[code] += 1
        self._farewell = self._farewell or (code, CLIENTS, 0, ())  # before the session asks how it ended
        self._finish(close_frame(code), FINISHED)

    def _on_failure(self, event: Failure, now_ms: int) -> None:
        self._leave(event.code, event.reason)

    # Back-pressure

    def _pause(self, now: float) -> None:
        """G6: nothing more is read until the outbox has drained to half."""
        if self._paused_at is None:
            self._paused_at = now
            self._shared.drain_deadlines.add(self, now)
            self._watch()

    def _writable(self, now: float, now_ms: int) -> None:
        self.write()
        outbox = self._outbox
        if self.phase == OPEN and outbox.has_room:
            if outbox.wants_room:
                self._application.room(now_ms)
                self._go_live(now)  # it may have waited for its turn to connect
            if self._paused_at is not None and not outbox.is_over:
                self._paused_at = None
                self._heard = now
                self._take_rest(now, now_ms)
        self._watch()

    # The end

    def _finish(self, last: bytes, phase: int) -> None:
        self._skip = self._unusual.left if self._unusual is not None else 0
        super()._finish(last, phase)
        if self.phase == CLOSING:
            self._await_close()  # it may be here already, behind what was being served

    def _await_close(self) -> None:
        """Skip what comes before the client's close frame: nobody is there to be served by it."""
        buffer = bytearray(self._buffer)
        self._skip = skip_to_close(buffer, self._skip)
        self._buffer = buffer
        if self._skip < 0:
            self.phase = FINISHED
            self._forget_input()
            if not self._ahead:
                self._all_said()

    def _forget_input(self) -> None:
        self._buffer = NOTHING
        self._unusual = None


_EVENTS: Final[dict[type, Callable[[Connection, Any, int], None]]] = {
    TextMessage: Connection._on_text,
    BytesMessage: Connection._on_binary,
    Ping: Connection._on_ping,
    Pong: Connection._on_pong,
    CloseConnection: Connection._on_close,
    Failure: Connection._on_failure,
}

"""The sending half of a connection and its end: one socket, what waits to leave it, and how it closes.

Knows the outbox and the poller; what is read, and why a close is asked for, is connection.py's business. Two
decisions surprise. `close` only marks: it may be called from the middle of anybody's loop, and the end begins when
the tick ends (`say_goodbye`). And after its last words a socket is not closed but shut for writing, and read
until the peer has closed too: a socket closed over unread bytes sends a reset, which overtakes the last words.

Phases: HEAD → OPEN → LEAVING (a close was asked for) → CLOSING (our close frame is out, the client's is awaited)
→ GONE. LINGERING in place of CLOSING where nothing more can be understood: a refused request, a broken WebSocket.
FINISHED: both close frames are there, only our own bytes have to leave.
"""

import socket
from collections.abc import Sequence
from typing import Final

import attrs
from triode_protocol.codec import encode
from triode_protocol.errors import CloseCode
from triode_protocol.packets import Bye

from triode_broker.core.errors import Disconnect
from triode_broker.edge.addresses import Seat
from triode_broker.edge.application import Application, Nobody
from triode_broker.edge.forwarded import normal
from triode_broker.edge.frames import ABNORMAL, batch_frames, close_frame
from triode_broker.edge.head import Refusal, refusal_response
from triode_broker.edge.poller import READ, WRITE
from triode_broker.edge.shared import Shared

HEAD: Final = 0
OPEN: Final = 1
LEAVING: Final = 2
CLOSING: Final = 3
LINGERING: Final = 4
FINISHED: Final = 5
GONE: Final = 6

NOTHING: Final = b""
_FIRST_OWN_CODE: Final = 4000  # close codes from here on are this protocol's, and a bye goes before them
_NORMAL: Final = 1000
CLIENTS: Final = "the client's"  # in place of a reason: the code came from there
_CLOSE_NAMES: Final = {int(code): code.name.lower() for code in CloseCode}
_NOBODY: Final = Nobody()


@attrs.frozen
class Backlog:
    """What waits for one client, which reads too slowly, or has much to catch up with."""

    application: Application
    waiting_bytes: int
    max_bytes: int
    is_blocked: bool  # its socket takes nothing now
    is_catching_up: bool  # something of it waits for room behind that
    paused_ms: int  # since when nothing it sends is read, because of that; 0: it is read


class Wire:
    """One socket to write to."""

    __slots__ = (
        "_ahead",
        "_application",
        "_farewell",
        "_interest",
        "_is_live",
        "_is_new",
        "_outbox",
        "_paused_at",
        "_seat",
        "_shared",
        "_socket",
        "fd",
        "phase",
    )

    def __init__(self, client: socket.socket, shared: Shared) -> None:
        self._socket = client
        self._shared = shared
        self.fd = client.fileno()
        self.phase = HEAD
        self._application: Application = _NOBODY
        self._outbox = shared.nowhere
        self._ahead = NOTHING  # wire bytes that go before what the outbox holds
        self._is_new = False  # counted as a newcomer: not live yet
        self._is_live = False  # open and connected: the hot path
        self._seat: Seat | None = None  # where its address is counted
        self._paused_at: float | None = None  # since when nothing is read, because the outbox is over its bound
        self._interest = READ
        self._farewell: tuple[int, str, int, Sequence[str]] | None = None  # code, reason, reconnect_after_ms, urls

    def bound_outbox(self, max_bytes: int) -> None:
        """Another max_outbox_bytes from now on; what is over it follows as if it had just come to that."""
        self._outbox.limit = max_bytes

    @property
    def address(self) -> str:
        """Of the other end, in its one spelling; "" where it has none. Asked of the system: it costs no memory."""
        try:
            name = self._socket.getpeername()
        except OSError:  # gone already
            return ""
        return normal(name[0]) if isinstance(name, tuple) else ""

    def backlog(self, now: float) -> Backlog | None:
        """What waits for its client; None: nothing does."""
        outbox = self._outbox
        if outbox is self._shared.nowhere or not (outbox.size or outbox.wants_room):
            return None
        paused_ms = 0 if self._paused_at is None else int((now - self._paused_at) * 1000)
        return Backlog(
            self._application, outbox.size, outbox.limit, outbox.is_blocked, outbox.wants_room, paused_ms
        )

    def _succeed(self, before: "Wire") -> None:
        """Serve the socket from now on that another one has served; who calls it enters `connections`."""
        before._count_in()
        before.phase = GONE
        before._is_live = False
        self._seat, before._seat = before._seat, None
        self._interest = before._interest

    # Called by the core, from anywhere

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """End the connection when the tick ends, with a bye for codes ≥ 4000. Idempotent; only marks."""
        self._leave(int(code), "", reconnect_after_ms)

    def wake(self) -> None:
        """Call `room` of the application soon, in a turn of its own."""
        if self.phase == OPEN:
            self._outbox.wants_room = True
            self._watch()

    @property
    def close_code(self) -> int:
        """The code of the close that either side has begun; 0 while there is none."""
        return self._farewell[0] if self._farewell else 0

    @property
    def is_closed_by_client(self) -> bool:
        """Whether that code is the client's."""
        return self._farewell is not None and self._farewell[1] == CLIENTS

    def _leave(self, code: int, reason: str, reconnect_after_ms: int = 0) -> None:
        if self.phase <= OPEN:
            self.phase = LEAVING
            self._is_live = False
            self._farewell = (code, reason, reconnect_after_ms, ())
            self._shared.leaving.append(self)

    # Called by the reactor

    def hush(self, code: int, reconnect_after_ms: int, urls: Sequence[str]) -> None:
        """Take nothing more in; `part` ends it, once what was taken is answered. Nothing before the upgrade."""
        if self.phase == OPEN:
            self.phase = LEAVING
            self._is_live = False
            self._farewell = (code, "", reconnect_after_ms, urls)
            self._watch()

    @property
    def is_answered(self) -> bool:
        """Whether nothing that it sent waits for an answer."""
        return self._application.is_answered

    def part(self) -> None:
        """End what was hushed, when the tick ends."""
        self._shared.leaving.append(self)

    def write(self) -> None:
        """Send what waits, in one send."""
        if self._ahead and not self._write_ahead():
            return
        outbox = self._outbox
        items = outbox.items
        if not items:
            return
        if outbox.is_batch:
            data = batch_frames(items, outbox.size, self._shared.limits.max_frame_bytes)
        else:
            data = items[0] if len(items) == 1 else b"".join(items)
        items.clear()
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop()
            return
        self._shared.bytes_out += sent
        if sent == len(data):
            outbox.size = 0
            if outbox.wants_room:
                self._watch()
        else:
            self._ahead = data[sent:]
            outbox.size = len(self._ahead)
            outbox.is_blocked = True
            self._watch()

    def say_goodbye(self) -> None:
        """The tick in which a close was asked for is over: bye, close frame, and the wait for the client's."""
        if self.phase != LEAVING or self._farewell is None:
            return
        if self._outbox is self._shared.nowhere:
            self.drop()  # before the upgrade there is no way to say it
            return
        code, reason, reconnect_after_ms, urls = self._farewell
        name = _CLOSE_NAMES.get(code, "")
        if code >= _FIRST_OWN_CODE:
            self._outbox.put(encode(Bye(code, name, reconnect_after_ms, list(urls))))
        is_orderly = code >= _FIRST_OWN_CODE or code == _NORMAL
        self._shared.closes[code] += 1
        self._finish(close_frame(code, reason or name), CLOSING if is_orderly else LINGERING)

    def refuse(self, refusal: Refusal, method: str = "GET") -> None:
        """Answer the request, read or not, with an error, and end."""
        self._shared.refused += 1
        self._respond(refusal_response(refusal, method))

    def fail(self, error: Exception) -> None:
        """The one barrier: whatever was raised while this connection was served ends here, and ends it alone."""
        if isinstance(error, Disconnect):
            self.close(error.code, error.reconnect_after_ms)
            return
        self._shared.log.error("connection_failed", phase=self.phase, address=self.address, exc_info=error)
        if self.phase == HEAD:
            self.refuse(Refusal(500, "Something went wrong here; it was logged."))
        elif self.phase == OPEN:
            self.close(CloseCode.INTERNAL)
        else:
            self.drop()

    def drop(self) -> None:
        """Gone at once, without a word. Idempotent."""
        if self.phase == GONE:
            return
        if self.phase <= LEAVING and self._outbox is not self._shared.nowhere:
            self._shared.closes[ABNORMAL] += 1
        self.phase = GONE
        self._is_live = False
        self._count_in()
        del self._shared.connections[self.fd]
        if self._seat is not None:
            self._shared.addresses.leave(self._seat, self._shared.now)
        self._socket.close()  # which also takes it out of the poller
        self._take_output()
        self._ahead = NOTHING
        self._forget_input()
        self._detach()

    def check_closed(self, now: float, now_ms: int) -> None:
        """close_timeout after our close frame, or our only response, was queued."""
        self.drop()

    def _count_in(self) -> None:
        """It is no newcomer any more: it has connected, or will not."""
        if self._is_new:
            self._is_new = False
            self._shared.newcomers -= 1

    # Beside the outbox

    def _send_ahead(self, data: bytes) -> None:
        """Queue wire bytes that are no packet: the 101, pongs."""
        outbox = self._outbox
        self._ahead += data
        outbox.size += len(data)
        if not outbox.is_blocked:
            self._shared.dirty.append(outbox)

    def _write_ahead(self) -> bool:
        """Send what goes before the outbox; true once all of it has left."""
        ahead = self._ahead
        try:
            sent = self._socket.send(ahead)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop()
            return False
        self._shared.bytes_out += sent
        self._ahead = ahead[sent:]
        if self.phase <= LEAVING:
            self._outbox.size -= sent
            self._outbox.is_blocked = sent < len(ahead)
        elif not self._ahead:
            self._all_said()
        self._watch()
        return not self._ahead

    def _watch(self) -> None:
        """Watch for what matters now. WRITE is also how `room` and the end of a pause get their turn."""
        interest = self._wanted()
        if interest != self._interest and self.phase != GONE:
            self._interest = interest
            self._shared.poller.modify(self.fd, interest)

    def _wanted(self) -> int:
        is_paused = self._paused_at is not None
        interest = 0 if is_paused or self.phase == LEAVING else READ
        if is_paused or self._ahead or self._outbox.wants_room:
            interest |= WRITE
        return interest

    # The end

    def _respond(self, response: bytes) -> None:
        """The only words of a connection that does not become a WebSocket."""
        self._ahead = response
        self._forget_input()
        self._count_in()
        self.phase = LINGERING
        self._shared.close_deadlines.add(self, self._shared.now)
        self._write_ahead()

    def _finish(self, last: bytes, phase: int) -> None:
        """Nothing is put behind this any more: the output so far, the close frame, then the wait for the end."""
        self._ahead += self._take_output() + last
        self.phase = phase
        self._is_live = False
        self._count_in()
        self._paused_at = None
        if phase != CLOSING:
            self._forget_input()
        self._shared.close_deadlines.add(self, self._shared.now)
        self._write_ahead()
        self._detach()

    def _all_said(self) -> None:
        """The last words have left."""
        if self.phase == FINISHED:
            self.drop()
        elif self.phase == LINGERING:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.drop()

    def _take_output(self) -> bytes:
        """What the outbox holds, as wire bytes; what is put there from now on goes nowhere."""
        outbox, self._outbox = self._outbox, self._shared.nowhere
        items, outbox.items = outbox.items, []
        outbox.is_blocked = True
        if outbox.is_batch and items:
            return batch_frames(items, outbox.size, self._shared.limits.max_frame_bytes)
        return b"".join(items)

    def _forget_input(self) -> None:
        """Nothing that was read will be served."""

    def _detach(self) -> None:
        application, self._application = self._application, _NOBODY
        try:
            application.detach()
        except Exception as error:  # noqa: BLE001  # an application's bug must not end the process
            self.fail(error)

"""One WebSocket to a broker, on asyncio and on the protocol of `websockets` without its I/O.

Knows nothing of packets. The surprising decision: the library's own connection is not used. It tells of a close
frame only when the peer has closed the socket too, and follows redirects; what its protocol leaves to do is this
file. Two traps are met here: an endless message of empty fragments (so they are joined as they come), and pings of
a peer that does not read (so a full socket swallows our answers to them).
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast
from urllib.parse import urlsplit

from triode_protocol.packets import SUBPROTOCOL
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from triode.backoff import ABNORMAL_CLOSURE, NORMAL_CLOSURE
from triode.runtime import HandshakeRefused, TransportEnded, asked_ms

_MOST_QUEUED: Final = 64  # messages between the socket and our reader; then the socket is not read any more
_FEW_QUEUED: Final = 16
_MOST_UNSENT_BYTES: Final = 65_536
_ADDRESS_SECONDS: Final = 1.0  # for one address of several
_ABORT_SECONDS: Final = 1.0  # an event loop takes a turn or two for it
_INVALID_DATA: Final = 1007
_LOST: Final = "the connection was lost"
_LOGGER: Final = logging.getLogger("triode.websockets")
_LOGGER.setLevel(logging.WARNING)  # at DEBUG the library writes down what is said: tokens too


class AsyncioTransport(asyncio.Protocol):
    """See `Transport`."""

    def __init__(self, url: str, max_receive_bytes: int) -> None:
        self._protocol = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=max_receive_bytes, logger=_LOGGER
        )
        self._socket: asyncio.Transport | None = None
        self._heard: deque[str | bytes] = deque()
        self._fragments = bytearray()  # of a message that has not come whole
        self._is_text = False
        self._ended: TransportEnded | None = None
        self._is_paused = False  # we read no more
        self._is_full = False  # the peer reads too slowly
        self._waiting: set[asyncio.Future[None]] = set()

    # What the client asks for

    async def receive(self) -> str | bytes:
        while not self._heard:
            if self._ended is not None:
                raise self._ended
            await self._news()
        if self._is_paused and len(self._heard) <= _FEW_QUEUED:
            self._pause(False)
        return self._heard.popleft()

    async def send(self, text: str) -> None:
        if self._ended is not None or self._protocol.state is not State.OPEN:
            raise self._ended or TransportEnded(ABNORMAL_CLOSURE, _LOST)
        self._protocol.send_text(text.encode())
        self._flush()
        while self._is_full and self._ended is None:
            await self._news()

    async def close(self, seconds: float) -> None:
        if self._protocol.state is State.OPEN and self._ended is None:
            self._protocol.send_close(NORMAL_CLOSURE)
            self._flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._ended is None:
                    await self._news()
        await self.drop()

    async def drop(self) -> None:
        """Close the socket, whatever state it is in; it is gone when this returns."""
        if self._socket is not None:
            self._socket.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ABORT_SECONDS):
                while self._socket is not None:
                    await self._news()

    async def shake_hands(self) -> None:
        """Raises HandshakeRefused, TransportEnded, and what the library thinks of other answers."""
        protocol = self._protocol
        protocol.send_request(protocol.connect())
        self._flush()
        while protocol.state is State.CONNECTING and protocol.handshake_exc is None and self._ended is None:
            await self._news()
        refused = protocol.handshake_exc
        if isinstance(refused, InvalidStatus):
            retry_after = refused.response.headers.get_all("Retry-After")
            raise HandshakeRefused(refused.response.status_code, asked_ms(retry_after[0]) if retry_after else 0)
        if isinstance(refused, EOFError) or (refused is not None and isinstance(refused.__cause__, EOFError)):
            raise TransportEnded(ABNORMAL_CLOSURE, "the connection was closed during the WebSocket handshake")
        if refused is not None:
            raise refused
        if protocol.state is State.CONNECTING:
            raise self._ended or TransportEnded(ABNORMAL_CLOSURE, _LOST)

    async def _news(self) -> None:
        """Something has changed: every wait here asks for its own condition again."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _tell(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())  # an empty one asks for EOF: we close as a whole, later
        if data and self._socket is not None and not self._socket.is_closing():
            self._socket.write(data)

    def _pause(self, is_paused: bool) -> None:
        self._is_paused = is_paused
        if self._socket is not None and not self._socket.is_closing():
            self._socket.pause_reading() if is_paused else self._socket.resume_reading()

    def _end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = TransportEnded(code, reason)

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)  # other loops have classes of their own
        self._socket.set_write_buffer_limits(_MOST_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        if self._ended is not None:  # what comes behind a close frame is nothing
            return
        self._protocol.receive_data(data)
        self._take_events()
        if self._is_full:
            self._protocol.data_to_send()  # pongs
        else:
            self._flush()
        if len(self._heard) >= _MOST_QUEUED and not self._is_paused:
            self._pause(True)
        self._tell()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take_events()
        self._end(ABNORMAL_CLOSURE, _LOST)
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        self._protocol.receive_eof()
        self._end(ABNORMAL_CLOSURE, _LOST if error is None else f"{_LOST}: {error}")
        self._socket = None
        self._tell()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._tell()

    # What the library has understood

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                continue  # the answer to the handshake
            if event.opcode is Opcode.CLOSE:
                close = Close.parse(event.data)
                is_lost = close.code == ABNORMAL_CLOSURE
                self._end(close.code, _LOST if is_lost else close.reason or "the broker closed the connection")
            elif event.opcode in _OF_DATA:
                self._take_frame(event)
        error = self._protocol.parser_exc
        if isinstance(error, PayloadTooBig):
            self._end(ABNORMAL_CLOSURE, "the broker sent more than max_receive_bytes in one message")
        elif error is not None and not isinstance(error, EOFError):
            self._end(ABNORMAL_CLOSURE, f"the broker broke the WebSocket protocol: {error}")

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        data: Any = frame.data
        if not frame.fin or self._fragments:
            self._fragments += data
            if not frame.fin:
                return
            data = bytes(self._fragments)
            self._fragments.clear()
        if not self._is_text:
            self._heard.append(bytes(data))
            return
        try:
            self._heard.append(str(data, "utf-8"))
        except UnicodeDecodeError as error:
            self._protocol.fail(_INVALID_DATA, "not UTF-8")
            self._end(ABNORMAL_CLOSURE, f"the broker broke the WebSocket protocol: {error}")


_OF_DATA: Final = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


@asynccontextmanager
async def open_transport(
    url: str, max_receive_bytes: int, ssl_context: ssl.SSLContext | None
) -> AsyncIterator[AsyncioTransport]:
    """See `Runtime.open_transport`."""
    transport = AsyncioTransport(url, max_receive_bytes)
    try:
        await _dial(url, transport, ssl_context)
        await transport.shake_hands()
        yield transport
    finally:
        await transport.drop()


async def _dial(url: str, transport: AsyncioTransport, ssl_context: ssl.SSLContext | None) -> None:
    parts = urlsplit(url)
    host, is_secret = parts.hostname or "", parts.scheme == "wss"
    options: dict[str, Any] = {}
    if is_secret:
        options = {"ssl": ssl_context or ssl.create_default_context(), "server_hostname": host}
    connected = await _connect(host, parts.port or (443 if is_secret else 80))
    await asyncio.get_running_loop().create_connection(lambda: transport, sock=connected, **options)


async def _connect(host: str, port: int) -> socket.socket:
    """A socket to the first address of the host that answers. asyncio's own race of them leaks when cancelled."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found.sort(key=_turn(found))
    failure: OSError = OSError(f"{host} has no address")
    for number, address in enumerate(found, 1):
        try:
            return await _reach(address, _ADDRESS_SECONDS if number < len(found) else None)
        except OSError as error:  # a timeout is one, too
            failure = error
    raise failure


async def _reach(address: Sequence[Any], seconds: float | None) -> socket.socket:
    reached = socket.socket(*address[:3])
    try:
        reached.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(reached, address[4])
    except BaseException:
        reached.close()
        raise
    return reached


def _turn(found: Sequence[tuple[Any, ...]]) -> Callable[[tuple[Any, ...]], int]:
    """Families take turns: where one of them leads nowhere, the other is tried next (RFC 8305)."""
    seen: Counter[Any] = Counter()
    turns = {}
    for each in found:
        turns[each] = seen[each[0]]
        seen[each[0]] += 1
    return turns.__getitem__

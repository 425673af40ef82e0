"""One WebSocket between two nodes, on trio-websocket: opened from either end, binary messages, closed or dropped.

Knows nothing of frames or of who is there. trio-websocket's traps are met here and nowhere else: it does not
notice that the other end has gone during the opening handshake (so the stream is watched); it reads on before
anybody has looked at what came (so, until `trust`, it gets no more than a budget of bytes: S2, S4); its close
waits for an answer that may never come (so the caller bounds it); its reader dies of what a remote sends in
more ways than it says (so that is the connection's end, not the node's); a cancelled send leaves half a message
(so the stream is dropped in the end, whatever state it is in).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
import trio.abc
import trio_websocket

PATH: Final = "/peer"
SUBPROTOCOL: Final = "triode-peer"
#: Read from a stranger in all: the HTTP head and three messages of the hello.
MAX_STRANGER_BYTES: Final = 65_536
#: Close code of a link that one of the nodes has ended; its reason is a constant of ours.
CLOSED_BY_NODE: Final = 4_000
_NOT_FOUND: Final = 404
_UPGRADE_REQUIRED: Final = b"HTTP/1.1 426 "
_BEGIN_BYTES: Final = 16
_RECEIVE_BYTES: Final = 262_144  # per recv; the library's 4 KiB would cut every message in pieces
_STRANGER_RECEIVE_BYTES: Final = 4_096  # per recv until `trust`: a buffer of that size is all it costs here
_QUEUED_MESSAGES: Final = 16  # between the library's reader and ours; 1 made it wait for us at each message


class Ended(Exception):
    """The WebSocket is over; why, in the words of whoever ended it (not ours: escape them)."""


class TlsWanted(Ended):
    """The other end takes no WebSocket without TLS (426)."""


class Carrier:
    """An open WebSocket. One task may receive, one may send."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, stream: "_Watched") -> None:
        self._websocket = websocket
        self._stream = stream

    def trust(self) -> None:
        """The other end has proven itself: take whatever it sends."""
        self._stream.trusted.set()

    async def receive(self) -> bytes:
        """The next message. Raises Ended."""
        try:
            message = await self._websocket.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise self._ended(closed) from closed
        if isinstance(message, str):
            raise Ended("a text message between nodes")
        return message

    async def send(self, data: bytes) -> None:
        """Write one message. Cancelled midway, the connection is good for nothing any more. Raises Ended."""
        try:
            await self._websocket.send_message(data)
        except trio_websocket.ConnectionClosed as closed:
            raise self._ended(closed) from closed
        except Exception as error:
            # Over, but for the sender: the library only says that its own state is another one.
            if self._stream.trouble or self._websocket.closed is not None:
                raise Ended(self._stream.trouble or "closed") from error
            raise

    async def close(self, reason: str) -> None:
        """Say why, and wait until the other end has closed too; the caller bounds that. Raises Ended."""
        try:
            await self._websocket.aclose(CLOSED_BY_NODE, reason)
        except trio_websocket.ConnectionClosed as closed:
            raise self._ended(closed) from closed

    def _ended(self, closed: trio_websocket.ConnectionClosed) -> Ended:
        reason = closed.reason
        if reason is None:
            return Ended(self._stream.trouble or "closed")
        return Ended(reason.reason or reason.name)


@asynccontextmanager
async def dial(stream: trio.abc.Stream, host: str, max_message_bytes: int) -> AsyncIterator[Carrier]:
    """The WebSocket on a stream that this node has opened. On leaving, the stream is gone."""
    watched = _Watched(stream)
    try:
        async with trio.open_nursery() as nursery:
            yield Carrier(await _dialled(watched, host, max_message_bytes, nursery), watched)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(watched)


async def _dialled(
    stream: "_Watched", host: str, max_message_bytes: int, nursery: trio.Nursery
) -> trio_websocket.WebSocketConnection:
    with stream.ending:
        return await trio_websocket.wrap_client_stream(
            _Quiet(nursery, stream),  # type: ignore[arg-type]  # it only starts its reader there
            stream,  # type: ignore[arg-type]  # documented as arbitrary, annotated as trio's own two
            host,
            PATH,
            subprotocols=[SUBPROTOCOL],
            message_queue_size=_QUEUED_MESSAGES,
            max_message_size=max_message_bytes,
            receive_buffer_size=_RECEIVE_BYTES,
        )
    if stream.begins.startswith(_UPGRADE_REQUIRED):  # the library would say so, if it were not closed right behind
        raise TlsWanted
    raise Ended(stream.trouble or "closed during the WebSocket handshake")


@asynccontextmanager
async def accept(stream: trio.abc.Stream, max_message_bytes: int) -> AsyncIterator[Carrier]:
    """The WebSocket on a stream that somebody has opened to this node. On leaving, the stream is gone."""
    watched = _Watched(stream)
    try:
        async with trio.open_nursery() as nursery:
            yield Carrier(await _accepted(watched, max_message_bytes, nursery), watched)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(watched)


async def _accepted(
    stream: "_Watched", max_message_bytes: int, nursery: trio.Nursery
) -> trio_websocket.WebSocketConnection:
    with stream.ending:
        request = await trio_websocket.wrap_server_stream(
            _Quiet(nursery, stream),  # type: ignore[arg-type]  # it only starts its reader there
            stream,
            message_queue_size=_QUEUED_MESSAGES,
            max_message_size=max_message_bytes,
            receive_buffer_size=_RECEIVE_BYTES,
        )
        if request.path != PATH or SUBPROTOCOL not in request.proposed_subprotocols:
            await request.reject(_NOT_FOUND)
            raise Ended(f"not a WebSocket to {PATH} with the subprotocol {SUBPROTOCOL}")
        return await request.accept(subprotocol=SUBPROTOCOL)
    raise Ended(stream.trouble or "no WebSocket handshake")


class _Quiet:
    """Stands in for the nursery: what the library's reader raises ends the stream and nothing else (S1)."""

    def __init__(self, nursery: trio.Nursery, stream: "_Watched") -> None:
        self._nursery = nursery
        self._stream = stream

    def start_soon(self, run: Callable[[], Awaitable[None]]) -> None:
        """As a nursery does."""
        self._nursery.start_soon(self._read, run)

    async def _read(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Exception as error:  # noqa: BLE001  # whatever it is, it comes from what the remote has sent
            self._stream.trouble = f"{type(error).__name__}: {error}"
        finally:
            self._stream.ending.cancel()


class _Watched(trio.abc.Stream):
    """A stream that cancels `ending` when it is over, and reads only so much before it is `trusted`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._left = MAX_STRANGER_BYTES
        self.begins = b""  # the first that was read
        self.trouble = ""  # what the library's reader died of
        self.trusted = trio.Event()
        self.ending = trio.CancelScope()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            if self.trusted.is_set():
                return (data := await self._stream.receive_some(max_bytes))
            if self._left <= 0:
                await self.trusted.wait()
            else:
                max_bytes = min(self._left, _STRANGER_RECEIVE_BYTES)
            data = await self._stream.receive_some(max_bytes)
            self._left -= len(data)
            self.begins = self.begins or bytes(data[:_BEGIN_BYTES])
        finally:
            if not data:
                self.ending.cancel()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self.ending.cancel()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.ending.cancel()
        await self._stream.aclose()

"""One WebSocket to a broker, on trio-websocket: dial, receive, send, close.

Knows nothing of packets. trio-websocket's traps are met here and nowhere else: it does not notice that the peer
hung up during the handshake (so the stream is watched), its close waits for a peer that may never answer (so it is
bounded), its own "too big" looks like the peer's, and a send that was cancelled leaves half a frame (so after any
trouble the stream is dropped without a word).
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import trio
import trio.abc
import trio_websocket
from triode_protocol.packets import SUBPROTOCOL

from triode.backoff import ABNORMAL_CLOSURE, NORMAL_CLOSURE, TOO_BIG
from triode.runtime import HandshakeRefused, TransportEnded, asked_ms

_QUEUED_MESSAGES: Final = 64  # between the library's reader and ours; 1 made it wait for us at each message
_RECEIVE_BYTES: Final = 65_536  # per recv; the library's 4 KiB halves the rate


class TrioTransport:
    """See `Transport`."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, stream: trio.abc.Stream) -> None:
        self._websocket = websocket
        self._stream = stream

    async def receive(self) -> str | bytes:
        try:
            return await self._websocket.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise _ended(closed) from closed

    async def send(self, text: str) -> None:
        try:
            await self._websocket.send_message(text)
        except trio_websocket.ConnectionClosed as closed:
            raise _ended(closed) from closed

    async def close(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._websocket.aclose(NORMAL_CLOSURE)
        await trio.aclose_forcefully(self._stream)


def _ended(closed: trio_websocket.ConnectionClosed) -> TransportEnded:
    code, text = ABNORMAL_CLOSURE, "the connection was lost"
    if closed.reason is not None and closed.reason.code != ABNORMAL_CLOSURE:
        code, text = int(closed.reason.code), closed.reason.reason or closed.reason.name or "closed"
    if code == TOO_BIG and text.startswith(
        "Exceeded maximum message size"
    ):  # the library speaking, not the broker
        code, text = ABNORMAL_CLOSURE, "the broker sent more than max_receive_bytes in one message"
    return TransportEnded(code, text)


def _refused(group: BaseExceptionGroup[trio_websocket.ConnectionRejected]) -> HandshakeRefused:
    rejected: BaseException = group
    while isinstance(rejected, BaseExceptionGroup):
        rejected = rejected.exceptions[0]
    assert isinstance(rejected, trio_websocket.ConnectionRejected)
    retry_after = [value for name, value in rejected.headers or () if name.lower() == b"retry-after"]
    return HandshakeRefused(rejected.status_code, asked_ms(retry_after[0].decode("latin-1")) if retry_after else 0)


@asynccontextmanager
async def open_transport(
    url: str, max_receive_bytes: int, ssl_context: ssl.SSLContext | None
) -> AsyncIterator[TrioTransport]:
    """See `Runtime.open_transport`."""
    stream = _Watched(await _open_stream(url, ssl_context))
    try:
        async with trio.open_nursery() as nursery:
            yield TrioTransport(await _shake_hands(url, max_receive_bytes, stream, nursery), stream)
            nursery.cancel_scope.cancel()
    except* trio_websocket.ConnectionRejected as rejected:  # raised by a task of the library
        raise _refused(rejected) from None
    finally:
        await trio.aclose_forcefully(stream)


async def _open_stream(url: str, ssl_context: ssl.SSLContext | None) -> trio.abc.Stream:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(host, parts.port or 80)
    context = ssl_context or ssl.create_default_context()
    stream = await trio.open_ssl_over_tcp_stream(
        host, parts.port or 443, ssl_context=context, https_compatible=True
    )
    try:
        await stream.do_handshake()  # here, where a bad certificate is told: the library would go silent over it
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _shake_hands(
    url: str, max_receive_bytes: int, stream: "_Watched", nursery: trio.Nursery
) -> trio_websocket.WebSocketConnection:
    parts = urlsplit(url)
    with stream.ending:
        return await trio_websocket.wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # documented as arbitrary, annotated as trio's own two
            parts.netloc,
            parts.path + ("?" + parts.query if parts.query else ""),
            subprotocols=[SUBPROTOCOL],
            message_queue_size=_QUEUED_MESSAGES,
            max_message_size=max_receive_bytes,
            receive_buffer_size=_RECEIVE_BYTES,
        )
    raise TransportEnded(ABNORMAL_CLOSURE, "the connection was closed during the WebSocket handshake")


class _Watched(trio.abc.Stream):
    """A stream that cancels `ending` when the peer has closed: the library would wait for its answer for ever."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.ending = trio.CancelScope()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
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
        await self._stream.aclose()

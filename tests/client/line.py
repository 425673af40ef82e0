"""A TCP line between client and broker that a test can cut: bytes are passed on, or both ends are dropped."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

_CHUNK_BYTES: Final = 65_536


class CuttableLine:
    """Listens on a port of its own and passes every connection on to `port`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cuts = 0
        self._streams: set[trio.SocketStream] = set()

    async def serve(self, client: trio.SocketStream) -> None:
        """Pass on one connection until either end closes."""
        try:
            broker = await trio.open_tcp_stream("127.0.0.1", self.port)
        except OSError:
            await trio.aclose_forcefully(client)
            return
        self._streams |= {client, broker}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, client, broker, nursery.cancel_scope)
                nursery.start_soon(self._pass_on, broker, client, nursery.cancel_scope)
        finally:
            self._streams -= {client, broker}
            client.socket.close()
            broker.socket.close()

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some(_CHUNK_BYTES):
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # cut
        scope.cancel()

    def cut(self) -> None:
        """Drop every connection, whatever is on its way."""
        self.cuts += 1
        for stream in self._streams:
            stream.socket.close()


@asynccontextmanager
async def cuttable_line(port: int) -> AsyncIterator[tuple[CuttableLine, str]]:
    """A line to the broker at `port`, and the URL to dial instead of the broker's."""
    line = CuttableLine(port)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, line.serve, 0)
        yield line, f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()

"""The ways between nodes of a real cluster: small TCP proxies, one for each (dialler, listener), that can be cut.

Knows bytes and names. What a node sends to another one travels in two connections, its own and the other's one;
so faults are about directions, and hold for both. The surprising decision: nodes tell each other an address that
leads nowhere, because one address for all would let them dial around the ways.
"""

import socket
import struct
from collections.abc import Callable, Iterable

import trio
from attrs import define, field

#: What a connection may end with.
ENDS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
PIECE_BYTES = 65_536
#: Close without a goodbye: a reset.
_ABRUPT = struct.pack("ii", 1, 0)


async def passes(seconds: float) -> None:
    """The time that a fault lasts."""
    with trio.move_on_after(max(seconds, 0.0)):
        await trio.sleep_forever()


@define(eq=False)
class Ways:
    """All of them. `target(name)`: where a node listens for others at the moment, None: nowhere."""

    nursery: trio.Nursery
    target: Callable[[str], int | None]
    held: dict[tuple[str, str], None] = field(factory=dict)  # from, to: what is sent there waits
    refused: dict[tuple[str, str], None] = field(factory=dict)  # connections are reset, and so are new ones
    nowhere: str = ""  # a URL that nobody answers at
    _changed: trio.Event = field(factory=trio.Event)
    _open: dict[trio.CancelScope, tuple[str, str]] = field(factory=dict)
    _sockets: list[socket.socket] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.nowhere = f"ws://127.0.0.1:{self._bind().getsockname()[1]}"

    def _bind(self) -> socket.socket:
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        self._sockets.append(bound)
        return bound

    def open(self, dialler: str, listener: str) -> str:
        """A new way; returns the URL that the dialler is to use."""
        bound = self._bind()
        bound.listen()
        accept = trio.SocketListener(trio.socket.from_stdlib_socket(bound))

        async def carry(near: trio.SocketStream) -> None:
            await self._carry(near, dialler, listener)

        self.nursery.start_soon(trio.serve_listeners, carry, [accept])
        return f"ws://127.0.0.1:{bound.getsockname()[1]}"

    def close(self) -> None:
        """The end."""
        for one in self._sockets:
            one.close()

    # Faults

    def hold(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From, to: what is sent there is not lost, and does not arrive."""
        self.held |= dict.fromkeys(pairs)

    def refuse(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From, to: all connections between them break, and no new ones come about that way."""
        self.refused |= dict.fromkeys(pairs)
        self.cut(list(self.refused))

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Connections between them break, once."""
        wanted = list(pairs)
        for scope, pair in list(self._open.items()):
            if pair in wanted or pair[::-1] in wanted:
                scope.cancel()

    def release(self, pair: tuple[str, str]) -> None:
        """What was held there arrives."""
        self.held.pop(pair, None)
        self._ring()

    def heal(self) -> None:
        """Everything passes again."""
        self.held.clear()
        self.refused.clear()
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # Carrying

    async def _carry(self, near: trio.SocketStream, dialler: str, listener: str) -> None:
        far: trio.SocketStream | None = None
        with trio.CancelScope() as scope:
            self._open[scope] = dialler, listener
            try:
                if (dialler, listener) in self.refused:
                    return
                await self._passage(dialler, listener)
                await self._passage(listener, dialler)
                port = self.target(listener)
                if port is None:
                    return
                far = await trio.open_tcp_stream("127.0.0.1", port)
                await self._both_ways(near, far, dialler, listener)
            except* ENDS:
                pass
            finally:
                del self._open[scope]
                for stream in (near, far):
                    if stream is not None:
                        _abort(stream)

    async def _both_ways(
        self, near: trio.SocketStream, far: trio.SocketStream, dialler: str, listener: str
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, near, far, (dialler, listener), nursery.cancel_scope)
            await self._pump(far, near, (listener, dialler), nursery.cancel_scope)

    async def _pump(
        self, source: trio.SocketStream, target: trio.SocketStream, pair: tuple[str, str], over: trio.CancelScope
    ) -> None:
        while True:
            try:
                piece = await source.receive_some(PIECE_BYTES)
            except ENDS:
                piece = b""
            await self._passage(*pair)
            if not piece:
                over.cancel()
                return
            await target.send_all(piece)

    async def _passage(self, source: str, target: str) -> None:
        while (source, target) in self.held:
            await self._changed.wait()


def _abort(stream: trio.SocketStream) -> None:
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)
    finally:
        stream.socket.close()


def both(ones: Iterable[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Every pair between two sides, each way."""
    pairs = [(one, other) for one in ones for other in others]
    return [*pairs, *((other, one) for one, other in pairs)]

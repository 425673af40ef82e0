"""A stream that can be made bad: silent, as behind a dead line, or slow, in tiny pieces.

Knows bytes. The surprising decision: a frozen stream takes what is sent to it, as the kernel of a machine does
whose network cable was pulled.
"""

from contextlib import suppress

import trio
import trio.abc


class Valve(trio.abc.Stream):
    """A stream around a stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.is_frozen = False
        self.has_ended = False  # the client has hung up
        self._receiving = trio.CancelScope()
        self.piece_bytes = 0  # 0: as it comes

    def freeze(self) -> None:
        """From here on nothing comes through, and nobody is told."""
        self.is_frozen = True
        self._receiving.cancel()

    def cut(self) -> None:
        """End it, without losing what was sent before: a socket that is closed with bytes unread drops those."""
        with suppress(OSError):  # the other side was faster
            self._stream.socket.shutdown(trio.socket.SHUT_RDWR)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self.is_frozen:
            with trio.CancelScope() as self._receiving:
                data: bytes | bytearray = b""
                try:
                    data = await self._stream.receive_some(max_bytes)
                finally:
                    self.has_ended = not data
                return data
        await trio.sleep_forever()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_frozen:
            await trio.lowlevel.checkpoint()
        elif not self.piece_bytes:
            await self._stream.send_all(data)
        else:
            for first in range(0, len(data), self.piece_bytes):
                await self._stream.send_all(data[first : first + self.piece_bytes])
                await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

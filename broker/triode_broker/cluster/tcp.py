"""A TCP connection as a trio stream that costs a turn of the loop less for each read and each write.

Knows bytes only. trio's own stream tries to read before it waits, which on a link nearly always fails, lets all
other tasks run after a write that has waited for nothing, and makes a new buffer of the greatest size for each
read (three calls of the kernel: it is mapped, cut and unmapped); here one is kept, as large as the largest read
asked for. The surprising decision: here a write that the kernel takes at once is no checkpoint. Whoever writes
over a link passes one all the same (trio-websocket's lock), and what one task can write without waiting is bounded
by the socket's buffer.
"""

import socket
from typing import Final

import trio
import trio.abc

_RECEIVE_BYTES: Final = 262_144


class TcpStream(trio.abc.Stream):
    """Takes a trio stream's socket over. One task may receive, one may send."""

    def __init__(self, stream: trio.SocketStream) -> None:
        """Raises OSError, with the stream as it was."""
        taken = socket.socket(fileno=stream.socket.fileno())
        stream.socket.detach()
        taken.setblocking(False)
        self._socket = taken
        self._buffer = memoryview(bytearray())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, as soon as there is any; nothing: the other end has finished."""
        size = min(max_bytes or _RECEIVE_BYTES, _RECEIVE_BYTES)
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(size))
        while True:
            await trio.lowlevel.wait_readable(self._open())
            try:
                count = self._socket.recv_into(self._buffer, size)
            except BlockingIOError:
                pass
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            else:
                return bytes(self._buffer[:count])

    async def peek(self) -> bytes:
        """The first byte that has arrived, as soon as there is any; it is not taken. Nothing: the end."""
        while True:
            await trio.lowlevel.wait_readable(self._open())
            try:
                return self._socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                pass
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand everything to the kernel, waiting where it takes no more."""
        with memoryview(data) as rest:
            sent = self._send(rest)
            while sent < len(rest):
                await trio.lowlevel.wait_writable(self._open())
                sent += self._send(rest[sent:])

    def _send(self, data: memoryview) -> int:
        self._open()
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def _open(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError
        return self._socket

    async def wait_send_all_might_not_block(self) -> None:
        """Until there is room."""
        await trio.lowlevel.wait_writable(self._open())

    async def aclose(self) -> None:
        """Close it; whoever waits for it is told."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()


async def take_over(stream: trio.SocketStream) -> TcpStream:
    """The same connection. Raises OSError, and it is closed."""
    try:
        return TcpStream(stream)
    except OSError:
        await trio.aclose_forcefully(stream)
        raise

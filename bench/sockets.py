"""Plain non-blocking client sockets on one epoll: the ground the load generator stands on.

What it must not know: WebSocket, packets, workloads.
The surprising decision: all connections receive into one large buffer and hand it on as it is;
only an incomplete frame is copied. A thousand sockets a turn leave no room for anything kinder.
"""

import errno
import select
import socket
from collections.abc import Callable

_RECEIVE_BYTES = 256 * 1024
_SCRATCH_BYTES = 2 * 1024 * 1024  # a chunk behind the longest incomplete frame (1 MiB)
_RESET = b"\1\0\0\0\0\0\0\0"

Take = Callable[[bytearray, int], int]


class Connection:
    """One client socket; arriving bytes go to `take(buffer, end)`, which says how many it used."""

    __slots__ = ("closed", "fd", "loop", "sock", "tail", "take", "unsent")

    def __init__(self, loop: "Loop", sock: socket.socket, take: Take) -> None:
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.take = take
        self.tail = b""  # an incomplete frame, until the rest comes
        self.unsent = b""
        self.closed = False

    def send(self, data: bytes) -> None:
        """Send, or keep what the socket does not take until it can."""
        if self.closed:
            return
        if self.unsent:
            self.unsent += data
            return
        self._send(data)

    def flush(self) -> None:
        data, self.unsent = self.unsent, b""
        self._send(data)
        if not self.unsent:
            self.loop.epoll.modify(self.fd, select.EPOLLIN)

    def _send(self, data: bytes) -> None:
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.closed = True
            return
        if sent < len(data):
            self.unsent = data[sent:]
            self.loop.epoll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)


class Loop:
    """The one epoll: every turn reads what is there and hands it on."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._view = memoryview(self._scratch)

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections.values():
            # Reset instead of FIN: thousands of sockets must not linger in TIME_WAIT.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.sock.close()
        self.connections.clear()
        self.epoll.close()

    def connect(self, address: tuple[str, int], take: Take) -> Connection:
        """Open a TCP connection (on loopback the kernel completes it at once)."""
        sock = socket.create_connection(address, timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.adopt(sock, take)

    def adopt(self, sock: socket.socket, take: Take) -> Connection:
        """Serve a connected socket; it is closed with the loop."""
        sock.setblocking(False)
        connection = Connection(self, sock, take)
        self.connections[connection.fd] = connection
        self.epoll.register(connection.fd, select.EPOLLIN)
        return connection

    def drop(self, connection: Connection) -> None:
        """Reset a connection; nothing more is heard of it."""
        if self.connections.pop(connection.fd, None) is None:
            return
        if not connection.closed:
            self.epoll.unregister(connection.fd)
        connection.closed = True
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.sock.close()

    def turn(self, timeout: float) -> int:
        """Serve what is ready, waiting at most `timeout` seconds; return the bytes received."""
        received = 0
        connections = self.connections
        for fd, event in self.epoll.poll(timeout, 4096):
            if (connection := connections.get(fd)) is None:
                continue  # dropped in this turn
            if event & select.EPOLLOUT:
                connection.flush()
            if event & ~select.EPOLLOUT:
                received += self._read(connection)
        return received

    def _read(self, connection: Connection) -> int:
        tail = connection.tail
        begin = len(tail)
        scratch = self._scratch
        if tail:
            scratch[:begin] = tail
        try:
            got = connection.sock.recv_into(self._view[begin:], _RECEIVE_BYTES)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return 0
            got = 0
        if not got:
            connection.closed = True
            self.epoll.unregister(connection.fd)
            return 0
        end = begin + got
        used = connection.take(scratch, end)
        connection.tail = bytes(self._view[used:end]) if used < end else b""
        return got

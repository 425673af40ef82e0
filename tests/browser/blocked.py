"""A proxy of the kind that stands in companies: HTTP passes, and no WebSocket opens.

Knows the first head of each connection and bytes behind it. How upgrades fail is said when it is made: with a
status, or not at all, they just hang.
"""

import socket
from contextlib import suppress
from typing import Final

from tests.browser.cable import CHUNK_BYTES, Cable

HANGS: Final = 0


class Blocked(Cable):
    """Forwards 127.0.0.1:`port` to the broker's port, but for upgrades."""

    def __init__(self, to_port: int, status: int) -> None:
        super().__init__(to_port)
        self._status = status
        self.refused = 0
        self.passes = False

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener was closed: cut
            while True:
                near, _ = listener.accept()
                self._ends.append(near)
                self._start(self._look, near)

    def _look(self, near: socket.socket) -> None:
        """Judge the first request; another one on the same connection is never an upgrade in a browser."""
        head = b""
        with suppress(OSError):
            while b"\r\n\r\n" not in head:
                if not (data := near.recv(CHUNK_BYTES)):
                    return
                head += data
            if b"upgrade: websocket" in head.lower() and not self.passes:
                self.refused += 1
                if self._status != HANGS:
                    near.sendall(b"HTTP/1.1 %d Blocked\r\nContent-Length: 0\r\n\r\n" % self._status)
                    near.shutdown(socket.SHUT_WR)
                return
            far = socket.create_connection(("127.0.0.1", self._to_port))
            self._ends.append(far)
            far.sendall(head)
            self._start(self._forward, far, near)
            self._forward(near, far)

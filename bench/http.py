"""What a request costs: `python -m bench.http`, publishes by HTTP beside the same over an open WebSocket.

What it must not know: other servers, other workloads.
The surprising decision: one connection of each kind, one publish after the other, each acknowledged. That is what
a service does that publishes now and then, and the worst that can be said of either way; the batch shows what is
left of it where many come together.
"""

import argparse
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from attrs import frozen

from bench.packets import PAYLOAD, greeting, publish_frame
from bench.servers import Server, running, triode_of

_HANDSHAKE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MESSAGE: Final = b'{"topic":"bench/http","data":"%b"}' % PAYLOAD.encode()
BATCH: Final = 100  # messages of one body


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@frozen
class Way:
    """How one publishes: what is sent first, what each time, and what is in every whole answer, once a message."""

    name: str
    first: bytes
    each: bytes
    messages: int  # of one sending
    mark: bytes = b'"offset"'


WAYS: Final = (
    Way("WebSocket", _HANDSHAKE + greeting(), publish_frame("bench/http", request=2), 1),
    Way("`POST /v1/publish`", b"", _post("/v1/publish", _MESSAGE), 1),
    Way(
        f"`POST /v1/publish/batch` of {BATCH}",
        b"",
        _post("/v1/publish/batch", b'{"messages":[%b]}' % b",".join([_MESSAGE] * BATCH)),
        BATCH,
    ),
)


class Asking:
    """One connection that publishes this way."""

    def __init__(self, server: Server, way: Way) -> None:
        self._way = way
        self._socket = socket.create_connection(server.address, timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way.first:
            self._socket.sendall(way.first)
            self._read(b'"connected"', 1)

    def _read(self, mark: bytes, count: int) -> None:
        """Until it has come so often, and with it the end of what it stands in."""
        heard = b""
        while heard.count(mark) < count:
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise AssertionError(f"the server has ended it: {heard[-200:]!r}")
            heard += piece

    def publish(self, sendings: int) -> None:
        """One after the other."""
        for _ in range(sendings):
            self._socket.sendall(self._way.each)
            self._read(self._way.mark, self._way.messages)

    def close(self) -> None:
        """Gone."""
        self._socket.close()


class _Connecting:
    """A connection of its own for each handshake."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def publish(self, sendings: int) -> None:
        """Connect, be greeted, and go."""
        for _ in range(sendings):
            Asking(self._server, WAYS[0]).close()

    def close(self) -> None:
        """Nothing is open."""


@frozen
class Row:
    """What one way came to."""

    name: str
    per_second: float
    cpu_us: float  # of the server, for one message


def measure(windows: int, seconds: float) -> list[Row]:
    """All ways in turn, on one server; the last row is a connect."""
    with running(triode_of(Path(__file__).parent.parent, "triode")) as server:
        kinds: list[tuple[str, int, Callable[[], Asking | _Connecting]]] = [
            (way.name, way.messages, partial(Asking, server, way)) for way in WAYS
        ]
        kinds.append(("a connect by WebSocket", 1, partial(_Connecting, server)))
        found: dict[str, list[Row]] = {name: [] for name, _, _ in kinds}
        for _ in range(windows):
            for name, messages, make in kinds:
                found[name].append(_window(server, name, messages, make(), seconds))
    return [
        Row(name, median(row.per_second for row in rows), median(row.cpu_us for row in rows))
        for name, rows in found.items()
    ]


def _window(server: Server, name: str, messages: int, asking: Asking | _Connecting, seconds: float) -> Row:
    asking.publish(max(200 // messages, 2))
    before, begun, count = server.cpu(), time.perf_counter(), 0
    while (took := time.perf_counter() - begun) < seconds:
        asking.publish(max(100 // messages, 1))
        count += max(100 // messages, 1) * messages
    spent = server.cpu().seconds - before.seconds
    asking.close()
    return Row(name, count / took, spent / count * 1e6)


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    head = ["| publish, acknowledged, one after the other | a second | µs of server CPU |"]
    head.append("| --- | ---: | ---: |")
    return "\n".join(head + [f"| {row.name} | {row.per_second:,.0f} | {row.cpu_us:.0f} |" for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.http", description=__doc__)
    parser.add_argument("--windows", type=int, default=5, help="of each way (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each window (1)")
    given = parser.parse_args(arguments)
    print(table(measure(given.windows, given.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

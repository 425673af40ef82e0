"""A service for HTTP at the edge that the test answers for, and what its clients send and read."""

import json
from collections.abc import Callable

from attrs import define, field
from triode_broker.edge.exchange import Exchange

from tests.edge.rig import Client, Rig


def asks(method: str = "GET", path: str = "/v1/x", body: bytes = b"", **headers: str) -> bytes:
    """A request; `_` in the name of a header stands for a hyphen."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body and "Transfer_Encoding" not in headers and "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


MakeRig = Callable[..., Rig]


@define
class Seen:
    """An answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The name of the error."""
        return str(json.loads(self.body)["error"]["name"])


def answers(data: bytes) -> list[Seen]:
    """All in these bytes, which end with the last of them."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers.get("content-length", "0"))
        found.append(Seen(int(first.split()[1]), headers, data[:size]))
        data = data[size:]
    return found


@define
class Counter:
    """A service that keeps what it is asked; the test answers."""

    exchanges: list[Exchange] = field(factory=list)
    lost: list[Exchange] = field(factory=list)
    is_quick: bool = False

    def take(self, exchange: Exchange) -> None:
        """`Service`."""
        self.exchanges.append(exchange)
        exchange.on_lost = lambda: self.lost.append(exchange)
        if self.is_quick:
            self.reply(b"quick")

    @property
    def last(self) -> Exchange:
        """The newest."""
        return self.exchanges[-1]

    def reply(self, body: bytes = b"ok", status: int = 200) -> None:
        """Answer the newest."""
        self.last.answer(status, [("Content-Type", "text/plain")], body)

    def body(self) -> bytes:
        """What has come of the newest's body. Raises Refused where it is broken."""
        if self.last.waits_for_body:
            return b"waits"
        received = self.last.receive()
        try:
            received.send(None)
        except StopIteration as end:
            return bytes(end.value)
        raise AssertionError("it waits")

    def whole_body(self) -> None:
        """All that has come. Raises Refused."""
        while self.body() not in (b"", b"waits"):
            pass


def all_of(rig: Rig, client: Client) -> list[Seen]:
    """What the client has been answered, when the turns are over that it takes."""
    rig.edge.flush()
    rig.turn()
    return answers(client.receive())


def one(rig: Rig, client: Client) -> Seen:
    (answer,) = all_of(rig, client)
    return answer


def fill(client: Client, piece: bytes) -> None:
    """Send until nothing more is read."""
    try:
        while True:
            client.send(piece)
    except BlockingIOError:
        pass

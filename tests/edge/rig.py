"""An edge driven by hand: real socketpairs, no event loop, and a clock that only the test moves.

Knows the edge's public face. Surprising: `Rig.turn` turns until nothing is ready, and takes a thousand turns
without an end for the spinning reactor that it would be.
"""

import socket
from collections.abc import Mapping
from typing import Any

import attrs
import trio
from triode_broker.config import Limits
from triode_broker.core.errors import Disconnect
from triode_broker.core.identity import UNKNOWN, Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.edge.application import NO_CROWD, Accept, Crowd, Route, Service
from triode_broker.edge.door import Door
from triode_broker.edge.frames import FASTEST, Unmasking, extent
from triode_broker.edge.reactor import Edge

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: broker.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
KEY = b"\x11\x92\x23\xfe"


async def let_pass(seconds: float) -> None:
    """Let time pass, on a clock that jumps (`autojump_clock`): nobody waits for it."""
    with trio.move_on_after(seconds):
        await trio.sleep_forever()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, key: bytes = KEY) -> bytes:
    """A client's frame."""
    size = len(payload)
    if size < 126:
        length = bytes((128 + size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2)
    else:
        length = b"\xff" + size.to_bytes(8)
    return bytes((128 * fin + opcode,)) + length + key + mask(payload, key)


def text(said: str) -> bytes:
    """A client's text message."""
    return frame(TEXT, said.encode())


def mask(payload: bytes, key: bytes) -> bytes:
    """XOR with the key, again and again."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def close_payload(code: int, reason: str = "") -> bytes:
    """What a close frame with this code holds."""
    return code.to_bytes(2) + reason.encode()


@attrs.define
class Log:
    """Remembers what the edge said."""

    entries: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    def error(self, event: str, **values: Any) -> None:
        """Remember."""
        self.entries.append((event, values))

    warning = error

    @property
    def events(self) -> list[str]:
        """The event names, in order."""
        return [event for event, _ in self.entries]


@attrs.define
class Talker:
    """An application that does as it is told: `connect`, `say N`, `bug`, `leave CODE`, `end`, `batch`."""

    outbox: Outbox
    is_connected: bool = True
    is_answered: bool = True
    heard: list[str | bytes] = attrs.field(factory=list)
    times: list[int] = attrs.field(factory=list)
    rooms: int = 0
    keepalives: int = 0
    detached: int = 0
    more: int = 0  # times that `room` has something to say
    friends: list[Outbox] = attrs.field(factory=list)  # told when this one leaves
    arrival: Arrival = UNKNOWN

    def receive_text(self, said: str, now_ms: int) -> None:
        """Remember, then obey."""
        self.heard.append(said)
        self.times.append(now_ms)
        match said.split():
            case ["connect"]:
                self.is_connected = True
            case ["say", count] if count.isascii() and count.isdigit() and len(count) < 7:
                self.outbox.put(b"x" * int(count))
            case ["bug"]:
                raise RuntimeError("a bug\nin the application")
            case ["leave", code] if code.isascii() and code.isdigit():
                raise Disconnect(int(code), 77)
            case ["end"]:
                self.outbox.connection.close(4005)
            case ["batch"]:
                self.outbox.hold_payloads()

    def receive_binary(self, data: bytes, now_ms: int) -> None:
        """Remember."""
        self.heard.append(data)

    def room(self, now_ms: int) -> None:
        """Say 1 KiB more, `more` times."""
        self.rooms += 1
        self.more -= 1
        self.outbox.wants_room = self.more > 0
        self.outbox.put(b"r" * 1024)

    def keepalive(self, now_ms: int) -> None:
        """Count, and ping."""
        self.keepalives += 1
        self.outbox.put(b'{"type":"ping"}')

    def detach(self) -> None:
        """Count, and tell the friends."""
        self.detached += 1
        for friend in self.friends:
            friend.put(b"left")


class Client:
    """The other end of one connection."""

    def __init__(self, rig: "Rig", end: socket.socket) -> None:
        self._rig = rig
        self.socket = end
        self.buffer = b""  # of what is no whole frame yet
        self.is_closed = False  # the end of the stream was read

    def send(self, *pieces: bytes) -> None:
        """Send, one turn of the edge after each piece."""
        for piece in pieces:
            sent = 0
            while sent < len(piece):  # more than a socket holds goes in several turns
                sent += self.socket.send(piece[sent:])
                self._rig.turn()

    def receive(self) -> bytes:
        """All bytes there are."""
        data = b""
        while True:
            try:
                piece = self.socket.recv(1 << 20)
            except BlockingIOError:
                return data
            except ConnectionResetError:
                piece = b""
            self.is_closed = self.is_closed or not piece
            if not piece:
                return data
            data += piece

    def frames(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of every whole frame there is."""
        self.buffer += self.receive()
        found = []
        while (bounds := extent(self.buffer)) is not None and sum(bounds) <= len(self.buffer):
            header, size = bounds
            found.append((self.buffer[0] & 15, self.buffer[header : header + size]))
            self.buffer = self.buffer[header + size :]
        return found

    def texts(self) -> list[str]:
        """The text messages there are; nothing else may be there."""
        found = self.frames()
        assert all(opcode == TEXT for opcode, _ in found), found
        return [payload.decode() for _, payload in found]


class Rig:
    """One edge, its applications in order of upgrades, its log, its clock."""

    def __init__(
        self,
        limits: Limits | None = None,
        routes: Mapping[str, Route] | None = None,
        *,
        is_connected: bool = True,
        unmasking: Unmasking = FASTEST,
        accept: Accept | None = None,
        crowd: Crowd = NO_CROWD,
        door: Door | None = None,
        services: Mapping[str, Service] | None = None,
    ) -> None:
        self.now = 1_000.0
        self.log = Log()
        self.talkers: list[Talker] = []
        self.clients: list[Client] = []
        self._is_connected = is_connected
        self.edge = Edge(
            accept=accept or self._accept,
            routes=routes or {},
            limits=limits or Limits(),
            now_ms=lambda: int(self.now * 1000),
            log=self.log,
            unmasking=unmasking,
            crowd=crowd,
            door=door,
            services=services or {},
        )
        self.edge.sweep(self.now)

    def _accept(self, outbox: Outbox, arrival: Arrival) -> Talker:
        talker = Talker(outbox, self._is_connected, arrival=arrival)
        self.talkers.append(talker)
        return talker

    def client(self, greeting: bytes = HANDSHAKE, *, send_buffer: int = 0, address: str = "") -> Client:
        """A new connection that has sent `greeting`; the answer to the handshake is taken off."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        if send_buffer:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        client = Client(self, ours)
        self.clients.append(client)
        self.edge.adopt(theirs, address)
        if greeting:
            client.send(greeting)
        if greeting == HANDSHAKE:
            answer = client.receive()
            assert answer.startswith(b"HTTP/1.1 101 "), answer
        return client

    def turn(self) -> None:
        """Turn until nothing is ready."""
        for _ in range(1000):
            events = self.edge.poll()
            if not events:
                return
            self.edge.turn(events, self.now)
        raise AssertionError(f"it spins: {events}")

    def after(self, seconds: float) -> None:
        """Let time pass, in steps no longer than a sweep's."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 0.25, until)
            self.edge.sweep(self.now)
            self.turn()

    def end(self) -> None:
        """Close everything."""
        self.edge.end()
        for client in self.clients:
            client.socket.close()

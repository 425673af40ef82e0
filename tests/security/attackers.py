"""Attackers: each is what one connection does, from its opening until the broker has had enough of it.

`python -m tests.security.attackers NAME HOST:PORT [ROUNDS]` plays one of ATTACKS in a process of its own, so that
the healthy client beside it measures the broker and not this interpreter. It says "begun", then how all of its
connections ended, as JSON, and holds those that are still open until its stdin is closed.
"""

import contextlib
import json
import os
import random
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio
from attrs import define, field, frozen
from triode_broker.edge.frames import extent

from tests.edge.rig import BINARY, HANDSHAKE, PING, TEXT, close_payload, frame, text

CUT, HELD = "cut", "held"  # ends without a word, and those that have not come
PATIENCE_SECONDS: Final = 20  # for an end that the broker owes
DRIP_SECONDS: Final = 0.02
CONNECT = text('{"type":"connect"}')
DEFLATE = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
FLOOD_TOPIC: Final = "flood/news"


@define
class Line:
    """One TCP connection to the victim; nothing that it does raises when the other end has gone."""

    stream: trio.SocketStream
    seed: int
    seen: bytearray = field(factory=bytearray)
    is_over: bool = False

    async def send(self, *pieces: bytes) -> None:
        """All of it, or as much as anybody takes."""
        for piece in pieces:
            if self.is_over:
                return
            with trio.move_on_after(PATIENCE_SECONDS):
                try:
                    await self.stream.send_all(piece)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

    async def drip(self, data: bytes) -> None:
        """A byte at a time, and a look in between at whether it is over."""
        for place in range(len(data)):
            if self.is_over:
                return
            await self.send(data[place : place + 1])
            if not await self.look(DRIP_SECONDS):
                self._glance()

    async def look(self, seconds: float) -> bool:
        """Read for so long; whether the other end has ended it."""
        with trio.move_on_after(seconds):
            while not self.is_over:
                try:
                    data = await self.stream.receive_some(65_536)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    data = b""
                self.seen += data
                self.is_over = not data
        return self.is_over

    def _glance(self) -> None:
        """What came while this process had no turn: a byte sent behind the end would cost it the last words."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            data = os.read(self.stream.socket.fileno(), 65_536)
            self.seen += data
            self.is_over = not data

    async def answered(self, count: int = 1) -> None:
        """Wait until so many frames have come, or the end."""
        with trio.move_on_after(PATIENCE_SECONDS):
            while not self.is_over and len(frames(bytes(self.seen))) < count:
                data = await self._receive()
                self.seen += data
                self.is_over = not data

    async def until(self, wanted: bytes) -> None:
        """Read until this has come, or the end."""
        with trio.move_on_after(PATIENCE_SECONDS):
            while not self.is_over and wanted not in self.seen[-200_000:]:
                data = await self._receive()
                self.seen += data
                self.is_over = not data

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(65_536))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    @property
    def end(self) -> str:
        """How it ended: an HTTP status, a close code, CUT, or HELD."""
        if not self.is_over:
            return HELD
        if self.seen.startswith(b"HTTP/1.1 ") and self.seen[9:12] != b"101":
            return self.seen[9:12].decode()
        closes = [payload for opcode, payload in frames(bytes(self.seen)) if opcode == 8]
        return str(int.from_bytes(closes[0][:2])) if closes else CUT


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The whole frames behind the head of a 101."""
    rest = data.partition(b"\r\n\r\n")[2]
    found = []
    while (bounds := extent(rest)) is not None and sum(bounds) <= len(rest):
        found.append((rest[0] & 15, rest[bounds.header_bytes : sum(bounds)]))
        rest = rest[sum(bounds) :]
    return found


# What they do


async def slow_head(line: Line) -> None:
    """S6: a request that comes byte by byte."""
    await line.drip(HANDSHAKE[:-2])
    await line.look(PATIENCE_SECONDS)


async def half_open(line: Line) -> None:
    """S6: a connection, and not a byte."""
    await line.look(PATIENCE_SECONDS)


#: Made once: masking it in Python takes longer than sending it.
_LONG: Final = frame(TEXT, b"x" * 900_000)
_EARLY: Final = frame(0, b"x" * 900, fin=False) * 100
_EMPTY: Final = frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 5_000
_PINGS: Final = frame(PING, b"p" * 125) * 1_000


async def silent(line: Line) -> None:
    """S2: a WebSocket on which no connect ever comes to its end."""
    await line.send(HANDSHAKE, _LONG[:59_000])
    await line.look(PATIENCE_SECONDS)


async def dripping(line: Line) -> None:
    """S6: a connect that comes byte by byte."""
    await line.send(HANDSHAKE)
    await line.drip(text('{"type":"connect","token":"' + "x" * 4_000))
    await line.look(PATIENCE_SECONDS)


async def early(line: Line) -> None:
    """S2: more than may come before connect, in packets of all sizes."""
    await line.send(HANDSHAKE, frame(BINARY, b"", fin=False), _EARLY)
    await line.look(PATIENCE_SECONDS)


_HEADS: Final = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /ws HTTP/1.1\r\n" + b"X-Filler: y\r\n" * 100 + b"\r\n",
    b"GET /" + b"a" * 20_000,
    b"GET /ws HTTP/1.1\nHost: x\n\n",
    HANDSHAKE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HANDSHAKE[:-2] + b"Content-Length: 99999999999999999999\r\n\r\n",
    HANDSHAKE.replace(b"13", b"99"),
    HANDSHAKE.replace(b"Host:", b"Host :"),
    HANDSHAKE.replace(b"websocket", "wébsocket".encode()),
    b"\x00" * 9_000,
)


async def bad_heads(line: Line) -> None:
    """S1, S5: what is no request, or one that nobody should send; or noise."""
    noise = random.Random(line.seed)
    choice = line.seed % (len(_HEADS) + 1)
    await line.send(_HEADS[choice] if choice < len(_HEADS) else noise.randbytes(9_000))
    await line.look(PATIENCE_SECONDS)


async def bad_frames(line: Line) -> None:
    """S1: a client that breaks every rule of WebSocket, or sends noise."""
    noise = random.Random(line.seed)
    await line.send(HANDSHAKE, CONNECT)
    await line.answered()
    await line.send(bytes((0x80 | noise.randrange(16) | noise.choice((16, 32, 64)),)) + noise.randbytes(3_000))
    await line.look(PATIENCE_SECONDS)


async def bad_packets(line: Line) -> None:
    """S26: text that is no packet, too deep, too long, and by the hundred."""
    await line.send(HANDSHAKE, CONNECT)
    bad = [
        "{",
        "[" * 30_000,
        '{"type":"publish","topic":"a","data":' + "[" * 500 + "]" * 500 + "}",
        '{"type":"publish","topic":"a","data":1e99999,"id":99999999999999999999}',
        '{"type":"subscribe","sub":-1,"filter":"a/#/b"}',
        '{"type":"nonsense"}',
        '{"type":"publish","topic":"' + "x/" * 5_000 + '","data":1}',
        "[" + ",".join(["{}"] * 4_096) + "]",
        '"\\ud800"',
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.send, b"".join([text(said) for said in bad] * 3) + text('{"type":"ping"}'))
        await line.until(b'"pong"')


async def unfinished(line: Line) -> None:
    """S4: a message that is begun and never ended, as long as may be."""
    await line.send(HANDSHAKE, CONNECT)
    await line.answered()
    await line.send(_LONG[:-1])


async def fragments(line: Line) -> None:
    """S4: a message of nothing but empty continuations."""
    await line.send(HANDSHAKE, CONNECT, _EMPTY)
    await line.look(PATIENCE_SECONDS)


async def pings(line: Line) -> None:
    """S4, S8: WebSocket pings, each of which wants an answer."""
    await line.send(HANDSHAKE, CONNECT, _PINGS)
    await line.look(PATIENCE_SECONDS)


def bomb(size: int = 40_000_000) -> bytes:
    """A message of spaces, a thousandth of its size."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(compressor.compress(b" " * 1_000_000) for _ in range(size // 1_000_000))
    message = bytearray(frame(TEXT, (data + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]))
    message[0] |= 0x40
    return bytes(message)


_BOMB: Final = bomb()


async def bombs(line: Line) -> None:
    """S3: 40 KB that want to be 40 MB."""
    await line.send(DEFLATE, CONNECT)
    await line.answered()
    await line.send(_BOMB)
    await line.look(PATIENCE_SECONDS)


async def never_reads(line: Line) -> None:
    """S7: subscribes to a flood and reads no more."""
    await line.send(HANDSHAKE, CONNECT, text('{"type":"subscribe","id":2,"sub":1,"filter":"flood/#"}'))
    await line.answered(2)


async def never_reads_what_it_asks_for(line: Line) -> None:
    """S7: asks, and asks, and reads no answer."""
    question = text('{"type":"history","id":7,"topic":"flood/news","limit":1000}')
    await line.send(HANDSHAKE, CONNECT)
    await line.answered()
    with trio.move_on_after(0.5):
        for _ in range(1_000):
            await line.send(question)


async def comes_and_goes(line: Line) -> None:
    """S6: connects, subscribes, is gone."""
    await line.send(HANDSHAKE, CONNECT, text('{"type":"subscribe","id":2,"sub":1,"filter":"a/#"}'))
    await line.answered(2)
    await line.send(frame(8, close_payload(1000)))
    await line.look(PATIENCE_SECONDS)


_POST: Final = b"POST /v1/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
_MESSAGE: Final = b'{"topic":"flood/http","data":1}'


async def slow_bodies(line: Line) -> None:
    """S2: announces a megabyte and sends it a byte at a time."""
    await line.send(_POST + b"Content-Length: 1000000\r\n\r\n")
    await line.drip(b"x" * 1_000)
    await line.look(PATIENCE_SECONDS)


async def endless_bodies(line: Line) -> None:
    """S2: sends chunks for as long as anybody takes them."""
    await line.send(_POST + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(40):
        await line.send(b"ffff\r\n" + b"x" * 65_535 + b"\r\n")
        await line.look(0)
    await line.look(PATIENCE_SECONDS)


async def requests_unread(line: Line) -> None:
    """S7: asks, one request behind the other, and reads no answer."""
    one = _POST + b"Content-Length: %d\r\n\r\n%b" % (len(_MESSAGE), _MESSAGE)
    with trio.move_on_after(0.2):
        for _ in range(200):
            await line.send(one * 10)


@frozen
class Attack:
    """How many of them at a time, and how their connections may end."""

    play: Callable[[Line], Awaitable[None]]
    lines: int
    ends: frozenset[str]
    rounds: int = 1  # connections of each, one after the other
    receive_buffer: int = 0  # the kernel's, in bytes

    @property
    def about(self) -> str:
        """In words."""
        return (self.play.__doc__ or "").splitlines()[0].rstrip(".")


def _attack(
    play: Callable[[Line], Awaitable[None]], lines: int, *ends: str, rounds: int = 1, receive_buffer: int = 0
) -> tuple[str, Attack]:
    return play.__name__.replace("_", "-"), Attack(play, lines, frozenset(ends), rounds, receive_buffer)


ATTACKS: Final = dict(
    [
        _attack(slow_head, 300, CUT),
        _attack(half_open, 1_500, CUT, "503"),
        _attack(silent, 200, "4106"),
        _attack(dripping, 200, "4106"),
        _attack(early, 50, "4000", rounds=2),
        _attack(bad_heads, 50, CUT, "400", "405", "426", "431", "505", rounds=10),
        _attack(bad_frames, 20, "1002", "1007", "1009", "1000", "1008", rounds=10),
        _attack(bad_packets, 5, HELD),
        _attack(unfinished, 30, HELD),
        _attack(fragments, 20, "1009", rounds=3),
        _attack(pings, 20, "1008", rounds=3),
        _attack(bombs, 20, "1009", rounds=5),
        _attack(never_reads, 200, HELD, receive_buffer=4_096),
        _attack(never_reads_what_it_asks_for, 50, HELD, receive_buffer=4_096),
        _attack(comes_and_goes, 50, "1000", rounds=10),
        _attack(slow_bodies, 100, "408"),
        _attack(endless_bodies, 10, "413"),
        _attack(requests_unread, 20, HELD, receive_buffer=4_096),
    ]
)


async def storm(attack: Attack, host: str, port: int, rounds: int) -> tuple[Counter[str], list[Line]]:
    """Play it; how the connections ended, and those that did not."""
    ends: Counter[str] = Counter()
    held: list[Line] = []

    async def one(number: int) -> None:
        for turn in range(rounds):
            line = await _dial(host, port, number * rounds + turn, attack.receive_buffer)
            if line is None:
                ends[CUT] += 1
                continue
            await attack.play(line)
            ends[line.end] += 1
            if line.end == HELD:
                held.append(line)
            else:
                await trio.aclose_forcefully(line.stream)

    async with trio.open_nursery() as nursery:
        for number in range(attack.lines):
            nursery.start_soon(one, number)
    return ends, held


async def _dial(host: str, port: int, seed: int, receive_buffer: int) -> Line | None:
    socket = trio.socket.socket()
    if receive_buffer:
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
    try:
        await socket.connect((host, port))
    except OSError:
        socket.close()
        return None
    return Line(trio.SocketStream(socket), seed)


def main(arguments: Sequence[str]) -> int:
    """Play one attack, say how it went, and hold what is held until stdin is closed."""
    name, place, *more = arguments
    attack = ATTACKS[name]
    host, port = place.split(":")
    _tell("begun")
    ends, _held = trio.run(storm, attack, host, int(port), int(more[0]) if more else attack.rounds)
    _tell(json.dumps(ends))
    sys.stdin.read()
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

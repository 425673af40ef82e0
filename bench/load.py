"""The load generator's parts: connections opened, subscribers accounted for, publishers kept going.

What it must not know: which server it drives, how its processor time is measured, what is reported.
The surprising decision: every message is accounted for, but only a sample is parsed. A chunk of
frames of one length whose last message carries the offset that counting predicts is taken at its
word; anything else, and everything on sampled connections, is read message by message.
"""

import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable

from bench.frames import CLOSE, skim, split
from bench.ledger import Ledger
from bench.packets import publish_frame
from bench.sockets import Connection, Loop, Take

SUBPROTOCOL = "triode.v1.json"

_OPENING_AT_ONCE = 64
_KEY = base64.b64encode(b"triode benchmark").decode()
_ACCEPT = base64.b64encode(hashlib.sha1((_KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
_OFFSET = re.compile(rb'"offset":\s?(\d+)')
_TYPE = re.compile(rb'"type":\s?"(\w+)"')
_ACK = re.compile(rb'"id":\s?(\d+)[^{}]*"offset":\s?(\d+)')


class LoadError(Exception):
    """The server did not do what the workload needs: the message says what came instead."""


class _Opening:
    """A connection on its way to `marker`: HTTP upgrade, then the greeting packets."""

    __slots__ = ("connection", "greeting", "marker", "ready", "upgraded")

    def __init__(self, loop: Loop, address: tuple[str, int], greeting: bytes, marker: bytes):
        self.greeting = greeting
        self.marker = marker
        self.upgraded = False
        self.ready = False
        self.connection = loop.connect(address, self.take)
        self.connection.send(upgrade_request(address))

    def take(self, buffer: bytearray, end: int) -> int:
        if self.upgraded:
            used = skim(buffer, end).used
            if buffer.find(b'"error"', 0, used) >= 0:
                raise LoadError(f"the server answered {bytes(buffer[:used])!r}")
            self.ready = self.ready or buffer.find(self.marker, 0, used) >= 0
            return used
        head_end = buffer.find(b"\r\n\r\n", 0, end) + 4
        if head_end < 4:
            return 0
        head = bytes(buffer[:head_end])
        if not accepts(head):
            raise LoadError(f"the server refused the handshake: {head!r}")
        self.upgraded = True
        self.connection.send(self.greeting)
        return head_end


def accepts(head: bytes) -> bool:
    """Whether it is the answer that opens the WebSocket."""
    return head.startswith(b"HTTP/1.1 101") and _ACCEPT in head


def upgrade_request(address: tuple[str, int], path: str = "/ws", subprotocol: str = SUBPROTOCOL) -> bytes:
    """The opening of a WebSocket; subprotocol "": none."""
    offered = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n"
    ).encode()


def open_connections(
    loop: Loop,
    address: tuple[str, int],
    greetings: Iterable[bytes],
    marker: bytes = b'"subscribed"',
    patience: float = 20.0,
) -> list[Connection]:
    """Open a connection per greeting, 64 at a time; ready when `marker` was received.

    Raises LoadError if one is refused or closed, or if none becomes ready for `patience` seconds.
    """
    pending: set[_Opening] = set()
    opened: list[_Opening] = []
    source = iter(greetings)
    deadline = time.monotonic() + patience
    exhausted = False
    while pending or not exhausted:
        while not exhausted and len(pending) < _OPENING_AT_ONCE:
            if (frames := next(source, None)) is None:
                exhausted = True
                break
            opening = _Opening(loop, address, frames, marker)
            pending.add(opening)
            opened.append(opening)
        loop.turn(0.5)
        waiting = {opening for opening in pending if not opening.ready}
        if len(waiting) < len(pending):
            deadline = time.monotonic() + patience
        pending = waiting
        if time.monotonic() > deadline or any(opening.connection.closed for opening in pending):
            raise LoadError(f"{len(pending)} of the first {len(opened)} connections did not open")
    return [opening.connection for opening in opened]


def request(loop: Loop, connection: Connection, frame: bytes, marker: bytes) -> bytes:
    """Send one request and return the bytes of the frames up to its answer."""
    collected = bytearray()

    def collect(buffer: bytearray, end: int) -> int:
        used = skim(buffer, end).used
        collected.extend(buffer[:used])
        return used

    connection.take = collect
    connection.send(frame)
    deadline = time.monotonic() + 10
    while marker not in collected:
        if connection.closed or time.monotonic() > deadline or b'"error"' in collected:
            raise LoadError(f"no {marker!r}: {bytes(collected)!r}")
        loop.turn(0.5)
    return bytes(collected)


def probe(loop: Loop, connection: Connection, topic: str) -> int:
    """Publish once, acknowledged; return the offset that the topic's next message will have."""
    answer = request(loop, connection, publish_frame(topic, 9), b'"published"')
    found = _OFFSET.search(answer)
    if found is None:
        raise LoadError(f"an acknowledgement without an offset: {answer!r}")
    return int(found[1]) + 1


def note(notices: "Counter[str]", opcode: int, payload: bytes) -> None:
    """Count a frame nobody expected, by its packet's type; an error with its text. Pings are expected."""
    if opcode == CLOSE:
        notices["close"] += 1
    if opcode >= CLOSE:
        return
    match = _TYPE.search(payload)
    kind = match[1].decode() if match else "unreadable"
    if kind in ("error", "unreadable"):
        kind = payload[:200].decode(errors="replace")
    if kind != "ping":
        notices[kind] += 1


def overhear(notices: "Counter[str]") -> Take:
    """For a connection that only publishes: whatever it hears is a notice."""

    def take(buffer: bytearray, end: int) -> int:
        used = 0
        for opcode, start, used in split(buffer, end):
            note(notices, opcode, bytes(buffer[start:used]))
        return used

    return take


class Subscriber:
    """Accounts for what one subscribed connection receives."""

    __slots__ = ("_several", "_timing", "ledger", "notices")

    def __init__(
        self,
        first: int,
        notices: "Counter[str]",
        timing: tuple[list[int], list[int]] | None = None,
        several: bool = False,
    ) -> None:
        self.ledger = Ledger(first)
        self.notices = notices
        self._timing = timing  # (when offset `first + i` was sent, latencies): sampled if given
        self._several = several  # frames hold arrays of packets (capability `batch`)

    def take(self, buffer: bytearray, end: int) -> int:
        found = skim(buffer, end)
        if found.unusual:
            return self._take_each(buffer, end)
        if not found.frames:
            return 0
        if self._timing or self._several:
            fine = self._take_run(buffer, found.used, found.frames)
        else:
            fine = found.even and self._trust(buffer, found.last, found.used, found.frames)
        return found.used if fine else self._take_each(buffer, found.used)

    def _trust(self, buffer: bytearray, last: int, used: int, frames: int) -> bool:
        match = _OFFSET.search(buffer, last, used)
        if match is None or int(match[1]) != self.ledger.next + frames - 1:
            return False
        self.ledger.advance(frames)
        return True

    def _take_run(self, buffer: bytearray, used: int, frames: int) -> bool:
        offsets = [int(text) for text in _OFFSET.findall(buffer, 0, used)]
        if not self._several and len(offsets) != frames:
            return False
        before = self.ledger.next
        if not self.ledger.take_run(offsets):
            return False
        self._time(before, len(offsets))
        return True

    def _take_each(self, buffer: bytearray, end: int) -> int:
        used = 0
        for opcode, start, used in split(buffer, end):
            offsets = _OFFSET.findall(buffer, start, used)
            for text in offsets:
                self.ledger.take(int(text))
                self._time(int(text), 1)
            if not offsets:
                note(self.notices, opcode, bytes(buffer[start:used]))
        return used

    def _time(self, first: int, count: int) -> None:
        if self._timing is None:
            return
        sent_at, latencies = self._timing
        now = time.perf_counter_ns()
        at = first - self.ledger.first
        latencies += [now - sent for sent in sent_at[max(at, 0) : at + count]]


def acknowledgements(buffer: bytearray, end: int, notices: "Counter[str]") -> tuple[int, list[tuple[int, int]]]:
    """How much was used, and (id, offset) of every `published` in it; other packets become notices."""
    found = skim(buffer, end)
    used = found.used
    answers = _ACK.findall(buffer, 0, used)
    if len(answers) != found.frames or found.unusual:
        for opcode, start, used in split(buffer, end):
            if not _ACK.search(buffer, start, used):
                note(notices, opcode, bytes(buffer[start:used]))
        answers = _ACK.findall(buffer, 0, used)
    return used, [(int(number), int(offset)) for number, offset in answers]


class AckedPublisher:
    """Keeps `window` publishes unacknowledged: every answered id is published with again."""

    __slots__ = (
        "_frames",
        "_sent_at",
        "connection",
        "latencies",
        "ledger",
        "notices",
        "open",
        "published",
    )

    def __init__(
        self,
        connection: Connection,
        topic: str,
        first: int,
        window: int,
        notices: "Counter[str]",
        latencies: list[int],
    ) -> None:
        self.connection = connection
        self.ledger = Ledger(first)  # of the offsets in the answers
        self.notices = notices
        self.latencies = latencies
        self.published = 0
        self.open = False
        # Ids of one width (10…10+window-1), each in flight at most once.
        self._frames = {i: publish_frame(topic, i) for i in range(10, 10 + window)}
        self._sent_at = dict.fromkeys(self._frames, 0)
        connection.take = self.take

    def start(self) -> None:
        self.open = True
        self._publish(list(self._frames))

    @property
    def waiting(self) -> bool:
        return any(self._sent_at.values())

    def take(self, buffer: bytearray, end: int) -> int:
        used, answers = acknowledgements(buffer, end, self.notices)
        now = time.perf_counter_ns()
        again: list[int] = []
        for number, offset in answers:
            self._answered(number, offset, now, again)
        if self.open and again:
            self._publish(again)
        return used

    def _answered(self, number: int, offset: int, now: int, again: list[int]) -> None:
        sent = self._sent_at.get(number, 0)
        self.ledger.take(offset)
        if not sent:
            self.notices[f"answer to id {number}, which was not in flight"] += 1
            return
        self._sent_at[number] = 0
        self.latencies.append(now - sent)
        again.append(number)

    def _publish(self, numbers: list[int]) -> None:
        now = time.perf_counter_ns()
        for number in numbers:
            self._sent_at[number] = now
        self.published += len(numbers)
        self.connection.send(b"".join([self._frames[number] for number in numbers]))

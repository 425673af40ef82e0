"""The load of the neighbours' comparison: fan-outs, pairs, acknowledged publishes, idle connections.

What it must not know: which neighbour it loads, how processor time is measured, what is reported.
The surprising decision: it counts and does not read. What is lost or doubled shows in the sum at the end of a
window, which begins and ends at rest; the order of messages is for `python -m bench` to judge, which reads them.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from bench.load import LoadError
from bench.sockets import Connection, Loop
from bench.tongues import END, FIRST_NUMBER, Address, Script, Tongue, payload
from bench.workloads import turn_for, turn_while

_OPENING_AT_ONCE = 64
_PATIENCE_SECONDS = 10.0
_WAIT_SECONDS = 0.05
_SAMPLE = 16  # subscribers whose latencies are taken, and who pace a fan-out
_STALL_SECONDS = 3.0


class Load(Protocol):
    """One workload on one neighbour, its connections open."""

    latencies: list[int]  # nanoseconds

    @property
    def received(self) -> int:
        """Units so far."""

    @property
    def due(self) -> int:
        """Units that should have been received when it is at rest."""

    def pump(self, seconds: float) -> None:
        """Load for so long, then wait until all has come, or nothing comes any more."""


class _Opening:
    """A connection on its way through its script."""

    def __init__(self, loop: Loop, address: Address, script: Script) -> None:
        self._script = list(script)
        self.connection = loop.connect(address, self._take)
        self._say()

    @property
    def is_ready(self) -> bool:
        return not self._script

    def _say(self) -> None:
        if self._script and self._script[0][0]:
            self.connection.send(self._script[0][0])

    def _take(self, buffer: bytearray, end: int) -> int:
        used = 0
        while self._script and (at := buffer.find(self._script[0][1], used, end)) >= 0:
            if buffer.startswith(b"HTTP/", 0, end) and not buffer.startswith(b"HTTP/1.1 101 ", 0, end):
                raise LoadError(f"the server refused the handshake: {bytes(buffer[:end])[:300]!r}")
            used = at + len(self._script.pop(0)[1])
            self._say()
        return used if self._script else end


def open_all(loop: Loop, address: Address, scripts: Sequence[Script]) -> list[Connection]:
    """A connection for each script, 64 at a time. Raises LoadError where one does not get through."""
    opened: list[_Opening] = []
    waiting: set[_Opening] = set()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(opened) < len(scripts) or waiting:
        while len(opened) < len(scripts) and len(waiting) < _OPENING_AT_ONCE:
            opened.append(_Opening(loop, address, scripts[len(opened)]))
            waiting.add(opened[-1])
        loop.turn(_WAIT_SECONDS)
        left = {one for one in waiting if not one.is_ready}
        if len(left) < len(waiting):
            deadline = time.monotonic() + _PATIENCE_SECONDS
        waiting = left
        if time.monotonic() > deadline or any(one.connection.closed for one in waiting):
            raise LoadError(f"{len(waiting)} of the first {len(opened)} connections did not open")
    return [one.connection for one in opened]


class _Counting:
    """How often the mark came; `heard` is told of each arrival."""

    def __init__(self, mark: bytes, heard: Callable[[int], None] | None = None) -> None:
        self.count = 0
        self._mark = mark
        self._heard = heard

    def take(self, buffer: bytearray, end: int) -> int:
        found = buffer.count(self._mark, 0, end)
        if not found:
            return max(end - len(self._mark) + 1, 0)
        self.count += found
        if self._heard is not None:
            self._heard(found)
        return buffer.rfind(self._mark, 0, end) + len(self._mark)


def _deaf(buffer: bytearray, end: int) -> int:
    """Of a publisher, whose answers do not matter."""
    return end


class Crowd:
    """One publisher, many subscribers of one topic; `window` messages are out until a sample has them."""

    def __init__(
        self, loop: Loop, address: Address, tongue: Tongue, subscribers: int, size: int, window: int
    ) -> None:
        topic = "bench/crowd"
        self.latencies: list[int] = []
        self._loop, self._window = loop, window
        self._published = 0
        self._sent_at: list[int] = []
        self._frame = tongue.publish(topic, payload(size))
        [self._publisher] = open_all(loop, address, [tongue.publisher(address, topic)])
        self._publisher.take = _deaf
        connections = open_all(loop, address, [tongue.subscriber(address, topic)] * subscribers)
        step = max(subscribers // _SAMPLE, 1)
        self._everyone = [
            _Counting(END, None if index % step else self._timer()) for index in range(len(connections))
        ]
        self._sample = self._everyone[::step]
        for connection, counting in zip(connections, self._everyone, strict=True):
            connection.take = counting.take

    @property
    def received(self) -> int:
        return sum(one.count for one in self._everyone)

    @property
    def due(self) -> int:
        return self._published * len(self._everyone)

    def _timer(self) -> Callable[[int], None]:
        """Takes latencies: the messages of one connection come in order."""
        position = 0

        def heard(found: int) -> None:
            nonlocal position
            now = time.perf_counter_ns()
            self.latencies += [now - sent for sent in self._sent_at[position : position + found]]
            position += found

        return heard

    def pump(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        heard = time.monotonic()
        while (now := time.monotonic()) < until and now - heard < _STALL_SECONDS:
            if room := self._window - (self._published - min(one.count for one in self._sample)):
                self._publish(room)
            if self._loop.turn(_WAIT_SECONDS):
                heard = now
        self._drain()

    def pace(self, seconds: float, per_second: int) -> None:
        """By the clock, whatever has come."""
        began = time.monotonic()
        for index in range(max(round(seconds * per_second), 1)):
            due = began + index / per_second
            while (wait := due - time.monotonic()) > 0:
                self._loop.turn(wait)
            self._publish(1)
        self._drain()

    def _publish(self, count: int) -> None:
        self._sent_at += [time.perf_counter_ns()] * count
        self._published += count
        self._publisher.send(self._frame * count)

    def _drain(self) -> None:
        published = self._published
        turn_while(self._loop, lambda: any(one.count < published for one in self._everyone))


class _Rounds(ABC):
    """Publishers that publish again what was received of theirs; of each, `window` are out."""

    def __init__(self, loop: Loop, window: int, publishers: int, mark: bytes) -> None:
        self.latencies: list[int] = []
        self.due = 0
        self._loop, self._window = loop, window
        self._is_open = False
        self._listeners = [_Counting(mark, self._again(index)) for index in range(publishers)]

    @property
    def received(self) -> int:
        return sum(one.count for one in self._listeners)

    def _again(self, index: int) -> Callable[[int], None]:
        def heard(found: int) -> None:
            if self._is_open:
                self.due += found
                self._publish(index, found)

        return heard

    @abstractmethod
    def _publish(self, index: int, count: int) -> None:
        """So many more, by that publisher."""

    def pump(self, seconds: float) -> None:
        self._is_open = True
        for index in range(len(self._listeners)):
            self.due += self._window
            self._publish(index, self._window)
        turn_for(self._loop, seconds)
        self._is_open = False
        turn_while(self._loop, lambda: self.received < self.due)


class Pairs(_Rounds):
    """Publishers, each with a topic and its one subscriber, who lets it publish again what it has received."""

    def __init__(self, loop: Loop, address: Address, tongue: Tongue, pairs: int, size: int, window: int) -> None:
        super().__init__(loop, window, pairs, END)
        topics = [f"bench/pair/{index}" for index in range(pairs)]
        text = payload(size)
        self._frames = [tongue.publish(topic, text) for topic in topics]
        self._publishers = open_all(loop, address, [tongue.publisher(address, topic) for topic in topics])
        connections = open_all(loop, address, [tongue.subscriber(address, topic) for topic in topics])
        for publisher, connection, counting in zip(self._publishers, connections, self._listeners, strict=True):
            publisher.take, connection.take = _deaf, counting.take

    def _publish(self, index: int, count: int) -> None:
        self._publishers[index].send(self._frames[index] * count)


class Acked(_Rounds):
    """Publishers that wait for acknowledgements, each with a topic; nobody subscribes."""

    def __init__(
        self, loop: Loop, address: Address, tongue: Tongue, publishers: int, size: int, window: int
    ) -> None:
        assert tongue.acked is not None
        super().__init__(loop, window, publishers, tongue.ack)
        topics = [f"bench/acked/{index}" for index in range(publishers)]
        numbers = range(FIRST_NUMBER, FIRST_NUMBER + window)
        self._frames = [[tongue.acked(topic, payload(size), number) for number in numbers] for topic in topics]
        self._next = [0] * publishers
        self._publishers = open_all(loop, address, [tongue.publisher(address, topic) for topic in topics])
        for publisher, counting in zip(self._publishers, self._listeners, strict=True):
            publisher.take = counting.take

    def _publish(self, index: int, count: int) -> None:
        """Numbers go round: acknowledgements come in the order of the publishes."""
        frames, at = self._frames[index], self._next[index]
        self._next[index] = (at + count) % len(frames)
        self._publishers[index].send(b"".join([frames[(at + one) % len(frames)] for one in range(count)]))

"""The workloads as objects: who connects, who publishes when, and when a window is over.

What it must not know: how servers are started, rounds, ratios, targets, reports.
The surprising decision: a window is pumped from a server at rest to a server at rest. One cut out of
the middle would have up to 64,000 deliveries paid for but not yet counted.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from bench.ledger import Ledger, Tally
from bench.load import AckedPublisher, Subscriber, open_connections, overhear, probe
from bench.packets import greeting, packet, publish_frame
from bench.sockets import Connection, Loop

Address = tuple[str, int]
#: What a connection says first, made as `packets.greeting` makes it.
Greet = Callable[..., bytes]

_STALL_NS = 3_000_000_000  # nothing arrives for so long: what is missing by then is lost
_SAMPLE = 16  # subscribers of a fan-out that are read message by message, and pace it
_PATIENCE_SECONDS = 0.05


class Traffic(Protocol):
    """One workload on one server, its connections open."""

    notices: "Counter[str]"
    latencies: list[int]  # nanoseconds, of a sample

    @property
    def ledgers(self) -> Sequence[Tally]: ...
    def pump(self, seconds: float) -> None:
        """Load the server for so long, then wait until it has delivered everything."""

    def close(self) -> None:
        """No more windows: what is still missing is lost."""


class FanOut:
    """One publisher, many subscribers of one topic; `window` messages are out at any time.

    A message is out until the whole sample has it, the first and the last subscriber among them.
    """

    def __init__(
        self,
        loop: Loop,
        address: Address,
        *,
        subscribers: int,
        window: int = 64,
        capabilities: Sequence[str] = (),
        topic: str = "bench/fan",
        spread: Sequence[Address] = (),
        greet: Greet = greeting,
    ) -> None:
        """`spread`: where the subscribers connect, in turn; without it, where the publisher is."""
        self.notices: Counter[str] = Counter()
        self.latencies: list[int] = []
        self._loop = loop
        self._window = window
        self._published = 0
        self._sent_at: list[int] = []
        self._frame = publish_frame(topic)
        [self._publisher] = open_connections(loop, address, [greet()], b'"connected"')
        self._first = probe(loop, self._publisher, topic)
        self._publisher.take = overhear(self.notices)
        frames = [greet(topic, capabilities) for _ in range(subscribers)]
        connections = open_spread(loop, spread or [address], frames)
        step = (subscribers - 1) / (_SAMPLE - 1)
        sampled = sorted({round(index * step) for index in range(_SAMPLE)})
        everyone = [
            self._subscribe(connection, index in sampled, bool(capabilities))
            for index, connection in enumerate(connections)
        ]
        self.ledgers: list[Ledger] = [subscriber.ledger for subscriber in everyone]
        self._sample: list[Ledger] = [self.ledgers[index] for index in sampled]

    def pump(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        stall = _Stall()
        while time.monotonic() < until:
            if room := self._window - (self._published - self._received):
                self._publish(room)
            if stall.over(self._loop.turn(_PATIENCE_SECONDS)):
                break
        self._drain()

    def close(self) -> None:
        for ledger in self.ledgers:
            ledger.close(self._published)

    def _subscribe(self, connection: Connection, sampled: bool, several: bool) -> Subscriber:
        timing = (self._sent_at, self.latencies) if sampled else None
        subscriber = Subscriber(self._first, self.notices, timing, several)
        connection.take = subscriber.take
        return subscriber

    def _publish(self, count: int) -> None:
        self._sent_at += [time.perf_counter_ns()] * count
        self._published += count
        self._publisher.send(self._frame * count)

    @property
    def _received(self) -> int:
        return min(ledger.next for ledger in self._sample) - self._first

    def _drain(self) -> None:
        due = self._first + self._published
        turn_while(self._loop, lambda: any(ledger.next < due for ledger in self.ledgers))


class FixedRate(FanOut):
    """One publisher publishes by the clock, whatever has been received."""

    def __init__(
        self,
        loop: Loop,
        address: Address,
        *,
        subscribers: int,
        per_second: int,
        topic: str = "bench/fan",
        spread: Sequence[Address] = (),
    ) -> None:
        super().__init__(loop, address, subscribers=subscribers, topic=topic, spread=spread)
        self._per_second = per_second

    def pump(self, seconds: float) -> None:
        began = time.monotonic()
        for index in range(max(round(seconds * self._per_second), 1)):
            due = began + index / self._per_second
            while (wait := due - time.monotonic()) > 0:
                self._loop.turn(wait)
            self._publish(1)
        self._drain()


class _Pair:
    """A publisher and the one subscriber of its topic; what is received is published again."""

    def __init__(
        self, publisher: Connection, listener: Connection, topic: str, first: int, pairs: "Pairs"
    ) -> None:
        self.published = 0
        self.open = False
        self._publisher = publisher
        self._frame = publish_frame(topic)
        self._sent_at: list[int] = []
        self._subscriber = Subscriber(first, pairs.notices, (self._sent_at, pairs.latencies))
        self.ledger = self._subscriber.ledger
        publisher.take = overhear(pairs.notices)
        listener.take = self._take

    def publish(self, count: int) -> None:
        self._sent_at += [time.perf_counter_ns()] * count
        self.published += count
        self._publisher.send(self._frame * count)

    @property
    def waiting(self) -> bool:
        return self.ledger.next < self.ledger.first + self.published

    def _take(self, buffer: bytearray, end: int) -> int:
        before = self.ledger.received
        used = self._subscriber.take(buffer, end)
        received = self.ledger.received - before
        if received and self.open:
            self.publish(received)
        return used


class Pairs:
    """Publisher→subscriber pairs, each with its own topic and `window` messages out."""

    def __init__(self, loop: Loop, address: Address, *, pairs: int, window: int, greet: Greet = greeting) -> None:
        self.notices: Counter[str] = Counter()
        self.latencies: list[int] = []
        self._loop = loop
        self._window = window
        topics = [f"bench/pair/{index}" for index in range(pairs)]
        publishers = open_connections(loop, address, [greet() for _ in topics], b'"connected"')
        firsts = [probe(loop, *sender) for sender in zip(publishers, topics, strict=True)]
        listeners = open_connections(loop, address, [greet(topic) for topic in topics])
        self._pairs = [_Pair(*parts, self) for parts in zip(publishers, listeners, topics, firsts, strict=True)]
        self.ledgers = [pair.ledger for pair in self._pairs]

    def pump(self, seconds: float) -> None:
        for pair in self._pairs:
            pair.open = True
            pair.publish(self._window)
        turn_for(self._loop, seconds)
        for pair in self._pairs:
            pair.open = False
        turn_while(self._loop, lambda: any(pair.waiting for pair in self._pairs))

    def close(self) -> None:
        for pair in self._pairs:
            pair.ledger.close(pair.published)


class Acked:
    """Publishers that wait for acknowledgements, each with its own topic; nobody subscribes."""

    def __init__(
        self, loop: Loop, address: Address, *, publishers: int, window: int, greet: Greet = greeting
    ) -> None:
        self.notices: Counter[str] = Counter()
        self.latencies: list[int] = []
        self._loop = loop
        connections = open_connections(loop, address, [greet() for _ in range(publishers)], b'"connected"')
        self._publishers = []
        for index, connection in enumerate(connections):
            topic = f"bench/acked/{index}"
            first = probe(loop, connection, topic)
            self._publishers.append(AckedPublisher(connection, topic, first, window, self.notices, self.latencies))
        self.ledgers = [publisher.ledger for publisher in self._publishers]

    def pump(self, seconds: float) -> None:
        for publisher in self._publishers:
            publisher.start()
        turn_for(self._loop, seconds)
        for publisher in self._publishers:
            publisher.open = False
        turn_while(self._loop, lambda: any(publisher.waiting for publisher in self._publishers))

    def close(self) -> None:
        for publisher in self._publishers:
            publisher.ledger.close(publisher.published)


def open_spread(loop: Loop, addresses: Sequence[Address], greetings: Sequence[bytes]) -> list[Connection]:
    """Subscribed connections, dealt to the nodes in turn."""
    count = len(addresses)
    opened = [open_connections(loop, one, greetings[index::count]) for index, one in enumerate(addresses)]
    return [opened[index % count][index // count] for index in range(len(greetings))]


def open_idle(loop: Loop, address: Address, count: int, greet: Greet = greeting) -> list[Connection]:
    """Connections that subscribe to one common topic and then say nothing."""
    return open_connections(loop, address, (greet("bench/idle") for _ in range(count)))


def subscribe_own_topics(loop: Loop, connections: Sequence[Connection]) -> int:
    """Give every connection a second subscription, to a topic of its own; return how many got it."""
    confirmed = 0

    def take(buffer: bytearray, end: int) -> int:
        nonlocal confirmed
        confirmed += buffer.count(b'"subscribed"', 0, end)
        return end

    for index, connection in enumerate(connections):
        connection.take = take
        connection.send(packet(kind="subscribe", id=3, sub=2, filter=f"bench/own/{index}"))
    turn_while(loop, lambda: confirmed < len(connections))
    return confirmed


class _Stall:
    """Tells when nothing has arrived for too long."""

    def __init__(self) -> None:
        self._last = time.perf_counter_ns()

    def over(self, received: int) -> bool:
        now = time.perf_counter_ns()
        if received:
            self._last = now
        return now - self._last > _STALL_NS


def turn_for(loop: Loop, seconds: float) -> None:
    """Serve what arrives for so long, or until nothing has arrived for 3 s."""
    until = time.monotonic() + seconds
    stall = _Stall()
    while time.monotonic() < until and not stall.over(loop.turn(_PATIENCE_SECONDS)):
        pass


def turn_while(loop: Loop, unfinished: Callable[[], bool]) -> None:
    """Serve what arrives while `unfinished` says so, or until nothing has arrived for 3 s."""
    stall = _Stall()
    while unfinished() and not stall.over(loop.turn(_PATIENCE_SECONDS)):
        pass

"""Traffic on several nodes: publishes that are owned elsewhere, subscribers spread over nodes, arrays of packets.

What it must not know: how nodes are started, rounds, targets, reports.
The surprising decision: publishers here offer `batch` and answer an array of acknowledgements with an array of
publishes. So a turn of 64 stays one of 64 whoever owns the topic, and what a node spends on its client is the same
small amount on both sides of a comparison; one by one it would drown what the link between nodes costs.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence

from bench.frames import client_frame
from bench.ledger import Ledger
from bench.load import Subscriber, acknowledgements, open_connections, probe
from bench.packets import PAYLOAD, greeting
from bench.sockets import Connection, Loop
from bench.workloads import Address, turn_for, turn_while

_FIRST_NUMBER = 100  # ids of one width
_BATCH = ("batch",)


def publish_text(topic: str, number: int = 0) -> bytes:
    """A publish as a JSON text, to stand in an array."""
    numbered = {"id": number} if number else {}
    return json.dumps(
        {"type": "publish", **numbered, "topic": topic, "data": PAYLOAD}, separators=(",", ":")
    ).encode()


class _Publisher:
    """One connection with `window` publishes unacknowledged, sent in arrays."""

    def __init__(self, connection: Connection, topic: str, first: int, window: int, batches: "Batches") -> None:
        self.ledger = Ledger(first)
        self.published = 0
        self._texts = {id_: publish_text(topic, id_) for id_ in range(_FIRST_NUMBER, _FIRST_NUMBER + window)}
        self._all = client_frame(b"[" + b",".join(self._texts.values()) + b"]")
        self._sent_at: dict[int, int] = {}
        self._connection = connection
        self._batches = batches
        connection.take = self._take

    @property
    def waiting(self) -> bool:
        return bool(self._sent_at)

    def publish(self, numbers: Sequence[int] = ()) -> None:
        """These again; without any, all."""
        numbers = numbers or list(self._texts)
        now = time.perf_counter_ns()
        for number in numbers:
            self._sent_at[number] = now
        self.published += len(numbers)
        if len(numbers) == len(self._texts):
            self._connection.send(self._all)
        else:
            texts = b",".join([self._texts[number] for number in numbers])
            self._connection.send(client_frame(b"[" + texts + b"]"))

    def _take(self, buffer: bytearray, end: int) -> int:
        batches = self._batches
        used, answers = acknowledgements(buffer, end, batches.notices)
        now = time.perf_counter_ns()
        numbers = []
        for number, offset in answers:
            self.ledger.take(offset)
            if (sent := self._sent_at.pop(number, None)) is None:
                batches.notices[f"answer to id {number}, which was not in flight"] += 1
                continue
            batches.latencies.append(now - sent)
            numbers.append(number)
        if batches.is_open and numbers:
            self.publish(numbers)
        return used


class Batches:
    """Publishers on one topic each, `window` unacknowledged together; maybe a subscriber, of the first topic."""

    def __init__(
        self,
        loop: Loop,
        address: Address,
        *,
        topics: Sequence[str],
        window: int = 64,
        subscriber: Address | None = None,
    ) -> None:
        self.notices: Counter[str] = Counter()
        self.latencies: list[int] = []
        self.is_open = False
        self._loop = loop
        connections = open_connections(
            loop, address, [greeting(capabilities=_BATCH)] * len(topics), b'"connected"'
        )
        firsts = [probe(loop, *one) for one in zip(connections, topics, strict=True)]
        self._subscriber = self._subscribe(subscriber, topics[0], firsts[0]) if subscriber else None
        self._publishers = [
            _Publisher(connection, topic, first, window // len(topics), self)
            for connection, topic, first in zip(connections, topics, firsts, strict=True)
        ]
        self.ledgers = [one.ledger for one in self._publishers]

    def _subscribe(self, address: Address, topic: str, first: int) -> Subscriber:
        [connection] = open_connections(self._loop, address, [greeting(topic, _BATCH)])
        subscriber = Subscriber(first, self.notices, several=True)
        connection.take = subscriber.take
        return subscriber

    def pump(self, seconds: float) -> None:
        """See `workloads.Traffic`."""
        self.is_open = True
        for publisher in self._publishers:
            publisher.publish()
        turn_for(self._loop, seconds)
        self.is_open = False
        turn_while(self._loop, lambda: any(one.waiting for one in self._publishers) or self._is_behind)

    @property
    def _is_behind(self) -> bool:
        one, first = self._subscriber, self._publishers[0]
        return one is not None and one.ledger.next < one.ledger.first + first.published

    def close(self) -> None:
        """See `workloads.Traffic`."""
        for publisher in self._publishers:
            publisher.ledger.close(publisher.published)
        if self._subscriber is not None:
            self._subscriber.ledger.close(self._publishers[0].published)
            self.ledgers = [*self.ledgers, self._subscriber.ledger]


class Runs:
    """Publishers of one topic each that are told only of the last publish of every run: the cheapest clients.

    Each has `runs` runs of `size` out, a frame for each publish. An answer's offset is `size` beyond the last, or
    something is lost.
    """

    def __init__(
        self, loop: Loop, address: Address, *, topics: Sequence[str], runs: int = 2, size: int = 64
    ) -> None:
        self.notices: Counter[str] = Counter()
        self.latencies: list[int] = []
        self.is_open = False
        self.runs = runs
        self.size = size
        self._loop = loop
        connections = open_connections(loop, address, [greeting()] * len(topics), b'"connected"')
        firsts = [probe(loop, *one) for one in zip(connections, topics, strict=True)]
        self._ends = [_End(*one, self) for one in zip(connections, topics, firsts, strict=True)]
        self.ledgers = [one.ledger for one in self._ends]

    def pump(self, seconds: float) -> None:
        """See `workloads.Traffic`."""
        self.is_open = True
        for end in self._ends:
            end.publish(self.runs)
        turn_for(self._loop, seconds)
        self.is_open = False
        turn_while(self._loop, lambda: any(one.out for one in self._ends))

    def close(self) -> None:
        """See `workloads.Traffic`."""
        for end in self._ends:
            end.ledger.close(end.published)


class _End:
    """One publisher of runs."""

    def __init__(self, connection: Connection, topic: str, first: int, runs: Runs) -> None:
        self.ledger = Ledger(first)
        self.published = 0
        self.out = 0  # runs that are not answered
        texts = [publish_text(topic)] * (runs.size - 1) + [publish_text(topic, _FIRST_NUMBER)]
        self._frames = b"".join(map(client_frame, texts))
        self._connection = connection
        self._runs = runs
        connection.take = self._take

    def publish(self, count: int) -> None:
        """So many runs."""
        self.out += count
        self.published += count * self._runs.size
        self._connection.send(self._frames * count)

    def _take(self, buffer: bytearray, end: int) -> int:
        runs, ledger = self._runs, self.ledger
        used, answers = acknowledgements(buffer, end, runs.notices)
        for _, offset in answers:
            if offset == ledger.next + runs.size - 1:
                ledger.advance(runs.size)
            else:
                ledger.take(offset)
        self.out -= len(answers)
        if runs.is_open and answers:
            self.publish(len(answers))
        return used

"""Two thousand clients that lose their connections at once, and come back where they were.

What it must not know: targets, how results are printed.
The surprising decision: a client that is cut dials again at once, which is harsher than any client library does;
it waits only when it is told to, by a 503 or a `bye`, and then as long as it is told.
"""

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

import attrs

from bench.contest import Results, Return
from bench.frames import CLOSE, split
from bench.ledger import Ledger
from bench.load import LoadError, accepts, note, open_connections, probe, upgrade_request
from bench.nodes import Nodes, cluster
from bench.packets import packet, publish_frame
from bench.plan import ClusterBudget
from bench.servers import ServerError
from bench.sockets import Connection, Loop
from bench.workloads import Address

_TOPICS = 24
_PER_SECOND = 100  # messages, over all topics
_PATIENCE_SECONDS = 30.0
_AT_ONCE = 64
_PLACE = re.compile(rb'"offset":(\d+),"log":"([a-z0-9-]+)","pos":(\d+)')
_AFTER_MS = re.compile(rb'"reconnect_after_ms":(\d+)')
_RETRY_AFTER = re.compile(rb"Retry-After: (\d+)", re.IGNORECASE)


class _Client:
    """One that resumes. Its ledger goes on over all its connections."""

    def __init__(self, storm: "_Storm", topic: str, first: int, address: Address) -> None:
        self.address = address
        self.ledger = Ledger(first)
        self.is_back = False
        self.due = 0.0  # when it dials, while it has no connection
        self.connection: Connection | None = None
        self._storm = storm
        self._topic = topic
        self._is_upgraded = False
        self._after: dict[str, int] | None = None

    def dial(self) -> None:
        """Connect and take up where it was."""
        self._is_upgraded = False
        try:
            self.connection = self._storm.loop.connect(self.address, self._take)
        except OSError:
            self.lose(0.1)
        else:
            self.connection.send(upgrade_request(self.address))

    def lose(self, seconds: float = 0.0) -> None:
        """Its connection is gone; it dials after so long."""
        self.connection = None
        self.is_back = False
        self.due = time.monotonic() + seconds

    def _greet(self) -> bytes:
        resumes = {} if self._after is None else {"after": self._after}
        return packet(kind="connect", id=1, resume=bool(resumes)) + packet(
            kind="subscribe", id=2, sub=1, filter=self._topic, **resumes
        )

    def _take(self, buffer: bytearray, end: int) -> int:
        if self._is_upgraded:
            return self._take_frames(buffer, end)
        head_end = buffer.find(b"\r\n\r\n", 0, end) + 4
        if head_end < 4:
            return 0
        head = bytes(buffer[:head_end])
        if accepts(head):
            self._is_upgraded = True
            assert self.connection is not None
            self.connection.send(self._greet())
            return head_end
        told = _RETRY_AFTER.search(head)
        self._storm.told["503"] += 1
        self._part(float(told[1]) if told else 1.0)
        return end

    def _part(self, seconds: float) -> None:
        assert self.connection is not None
        self._storm.loop.drop(self.connection)
        self.lose(seconds)

    def _take_frames(self, buffer: bytearray, end: int) -> int:
        used = 0
        for opcode, start, used in split(buffer, end):
            payload = bytes(buffer[start:used])
            if payload.startswith((b'{"type":"message"', b'{"type":"delivery"')) and (
                found := _PLACE.search(payload)
            ):
                self.ledger.take(int(found[1]))
                assert self._after is not None
                self._after[found[2].decode()] = int(found[3])
            elif payload.startswith(b'{"type":"subscribed"'):
                answer = json.loads(payload)
                self._after = answer["after"]
                self.is_back = answer["live"]
            elif payload.startswith(b'{"type":"caught_up"'):
                self.is_back = True
            elif payload.startswith(b'{"type":"bye"') and (told := _AFTER_MS.search(payload)):
                self._storm.told["bye"] += 1
                self._part(int(told[1]) / 1000)
                return end
            elif opcode != CLOSE and not payload.startswith((b'{"type":"connected"', b'{"type":"catching_up"')):
                note(self._storm.notices, opcode, payload)
        return used


class _Storm:
    """Clients spread over nodes, and one who publishes all the while."""

    def __init__(self, loop: Loop, nodes: Nodes, topics: Sequence[str], clients: int) -> None:
        self.loop = loop
        self.notices: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        [self._publisher] = open_connections(
            loop, nodes.addresses[0], [packet(kind="connect", id=1)], b'"connected"'
        )
        self._firsts = {topic: probe(loop, self._publisher, topic) for topic in topics}
        self._publisher.take = self._overhear
        self._published = dict.fromkeys(topics, 0)
        self._sent = 0
        self._began = 0.0  # when it began to publish
        self._topics = [topics[index % len(topics)] for index in range(clients)]
        addresses = nodes.addresses
        self.clients = [
            _Client(self, topic, self._firsts[topic], addresses[index % len(addresses)])
            for index, topic in enumerate(self._topics)
        ]

    def _overhear(self, buffer: bytearray, end: int) -> int:
        used = 0
        for opcode, start, used in split(buffer, end):
            note(self.notices, opcode, bytes(buffer[start:used]))
        return used

    def cut(self, clients: Sequence[_Client], elsewhere: Sequence[Address] = ()) -> None:
        """All at once; dealt to other nodes if there are any."""
        for index, client in enumerate(clients):
            if elsewhere:
                client.address = elsewhere[index % len(elsewhere)]
            if client.connection is not None:
                self.loop.drop(client.connection)
            client.lose()

    def wait(self) -> float:
        """Until all are back and have everything that was sent; the seconds until all were back."""
        began = time.monotonic()
        while not all(client.is_back for client in self.clients):
            self._turn(began)
        back = time.monotonic() - began
        self._drain(began)
        return back

    def rest(self, seconds: float) -> None:
        """Publish for a while."""
        began = time.monotonic()
        self._began = self._began or began
        while time.monotonic() - began < seconds:
            self._turn(began)
        self._drain(began)

    def _turn(self, began: float) -> None:
        now = time.monotonic()
        if now - began > _PATIENCE_SECONDS:
            missing = sum(not client.is_back for client in self.clients)
            raise LoadError(f"{missing} clients are not back after {_PATIENCE_SECONDS:.0f} s")
        if self._began and self._sent < int((now - self._began) * _PER_SECOND):
            self._sent += 1
            topic = self._topics[self._sent % _TOPICS]
            self._published[topic] += 1
            self._publisher.send(publish_frame(topic))
        dialled = 0
        for client in self.clients:
            if client.connection is None and client.due <= now and dialled < _AT_ONCE:
                dialled += 1
                client.dial()
            elif client.connection is not None and client.connection.closed:
                self.loop.drop(client.connection)
                client.lose()
        self.loop.turn(0.005)

    def _drain(self, began: float) -> None:
        def behind() -> bool:
            return any(
                client.ledger.next < self._firsts[topic] + self._published[topic]
                for client, topic in zip(self.clients, self._topics, strict=True)
            )

        while behind() and time.monotonic() - began < _PATIENCE_SECONDS:
            self.loop.turn(0.05)

    def close(self) -> tuple[int, int, int]:
        """Lost, doubled, misordered."""
        for client, topic in zip(self.clients, self._topics, strict=True):
            client.ledger.close(self._published[topic])
        ledgers = [client.ledger for client in self.clients]
        return (
            sum(one.lost for one in ledgers),
            sum(one.doubled for one in ledgers),
            sum(one.misordered for one in ledgers),
        )


def play_storm(budget: ClusterBudget) -> Results:
    """All clients of three nodes cut at once; then one node killed with its share."""
    results = Results("cluster-storm")
    for round_ in range(budget.rounds):
        try:
            with ExitStack() as stack:
                before = os.sched_getaffinity(0)
                stack.callback(os.sched_setaffinity, 0, before)
                os.sched_setaffinity(0, range(os.cpu_count() or 1))
                nodes = stack.enter_context(cluster(3))
                loop = stack.enter_context(Loop())
                _round(round_, nodes, loop, budget.clients, results)
        except (ServerError, LoadError) as error:
            results.failures["cluster"] = str(error)
    return results


def _round(round_: int, nodes: Nodes, loop: Loop, clients: int, results: Results) -> None:
    # What a killed node owned in memory is gone with it, and reported as a reset: not what is measured here.
    topics = nodes.topics_of(loop, (0, 1), _TOPICS, "bench/storm")
    storm = _Storm(loop, nodes, topics, clients)
    storm.wait()
    storm.rest(0.5)
    storm.cut(storm.clients)
    all_back = storm.wait()
    told_all, storm.told = storm.told, Counter()
    killed = nodes.servers[2]
    theirs = [client for client in storm.clients if client.address == killed.address]
    os.kill(killed.pid, signal.SIGKILL)
    storm.cut(theirs, nodes.addresses[:2])
    some_back = storm.wait()
    storm.rest(0.5)
    lost, doubled, misordered = storm.close()
    faults = attrs.asdict(_Faults(lost, doubled, misordered), filter=lambda _, value: bool(value))
    said = tuple(f"{count} {kind}" for kind, count in [*faults.items(), *storm.notices.items()])
    results.returns += [
        Return(f"all {clients:,} cut", round_, clients, all_back, dict(told_all), said),
        Return("a node killed with its share", round_, len(theirs), some_back, dict(storm.told), said),
    ]


@attrs.frozen
class _Faults:
    lost: int
    doubled: int
    misordered: int

"""What it costs that nodes know what clients of others want: with more nodes, with more filters.

What it must not know: targets, how results are printed.
The surprising decision: all subscribers are at one node, and what is looked at is another one. So every filter is
remote for it, and its memory, its stall and its publishes show nothing but what it was told.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from bench.contest import Mesh, Results
from bench.crossing import Batches
from bench.load import LoadError, open_connections
from bench.nodes import Nodes, cluster, node_again
from bench.packets import greeting, packet
from bench.plan import ClusterBudget
from bench.servers import ServerError, find_program, running
from bench.sockets import Connection, Loop
from bench.workloads import turn_while

_ON_ONE_CONNECTION = {"wildcards": 100, "topics": 200}
_NAMES = {"wildcards": "bench/mesh/{}/+", "topics": "bench/mesh/{}"}
_ON_THE_WAY = 2_000  # subscriptions that are not answered
_QUIET_SECONDS = 1.5
_WINDOWS = 3
_SENT = re.compile(r"bytes_sent:(\d+)")


def play_mesh(budget: ClusterBudget) -> Results:
    """All numbers of nodes and of wildcards; then topics, which their owner alone is told, on two nodes."""
    results = Results("cluster-mesh")
    runs = [(nodes, filters, "wildcards") for nodes in budget.sizes for filters in budget.filters]
    runs.append((budget.sizes[0], max(budget.filters), "topics"))
    for nodes, filters, kind in runs:
        try:
            results.meshes.append(_run(nodes, filters, kind))
        except (ServerError, LoadError) as error:
            results.failures[f"{nodes} nodes, {filters:,} {kind}"] = str(error)
    return results


def _run(count: int, filters: int, kind: str) -> Mesh:
    with ExitStack() as stack:
        nodes = stack.enter_context(cluster(count))
        loop = stack.enter_context(Loop())
        before_kib = nodes.servers[0].memory_kib()
        register_seconds = _subscribe(loop, nodes, filters, kind)
        bytes_each = (nodes.servers[0].memory_kib() - before_kib) * 1024 / filters
        publish_us = _publish(loop, nodes)
        nodes.servers[0].kill()
        began = time.monotonic()
        with running(node_again(nodes, 0)) as again:
            ready = time.monotonic()
            stall_ms = _longest_wait(again.address)
            opening_kib = _sent_bytes(nodes) / 1024
        return Mesh(
            count, filters, kind, bytes_each, register_seconds, opening_kib, ready - began, stall_ms, publish_us
        )


def _subscribe(loop: Loop, nodes: Nodes, filters: int, kind: str) -> float:
    """Subscribe at the last node; the seconds until all were answered, each of which waits for the other nodes."""
    confirmed = 0

    def take(buffer: bytearray, end: int) -> int:
        nonlocal confirmed
        confirmed += buffer.count(b'"subscribed"', 0, end)
        return end

    most = _ON_ONE_CONNECTION[kind]
    count = -(-filters // most)
    connections = open_connections(loop, nodes.addresses[-1], [greeting()] * count, b'"connected"')
    began = time.monotonic()
    for index, connection in enumerate(connections):
        connection.take = take
        connection.send(b"".join(_subscriptions(index * most, min(most, filters - index * most), _NAMES[kind])))
        sent = min((index + 1) * most, filters)
        turn_while(loop, lambda: confirmed < sent - _ON_THE_WAY)  # noqa: B023  # done with before the next one
    turn_while(loop, lambda: confirmed < filters)
    if confirmed < filters:
        raise LoadError(f"{confirmed} of {filters} subscriptions were answered")
    return time.monotonic() - began


def _subscriptions(first: int, count: int, name: str) -> Iterator[bytes]:
    for number in range(count):
        yield packet(kind="subscribe", id=2 + number, sub=1 + number, filter=name.format(first + number))


def _publish(loop: Loop, nodes: Nodes) -> float:
    """The first node's processor time for a publish on its own topic that nobody wants."""
    traffic = Batches(loop, nodes.addresses[0], topics=[nodes.topic_of(loop, 0)])
    traffic.pump(0.1)
    spent = []
    for _ in range(_WINDOWS):
        count, cpu = traffic.ledgers[0].received, nodes.servers[0].cpu()
        traffic.pump(0.3)
        used = sum(nodes.servers[0].cpu().since(cpu))
        spent.append(used * 1e6 / max(traffic.ledgers[0].received - count, 1))
    return median(spent)


def _longest_wait(address: tuple[str, int]) -> float:
    """Ping a node that has just started until it has answered promptly for a while; its slowest answer, in ms."""
    waits = [0.0]
    with Loop() as loop:
        [client] = open_connections(loop, address, [greeting()], b'"connected"')
        quiet = time.monotonic()
        while time.monotonic() - quiet < _QUIET_SECONDS:
            waits.append(_ping(loop, client))
            if waits[-1] > 0.05:  # seconds: it was busy
                quiet = time.monotonic()
    return max(waits) * 1000


def _ping(loop: Loop, client: Connection) -> float:
    answered = False

    def take(buffer: bytearray, end: int) -> int:
        nonlocal answered
        answered = answered or buffer.find(b'"pong"', 0, end) >= 0
        return end

    client.take = take
    began = time.monotonic()
    client.send(packet(kind="ping"))
    turn_while(loop, lambda: not answered)
    time.sleep(0.002)
    return time.monotonic() - began - 0.002


def _sent_bytes(nodes: Nodes) -> int:
    """What the node with the subscribers has sent on the link that it dialled, by the kernel's count."""
    said = subprocess.run(
        [find_program("ss", "apt-get install iproute2"), "-tinH", "dst", f"127.0.0.1:{nodes.peers[0]}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return max((int(one) for one in _SENT.findall(said.stdout)), default=0)

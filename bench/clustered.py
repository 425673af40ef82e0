"""Plays one broker of several nodes beside a single node, their windows in turn.

What it must not know: targets, how results are printed.
The surprising decision: the single node serves the very same clients, connections and packets. So what the cluster
costs is a difference between neighbouring windows, everything included: both nodes, both links, the kernel.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import attrs

from bench.contest import Results, Seat, Window
from bench.crossing import Batches, Runs
from bench.load import LoadError
from bench.nodes import Nodes, cluster, workers
from bench.plan import ClusterBudget
from bench.servers import ServerError
from bench.sockets import Loop
from bench.workloads import FanOut, FixedRate, Traffic

SINGLE = "single node"
_PUBLISHERS = 64  # the kernel deals connections to workers by a hash: of few, one may get most


@attrs.frozen
class _Party:
    """A contestant: which nodes it has (by their name), and how the clients are connected to them."""

    nodes: str
    opens: Callable[[Loop, Nodes], Traffic]


def play_fan_out(budget: ClusterBudget) -> Results:
    """One publisher, subscribers spread over three nodes; another node than the publisher's owns the topic."""

    def opens(loop: Loop, nodes: Nodes) -> Traffic:
        topic = nodes.topic_of(loop, owner=1 % len(nodes.servers))
        addresses = nodes.addresses
        return FanOut(loop, addresses[0], subscribers=budget.subscribers, topic=topic, spread=addresses)

    parties = {SINGLE: _Party("single", opens), "3 nodes": _Party("three", opens)}
    return _play("cluster-fanout", parties, {"single": 1, "three": 3}, budget)


def play_forward(budget: ClusterBudget) -> Results:
    """64 publishes in flight, owned by the other node."""
    parties = {
        SINGLE: _Party("single", lambda loop, nodes: _batches(loop, nodes, owner=0)),
        "2 nodes, topic here": _Party("two", lambda loop, nodes: _batches(loop, nodes, owner=0)),
        "2 nodes, forwarded": _Party("two", lambda loop, nodes: _batches(loop, nodes, owner=1)),
    }
    return _play("cluster-forward", parties, {"single": 1, "two": 2}, budget)


def play_deliver(budget: ClusterBudget) -> Results:
    """64 publishes in flight on the node that owns the topic; the one subscriber is at the other node."""
    parties = {
        SINGLE: _Party("single", lambda loop, nodes: _batches(loop, nodes, owner=0, listens=0)),
        "2 nodes, delivered": _Party("two", lambda loop, nodes: _batches(loop, nodes, owner=0, listens=-1)),
    }
    return _play("cluster-deliver", parties, {"single": 1, "two": 2}, budget)


def _batches(loop: Loop, nodes: Nodes, *, owner: int, listens: int | None = None) -> Traffic:
    topic = nodes.topic_of(loop, owner, f"bench/{owner}/{listens}")
    subscriber = None if listens is None else nodes.addresses[listens]
    return Batches(loop, nodes.addresses[0], topics=[topic], subscriber=subscriber)


def play_hop(budget: ClusterBudget) -> Results:
    """100 messages a second to one subscriber: how much later they come by way of another node."""

    def opens(owner: int, listens: int) -> Callable[[Loop, Nodes], Traffic]:
        def open_on(loop: Loop, nodes: Nodes) -> Traffic:
            topic = nodes.topic_of(loop, owner, f"bench/{owner}/{listens}")
            at = nodes.addresses
            return FixedRate(loop, at[0], subscribers=1, per_second=100, topic=topic, spread=[at[listens]])

        return open_on

    parties = {
        SINGLE: _Party("single", opens(0, 0)),
        "2 nodes, forwarded": _Party("two", opens(1, 1)),
        "2 nodes, delivered": _Party("two", opens(0, 1)),
        "2 nodes, there and back": _Party("two", opens(1, 0)),
    }
    with _both_cores():
        return _play("cluster-hop", parties, {"single": 1, "two": 2}, budget)


def play_workers(budget: ClusterBudget) -> Results:
    """Publishes as fast as one worker and two take them, on two cores with the generator beside them."""
    results = Results("cluster-workers", reference="1 worker")
    with _both_cores():
        for round_ in range(budget.rounds):
            try:
                _workers_round(round_, results, budget)
            except (ServerError, LoadError) as error:
                results.failures["2 workers"] = str(error)
    return results


def _workers_round(round_: int, results: Results, budget: ClusterBudget) -> None:
    topics = [f"bench/workers/{index}" for index in range(_PUBLISHERS)]
    with ExitStack() as stack:
        seats = []
        for name, count in (("1 worker", 1), ("2 workers", 2)):
            nodes = stack.enter_context(workers(count))
            loop = stack.enter_context(Loop())
            seats.append(Seat(name, nodes, loop, Runs(loop, nodes.addresses[0], topics=topics)))
        generator: list[float] = []
        for seat in seats:
            seat.warm(budget.warm_seconds)
        for cycle in range(budget.cycles):
            for seat in seats:
                began = time.process_time()
                results.windows.append(window := seat.window(round_, cycle, budget.window_seconds))
                generator.append((time.process_time() - began) * 1e6 / max(window.count, 1))
        results.accounts += [seat.account(round_) for seat in seats]
        results.remark = (
            f"the generator's own processor time: {sorted(generator)[len(generator) // 2]:.2f} µs a publish"
        )


class _both_cores:  # a context manager, used as one
    """For what is not about processor time: everybody may run wherever there is room."""

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._before)


def _play(name: str, parties: Mapping[str, _Party], sizes: Mapping[str, int], budget: ClusterBudget) -> Results:
    results = Results(name, reference=SINGLE)
    for round_ in range(budget.rounds):
        try:
            _round(round_, parties, sizes, budget, results)
        except (ServerError, LoadError) as error:
            results.failures["cluster"] = str(error)
    return results


def _round(
    round_: int, parties: Mapping[str, _Party], sizes: Mapping[str, int], budget: ClusterBudget, results: Results
) -> None:
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(cluster(count)) for name, count in sizes.items()}
        seats = []
        for name, party in parties.items():
            loop = stack.enter_context(Loop())
            seats.append(Seat(name, nodes[party.nodes], loop, party.opens(loop, nodes[party.nodes])))
        for seat in seats:
            seat.warm(budget.warm_seconds)
        for cycle in range(budget.cycles):
            results.windows += [seat.window(round_, cycle, budget.window_seconds) for seat in seats]
        results.accounts += [seat.account(round_) for seat in seats]


def added_us(windows: list[Window], name: str) -> list[float]:
    """Processor time for a unit beyond the single node's, of each pair of neighbouring windows."""
    single = {(one.round, one.cycle): one.cpu_us for one in windows if one.contestant == SINGLE}
    return [
        one.cpu_us - single[one.round, one.cycle]
        for one in windows
        if one.contestant == name and (one.round, one.cycle) in single
    ]

"""Plays what is stored: publishes acknowledged by every server's disk, and Triode's acknowledged consumption.

What it must not know: targets, how results are printed, what the servers' languages look like.
The surprising decision: latency is taken at half of what each server has just shown it can do, not at one rate for
all. At full load it is only the inverse of the rate, and at one rate for all the slowest would drown.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import attrs

from bench import disk
from bench.consuming import Consumers, Live, Stored
from bench.contest import Account, Results, Seat, Window
from bench.load import LoadError
from bench.pacing import Publishers
from bench.plan import STORED_REFERENCE, StoredBudget
from bench.servers import Recipe, Server, ServerError, running
from bench.sockets import Loop
from bench.speakers import SPEAKERS

#: contestant → (members, one acknowledgement a delivery)
_CONSUMERS = {
    "triode, 1 connection, lists of acks": (1, False),
    "triode, 1 connection, single acks": (1, True),
    "triode, 4 connections, lists of acks": (4, False),
    "triode, 4 connections, single acks": (4, True),
}
_LIVE = "triode, 4 connections, while publishing"


def play_durable(recipes: Mapping[str, Recipe], budget: StoredBudget, folder: Path) -> Results:
    """Publishes that are acknowledged once they are stored, on all servers in turn."""
    results = Results("durable", reference=STORED_REFERENCE)
    for round_ in range(budget.rounds):
        results.disks.append(disk.examine(folder))
        with ExitStack() as stack:
            seats = []
            for name, recipe in recipes.items():
                try:
                    seats.append(_publishing(stack, name, recipe, folder, budget))
                except (ServerError, LoadError) as error:
                    results.failures[name] = str(error)
            windows = [
                seat.window(round_, cycle, budget.window_seconds)
                for cycle in range(budget.cycles)
                for seat, _ in seats
            ]
            results.windows += windows
            results.accounts += [_half(seat, publishers, windows, round_, budget) for seat, publishers in seats]
    return results


def _publishing(
    stack: ExitStack, name: str, recipe: Recipe, folder: Path, budget: StoredBudget
) -> tuple[Seat, Publishers]:
    place = stack.enter_context(disk.room(folder))
    server = stack.enter_context(running(recipe, place=place))
    loop = stack.enter_context(Loop())
    publishers = Publishers(loop, server.address, speaker=SPEAKERS[name]())
    seat = Seat(name, server, loop, publishers)
    seat.warm(budget.warm_seconds)
    return seat, publishers


def _half(seat: Seat, publishers: Publishers, windows: list[Window], round_: int, budget: StoredBudget) -> Account:
    """Publish by the clock at half the rate of this round's windows; latency is of this alone."""
    rate = median(one.count / one.seconds for one in windows if one.contestant == seat.name) / 2
    publishers.latencies.clear()
    window = seat.window(
        round_, 0, budget.steady_seconds, lambda seconds: publishers.steady(seconds, max(rate, 1.0))
    )
    return attrs.evolve(seat.account(round_), steady_rate=rate, steady_cpu_us=window.cpu_us)


def play_consume(recipes: Mapping[str, Recipe], budget: StoredBudget, folder: Path) -> Results:
    """Triode's durable shared subscriptions, each member with 256 deliveries in flight at most."""
    results = Results("consume", reference=next(iter(_CONSUMERS)))
    for round_ in range(budget.rounds):
        results.disks.append(disk.examine(folder))
        try:
            with disk.room(folder) as place, running(recipes["triode"], place=place) as server:
                _consume(server, budget, round_, results)
        except (ServerError, LoadError) as error:
            results.failures["triode"] = str(error)
            break
    return results


def _consume(server: Server, budget: StoredBudget, round_: int, results: Results) -> None:
    with ExitStack() as stack:
        stored = Stored(stack.enter_context(Loop()), server.address, "bench/backlog")
        stored.publishers.fill(budget.backlog)
        seats: list[tuple[Seat, Consumers | Live]] = []
        traffic: Consumers | Live
        for number, (name, (members, single)) in enumerate(_CONSUMERS.items()):
            loop = stack.enter_context(Loop())
            traffic = Consumers(
                loop, server.address, stored=stored, name=f"worker-{number}", members=members, single=single
            )
            seats.append((Seat(name, server, loop, traffic), traffic))
        loop = stack.enter_context(Loop())
        live = Live(loop, server.address, name="live", members=4)
        seats.append((Seat(_LIVE, server, loop, live), live))
        for seat, _ in seats:
            seat.warm(budget.warm_seconds)
        for cycle in range(budget.cycles):
            for seat, traffic in seats:
                if not traffic.finished:
                    results.windows.append(seat.window(round_, cycle, budget.window_seconds))
        results.accounts += [seat.account(round_) for seat, _ in seats]
        for seat, _ in seats:
            if not any(one.contestant == seat.name for one in results.windows):
                results.failures[seat.name] = "took the whole backlog before its first window"

"""Triode beside the servers that people use today: `python -m bench.neighbours`.

What it must not know: what any of them speaks.
The surprising decision: the load generator and all servers are on one core. So a server's rate is what its own
cost and the generator's leave of it, and only the cost is to be compared; the rate is told as a ratio to Triode's.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs

from bench.crowds import Acked, Crowd, Load, Pairs, open_all
from bench.load import LoadError
from bench.neighbourhood import NEIGHBOURS, Neighbour, is_here, prepare, version_of
from bench.report import environment
from bench.run import allow_files, share_one_core
from bench.servers import Cpu, Server, ServerError, running
from bench.sockets import Loop
from bench.tables import put_section

_WARM_CONNECTIONS: Final = 50
_FIGURES: Final = Path(__file__).parent.parent / "docs" / "comparison-figures.md"
_PER_SECOND: Final = 100  # messages by the clock, to 100 subscribers


@attrs.frozen
class Workload:
    """One that all are loaded with."""

    name: str
    title: str
    opens: Callable[[Loop, tuple[str, int], Neighbour, int], Load]  # of a size: 1, or a part of it
    is_acked: bool = False
    is_paced: bool = False


@attrs.frozen
class Budget:
    """Rounds in new processes; in each, windows of all neighbours in turn."""

    rounds: int
    cycles: int
    seconds: float
    warm_seconds: float
    paced_seconds: float
    part: int  # of the connections, one in so many
    idle: int


FULL: Final = Budget(2, 3, 0.4, 0.2, 1.0, 1, 2_000)
_FEW: Final = 50  # a part of the connections, where it is only looked at who speaks
_MOMENT: Final = 0.01


def _crowd(subscribers: int, size: int, window: int = 64) -> Callable[..., Load]:
    return lambda loop, address, one, part: Crowd(
        loop, address, one.tongue, max(subscribers // part, 2), size, window
    )


WORKLOADS: Final = (
    Workload("fanout-100", "1 → 100, 128 bytes", _crowd(100, 128)),
    Workload("fanout-100-1k", "1 → 100, 1 KiB", _crowd(100, 1024)),
    Workload("fanout-1000", "1 → 1,000, 128 bytes", _crowd(1000, 128)),
    Workload(
        "pairs",
        "100 pairs, 16 in flight, 128 bytes",
        lambda loop, address, one, part: Pairs(loop, address, one.tongue, max(100 // part, 2), 128, 16),
    ),
    Workload(
        "acked",
        "16 publishers × 32 unacknowledged, 128 bytes",
        lambda loop, address, one, part: Acked(loop, address, one.tongue, max(16 // part, 2), 128, 32),
        is_acked=True,
    ),
    Workload("paced", "1 → 100, 100 messages/s, 128 bytes", _crowd(100, 128), is_paced=True),
)


class Family:
    """A server and the processes that it has started."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _all(self) -> list[Server]:
        found = [self._server]
        for one in found:
            for task in Path(f"/proc/{one.pid}/task").iterdir():
                found += [attrs.evolve(one, pid=int(pid)) for pid in (task / "children").read_text().split()]
        return found

    def cpu(self) -> Cpu:
        each = [one.cpu() for one in self._all()]
        return Cpu(
            sum(one.seconds for one in each),
            sum(one.user_ticks for one in each),
            sum(one.system_ticks for one in each),
        )

    def memory_kib(self) -> int:
        return sum(one.memory_kib() for one in self._all())


@attrs.define
class Figures:
    """Of one neighbour in one workload; a figure for each window."""

    cpu_us: list[float] = attrs.field(factory=list)
    rates: list[float] = attrs.field(factory=list)
    latencies: list[int] = attrs.field(factory=list)
    failure: str = ""  # why it has none
    lost: int = 0  # beyond what came too often: doubles are negative

    def at(self, share: float) -> float:
        """Milliseconds that this share of the messages did not take longer than."""
        times = sorted(self.latencies)
        return times[min(int(len(times) * share), len(times) - 1)] / 1e6


@attrs.define
class Idle:
    """What connections cost that say nothing."""

    connect_us: list[float] = attrs.field(factory=list)
    rates: list[float] = attrs.field(factory=list)
    kib: list[float] = attrs.field(factory=list)


Played = dict[str, dict[str, Figures]]  # by workload and neighbour


class _Seat:
    """A neighbour at one workload: its server, its open connections."""

    def __init__(self, stack: ExitStack, neighbour: Neighbour, workload: Workload, part: int) -> None:
        place = Path(stack.enter_context(TemporaryDirectory()))
        self.name = neighbour.name
        self._family = Family(stack.enter_context(running(neighbour.recipe, place=place)))
        server, loop = self._family._server, stack.enter_context(Loop())
        self.load = workload.opens(loop, server.address, neighbour, part)

    def window(self, seconds: float, figures: Figures, *, is_paced: bool) -> None:
        load, family = self.load, self._family
        load.latencies.clear()
        before, began, received, due = family.cpu().seconds, time.perf_counter(), load.received, load.due
        if is_paced:
            assert isinstance(load, Crowd)
            load.pace(seconds, _PER_SECOND)
        else:
            load.pump(seconds)
        took, count = time.perf_counter() - began, load.received - received
        figures.cpu_us.append((family.cpu().seconds - before) * 1e6 / max(count, 1))
        figures.rates.append(count / took)
        if is_paced:  # of a saturated server they only say how much was in flight
            figures.latencies += load.latencies
        figures.lost += load.due - due - count


def _seat(
    stack: ExitStack, neighbour: Neighbour, workload: Workload, budget: Budget, figures: Figures
) -> _Seat | None:
    """Warm; None for one that does not get there, which its figures remember."""
    try:
        seat = _Seat(stack, neighbour, workload, budget.part)
    except (ServerError, LoadError) as error:
        figures.failure = str(error)
        return None
    seat.load.pump(budget.warm_seconds)
    return seat


def play(workload: Workload, neighbours: Sequence[Neighbour], budget: Budget) -> dict[str, Figures]:
    """All rounds, the windows of all in turn, forwards and backwards."""
    able = [one for one in neighbours if one.tongue.acked is not None or not workload.is_acked]
    found = {one.name: Figures() for one in able}
    for _ in range(budget.rounds):
        with ExitStack() as stack:
            seats = [
                seat for one in able if (seat := _seat(stack, one, workload, budget, found[one.name])) is not None
            ]
            for cycle in range(budget.cycles):
                for seat in seats if cycle % 2 else seats[::-1]:
                    seconds = budget.paced_seconds if workload.is_paced else budget.seconds
                    seat.window(seconds, found[seat.name], is_paced=workload.is_paced)
    return found


def play_idle(neighbours: Sequence[Neighbour], budget: Budget) -> dict[str, Idle]:
    """Connections that come, subscribe to one topic, and say nothing."""
    found = {one.name: Idle() for one in neighbours}
    for round_ in range(budget.rounds):
        for one in neighbours if round_ % 2 else neighbours[::-1]:
            with TemporaryDirectory() as place, running(one.recipe, place=Path(place)) as server, Loop() as loop:
                family = Family(server)
                script = one.tongue.subscriber(server.address, "bench/idle")
                open_all(loop, server.address, [script] * _WARM_CONNECTIONS)
                memory, before, began = family.memory_kib(), family.cpu().seconds, time.perf_counter()
                open_all(loop, server.address, [script] * budget.idle)
                took = time.perf_counter() - began
                idle = found[one.name]
                idle.connect_us.append((family.cpu().seconds - before) * 1e6 / budget.idle)
                idle.rates.append(budget.idle / took)
                idle.kib.append((family.memory_kib() - memory) / budget.idle)
    return found


def check(neighbour: Neighbour) -> dict[str, tuple[int, int]]:
    """A moment of each workload, on one server with few connections: units that were due, and that came."""
    found = {}
    with TemporaryDirectory() as place, running(neighbour.recipe, place=Path(place)) as server:
        for workload in WORKLOADS:
            if neighbour.tongue.acked is None and workload.is_acked:
                continue
            with Loop() as loop:
                load = workload.opens(loop, server.address, neighbour, _FEW)
                load.pump(_MOMENT)
                found[workload.name] = load.due, load.received
    return found


def _check_all(neighbours: Sequence[Neighbour]) -> int:
    is_wrong = False
    for one in neighbours:
        counts = check(one)
        wrong = [f"{name}: {received} of {due}" for name, (due, received) in counts.items() if received != due]
        is_wrong |= bool(wrong)
        print(f"{one.name}: {', '.join(wrong) or 'every message once'}", flush=True)
    return int(is_wrong)


# The tables


def _spread(values: Sequence[float]) -> str:
    middle, low, high = median(values), min(values), max(values)
    digits = 2 if middle < 10 else 1 if middle < 100 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def _relative(values: Sequence[float], ours: Sequence[float]) -> float:
    """To Triode's, the median of those of windows beside each other."""
    return median(value / our for value, our in zip(values, ours, strict=True))


def figures_table(played: Played, neighbours: Sequence[Neighbour]) -> list[str]:
    """In Markdown: of each workload the processor time, as a multiple of Triode's, the rate as one."""
    lines = [
        "| workload | server | CPU µs a unit (min–max) | × Triode's | rate × Triode's | p50 ms | p99 ms | lost |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for workload in WORKLOADS:
        found = played.get(workload.name, {})
        for one in neighbours:
            if (figures := found.get(one.name)) is None or (ours := found.get("triode")) is None:
                continue
            if figures.failure or ours.failure:
                lines.append(f"| {workload.title} | {_title(one)} | {figures.failure} | | | | | |")
                continue
            cost = f"{_relative(figures.cpu_us, ours.cpu_us):.2f}"
            rate = "–" if workload.is_paced else f"{_relative(figures.rates, ours.rates):.2f}"
            times = f"{figures.at(0.5):.2f} | {figures.at(0.99):.2f}" if figures.latencies else "– | –"
            cells = (
                f"{_title(one)} | {_spread(figures.cpu_us)} | {cost} | {rate} | {times} | {figures.lost or 'none'}"
            )
            lines.append(f"| {workload.title} | {cells} |")
    return lines


def idle_table(found: Mapping[str, Idle], neighbours: Sequence[Neighbour]) -> list[str]:
    """In Markdown."""
    lines = [
        "| server | KiB a connection | CPU µs a connect (min–max) | connects a second |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in neighbours:
        idle = found[one.name]
        rate = f"{median(idle.rates):,.0f}"
        lines.append(f"| {_title(one)} | {median(idle.kib):.1f} | {_spread(idle.connect_us)} | {rate} |")
    return lines


def who_table(neighbours: Sequence[Neighbour]) -> list[str]:
    """In Markdown: versions and what is to be known of each."""
    rows = [f"| {_title(one)} | {version_of(one)} | {one.carrier} | {one.notes} |" for one in neighbours]
    return [
        "| server | version | its messages travel as | settings and remarks |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def _machine() -> str:
    where = environment()
    machine = f"{where['date']}, {where['cpu']} (shared, load average {where['load']}), {where['kernel']}"
    return f"{machine}, Python {where['python']}, Node.js {where['node']}:"


def _title(neighbour: Neighbour) -> str:
    return "**Triode**" if neighbour.name == "triode" else neighbour.recipe.title


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status is 1 where a message was lost or doubled by Triode."""
    asked = _parse(arguments)
    budget = FULL
    if not asked.quick:
        prepare()
    neighbours = [one for one in NEIGHBOURS if one.name in asked.servers.split(",") or not asked.servers]
    absent = {one.name: why for one in neighbours if (why := is_here(one))}
    for name, why in absent.items():
        print(f"{name} takes no part: {why}")
    neighbours = [one for one in neighbours if one.name not in absent]
    if asked.quick:
        return _check_all(neighbours)
    allow_files()
    share_one_core(asked.core)
    played: Played = {}
    for workload in WORKLOADS:
        if not asked.only or workload.name in asked.only.split(","):
            played[workload.name] = play(workload, neighbours, budget)
            print("\n".join(figures_table({workload.name: played[workload.name]}, neighbours)[2:]), flush=True)
    idle = play_idle(neighbours, budget) if not asked.only or "idle" in asked.only.split(",") else {}
    sections = [figures_table(played, neighbours), idle_table(idle, neighbours) if idle else []]
    text = "\n\n".join("\n".join(lines) for lines in (*sections, who_table(neighbours)) if lines)
    text = f"{_machine()}\n\n{text}"
    print(text)
    if asked.write:
        put_section(_FIGURES, "neighbours", f"{text}\n")
    return int(any(found["triode"].lost for found in played.values() if "triode" in found))


def _parse(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m bench.neighbours", description=__doc__)
    names = ", ".join(one.name for one in WORKLOADS)
    parser.add_argument("--only", default="", metavar="NAMES", help=f"these workloads, of {names}, idle")
    parser.add_argument("--servers", default="", metavar="NAMES", help=", ".join(one.name for one in NEIGHBOURS))
    parser.add_argument(
        "--quick", action="store_true", help="measure nothing: does everybody speak, and is all delivered?"
    )
    parser.add_argument("--core", type=int, default=0, help="the core all processes run on (0)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/comparison-figures.md")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

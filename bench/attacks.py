"""What attacks cost those who do nothing wrong: `python -m bench.attacks`, a broker, attackers, a healthy client.

What it must not know: how an attack goes; `tests.security` has them, and asserts there what may come of them.
The surprising decision: nothing is judged. The attackers share the machine's cores with the broker and the client,
so that a round trip also pays for them; the same attack on a machine of its own shows the broker's part alone.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from attrs import frozen

from tests.security.attackers import ATTACKS
from tests.security.victim import Healthy, Victim, attacked, flood

TRIPS: Final = 4_000  # before each attack, and at least during it
_STEP: Final = 20
_FLOOD_MESSAGES: Final = 1_000
_STALLED: Final = "never-reads"
_MIB: Final = 1 << 20


@frozen
class Figures:
    """One attack: round trips of the healthy client in ms, and the broker's private memory."""

    name: str
    connections: int
    before: tuple[float, float]  # p50, p99
    during: tuple[float, float]
    used: tuple[int, int, int]  # bytes: before, during, after
    ends: str

    @property
    def ratio(self) -> float:
        """Of the p99."""
        return self.during[1] / self.before[1]

    @property
    def row(self) -> str:
        """For a table in Markdown."""
        memory = " → ".join(f"{used / _MIB:.0f}" for used in self.used)
        trips = [f"{p50:.2f} / {p99:.2f}" for p50, p99 in (self.before, self.during)]
        about = ATTACKS[self.name].about
        cells = [f"`{self.name}`", about, self.connections, *trips, f"{self.ratio:.1f}", memory, self.ends]
        return f"| {' | '.join(map(str, cells))} |"


def measure(victim: Victim, healthy: Healthy, name: str, times: int) -> Figures:
    """One attack, `times` as long as in the tests."""
    attack = ATTACKS[name]
    rounds = attack.rounds * times
    before = victim.memory_bytes
    quiet = _trips(healthy, TRIPS)
    with attacked(victim, name, rounds) as attacking:
        if name == _STALLED:
            while not attacking.is_done:
                healthy.round_trips(_STEP)
            flood(victim, _FLOOD_MESSAGES)
        healthy.begin()
        while not attacking.is_done:
            healthy.round_trips(_STEP)
        healthy.round_trips(max(TRIPS - len(healthy.trips), 0))
        loud = healthy.percentile(0.5), healthy.percentile(0.99)
        during = victim.memory_bytes
        ends = ", ".join(f"{end}: {count}" for end, count in sorted(attacking.ends().items()))
    victim.wait_for(connections=2)
    return Figures(name, attack.lines * rounds, quiet, loud, (before, during, victim.memory_bytes), ends)


def _trips(healthy: Healthy, count: int) -> tuple[float, float]:
    healthy.begin()
    healthy.round_trips(count)
    return healthy.percentile(0.5), healthy.percentile(0.99)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)} (all)")
    parser.add_argument("--times", type=int, default=3, help="as long as in the tests (3)")
    options = parser.parse_args(arguments)
    names = options.names or list(ATTACKS)
    if unknown := set(names) - set(ATTACKS):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    print("| attack | what it does | connections | p50 / p99 ms before | during | p99 × | MiB | how they ended |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(Path(folder))
        healthy = Healthy.connect(victim)
        flood(victim, _FLOOD_MESSAGES)
        _trips(healthy, TRIPS)
        found = []
        for name in names:
            found.append(measure(victim, healthy, name, options.times))
            print(found[-1].row, flush=True)
        ratio = median(one.ratio for one in found)
        load = os.getloadavg()[0]
        print(
            f"\np99 during, as a multiple of before: median {ratio:.1f} (load average of this machine {load:.1f})"
        )
        healthy.socket.close()
        return victim.end()


if __name__ == "__main__":
    sys.exit(main())

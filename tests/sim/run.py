"""Plays one simulated run by its seed: `python -m tests.sim.run --seed 7 [--plant NAME] [--trace]`."""

import argparse
import sys
import time
from pathlib import Path

from tests.history.events import write
from tests.sim.faults import ALONE, TOGETHER
from tests.sim.plants import PLANTS
from tests.sim.scenario import Plan, play


def main() -> int:
    """Play, judge, say."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.run", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=1, help="so many seeds, from that one on")
    parser.add_argument("--plant", default="", choices=["", *PLANTS], metavar="NAME")
    parser.add_argument("--alone", action="store_true", help="one node")
    parser.add_argument("--fault", default="", choices=["", *ALONE, *TOGETHER], metavar="NAME")
    parser.add_argument("--trace", action="store_true", help="a line for every event")
    parser.add_argument("--keep", type=Path, help="where the history goes")
    parser.add_argument("--digest", action="store_true", help="say the digest of the history, and nothing else")
    arguments = parser.parse_args()
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        began = time.process_time()
        outcome = play(
            Plan(seed, arguments.plant, arguments.alone, arguments.fault), print if arguments.trace else None
        )
        failed += bool(outcome.violations)
        if arguments.keep:
            write(outcome.events, arguments.keep)
        if arguments.digest:
            print(outcome.digest)
            continue
        if outcome.violations:
            print(outcome.explain())
        seconds = time.process_time() - began
        print(f"seed {seed}: {len(outcome.violations)} violations, {len(outcome.events)} events,", end=" ")
        print(f"{outcome.virtual_seconds:.1f} virtual seconds in {seconds:.2f} s")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

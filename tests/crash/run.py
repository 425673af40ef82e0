"""Plays one crash run by its seed: `python -m tests.crash.run --seed 7`."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import trio
from attrs import evolve

from tests.crash.scenario import Plan, play


def main() -> int:
    """Play, judge, say."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.run", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--lives", type=int, default=8)
    parser.add_argument("--most", type=int, default=120)
    parser.add_argument("--point", action="append", default=[], help="NAME:PASSAGE, one for each life")
    parser.add_argument("--plant", default="")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--keep", type=Path, help="directory for the history and the data")
    arguments = parser.parse_args()
    plan = Plan(arguments.seed, arguments.lives, arguments.point, arguments.plant, arguments.most)
    if arguments.memory:
        plan = evolve(plan, storage="memory")
    if arguments.keep and arguments.keep.exists():
        parser.error(f"{arguments.keep} is there already: a run begins with no data")
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        outcome = trio.run(play, plan, arguments.keep or Path(directory))
        print(outcome.explain() if outcome.violations else "no violation")
    seconds = time.monotonic() - began
    print(f"{outcome.kills} kills, {len(outcome.events)} events, {seconds:.1f} s, reached {outcome.reached}")
    return bool(outcome.violations)


if __name__ == "__main__":
    sys.exit(main())

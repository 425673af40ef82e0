"""`triode` as a process that may kill itself at a named point, or has a bug planted in it.

`python -m tests.crash.broker_process [--plant NAME] [--kill POINT:PASSAGE] [--frames N] -- serve …`
"""

import argparse
import sys
from collections.abc import Sequence

from triode_broker.cli.main import main

from tests.crash.faults import checkpoint_often, kill_at, plant


def run(argv: Sequence[str]) -> int:
    """Arrange the fault, then be `triode`."""
    parser = argparse.ArgumentParser(prog="broker_process")
    parser.add_argument("--plant", default="")
    parser.add_argument("--kill", default="")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv)
    if arguments.plant:
        plant(arguments.plant)
    if arguments.frames:
        checkpoint_often(arguments.frames)
    if arguments.kill:
        point, _, passage = arguments.kill.partition(":")
        kill_at(point, int(passage))
    return main(arguments.command[1:])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

"""Where the broker's time goes under a workload: `python -m bench.hotspots WORKLOAD`, by cProfile.

What it must not know: ratios, peers, results.
The surprising decision: the broker runs under the profiler from its first line, imports and all,
because it is the same command that users start; a window of some seconds drowns the rest. cProfile
makes every call dearer by about 0.1 µs: read the order of the lines, not their times.
"""

import argparse
import pstats
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.plan import WORKLOADS
from bench.servers import RECIPES, running
from bench.sockets import Loop


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    workload = next(one for one in WORKLOADS if one.name == options.workload)
    opens = workload.batched if options.batch else workload.opens
    if opens is None:
        print(f"{workload.name} has no such variant")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "profile")
        prefix = (sys.executable, "-m", "cProfile", "-o", file)
        with running(RECIPES["triode"], prefix) as server:
            with Loop() as loop:
                traffic = opens(loop, server.address)
                traffic.pump(options.seconds)
                count = sum(ledger.received for ledger in traffic.ledgers)
            spent = server.cpu().seconds
        print(f"{workload.title}: {count:,} units, {spent:.2f} s of processor time, start included\n")
        pstats.Stats(file).strip_dirs().sort_stats(options.sort).print_stats(options.top)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.hotspots", description="Profile the broker under one workload."
    )
    parser.add_argument("workload", choices=[one.name for one in WORKLOADS if one.opens is not None])
    parser.add_argument("--batch", action="store_true", help="clients that offer `batch`")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to load it (4)")
    parser.add_argument("--top", type=int, default=20, help="lines to print (20)")
    parser.add_argument("--sort", default="tottime", choices=["tottime", "cumtime", "ncalls"])
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Where the broker's time goes under a workload: `python -m bench.hotspots WORKLOAD`, by cProfile.

What it must not know: ratios, peers, results.
The surprising decision: the broker runs under the profiler from its first line, imports and all,
because it is the same command that users start; a window of some seconds drowns the rest. cProfile
makes every call dearer by about 0.1 µs, and it measures wall time, so the generator is not put on
the broker's core here: read the order of the lines, not their times. Of stored topics it sees the thread
of the loop, not the one that writes.
"""

import argparse
import pstats
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import disk
from bench.consuming import Live
from bench.pacing import Publishers
from bench.plan import WORKLOADS, Workload
from bench.run import allow_files
from bench.servers import RECIPES, STORING, running
from bench.sockets import Loop
from bench.speakers import TriodeSpeaker
from bench.workloads import Address, open_idle

_RESULTS = Path(__file__).parent / "results"
#: On stored topics, what can be loaded for a while.
_STORED = {
    "durable": Workload(
        "durable",
        "publishes, stored",
        "publish",
        0.0,
        lambda loop, address: Publishers(loop, address, speaker=TriodeSpeaker()),
    ),
    "consume": Workload(
        "consume",
        "publishes, stored, delivered and confirmed",
        "delivery",
        0.0,
        lambda loop, address: Live(loop, address, name="live", members=4),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    workload = {one.name: one for one in WORKLOADS}.get(options.workload) or _STORED[options.workload]
    if options.batch and workload.batched is None:
        print(f"{workload.name} has no variant with batches")
        return 2
    allow_files()
    recipe = (STORING if options.workload in _STORED else RECIPES)["triode"]
    with tempfile.TemporaryDirectory() as folder, disk.room(_RESULTS) as place:
        file = str(Path(folder) / "profile")
        prefix = (sys.executable, "-m", "cProfile", "-o", file)
        with running(recipe, prefix, place) as server:
            with Loop() as loop:
                count = _load(workload, loop, server.address, options)
            spent = server.cpu().seconds
        print(f"{workload.title}: {count:,} units, {spent:.2f} s of processor time, start included\n")
        pstats.Stats(file).strip_dirs().sort_stats(options.sort).print_stats(options.top)
    return 0


def _load(workload: Workload, loop: Loop, address: Address, options: argparse.Namespace) -> int:
    opens = workload.batched if options.batch else workload.opens
    if opens is None:
        return len(open_idle(loop, address, workload.connections))
    traffic = opens(loop, address)
    traffic.pump(options.seconds)
    return sum(ledger.received for ledger in traffic.ledgers)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.hotspots", description="Profile the broker under one workload."
    )
    parser.add_argument("workload", choices=[*(one.name for one in WORKLOADS), *_STORED])
    parser.add_argument("--batch", action="store_true", help="clients that offer `batch`")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to load it (4)")
    parser.add_argument("--top", type=int, default=20, help="lines to print (20)")
    parser.add_argument("--sort", default="tottime", choices=["tottime", "cumtime", "ncalls"])
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

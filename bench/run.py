"""The command `python -m bench`: plays the workloads, prints the figures, writes them down.

What it must not know: how anything is measured.
The surprising decision: the exit status speaks of correctness only. A lost, doubled or misordered
message of Triode's fails the run; a missed target is printed, because a shared machine must not
turn a build red.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Sequence

from bench.contest import Results, play
from bench.plan import FULL, QUICK, WORKLOADS
from bench.report import console, rows, write_latest, write_readme
from bench.servers import RECIPES, ServerError, prepare_uws

_FILES_NEEDED = 5000 + 500


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    servers = _available(options.servers)
    allow_files()
    share_one_core(options.core)
    began = time.monotonic()
    played: list[Results] = []
    for workload in WORKLOADS:
        if options.only and workload.name not in options.only:
            continue
        print(f"{workload.title} (server CPU per {workload.unit})", flush=True)
        results = play(workload, servers, QUICK if options.quick else FULL)
        played.append(results)
        for row in rows(results):
            print(console(row))
        for name, reason in results.failures.items():
            print(f"  {name:14}did not take part: {reason}")
    print(f"\n{time.monotonic() - began:.0f} s; all windows in {_relative(write_latest(played))}")
    if options.write_readme:
        write_readme(played)
    return _status(played)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Triode beside µWebSockets and a naive server."
    )
    parser.add_argument("--only", action="append", choices=names, help="this workload (repeatable)")
    parser.add_argument("--servers", default="uws,triode,naive", help="which take part, in order (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute")
    parser.add_argument("--core", type=int, default=0, help="the core all processes run on (0)")
    parser.add_argument("--write-readme", action="store_true", help="put the table into bench/README.md")
    options = parser.parse_args(arguments)
    options.servers = options.servers.split(",")
    if unknown := [name for name in options.servers if name not in RECIPES]:
        parser.error(f"no such server: {', '.join(unknown)} (there are {', '.join(RECIPES)})")
    return options


def _available(names: list[str]) -> list[str]:
    if "uws" in names:
        try:
            prepare_uws()
        except ServerError as error:
            print(f"Without µWebSockets there are no ratios: {error}")
            return [name for name in names if name != "uws"]
    return names


def share_one_core(core: int) -> None:
    """The generator on this core, and the servers too: they inherit it."""
    os.sched_setaffinity(0, {core})
    # A batch process does not preempt the server when a message wakes it, as no remote client would.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def allow_files() -> None:
    """Open files enough for the idle workload, here and in the servers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES_NEEDED:
        wanted = _FILES_NEEDED if hard == resource.RLIM_INFINITY else min(_FILES_NEEDED, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _relative(path: os.PathLike[str]) -> str:
    return os.path.relpath(path)


def _status(played: Sequence[Results]) -> int:
    """1 if Triode did not take part or delivered anything but every message once and in order."""
    absent = any(name.startswith("triode") for results in played for name in results.failures)
    ours = [row for results in played for row in rows(results) if row.contestant.startswith("triode")]
    return int(absent or not all(row.exact for row in ours))


if __name__ == "__main__":
    sys.exit(main())

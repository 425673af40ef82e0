"""The command `python -m bench`: plays the workloads, prints the figures, writes them down.

What it must not know: how anything is measured.
The surprising decision: the exit status speaks of correctness only. A lost, doubled or misordered
message of Triode's fails the run; a missed target is printed, because a shared machine must not
turn a build red.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from bench.client_tables import client_verdict
from bench.clients import play_clients
from bench.cluster_tables import cluster_console
from bench.clustered import play_deliver, play_fan_out, play_forward, play_hop, play_workers
from bench.contest import Results, play
from bench.mesh import play_mesh
from bench.plan import (
    AGAINST,
    AGAINST_DEFAULT,
    CLIENT_WORKLOADS,
    CLUSTER_WORKLOADS,
    FULL,
    FULL_CLIENTS,
    FULL_CLUSTER,
    FULL_STORED,
    QUICK,
    QUICK_CLIENTS,
    QUICK_CLUSTER,
    QUICK_STORED,
    STORED_WORKLOADS,
    WORKLOADS,
    ClusterBudget,
    StoredBudget,
)
from bench.report import Row, console, rows, verdict, write_latest
from bench.restart import play_restart
from bench.servers import RECIPES, STORING, Recipe, ServerError, prepare_uws, triode_of
from bench.stored import play_consume, play_durable
from bench.storms import play_storm
from bench.tables import against_verdict, start_verdict, stored_verdict, typical, write_sections

_FILES_NEEDED = 5000 + 500
_DATA = Path(__file__).parent / "results"  # on the disk that the checkout is on
_STORED: dict[str, Callable[[Mapping[str, Recipe], StoredBudget, Path], Results]] = {
    "durable": play_durable,
    "consume": play_consume,
    "restart": play_restart,
}

_CLUSTERED: dict[str, Callable[[ClusterBudget], Results]] = {
    "cluster-fanout": play_fan_out,
    "cluster-forward": play_forward,
    "cluster-deliver": play_deliver,
    "cluster-hop": play_hop,
    "cluster-workers": play_workers,
    "cluster-storm": play_storm,
    "cluster-mesh": play_mesh,
}
#: What stands for several workloads in `--only`.
_ALL_OF = {"cluster": list(_CLUSTERED), "clients": [one.name for one in CLIENT_WORKLOADS]}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    allow_files()
    share_one_core(options.core)
    began = time.monotonic()
    against = _play_against(options) if options.against else []
    memory = [] if options.against else _play_memory(options)
    stored = [] if options.against else _play_stored(options)
    clustered = [] if options.against else _play_clustered(options)
    clients = [] if options.against else _play_clients(options)
    played = [*against, *memory, *stored, *clustered, *clients]
    print(f"\n{time.monotonic() - began:.0f} s; all windows in {_relative(write_latest(played))}")
    if options.write_readme:
        write_sections(memory, stored, against, clustered=clustered, clients=clients)
    return _status(played)


def _play_memory(options: argparse.Namespace) -> list[Results]:
    wanted = [workload for workload in WORKLOADS if workload.name in options.only]
    if not wanted:
        return []
    names = _available([name for name in options.servers if name in RECIPES])
    played = []
    for workload in wanted:
        print(f"{workload.title} (server CPU per {workload.unit})", flush=True)
        recipes = {name: RECIPES[name] for name in names}
        played.append(play(workload, recipes, QUICK if options.quick else FULL))
        _tell(played[-1], verdict)
    return played


def _play_stored(options: argparse.Namespace) -> list[Results]:
    recipes = {name: STORING[name] for name in options.servers if name in STORING}
    played = []
    for workload in STORED_WORKLOADS:
        if workload.name not in options.only or (workload.name != "durable" and "triode" not in recipes):
            continue
        print(f"{workload.title} (server CPU per {workload.unit})", flush=True)
        budget = QUICK_STORED if options.quick else FULL_STORED
        results = _STORED[workload.name](recipes, budget, options.data)
        played.append(results)
        print(f"  data on {typical(results.disks)}")
        _tell(results, stored_verdict)
    return played


def _play_clustered(options: argparse.Namespace) -> list[Results]:
    """Triode as several nodes; nobody else takes part."""
    played = []
    for workload in CLUSTER_WORKLOADS:
        if workload.name not in options.only or "triode" not in options.servers:
            continue
        print(f"{workload.title} (server CPU per {workload.unit})", flush=True)
        played.append(_CLUSTERED[workload.name](QUICK_CLUSTER if options.quick else FULL_CLUSTER))
        for line in cluster_console(played[-1]):
            print(line, flush=True)
        for name, reason in played[-1].failures.items():
            print(f"  {name}: {reason}", flush=True)
    return played


def _play_clients(options: argparse.Namespace) -> list[Results]:
    """Triode's own clients beside code by hand, and beside another's client of its own server."""
    played = []
    for workload in CLIENT_WORKLOADS:
        if workload.name not in options.only or "triode" not in options.servers:
            continue
        print(f"{workload.title} (client CPU per {workload.unit})", flush=True)
        played.append(play_clients(workload.name, QUICK_CLIENTS if options.quick else FULL_CLIENTS))
        _tell(played[-1], client_verdict)
    return played


def _play_against(options: argparse.Namespace) -> list[Results]:
    """Triode of this checkout beside the one of another, on memory topics."""
    recipes = {"before": triode_of(options.against, "before"), "triode": RECIPES["triode"]}
    remark = f"against {_commit(options.against)}"
    played = []
    for workload in WORKLOADS:
        if workload.name not in options.only:
            continue
        print(f"{workload.title} (server CPU per {workload.unit}), {remark}", flush=True)
        alone = attrs.evolve(workload, batched=None)
        results = play(alone, recipes, QUICK if options.quick else AGAINST, reference="before")
        results.remark = remark
        played.append(results)
        _tell(results, against_verdict)
    return played


def _tell(results: Results, judge: Callable[[Row], str]) -> None:
    for row in rows(results):
        print(console(row, judge(row)))
    for start in results.starts:
        faults = ", ".join(start.faults) or "exact"
        figures = f"{start.seconds:.2f} s (CPU {start.cpu_seconds:.2f} s, {start.mib:.0f} MiB private)"
        print(f"  {start.contestant:28}{figures}  {faults}  {start_verdict(start.seconds)}")
    if results.starts:
        print(f"  {results.remark}")
    for name, reason in results.failures.items():
        print(f"  {name:14}did not take part: {reason}")
    sys.stdout.flush()


def _commit(checkout: Path) -> str:
    """What a checkout is called; its directory's name where git does not know."""
    asked = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or checkout.name


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [one.name for one in (*WORKLOADS, *STORED_WORKLOADS, *CLUSTER_WORKLOADS, *CLIENT_WORKLOADS)]
    servers = list(dict.fromkeys([*RECIPES, *STORING]))
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Triode beside other servers: memory topics, stored ones, several nodes, its clients.",
        epilog=f"workloads: {', '.join(names)}, cluster (those of several nodes), clients (of client libraries); "
        f"servers: {', '.join(servers)}",
    )
    add = parser.add_argument
    add("--only", action="append", metavar="NAMES", help="these workloads, separated by commas (repeatable)")
    add("--servers", metavar="NAMES", help="which take part where they can, in this order (all)")
    add("--against", type=Path, metavar="DIR", help="beside the Triode of another checkout, nobody else")
    add("--data", type=Path, metavar="DIR", default=_DATA, help="where servers store (bench/results)")
    add("--quick", action="store_true", help="one short round")
    add("--core", type=int, default=0, help="the core all processes run on (0)")
    add("--write-readme", action="store_true", help="put the tables into bench/README.md")
    options = parser.parse_args(arguments)
    alone = {name for several in _ALL_OF.values() for name in several}
    everything = AGAINST_DEFAULT if options.against else [name for name in names if name not in alone]
    options.only = _list(parser, options.only, "workload", everything, names)
    given = None if options.servers is None else [options.servers]
    options.servers = _list(parser, given, "server", ["uws", "triode", "naive", *servers], servers)
    if options.against and not (options.against / "broker" / "triode_broker").is_dir():
        parser.error(f"--against {options.against}: there is no broker/triode_broker in it")
    return options


def _list(
    parser: argparse.ArgumentParser,
    given: Sequence[str] | None,
    what: str,
    otherwise: Sequence[str],
    known: Sequence[str],
) -> list[str]:
    """Names separated by commas, each once."""
    if given is None:
        return list(dict.fromkeys(otherwise))
    wanted = [each for part in given for name in part.split(",") for each in _ALL_OF.get(name, [name])]
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"no such {what}: {', '.join(unknown)} (there are {', '.join(known)})")
    return list(dict.fromkeys(wanted))


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
    clustered = [results for results in played if results.workload in _CLUSTERED]
    absent = absent or any(results.failures for results in clustered)
    ours += [row for results in clustered for row in rows(results)]
    faults = [one.faults for results in played for one in results.starts]
    faults += [one.faults for results in clustered for one in results.returns]
    return int(absent or not all(row.exact for row in ours) or any(faults))


if __name__ == "__main__":
    sys.exit(main())

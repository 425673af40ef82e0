"""Turns windows into figures: medians, ratios to the reference, the table of memory topics, the file.

What it must not know: servers, sockets, how anything was run.
The surprising decision: a ratio is not the ratio of two medians but the median of the ratios of
neighbouring windows, so that a slow minute of the machine does not count for one side only.
"""

import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from bench.contest import Account, Results, Window
from bench.plan import IDLE_TARGET_KIB, WORKLOADS, Workload
from bench.servers import ServerError, find_program

_LATEST = Path(__file__).parent / "results" / "latest.json"
_TITLES = {
    "uws": "µWebSockets",
    "triode": "**Triode**",
    "triode, batch": "**Triode**, `batch`",
    "naive": "naive trio",
}


@attrs.frozen
class Row:
    """The figures of one contestant in one workload."""

    workload: str
    contestant: str
    cpu_us: float
    user_us: float
    system_us: float
    rate: float
    ratio: float | None  # of cpu_us to the reference's
    p50_ms: float | None
    p99_ms: float | None
    lost: int
    doubled: int
    misordered: int
    notices: dict[str, int]
    kib: float | None
    kib_own_topic: float | None
    rate_ratio: float | None = None
    steady_rate: float | None = None  # of p50 and p99, where they are not of the windows
    steady_cpu_us: float | None = None

    @property
    def exact(self) -> bool:
        """Every message once, in order, and nothing the workload did not ask for."""
        return not (self.lost or self.doubled or self.misordered or self.notices)


def rows(results: Results) -> list[Row]:
    """One row per contestant, in the order they played."""
    names = list(dict.fromkeys(window.contestant for window in results.windows))
    reference = {
        (one.round, one.cycle): one.cpu_us for one in results.windows if one.contestant == results.reference
    }
    return [_row(results, name, reference) for name in names]


def _row(results: Results, name: str, reference: dict[tuple[int, int], float]) -> Row:
    windows = [one for one in results.windows if one.contestant == name]
    accounts = [one for one in results.accounts if one.contestant == name]
    cpu_us = median(one.cpu_us for one in windows)
    user = sum(one.user_seconds for one in windows)
    share = user / (user + sum(one.system_seconds for one in windows))
    return Row(
        results.workload,
        name,
        cpu_us,
        cpu_us * share,
        cpu_us * (1 - share),
        median(one.count / one.seconds for one in windows),
        _ratio(windows, reference),
        _median(one.p50_ms for one in accounts),
        _median(one.p99_ms for one in accounts),
        sum(one.lost for one in accounts),
        sum(one.doubled for one in accounts),
        sum(one.misordered for one in accounts),
        _added(accounts),
        _median(one.kib for one in accounts),
        _median(one.kib_own_topic for one in accounts),
        _rate_ratio(results, windows),
        _median(one.steady_rate for one in accounts),
        _median(one.steady_cpu_us for one in accounts),
    )


def _rate_ratio(results: Results, windows: Sequence[Window]) -> float | None:
    """The rate on the core that server and generator share, as a multiple of the reference's."""
    rates = {
        (one.round, one.cycle): one.count / one.seconds
        for one in results.windows
        if one.contestant == results.reference
    }
    return _median(
        one.count / one.seconds / rates[one.round, one.cycle] for one in windows if (one.round, one.cycle) in rates
    )


def _ratio(windows: Sequence[Window], reference: dict[tuple[int, int], float]) -> float | None:
    return _median(
        one.cpu_us / reference[one.round, one.cycle] for one in windows if (one.round, one.cycle) in reference
    )


def _median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


def _added(accounts: Sequence[Account]) -> dict[str, int]:
    total: dict[str, int] = {}
    for account in accounts:
        for kind, count in account.notices.items():
            total[kind] = total.get(kind, 0) + count
    return total


def verdict(row: Row) -> str:
    """What the row says about Triode's target; empty for the others."""
    workload = next(one for one in WORKLOADS if one.name == row.workload)
    if row.contestant != "triode":
        return ""
    parts = []
    if row.ratio is not None:
        parts.append(_ratio_verdict(row, row.ratio, workload))
    if row.kib is not None:
        fine = row.kib <= IDLE_TARGET_KIB
        parts.append(f"{'met' if fine else 'MISSED'}: ≤ {IDLE_TARGET_KIB:g} KiB")
    return "; ".join(parts)


def _ratio_verdict(row: Row, ratio: float, workload: Workload) -> str:
    if workload.opens is None:
        rate, least = row.rate_ratio or 0.0, 1 / workload.target
        word = "met" if rate >= least else "MISSED"
        return (
            f"{word}: connects/s ≥ {least:g} × (is {rate:.2f} ×; per second of the server's CPU {1 / ratio:.2f} ×)"
        )
    word = "met" if ratio <= workload.target else "MISSED"
    return f"{word}: ≤ {workload.target:g} ×"


def correctness(row: Row) -> str:
    if row.exact:
        return "exact"
    text = f"lost {row.lost}, doubled {row.doubled}, misordered {row.misordered}"
    return text + "".join(f", {count} × {kind}" for kind, count in row.notices.items())


def markdown(table: Sequence[Row]) -> str:
    """All rows as a Markdown table."""
    lines = [
        "| workload | server | CPU µs (user) | × µWebSockets | rate /s | p50 ms | p99 ms | delivery | target |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table:
        workload = next(one for one in WORKLOADS if one.name == row.workload)
        memory = (
            ""
            if row.kib is None or row.kib_own_topic is None
            else f"; {row.kib:.2f} KiB, own topic +{row.kib_own_topic:.2f} KiB"
        )
        cells = (
            f"{workload.title}, per {workload.unit}",
            _TITLES[row.contestant],
            f"{figure(row.cpu_us)} ({figure(row.user_us)}){memory}",
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            f"{row.rate:,.0f}",
            "–" if row.p50_ms is None else f"{row.p50_ms:.2f}",
            "–" if row.p99_ms is None else f"{row.p99_ms:.2f}",
            correctness(row),
            verdict(row) or "–",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def figure(value: float) -> str:
    """Three significant digits, without exponents."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def console(row: Row, judged: str) -> str:
    """One line for the terminal, with what was judged of it."""
    ratio = "" if row.ratio is None else f"{row.ratio:5.2f} ×"
    width = max(14, len(row.contestant) + 1)
    memory = "" if row.kib is None else f"  {row.kib:.2f} KiB (+{row.kib_own_topic:.2f} own topic)"
    latency = "" if row.p50_ms is None else f"  p50 {row.p50_ms:.2f} p99 {row.p99_ms:.2f} ms"
    if row.steady_rate is not None:
        latency += f" at {row.steady_rate:,.0f}/s ({figure(row.steady_cpu_us or 0.0)} µs)"
    return (
        f"  {row.contestant:{width}}{figure(row.cpu_us):>8} µs (user {figure(row.user_us):>5}) {ratio:8}"
        f"{row.rate:>12,.0f}/s{latency}{memory}  {correctness(row)}  {judged}"
    ).rstrip()


def environment() -> dict[str, str]:
    """What the figures depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{os.cpu_count()} × {model}",
        "kernel": f"Linux {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "node": _node_version(),
        "load": f"{os.getloadavg()[1]:.1f}",  # of 5 minutes; the benchmark itself is 1
    }


def _node_version() -> str:
    return version_of("node", "--version").lstrip("v") or "none"


def version_of(*command: str) -> str:
    """The first number in what a program says of itself; empty where it is not installed."""
    try:
        program = find_program(command[0])
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, ServerError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else ""


def write_latest(played: Sequence[Results]) -> Path:
    """Everything measured, windows and all, as bench/results/latest.json."""
    document: dict[str, Any] = {
        "environment": environment(),
        "rows": [attrs.asdict(row) for results in played for row in rows(results)],
        "windows": {results.workload: [attrs.asdict(one) for one in results.windows] for results in played},
        "starts": [attrs.asdict(one) for results in played for one in results.starts],
        "returns": [attrs.asdict(one) for results in played for one in results.returns],
        "meshes": [attrs.asdict(one) for results in played for one in results.meshes],
        "disks": {results.workload: [attrs.asdict(one) for one in results.disks] for results in played},
        "failures": {results.workload: results.failures for results in played if results.failures},
    }
    _LATEST.parent.mkdir(exist_ok=True)
    _LATEST.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return _LATEST

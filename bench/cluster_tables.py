"""What is judged and shown of several nodes.

What it must not know: servers, sockets, how anything was run.
The surprising decision: beside the median of what the cluster adds stands the least of all windows. On a machine
that others use too, the median says what was seen, the least what the code costs.
"""

from collections.abc import Sequence
from statistics import median

from bench.clustered import SINGLE, added_us
from bench.contest import Mesh, Results, Return
from bench.plan import CLUSTER_WORKLOADS, ClusterWorkload
from bench.report import Row, correctness, figure, rows

_ONE_WORKER = "1 worker"
_HOPS = ("2 nodes, forwarded", "2 nodes, delivered")


def _workload(name: str) -> ClusterWorkload:
    return next(one for one in CLUSTER_WORKLOADS if one.name == name)


def _word(met: bool) -> str:
    return "met" if met else "MISSED"


def cluster_verdict(results: Results, row: Row) -> str:
    """What a row says about its target; empty for those that it is compared with."""
    workload = _workload(results.workload)
    if row.contestant in (SINGLE, _ONE_WORKER, "2 nodes, topic here"):
        return ""
    if workload.ratio and row.ratio is not None:
        return f"{_word(row.ratio <= workload.ratio)}: ≤ {workload.ratio:g} ×"
    if workload.added_us and (added := added_us(results.windows, row.contestant)):
        return f"{_word(median(added) <= workload.added_us)}: ≤ {workload.added_us:g} µs more"
    if workload.rate_ratio and row.rate_ratio is not None:
        return f"{_word(row.rate_ratio >= workload.rate_ratio)}: ≥ {workload.rate_ratio:g} × the rate"
    if workload.added_ms and row.contestant in _HOPS:
        return f"{_word(_later_ms(results, row) <= workload.added_ms)}: ≤ {workload.added_ms:g} ms later"
    return ""


def _later_ms(results: Results, row: Row) -> float:
    """By how much the median message comes later than on a single node, in the same round."""
    single = {one.round: one.p50_ms for one in results.accounts if one.contestant == SINGLE}
    mine = [one for one in results.accounts if one.contestant == row.contestant]
    return median((one.p50_ms or 0.0) - (single.get(one.round) or 0.0) for one in mine)


def _more(results: Results, row: Row) -> str:
    if row.contestant in (SINGLE, _ONE_WORKER):
        return "–"
    if results.workload == "cluster-hop":
        return f"{_later_ms(results, row):+.2f} ms"
    added = added_us(results.windows, row.contestant)
    return (
        f"{median(added):+.2f} µs (least {min(added):+.2f})"
        if added
        else f"{row.rate_ratio or 0.0:.2f} × the rate"
    )


def cluster_console(results: Results) -> list[str]:
    """Lines for the terminal."""
    lines = [
        f"  {row.contestant:26}{figure(row.cpu_us):>8} µs {row.ratio or 0.0:6.2f} ×{row.rate:>12,.0f}/s"
        f"  {_more(results, row)}  {correctness(row)}  {cluster_verdict(results, row)}".rstrip()
        for row in rows(results)
    ]
    lines += [
        f"  {one.contestant:32}{one.seconds:6.2f} s  {_told(one)}  {', '.join(one.faults) or 'exact'}  "
        f"{_back_verdict(one.seconds)}"
        for one in results.returns
    ]
    lines += ["  " + "  ".join(_mesh_cells(one)) for one in results.meshes]
    return lines


def cluster_markdown(played: Sequence[Results]) -> str:
    """All of it as Markdown tables; what was not played is left out."""
    flowing = [(results, row) for results in played for row in rows(results)]
    lines = [
        (
            f"{_workload(results.workload).title}, per {_workload(results.workload).unit}",
            row.contestant,
            f"{figure(row.cpu_us)} ({figure(row.user_us)})",
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            _more(results, row),
            f"{row.rate:,.0f}",
            "–" if row.p50_ms is None else f"{row.p50_ms:.2f}",
            correctness(row),
            cluster_verdict(results, row) or "–",
        )
        for results, row in flowing
    ]
    head = ("workload", "servers", "CPU µs (user)", "×", "more", "rate /s", "p50 ms", "delivery", "target")
    tables = [_markdown(head, lines)] if lines else []
    tables += [f"{results.remark}.\n" for results in played if results.remark]
    if returns := [one for results in played for one in results.returns]:
        tables.append(_returns_markdown(returns))
    if meshes := [one for results in played for one in results.meshes]:
        tables.append(_markdown(_MESH_HEAD, [_mesh_cells(one) for one in meshes]))
    tables += [f"{name}: {reason}\n" for results in played for name, reason in results.failures.items()]
    return "\n".join(tables)


def _returns_markdown(returns: Sequence[Return]) -> str:
    lines = []
    for name in dict.fromkeys(one.contestant for one in returns):
        some = [one for one in returns if one.contestant == name]
        slowest = max(some, key=lambda one: one.seconds)
        faults = sorted({fault for one in some for fault in one.faults})
        lines.append(
            (
                name,
                f"{slowest.clients:,}",
                f"{median(one.seconds for one in some):.2f} (slowest {slowest.seconds:.2f})",
                _told(slowest),
                ", ".join(faults) or "exact",
                _back_verdict(slowest.seconds),
            )
        )
    return _markdown(
        ("3 nodes", "clients", "s until all were live again", "told to wait", "delivery", "target"), lines
    )


def _told(one: Return) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in one.told.items()) or "nobody told to wait"


def _back_verdict(seconds: float) -> str:
    most = _workload("cluster-storm").back_seconds
    return f"{_word(seconds <= most)}: ≤ {most:g} s"


_MESH_HEAD = (
    "nodes",
    "filters",
    "bytes each, at another node",
    "s to register all",
    "KiB at a link's opening",
    "longest wait for a pong meanwhile, ms",
    "publish that nobody elsewhere wants, µs",
)


def _mesh_cells(one: Mesh) -> tuple[str, ...]:
    return (
        f"{one.nodes}",
        f"{one.filters:,} {one.kind}",
        f"{one.bytes_each:,.0f}",
        f"{one.register_seconds:.2f}",
        f"{one.opening_kib:,.0f}",
        f"{one.stall_ms:.0f}",
        f"{one.publish_us:.2f}",
    )


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n" for cells in table)

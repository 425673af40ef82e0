"""What is judged and shown of clients.

What it must not know: libraries, servers, how anything was run.
The surprising decision: beside a rate that misses its target stands the processor time that the target leaves for
a message. The rate needs both cores for client and broker alone; on a shared machine others have some of them.
"""

from collections.abc import Sequence
from typing import Final

from bench.contest import Results
from bench.plan import CLIENT_WORKLOADS, ClientWorkload
from bench.report import Row, correctness, figure, rows

TITLES: Final = {
    "triode": "**Triode**, `triode` (trio)",
    "triode, asyncio": "**Triode**, `triode.asyncio`",
    "triode, sync": "**Triode**, `triode.sync`",
    "websockets, arrays": "`websockets` by hand, arrays of packets",
    "websockets": "`websockets` by hand, a packet a frame",
    "nats-py": "`nats-py`, WebSocket",
    "nats-py, TCP": "`nats-py`, TCP",
}
_HEAD: Final = ("workload", "client", "client CPU µs (user)", "× by hand", "rate /s (best)", "delivery", "target")


def client_verdict(row: Row) -> str:
    """What a row says about its target; empty for the neighbours' rows."""
    if not row.contestant.startswith("triode"):
        return ""
    workload = _workload(row.workload)
    if row.rate >= workload.rate:
        return f"met: ≥ {workload.rate:,.0f}/s"
    word = "met" if row.cpu_us <= workload.cpu_us else "MISSED"
    return f"MISSED: ≥ {workload.rate:,.0f}/s; {word}: ≤ {workload.cpu_us:g} µs"


def client_markdown(played: Sequence[Results]) -> str:
    """All of it as one Markdown table, with who did not take part."""
    lines = [
        _HEAD,
        ("---",) * len(_HEAD),
        *(_cells(row, _best_rate(results, row)) for results in played for row in rows(results)),
    ]
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
    absent = {name: reason for results in played for name, reason in results.failures.items()}
    return table + "".join(f"\n{TITLES[name]} did not take part: {reason}.\n" for name, reason in absent.items())


def _best_rate(results: Results, row: Row) -> float:
    """In the window that was disturbed least."""
    return max(one.count / one.seconds for one in results.windows if one.contestant == row.contestant)


def _cells(row: Row, best_rate: float) -> tuple[str, ...]:
    workload = _workload(row.workload)
    return (
        f"{workload.title}, per {workload.unit}",
        TITLES[row.contestant],
        f"{figure(row.cpu_us)} ({figure(row.user_us)})",
        "–" if row.ratio is None else f"{row.ratio:.2f}",
        f"{row.rate:,.0f} ({best_rate:,.0f})",
        "not checked" if _is_unchecked(row) else correctness(row),
        client_verdict(row) or "–",
    )


def _is_unchecked(row: Row) -> bool:
    return row.workload == "clients-send" and row.contestant.startswith("nats")


def _workload(name: str) -> ClientWorkload:
    return next(one for one in CLIENT_WORKLOADS if one.name == name)

"""What is judged and shown of stored topics and of an earlier version, and how tables get into bench/README.md.

What it must not know: servers, sockets, how anything was run.
The surprising decision: each table of the README has a section of its own and is written only by a run that has
figures for it, so that an hour of durable figures can be taken without a word about fan-outs.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench.client_tables import client_markdown
from bench.cluster_tables import cluster_markdown
from bench.contest import Results, Start
from bench.disk import Disk
from bench.plan import AGAINST_TARGET, STORED_WORKLOADS, WORKLOADS
from bench.report import Row, correctness, environment, figure, markdown, rows, version_of

_README = Path(__file__).parent / "README.md"
_TITLES = {
    "jetstream": "NATS JetStream, file storage, `sync_interval: always`",
    "jetstream-lazy": "NATS JetStream, file storage, default (flushed every 2 minutes)",
    "mosquitto": "Mosquitto, QoS 1, persistence on (not flushed before PUBACK)",
}


def stored_verdict(row: Row) -> str:
    """What a row says about the targets of stored topics; empty for the others' rows."""
    workload = next(one for one in STORED_WORKLOADS if one.name == row.workload)
    if not row.contestant.startswith("triode"):
        return ""
    parts = []
    if workload.rate:
        parts.append(f"{_word(row.rate >= workload.rate)}: ≥ {workload.rate:,.0f}/s")
    if workload.cpu_us:
        parts.append(f"{_word(row.cpu_us <= workload.cpu_us)}: ≤ {workload.cpu_us:g} µs")
    if workload.p99_ms and row.p99_ms is not None:
        parts.append(f"{_word(row.p99_ms <= workload.p99_ms)}: p99 ≤ {workload.p99_ms:g} ms")
    return "; ".join(parts)


def start_verdict(seconds: float) -> str:
    """What the time of a start says about its target."""
    [most] = [one.start_seconds for one in STORED_WORKLOADS if one.start_seconds]
    return f"{_word(seconds <= most)}: ≤ {most:g} s"


def against_verdict(row: Row) -> str:
    """What a row says beside the earlier version's."""
    if row.contestant != "triode" or row.ratio is None:
        return ""
    return f"{_word(row.ratio <= AGAINST_TARGET)}: ≥ {1 / AGAINST_TARGET:g} × (is {1 / row.ratio:.3f} ×)"


def _word(met: bool) -> str:
    return "met" if met else "MISSED"


def stored_markdown(table: Sequence[Row]) -> str:
    """Rows of stored topics as a Markdown table."""
    head = (
        "workload",
        "server",
        "CPU µs (user)",
        "rate /s",
        "at half the rate: /s",
        "CPU µs",
        "p50 ms",
        "p99 ms",
        "delivery",
        "target",
    )
    return _markdown(head, [_stored_cells(row) for row in table])


def _stored_cells(row: Row) -> tuple[str, ...]:
    workload = next(one for one in STORED_WORKLOADS if one.name == row.workload)
    return (
        f"{workload.title}, per {workload.unit}",
        _title(row.contestant),
        f"{figure(row.cpu_us)} ({figure(row.user_us)})",
        f"{row.rate:,.0f}",
        "–" if row.steady_rate is None else f"{row.steady_rate:,.0f}",
        "–" if row.steady_cpu_us is None else figure(row.steady_cpu_us),
        "–" if row.p50_ms is None else f"{row.p50_ms:.2f}",
        "–" if row.p99_ms is None else f"{row.p99_ms:.2f}",
        correctness(row),
        stored_verdict(row) or "–",
    )


def starts_markdown(starts: Sequence[Start]) -> str:
    """One line for each kind of end: medians, and the slowest."""
    lines = []
    for name in dict.fromkeys(one.contestant for one in starts):
        some = [one for one in starts if one.contestant == name]
        seconds = median(one.seconds for one in some)
        lines.append(
            (
                _title(name),
                f"{seconds:.2f} (slowest {max(one.seconds for one in some):.2f})",
                f"{median(one.cpu_seconds for one in some):.2f}",
                f"{median(one.mib for one in some):.0f}",
                ", ".join(sorted({fault for one in some for fault in one.faults})) or "exact",
                start_verdict(seconds),
            )
        )
    head = ("started", "s to the first acknowledged publish", "CPU s", "MiB private", "continues", "target")
    return _markdown(head, lines)


def against_markdown(table: Sequence[Row]) -> str:
    """Triode now beside an earlier version of it."""
    head = ("workload", "earlier CPU µs", "now", "earlier ÷ now", "rate, now ÷ earlier", "delivery", "target")
    lines = []
    for row in table:
        if row.contestant != "triode" or row.ratio is None:
            continue
        earlier = next(one for one in table if (one.workload, one.contestant) == (row.workload, "before"))
        title = next(one.title for one in WORKLOADS if one.name == row.workload)
        lines.append(
            (
                title,
                figure(earlier.cpu_us),
                figure(row.cpu_us),
                f"{1 / row.ratio:.3f}",
                f"{row.rate_ratio or 0.0:.3f}",
                correctness(row),
                against_verdict(row),
            )
        )
    return _markdown(head, lines)


def _title(contestant: str) -> str:
    if contestant in _TITLES:
        return _TITLES[contestant]
    name, comma, rest = contestant.partition(", ")
    return f"**{name.capitalize()}**{comma}{rest}"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n" for cells in table)


def typical(disks: Sequence[Disk]) -> Disk:
    """The one in the middle, by its first flush: of those measured in the rounds of a run."""
    return sorted(disks, key=lambda one: one.flushes[0].p50_ms)[len(disks) // 2]


def write_sections(
    memory: Sequence[Results],
    stored: Sequence[Results],
    against: Sequence[Results],
    readme: Path = _README,
    clustered: Sequence[Results] = (),
    clients: Sequence[Results] = (),
) -> None:
    """Put the tables that this run has figures for into bench/README.md; the other sections stay as they are."""
    where = environment()
    machine = f"{where['date']}, {where['cpu']} (shared, load average {where['load']}), {where['kernel']}"
    python = f"Python {where['python']}"
    if memory:
        table = markdown([row for results in memory for row in rows(results)])
        _write(readme, "results", f"{machine}, {python}, Node.js {where['node']}:", table)
    if flowing := [results for results in stored if results.workload != "restart"]:
        programs = (("nats-server", "--version"), ("mosquitto", "-h"))
        others = "".join(f", {name} {version_of(name, flag) or 'not installed'}" for name, flag in programs)
        heading = f"{machine}, {python}{others}. {_disks(flowing)}:"
        _write(
            readme,
            "stored",
            heading,
            stored_markdown([row for results in flowing for row in rows(results)]),
            flowing,
        )
    if restarts := [results for results in stored if results.starts]:
        heading = f"{machine}, {python}. {restarts[0].remark}. {_disks(restarts)}:"
        _write(
            readme, "restart", heading, starts_markdown([one for results in restarts for one in results.starts])
        )
    if against:
        heading = f"{machine}, {python}, {against[0].remark}:"
        _write(readme, "against", heading, against_markdown([row for results in against for row in rows(results)]))
    if clustered:
        _write(readme, "cluster", f"{machine}, {python}:", cluster_markdown(clustered))
    if clients:
        others = f"nats-py {version('nats-py')}, nats-server {version_of('nats-server', '--version')}"
        heading = f"{machine}, {python}, websockets {version('websockets')}, {others}:"
        _write(readme, "clients", heading, client_markdown(clients))


def _disks(played: Sequence[Results]) -> str:
    return f"The data lies on {typical([one for results in played for one in results.disks])}"


def _write(readme: Path, section: str, heading: str, table: str, played: Sequence[Results] = ()) -> None:
    absent = "".join(
        f"\n{_TITLES.get(name, name)} did not take part: {reason}.\n"
        for results in played
        for name, reason in results.failures.items()
    )
    put_section(readme, section, f"{heading}\n\n{table}{absent}")


def put_section(file: Path, section: str, text: str) -> None:
    """Between the two comments of that name."""
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->\n"
    before, rest = file.read_text().split(begin, 1)
    after = rest.split(end, 1)[1]
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}")

"""How `triode top` looks: tables of rich, made from plain data, for whatever room there is.

Knows what is shown and rich, not where it comes from. The surprising decision: each cell is escaped and goes in
as plain text, never as rich's markup, so that no name of a user or topic draws anything (S27). Where a terminal is
narrow whole columns give way, the least important ones first, before anything is cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from triode_broker.printable import escape

#: At this width all columns are there; columns with a higher number need that many more.
NARROW: Final = 60
Picture = Mapping[str, Any]
#: Heading, and the width that a terminal has for it to be shown; 0: always.
Column = tuple[str, int]


def draw(picture: Picture, width: int, note: str = "") -> RenderableType:
    """All of it. `note`: what is the matter with asking."""
    parts: list[RenderableType] = [_head(picture, note)]
    for make in (_nodes, _latencies, _disks, _links, _topics, _slow, _names):
        if (table := make(picture, width)) is not None:
            parts += [Text(""), table]
    return Group(*parts)


def _head(picture: Picture, note: str) -> Text:
    totals = picture["totals"]
    rates = totals["rates"]
    text = Text(overflow="fold")
    text.append("triode", "bold")
    text.append(f" asked at {escape(picture['asked'])}: {counted(len(picture['nodes']), 'node')}, ")
    connections = counted(totals["connections"], "connection")
    text.append(f"{connections}, {counted(totals['subscriptions'], 'subscription')}\n")
    text.append(f"publish {per_second(rates['published'])}  deliver {per_second(rates['delivered'])}")
    text.append(f"  in {size(rates['bytes_in'])}/s  out {size(rates['bytes_out'])}/s")
    text.append(f"  connect {per_second(rates['accepted'])}  errors {per_second(rates['errors'])}")
    if picture["unanswered"]:
        text.append(f"\nno answer from {escape(', '.join(picture['unanswered']))}", "bold red")
    if note:
        text.append(f"\n{escape(note)}", "bold red")
    return text


def _table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]], width: int) -> Table | None:
    """The first column is as wide as there is room; the others hold figures."""
    if not rows:
        return None
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", title=None, expand=False)
    shown = [number for number, (_, needed) in enumerate(columns) if width >= needed]
    for number in shown:
        is_first = number == 0
        heading = Text(f"{title} {columns[number][0]}".strip() if is_first else columns[number][0])
        side: Any = "left" if is_first or columns[number][0].islower() else "right"
        table.add_column(heading, justify=side, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(_cell(row[number]) for number in shown))
    return table


def _cell(value: Any) -> Text:
    return value if isinstance(value, Text) else Text(escape(str(value)))


def _nodes(picture: Picture, width: int) -> Table | None:
    columns = (
        *(("", 0), ("PUB/s", 0), ("DELIVER/s", 0), ("CONNS", 0), ("CPU", 0), ("IN/s", 80), ("OUT/s", 80)),
        *(("MEMORY", 70), ("LOOP", 90), ("SUBS", 100), ("UP", 100), ("VERSION", 110), ("health", 0)),
    )
    rows = []
    for one in picture["nodes"]:
        rates = one["rates"]
        cpu = rates["cpu_us"]
        reasons = ", ".join(one["unready"])
        row = (
            *(
                one["node"],
                per_second(rates["published"]),
                per_second(rates["delivered"]),
                f"{one['connections']:,}",
            ),
            *("-" if cpu is None else f"{cpu / 10_000:.0f} %", size(rates["bytes_in"]), size(rates["bytes_out"])),
            *(size(one["resident_bytes"]), time_of(one["loop_lag_us"]), f"{one['subscriptions']:,}"),
            *(_uptime(one["uptime_ms"]), one["version"]),
            Text(f"not ready: {escape(reasons)}", "red") if reasons else Text("ok", "green"),
        )
        rows.append(row)
    return _table("NODE", columns, rows, width)


def _latencies(picture: Picture, width: int) -> Table | None:
    columns = (("", 0), ("node", 0), ("TIMES", 0), ("MEAN", 70), ("HALF", 0), ("99 %", 0))
    rows = [
        (
            *(one["what"], one["node"], f"{one['count']:,}", time_of(one["mean_us"])),
            *(_bound(one["p50_us"]), _bound(one["p99_us"])),
        )
        for one in picture["latencies"]
    ]
    return _table("LATENCY", columns, rows, width)


def _disks(picture: Picture, width: int) -> Table | None:
    columns = (
        *(("", 0), ("node", 0), ("state", 0), ("HELD", 0), ("MESSAGES/s", 70), ("BYTES/s", 80)),
        *(("COMMITS/s", 90), ("WAITING", 0), ("DAMAGED", 100)),
    )
    rows = [
        (
            *(one["shard"], one["node"], Text(escape(one["state"]), "" if one["state"] == "ok" else "red")),
            *(size(one["held_bytes"]), per_second(one["messages"]), size(one["bytes"])),
            *(per_second(one["commits"]), size(one["queue_bytes"]), one["damaged"]),
        )
        for one in picture["disks"]
    ]
    return _table("DISK", columns, rows, width)


def _links(picture: Picture, width: int) -> Table | None:
    columns = (("", 0), ("ROUND TRIP", 0), ("WAITING", 0), ("SENT/s", 0), ("RECEIVED/s", 70))
    rows = [
        (
            *(f"{one['node']} → {one['peer']}", time_of(one["rtt_us"]) if one["rtt_us"] else "-"),
            *(size(one["waiting_bytes"]), size(one["sent"]), size(one["received"])),
        )
        for one in picture["links"]
    ]
    return _table("LINK", columns, rows, width)


def _topics(picture: Picture, width: int) -> Table | None:
    columns = (
        *(("", 0), ("PUB/s", 0), ("PUBLISHED", 80), ("SUBS", 0), ("HELD", 70), ("BYTES", 0)),
        *(("shard", 90), ("owner", 90)),
    )
    rows = [
        (
            *(in_tenant(one["topic"], one["tenant"]), per_second(one["rate"]), f"{one['published']:,}"),
            *(f"{one['subscribers'] + one['followers']:,}", f"{one['retained']:,}", size(one["retained_bytes"])),
            *(one["shard"], one["owner"]),
        )
        for one in picture["topics"]
    ]
    return _table(f"TOPIC (of {picture['known_topics']:,})", columns, rows, width)


def _slow(picture: Picture, width: int) -> Table | None:
    columns = (("", 0), ("user", 0), ("address", 90), ("node", 100), ("WAITING", 0), ("PAUSED", 80), ("reason", 0))
    rows = [
        (
            *(
                one["connection"],
                in_tenant(one["user"] or "-", one["tenant"]),
                one["address"],
                one.get("node", "-"),
            ),
            *(
                size(one["waiting_bytes"]),
                time_of(one["paused_ms"] * 1000) if one["paused_ms"] else "-",
                one["why"],
            ),
        )
        for one in picture["slow"]
    ]
    return _table("SLOW", columns, rows, width)


def _names(picture: Picture, width: int) -> Table | None:
    columns = (
        *(("", 0), ("kind", 80), ("filter", 90), ("MEMBERS", 70), ("IN FLIGHT", 0), ("PENDING", 100), ("LAG", 0)),
        *(("DEAD", 0), ("home", 80)),
    )
    rows = [
        (
            *(in_tenant(one["name"], one["tenant"]), one["kind"], one["filter"], one["members"], one["in_flight"]),
            *(one["pending"], f"≤{one['lag']:,}" if one["lag"] else "0", one["dead_letters"], one["home"]),
        )
        for one in picture["names"]
    ]
    return _table("DURABLE", columns, rows, width)


def in_tenant(name: str, tenant: str) -> str:
    """A name, and whose it is."""
    return f"{name} ({tenant})" if tenant else name


def counted(number: int, one: str) -> str:
    """1 node, 2 nodes."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def per_second(rate: float | None) -> str:
    """A rate; "-": not known."""
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def size(number: float | None) -> str:
    """Bytes, in a few characters."""
    if number is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def time_of(us: float) -> str:
    """A time, in a few characters."""
    if us < 1_000:
        return f"{us:.0f} µs"
    return f"{us / 1000:.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:.1f} s"


def _bound(us: int | None) -> str:
    return "more" if us is None else f"<{time_of(us)}"


def _uptime(ms: int) -> str:
    seconds = ms // 1000
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"

"""What `triode top` shows, from two looks at a broker: rates, latencies, and what stands as it stands.

Pure: two answers of each call and the time between them in, plain data out. The surprising decision: a node that
was started anew between two looks has no rate, since its numbers began again; a rate that is not known is None,
never 0.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

Answer = Mapping[str, Any]
#: Counters of a node whose rates are shown.
RATES: Final = (
    *("published", "delivered", "fanned_out", "bytes_in", "bytes_out", "accepted", "errors"),
    *("overflows", "redelivered", "dead_letters", "cpu_us"),
)


@attrs.frozen
class Look:
    """All that was asked at one time."""

    figures: Answer
    topics: Answer
    slow: Answer
    names: Answer


def look(call: Callable[..., Any], limit: int) -> Look:
    """Ask. Raises Failure."""
    return Look(
        call("figures"), call("topics", limit=max(limit, 100)), call("slow", limit=limit), call("subs.list")
    )


def picture(before: Look, now: Look, sort: str, limit: int) -> dict[str, Any]:
    """What is shown."""
    old, nodes = before.figures["nodes"], now.figures["nodes"]
    rows = [_node(name, old.get(name), one) for name, one in sorted(nodes.items())]
    names = sorted(now.names["names"], key=lambda one: (-one["lag"], -one["dead_letters"], one["name"]))
    return {
        "asked": now.figures["asked"],
        "unanswered": sorted({*now.figures["unanswered"], *now.topics["unanswered"], *now.slow["unanswered"]}),
        "totals": _totals(rows),
        "nodes": rows,
        "latencies": [one for name, row in sorted(nodes.items()) for one in _latencies(name, old.get(name), row)],
        "links": [one for name, row in sorted(nodes.items()) for one in _links(name, old.get(name), row)],
        "topics": _topics(before, now, sort)[:limit],
        "known_topics": now.topics["known"],
        "slow": list(now.slow["connections"][:limit]),
        "names": [_name(one) for one in names[:limit]],
        "disks": [one for name, row in sorted(nodes.items()) for one in _disks(name, old.get(name), row)],
    }


def _seconds(old: Answer | None, now: Answer) -> float | None:
    """Between two looks at a node, by its own clock; None where it is not the same one."""
    if old is None or now["uptime_ms"] <= old["uptime_ms"]:
        return None
    return float(now["uptime_ms"] - old["uptime_ms"]) / 1000


def _rate(old: int | None, now: int, seconds: float | None) -> float | None:
    if seconds is None or old is None or now < old:
        return None
    return round((now - old) / seconds, 3)


def _node(name: str, old: Answer | None, now: Answer) -> dict[str, Any]:
    seconds, gauges = _seconds(old, now), now["gauges"]
    then = old["counters"] if old is not None else {}
    return {
        "node": name,
        "version": now["version"],
        "commit": now["commit"],
        "uptime_ms": now["uptime_ms"],
        "unready": list(now["unready"]),
        "rates": {one: _rate(then.get(one), now["counters"].get(one, 0), seconds) for one in RATES},
        **{
            one: gauges.get(one, 0)
            for one in (
                *("connections", "subscriptions", "resident_bytes", "loop_lag_us", "consumer_lag", "topics"),
                *("open_descriptors", "max_descriptors"),
            )
        },
    }


def _totals(rows: Sequence[Answer]) -> dict[str, Any]:
    def total(name: str) -> float | None:
        known = [row["rates"][name] for row in rows if row["rates"][name] is not None]
        return round(sum(known), 3) if known else None

    return {
        "connections": sum(row["connections"] for row in rows),
        "subscriptions": sum(row["subscriptions"] for row in rows),
        "rates": {name: total(name) for name in RATES},
    }


def _latencies(name: str, old: Answer | None, now: Answer) -> Iterable[dict[str, Any]]:
    """Of what was done between the looks; nothing where nothing was."""
    if old is None or _seconds(old, now) is None:
        return
    for what, then, histogram in _histograms(old, now):
        counts = [a - b for a, b in zip(histogram["counts"], then["counts"], strict=True)]
        if (number := sum(counts)) > 0 and min(counts) >= 0:
            bounds = now["bounds_us"]
            yield {
                "node": name,
                "what": what,
                "count": number,
                "mean_us": (histogram["sum_us"] - then["sum_us"]) // number,
                "p50_us": quantile(counts, bounds, 0.5),
                "p99_us": quantile(counts, bounds, 0.99),
            }


def _histograms(old: Answer, now: Answer) -> Iterable[tuple[str, Answer, Answer]]:
    yield from _pairs(old["histograms"], now["histograms"], "")
    for list_name, key in (("engines", "engine"), ("shards", "shard"), ("listeners", "listener")):
        then = {one[key]: one for one in old[list_name]}
        for one in now[list_name]:
            yield from _pairs(then.get(one[key], {}), one, f"{one[key]} ")


def _pairs(old: Answer, now: Answer, prefix: str) -> Iterable[tuple[str, Answer, Answer]]:
    for what, histogram in now.items():
        if isinstance(histogram, dict) and "counts" in histogram and what in old:
            yield f"{prefix}{what}".replace("_", " "), old[what], histogram


def quantile(counts: Sequence[int], bounds_us: Sequence[int], part: float) -> int | None:
    """The bound that this part of all is below; None: it is above the last one."""
    due = part * sum(counts)
    for number, bound in zip(counts, bounds_us, strict=False):
        due -= number
        if due <= 0:
            return bound
    return None


def _links(name: str, old: Answer | None, now: Answer) -> Iterable[dict[str, Any]]:
    seconds = _seconds(old, now)
    then = {(one["peer"], one["direction"]): one for one in (old["links"] if old else ())}
    for one in now["links"]:
        before = then.get((one["peer"], one["direction"]), {})
        if one["direction"] == "out":
            yield {
                "node": name,
                "peer": one["peer"],
                "rtt_us": one["rtt_us"],
                "waiting_bytes": one["outbox_bytes"],
                "sent": _rate(before.get("sent_bytes"), one["sent_bytes"], seconds),
                "received": _rate(before.get("received_bytes"), one["received_bytes"], seconds),
            }


def _topics(before: Look, now: Look, sort: str) -> list[dict[str, Any]]:
    def place(one: Answer) -> tuple[str, str]:
        return one["tenant"], one["topic"]

    then = {place(one): one for one in before.topics["topics"]}
    old, nodes = before.figures["nodes"], now.figures["nodes"]
    found = []
    for one in now.topics["topics"]:
        owner = nodes.get(one["owner"])
        seconds = None if owner is None else _seconds(old.get(one["owner"]), owner)
        known = then.get(place(one), {}).get("published")
        found.append({**one, "rate": _rate(known, one["published"], seconds)})
    keys: dict[str, Callable[[Answer], Any]] = {
        "published": lambda one: (-(one["rate"] or 0), -one["published"], place(one)),
        "subscribers": lambda one: (-one["subscribers"], place(one)),
        "bytes": lambda one: (-one["retained_bytes"], place(one)),
        "name": place,
    }
    return sorted(found, key=keys[sort])


def _name(one: Answer) -> dict[str, Any]:
    shown = ("name", "kind", "filter", "members", "in_flight", "pending", "lag", "dead_letters", "home")
    return {"tenant": one.get("tenant", ""), **{name: one[name] for name in shown}}


def _disks(name: str, old: Answer | None, now: Answer) -> Iterable[dict[str, Any]]:
    seconds = _seconds(old, now)
    then = {one["log"]: one for one in (old["engines"] if old else ())}
    held = {one["shard"]: one["retained_bytes"] for one in now["shards"]}
    for one in now["engines"]:
        before = then.get(one["log"], {})
        yield {
            "node": name,
            "shard": one["engine"],
            "state": one["state"],
            "commits": _rate(before.get("commits"), one["commits"], seconds),
            "messages": _rate(before.get("committed_messages"), one["committed_messages"], seconds),
            "bytes": _rate(before.get("committed_bytes"), one["committed_bytes"], seconds),
            "queue_bytes": one["queue_bytes"],
            "held_bytes": held.get(one["engine"], 0),
            "damaged": one["damaged_messages"],
        }

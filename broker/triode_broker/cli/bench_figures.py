"""What `triode bench` measures: times in buckets of two percent, counts by time, and sums of several processes.

Pure. The surprising decision: buckets are as wide as a fiftieth of what is in them, from a microsecond to hours.
So a percentile is right to two percent wherever it lies, and what processes have measured can be added up.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import exp, log
from typing import Any, Final

_WIDTH: Final = log(1.02)
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)
SLOT_MS: Final = 100


class Times:
    """How often something took how long."""

    def __init__(self, buckets: Mapping[str, int] | None = None) -> None:
        self.buckets = Counter({int(name): count for name, count in (buckets or {}).items()})

    def add(self, ns: int) -> None:
        """Once."""
        self.buckets[int(log(max(ns, 1_000) / 1_000) / _WIDTH)] += 1

    @property
    def count(self) -> int:
        """How often in all."""
        return self.buckets.total()

    def quantile_us(self, part: float) -> float:
        """So many took at most so long."""
        left = part * self.count
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return _upper(bucket)
        return 0.0

    def as_data(self) -> dict[str, float]:
        """Percentiles, in microseconds."""
        shown = {f"p{part:g}_us": round(self.quantile_us(part / 100), 1) for part in PERCENTILES}
        return {"count": self.count, **shown, "max_us": round(self.quantile_us(1.0), 1)} if self.count else {}


def _upper(bucket: int) -> float:
    return exp((bucket + 1) * _WIDTH)


def rows(times: Times, most: int = 14) -> tuple[list[int], list[float]]:
    """Counts, and the bounds in microseconds around them: few enough to be drawn."""
    if not times.count:
        return [], []
    low, high = min(times.buckets), max(times.buckets)
    step = max((high - low) // most + 1, 1)
    counts = [0] * ((high - low) // step + 1)
    for bucket, count in times.buckets.items():
        counts[(bucket - low) // step] += count
    return counts, [_upper(low - 1 + step * place) for place in range(len(counts) + 1)]


def joined(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several processes have measured, as one."""
    delivered, acknowledged = Times(), Times()
    slots: Counter[int] = Counter()
    errors: Counter[str] = Counter()
    published: Counter[int] = Counter()
    for one in reports:
        delivered.buckets.update(Times(one["delivered"]).buckets)
        acknowledged.buckets.update(Times(one["acknowledged"]).buckets)
        slots.update({int(slot): count for slot, count in one["slots"].items()})
        errors.update(one["errors"])
        published.update({int(topic): count for topic, count in one["published"].items()})
    readers = [reader for one in reports for reader in one["readers"]]
    expected = sum(published[topic] for reader in readers for topic in reader["topics"])
    return {
        "published": published.total(),
        "delivered": delivered.count,
        "expected": expected,
        **_faults(readers, expected),
        "errors": dict(errors),
        "seconds": max((one["seconds"] for one in reports), default=0.0),
        "load_cpu": round(max((one["cpu"] for one in reports), default=0.0), 3),
        "latency": delivered.as_data(),
        "ack": acknowledged.as_data(),
        "timeline": [slots[slot] for slot in range(max(slots, default=-1) + 1)],
        "slot_ms": SLOT_MS,
        "_times": delivered,
    }


def _faults(readers: Iterable[Mapping[str, Any]], expected: int) -> dict[str, int]:
    """What is missing is told by counting at the end: what comes late, behind another one, is not missing."""
    found = {"repeated": 0, "disordered": 0, "gaps": 0}
    unique = 0
    for one in readers:
        unique += one["received"] - one["repeated"]
        for name in found:
            found[name] += one[name]
    return {"missing": max(expected - unique, 0), **found}

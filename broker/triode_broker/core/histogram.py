"""Histograms: how often something took how long, in fixed buckets, as plain integers.

Pure: times come as seconds that somebody else has measured. The surprising decision: bounds are powers of two of
0.1 ms, so that the bucket of a time is the length of a number in bits: no search, and the same bounds everywhere.
"""

from typing import Any, Final

#: Units of the lowest bound in a second.
_PER_SECOND: Final = 10_000
#: 0.1 ms … 13.1 s; what took longer is in one bucket more.
BOUNDS_US: Final = tuple(100 << power for power in range(18))
_LAST: Final = len(BOUNDS_US)


def bucket_of(seconds: float) -> int:
    """The index of the bucket of a time. What lies on a bound is in the bucket above it."""
    bucket = int(seconds * _PER_SECOND).bit_length() if seconds > 0 else 0
    return bucket if bucket < _LAST else _LAST


class Histogram:
    """Counts by bucket, and the sum of all times."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (_LAST + 1)
        self.seconds = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """So many took so long each."""
        self.counts[bucket_of(seconds)] += count
        self.seconds += seconds * count

    def as_data(self) -> dict[str, Any]:
        """Since the start; the bounds are BOUNDS_US, each above its bucket, and nothing above the last."""
        return {"counts": list(self.counts), "sum_us": int(self.seconds * 1_000_000)}

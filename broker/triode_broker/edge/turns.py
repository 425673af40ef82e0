"""Turns: how long the reactor's turns take, and what that says of the messages that they served.

A message in memory is answered, and sent to its subscribers, at the end of the turn that has read it: its time
from publish to ack, and to send, is at most that of the turn. So nothing is measured per message, and the clock is
asked at the two ends of a turn. The surprising decision: only turns that were not short are noted. What they
served is the difference of two counters; all the rest was fast, and that is worked out when somebody asks.
"""

from typing import Any, Final, Protocol

from triode_broker.core.histogram import BOUNDS_US, Histogram

#: A turn that took less is in the lowest bucket.
SHORT_SECONDS: Final = BOUNDS_US[0] / 1_000_000
_NAMES: Final = ("turns", "published", "fanned_out")


class Tally(Protocol):
    """What has happened so far; `core.statistics.Statistics` is one."""

    published: int  # messages that were answered in the turn that took them
    fanned_out: int  # messages put into outboxes, live


class Nothing:
    """Nothing is published here."""

    published = fanned_out = 0


class Turns:
    """One edge's; the reactor adds to `count` and `seconds`, and notes those that were not short."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._published, self._fanned_out = tally.published, tally.fanned_out  # before there was this edge
        self.count = 0
        self.seconds = 0.0
        self._long = Histogram(), Histogram(), Histogram()  # turns; messages published, and fanned out, in them

    def note(self, seconds: float, published: int, fanned_out: int) -> None:
        """One that took so long, with the tally as it was when it began."""
        counts = 1, self.tally.published - published, self.tally.fanned_out - fanned_out
        for histogram, count in zip(self._long, counts, strict=True):
            histogram.add(seconds, count)

    def as_data(self) -> dict[str, Any]:
        """The histograms of all turns, by what they count. A short one took what short ones take on average."""
        all_long = sum(self._long[0].counts)
        short = (self.seconds - self._long[0].seconds) / ((self.count - all_long) or 1)
        totals = (
            self.count,
            self.tally.published - self._published,
            self.tally.fanned_out - self._fanned_out,
        )
        return {
            name: _with_short(histogram, total, short)
            for name, histogram, total in zip(_NAMES, self._long, totals, strict=True)
        }


def _with_short(histogram: Histogram, total: int, seconds: float) -> dict[str, object]:
    short = total - sum(histogram.counts)
    whole = Histogram()
    whole.counts = [histogram.counts[0] + short, *histogram.counts[1:]]
    whole.seconds = histogram.seconds + short * seconds
    return whole.as_data()

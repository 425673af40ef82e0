"""Turns: how long the reactor's turns take, and what that says of the messages that they served.

A message in memory is answered, and sent to its subscribers, at the end of the turn that has read it: its time
from publish to ack, and to send, is at most that of the turn. So nothing is measured per message, and the clock is
asked at the two ends of a turn. The surprising decision: only turns that were not short are noted. What they
served is the difference of two counters; all the rest was fast, and that is worked out when somebody asks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import trio

from triode_broker.core.histogram import BOUNDS_US, Histogram, bucket_of

#: A turn that took less is in the lowest bucket.
SHORT_SECONDS: Final = BOUNDS_US[0] / 1_000_000
#: What a message of a short turn is taken to have waited: an average would make sums fall when turns get shorter.
ASSUMED_SECONDS: Final = SHORT_SECONDS / 2
_NAMES: Final = ("turns", "published", "fanned_out")


class Tally(Protocol):
    """What has happened so far; `core.statistics.Statistics` is one."""

    published: int  # messages that were answered in the turn that took them
    fanned_out: int  # messages put into outboxes, live


class Nothing:
    """Nothing is published here."""

    published = fanned_out = 0


class Turns:
    """One edge's; the reactor adds to the counters, and notes those that were not short."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.count = 0
        self.published = self.fanned_out = 0  # in turns: other tasks let such things happen, too
        self.seconds = 0.0
        self._long = Histogram(), Histogram(), Histogram()  # turns; messages published, and fanned out, in them

    def note(self, seconds: float, published: int, fanned_out: int) -> None:
        """One that took so long, and what happened in it."""
        bucket = bucket_of(seconds)  # of all three: `Histogram.add` of each, written out, as a busy edge has many
        turns, answered, sent = self._long
        turns.counts[bucket] += 1
        turns.seconds += seconds
        if published:
            answered.counts[bucket] += published
            answered.seconds += seconds * published
        if fanned_out:
            sent.counts[bucket] += fanned_out
            sent.seconds += seconds * fanned_out

    @contextmanager
    def beside(self) -> Iterator[None]:
        """What another task does at once, answers included: a turn of its own. Nothing in it may wait."""
        tally = self.tally
        published, fanned_out, began = tally.published, tally.fanned_out, trio.current_time()
        try:
            yield
        finally:
            seconds = trio.current_time() - began
            published, fanned_out = tally.published - published, tally.fanned_out - fanned_out
            self.count += 1
            self.seconds += seconds
            self.published += published
            self.fanned_out += fanned_out
            if seconds >= SHORT_SECONDS:
                self.note(seconds, published, fanned_out)

    def as_data(self) -> dict[str, Any]:
        """The histograms of all turns, by what they count."""
        totals = self.count, self.published, self.fanned_out
        data = {
            name: _with_short(histogram, total)
            for name, histogram, total in zip(_NAMES, self._long, totals, strict=True)
        }
        data["turns"]["sum_us"] = int(self.seconds * 1_000_000)
        return data


def _with_short(histogram: Histogram, total: int) -> dict[str, Any]:
    short = total - sum(histogram.counts)
    whole = Histogram()
    whole.counts = [histogram.counts[0] + short, *histogram.counts[1:]]
    whole.seconds = histogram.seconds + short * ASSUMED_SECONDS
    return whole.as_data()

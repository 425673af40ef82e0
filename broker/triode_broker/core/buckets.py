"""Buckets: how much of something may be used in a time, as one number each (GCRA); pure, with the time handed in.

A bucket holds the moment up to which all that was taken has been earned. Nothing fills it: it is full when that
moment lies in the past. The surprising decision: a packet is not charged to buckets but to a `Purse`, with what
was taken out of them ahead, for at most LEASE_MS. So the hot path is a decrement and a comparison, whatever the
number of buckets, and reads no clock; a limit of many connections is exceeded by no more than what they hold.
"""

from functools import lru_cache
from math import floor
from typing import Final

import attrs

#: How long what a purse holds may stay unused; then it goes back (`rates.Rates`).
LEASE_MS: Final = 100
#: More than anybody uses in a long time, and a number that Python counts down fast (below 2**30).
ENDLESS: Final = 1 << 29
#: Against what is lost by adding up fractions: a credit that is as good as earned is.
_NEARLY: Final = 1e-6


@attrs.frozen
class Rate:
    """So many in a second; after a quiet time so many as it allows in `span_ms` at once. No bound: step_ms = 0."""

    name: str  # of the limit, as it stands in the settings
    per_second: float
    step_ms: float  # from one to the next
    span_ms: float

    def shared(self, per_second: float) -> "Rate":
        """A node's share of it: what may come at once shrinks with it, but not below one."""
        return attrs.evolve(self, step_ms=1000 / per_second, span_ms=max(self.span_ms, 1000 / per_second))


NO_BOUND: Final = Rate("", 0, 0.0, 0.0)


@lru_cache(maxsize=1_024)  # connections are many, different rates are few
def rate(name: str, per_second: int, burst_ms: int, least: int = 1) -> Rate:
    """`least`: so many may come at once, however low the rate. 0 a second = no bound."""
    if not per_second:
        return NO_BOUND
    step_ms = 1000 / per_second
    return Rate(name, per_second, step_ms, max(float(burst_ms), least * step_ms))


class Bucket:
    """What is left of one rate; may be overdrawn."""

    __slots__ = ("earned_ms", "rate", "sharers", "used")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.earned_ms = 0.0  # when all that was taken has been earned
        self.used = 0  # taken and not given back since somebody has set it to 0
        self.sharers = 1  # purses that are filled from it

    def room(self, now_ms: float) -> int:
        """How many may be taken; negative while it is overdrawn."""
        rate = self.rate
        if not rate.step_ms:
            return ENDLESS
        return floor((now_ms + rate.span_ms - max(self.earned_ms, now_ms)) / rate.step_ms + _NEARLY)

    def wait_ms(self, now_ms: float) -> float:
        """Until there is room for one."""
        return max(self.earned_ms + self.rate.step_ms - self.rate.span_ms - now_ms, 0.0)

    def take(self, count: int, now_ms: float) -> None:
        """Take, whether there is room or not."""
        self.earned_ms = max(self.earned_ms, now_ms) + count * self.rate.step_ms
        self.used += count

    def give(self, count: int) -> None:
        """Give back what was not used."""
        self.earned_ms -= count * self.rate.step_ms
        self.used -= count

    def is_full(self, now_ms: float) -> bool:
        """Whether it is as good as a new one."""
        return self.earned_ms <= now_ms

    def change(self, rate: Rate, now_ms: float) -> None:
        """Another rate from now on; the room stays what it is, as far as the new one has so much."""
        if self.rate.step_ms:
            room = (now_ms + self.rate.span_ms - max(self.earned_ms, now_ms)) / self.rate.step_ms
            self.earned_ms = now_ms + rate.span_ms - room * rate.step_ms
        self.rate = rate


class Purse(Bucket):
    """One connection's: a bucket of its own, and `credit` from it and from those it shares with others.

    Whoever spends takes from `credit`, and calls `fill` when it falls below 0.
    """

    __slots__ = ("ahead", "credit", "is_told", "reason", "shared", "until_ms")

    def __init__(self, rate: Rate, shared: tuple[Bucket, ...]) -> None:
        super().__init__(rate)
        self.shared = shared
        self.credit = 0 if rate.step_ms or shared else ENDLESS
        self.ahead = 0  # so much of it was taken ahead when it was filled last
        self.until_ms = 0.0  # who asks before is refused
        self.reason = rate  # the one that had nothing left
        self.is_told = False  # those whose packets have no id know of `until_ms`

    def fill(self, now_ms: float, *, may_overdraw: bool = False) -> float:
        """Pay what is owed, and take some ahead. Returns 0.0, or in how many ms there is room again.

        What is owed is paid where there is room for one, so a bucket of bytes may be overdrawn by a packet. With
        `may_overdraw` what was taken ahead is such room: the packet may have been larger than what was left of it.
        """
        room = ahead = ENDLESS
        for bucket in (self, *self.shared):  # `room`, written out: a rare publisher pays this
            rate, earned_ms = bucket.rate, bucket.earned_ms
            if step_ms := rate.step_ms:
                left_ms = now_ms + rate.span_ms - (earned_ms if earned_ms > now_ms else now_ms)
                if (found := floor(left_ms / step_ms + _NEARLY)) < room:
                    room = found
                # Ahead: all purses together what is earned while they may hold it.
                if (found := int(LEASE_MS / step_ms / bucket.sharers)) < ahead:
                    ahead = found
        if room < 1 and not (may_overdraw and self.ahead):
            return self._wait(now_ms)
        owed = -self.credit
        ahead = max(min(ahead, room - owed), 0) if room < ENDLESS else ahead
        self._take(owed + ahead, now_ms)
        self.credit = self.ahead = ahead
        return 0.0

    def _wait(self, now_ms: float) -> float:
        longest = max((self, *self.shared), key=lambda bucket: bucket.wait_ms(now_ms))
        self.reason = longest.rate
        return max(longest.wait_ms(now_ms), 1.0)

    def settle(self, now_ms: float) -> None:
        """Give back what was not used, or charge what is owed."""
        credit = self.credit
        if credit > 0:
            for bucket in (self, *self.shared):
                bucket.give(credit)
        elif credit:
            self._take(-credit, now_ms)
        self.credit = self.ahead = 0

    def _take(self, count: int, now_ms: float) -> None:
        for bucket in (self, *self.shared):  # `take`, written out
            earned_ms = bucket.earned_ms
            bucket.earned_ms = (earned_ms if earned_ms > now_ms else now_ms) + count * bucket.rate.step_ms
            bucket.used += count

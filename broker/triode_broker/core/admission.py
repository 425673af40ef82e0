"""Admission: who may connect now, and who had better come back, when more clients want to than can be greeted.

A token bucket for connects; where it is empty they wait, a bounded number for a bounded time: clients that come
back with subscriptions (`resume`) before newcomers, each in the order in which they came. Knows sessions only as
guests and no clock but the timers'. The surprising decision: whoever is turned away gets a time of its own, one
after the other at the rate that is allowed. So a storm comes back as a queue, and no randomness is needed.
"""

from collections import OrderedDict
from typing import Protocol

from triode_broker.config import Limits
from triode_broker.core.timers import Alarm, Timers


class Guest(Protocol):
    """Who asks to be let in, hashed by identity."""

    def admitted(self) -> None:
        """Its turn has come. Called from a timer; must not raise."""

    def turned_away(self, after_ms: int) -> None:
        """No room; it may come back after so long. Called from a timer, or out of `ask`; must not raise."""


class Admission:
    """One per node. `max_connects_per_second` = 0: everybody may."""

    __slots__ = (
        "_alarm",
        "_burst",
        "_farthest_ms",
        "_filled_ms",
        "_limits",
        "_most",
        "_newcomers",
        "_per_ms",
        "_resuming",
        "_slot_ms",
        "_step_ms",
        "_timers",
        "_tokens",
        "_wait_ms",
    )

    def __init__(self, limits: Limits, timers: Timers) -> None:
        self._limits = limits
        self._timers = timers
        self._read_limits()
        self._tokens = self._burst
        self._filled_ms = timers.steady_ms()
        # Until when each may wait; both in order of that time, because everybody may wait equally long.
        self._resuming: OrderedDict[Guest, int] = OrderedDict()
        self._newcomers: OrderedDict[Guest, int] = OrderedDict()
        self._slot_ms = 0.0  # the last time that was given to somebody who was turned away
        self._alarm = Alarm(timers, self._serve)

    def _read_limits(self) -> None:
        limits = self._limits
        rate = limits.max_connects_per_second
        self._per_ms = rate / 1000
        self._step_ms = 1000 / rate if rate else 1.0  # between two that are turned away
        self._burst = float(limits.max_connect_burst)
        self._wait_ms = limits.max_connect_wait_ms
        self._most = rate * limits.max_connect_wait_ms // 1000  # no more can get their turn in time
        self._farthest_ms = limits.max_reconnect_after_ms

    def limits_changed(self) -> None:
        """Another rate from now on. Who waits already keeps its time; without a rate nobody has to."""
        self._fill()
        had_rate = bool(self._per_ms)
        self._read_limits()
        self._tokens = min(self._tokens, self._burst) if had_rate else self._burst
        if not self._per_ms:
            for queue in (self._resuming, self._newcomers):
                while queue:
                    queue.popitem(last=False)[0].admitted()
        elif self.waiting:
            self._wait(self._filled_ms)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._resuming) + len(self._newcomers)

    @property
    def is_full(self) -> bool:
        """Whether nobody who comes now has a chance, even with `resume`."""
        return 0 < self._most <= len(self._resuming)

    def ask(self, guest: Guest, *, is_resuming: bool) -> bool:
        """Whether it may connect now. If not, it was turned away already, or hears its turn later."""
        if not self._per_ms:
            return True
        now_ms = self._fill()
        if self._tokens >= 1 and not self.waiting:
            self._tokens -= 1
            return True
        if self.waiting >= self._most and not (is_resuming and self._newcomers):
            guest.turned_away(self.later_ms())
            return False
        if self.waiting >= self._most:
            last, _ = self._newcomers.popitem()
            last.turned_away(self.later_ms())
        (self._resuming if is_resuming else self._newcomers)[guest] = now_ms + self._wait_ms
        self._wait(now_ms)
        return False

    def leave(self, guest: Guest) -> None:
        """It waits no longer."""
        self._resuming.pop(guest, None)
        self._newcomers.pop(guest, None)

    def later_ms(self) -> int:
        """When the next one who is turned away may come back, in ms from now.

        The first after those who wait now have had their turn, the others at the rate that is allowed; past
        `max_reconnect_after_ms` the times are given out again from the first on.
        """
        now_ms = self._timers.steady_ms()
        first_ms = now_ms + self._wait_ms
        self._slot_ms = max(self._slot_ms + self._step_ms, first_ms)
        if self._slot_ms > now_ms + self._farthest_ms:
            self._slot_ms = first_ms
        return int(self._slot_ms - now_ms)

    def _fill(self) -> int:
        now_ms = self._timers.steady_ms()
        self._tokens = min(self._burst, self._tokens + (now_ms - self._filled_ms) * self._per_ms)
        self._filled_ms = now_ms
        return now_ms

    def _serve(self, _now_ms: int) -> None:
        now_ms = self._fill()
        for queue in (self._resuming, self._newcomers):
            while queue and self._tokens >= 1:
                self._tokens -= 1
                queue.popitem(last=False)[0].admitted()
            while queue and next(iter(queue.values())) <= now_ms:
                queue.popitem(last=False)[0].turned_away(self.later_ms())
        if self.waiting:
            self._wait(now_ms)

    def _wait(self, now_ms: int) -> None:
        """For the next token, or until somebody has waited long enough."""
        token_ms = now_ms + max(int((1 - self._tokens) / self._per_ms), 1)
        ends = [next(iter(queue.values())) for queue in (self._resuming, self._newcomers) if queue]
        self._alarm.by(min(token_ms, *ends))

"""Timekeeping: the two clocks of a node, and doing what is due by them.

A part of the composition root; knows nothing of what is due. The surprising decision: there are two, since a
redelivery counts time that passed and a delayed message the time of day; each wait ends by the sooner of the two,
and after TRIM_SECONDS at the latest, because the time of day may be set.
"""

import time
from collections.abc import Callable
from typing import Final

import attrs
import trio

from triode_broker.core.histogram import Histogram
from triode_broker.core.node import Node
from triode_broker.lagging import Lagging

#: Between two looks at what retention keeps, and at most between two looks at the timers.
TRIM_SECONDS: Final = 1.0
#: Timers are looked at no more often.
MIN_TICK_MS: Final = 5.0
#: Between two looks at how late the loop is.
LAG_SECONDS: Final = 0.25
#: Goes on while the machine is suspended, where there is such a clock: others may find it dead meanwhile.
STEADY_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def now_us() -> int:
    """The same in microseconds, for what is told of single messages."""
    return time.time_ns() // 1_000


def steady_ms() -> int:
    """A clock that only goes forward, in ms since some time."""
    return time.clock_gettime_ns(STEADY_CLOCK) // 1_000_000


@attrs.define(eq=False)
class Timekeeper:
    """One node's; both loops run until they are cancelled."""

    node: Node
    begin_turn: Callable[[], int]  # the wall clock
    flush: Callable[[], None]
    lagging: Lagging
    lags: Histogram = attrs.field(factory=Histogram)  # how late the loop came to what was due, LAG_SECONDS apart
    lag_us: int = 0  # the last of them
    _sooner: trio.Event = attrs.field(factory=trio.Event)

    def wake(self) -> None:
        """Something is due sooner than was known."""
        self._sooner.set()

    async def keep_time(self) -> None:
        """Do what is due: redeliveries on the steady clock, delayed messages on the wall clock."""
        node = self.node
        while True:
            self._sooner = trio.Event()
            waits = [TRIM_SECONDS * 1000.0]
            if (due := node.timers.next_due_ms) is not None:
                waits.append(due - node.steady_ms())
            if (due := node.router.next_due_ms) is not None:
                waits.append(due - now_ms())
            with trio.move_on_after(max(min(waits), MIN_TICK_MS) / 1000):
                await self._sooner.wait()
            self.do_due()

    def do_due(self) -> None:
        """One look at the timers, as a turn of its own."""
        now_ms = self.begin_turn()
        self.node.timers.tick(now_ms)
        self.node.router.tick(now_ms)
        self.flush()

    async def watch_lag(self) -> None:
        """See how late this task gets its turn: that is what every client waits for, too."""
        while True:
            due = trio.current_time() + LAG_SECONDS
            await trio.sleep_until(due)
            late = trio.current_time() - due
            self.lags.add(late)
            self.lag_us = int(late * 1_000_000)
            self.lagging.look(self.lag_us, self.node.steady_ms())

    async def trim(self) -> None:
        """Forget what retention no longer keeps."""
        while True:
            await trio.sleep(TRIM_SECONDS)
            self.node.router.trim(self.begin_turn())
            self.flush()

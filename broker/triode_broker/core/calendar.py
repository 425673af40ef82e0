"""Calendar: calls at times of the wall clock, which may be set, and which goes on while the machine sleeps.

Knows timers, and through them both clocks. The surprising decision: while anything is awaited the wall clock is
looked at about once a second, however far away that is. So a clock that was set is noticed within that time, and
nothing needs to be told of it.
"""

from collections.abc import Callable
from typing import Final

from triode_broker.core.timers import Alarm, Timers

#: The longest time between two looks.
LOOK_MS: Final = 1_000


class Calendar:
    """Calls in order of their time; one per node."""

    __slots__ = ("_alarm", "_dates", "_timers")

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._dates = Timers(lambda: timers.now_ms, self._look_by)  # timers on the wall clock
        self._alarm = Alarm(timers, self._look)

    def __len__(self) -> int:
        """What is held, dropped calls that were not swept included."""
        return len(self._dates)

    def at(self, due_ms: int, ring: Callable[[int], object]) -> int:
        """Call `ring(now_ms)` at a time of the wall clock; for `drop`."""
        return self._dates.at(due_ms, ring)

    def drop(self, serial: int) -> None:
        """Do not make a call that was not made yet."""
        self._dates.drop(serial)

    def _look(self, now_ms: int) -> None:
        self._dates.tick(now_ms)
        self._look_by()

    def _look_by(self) -> None:
        due_ms = self._dates.next_due_ms
        if due_ms is not None:
            left_ms = min(max(due_ms - self._timers.now_ms, 0), LOOK_MS)
            self._alarm.by(self._timers.steady_ms() + left_ms)

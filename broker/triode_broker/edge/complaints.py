"""Complaints: log lines about what strangers do, at most one in a while for each kind.

Knows a log and time as numbers. What is left out is counted, and the next line of its kind tells how many they
were: so whoever is refused a thousand times a second can fill no disk with it (S27), and nothing goes unsaid.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

QUIET_SECONDS: Final = 10.0


class Complaints:
    """One per edge."""

    __slots__ = ("_left_out", "_next", "_warn")

    def __init__(self, warn: Callable[..., object]) -> None:
        """`warn`: of a log."""
        self._warn = warn
        self._next: dict[str, float] = {}  # by event: not before then
        self._left_out: Counter[str] = Counter()

    def say(self, event: str, now: float, **values: object) -> None:
        """Warn, unless this event was warned of less than QUIET_SECONDS ago. `event` is a constant."""
        if now < self._next.get(event, now):
            self._left_out[event] += 1
            return
        self._next[event] = now + QUIET_SECONDS
        left_out = self._left_out.pop(event, 0)
        self._warn(event, **values, **({"more_like_it": left_out} if left_out else {}))

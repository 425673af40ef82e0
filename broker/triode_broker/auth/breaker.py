"""A circuit breaker: after some failures in a row nobody is asked for a while, then one, as a probe.

Pure; knows a clock by its seconds. So a callout that hangs costs its timeout a few times, not every client's.
"""

from collections.abc import Callable


class Breaker:
    """Ask `left`, then say `succeeded` or `failed` once for each ask."""

    def __init__(self, failures: int, pause_seconds: float, steady: Callable[[], float]) -> None:
        self._most = failures
        self._pause_seconds = pause_seconds
        self._steady = steady
        self._failures = 0
        self._open_until = 0.0
        self._is_probed = False

    @property
    def is_open(self) -> bool:
        """Whether the last ones failed."""
        return self._failures >= self._most

    def left(self) -> float:
        """For how many seconds nobody may ask; 0: whoever calls may, and must say how it went."""
        if not self.is_open:
            return 0.0
        left = self._open_until - self._steady()
        if left > 0 or self._is_probed:
            return max(left, 1.0)
        self._is_probed = True
        return 0.0

    def succeeded(self) -> None:
        """There was an answer, whatever it was."""
        self._failures, self._is_probed = 0, False

    def failed(self) -> None:
        """There was none that could be used."""
        self._failures += 1
        self._is_probed = False
        self._open_until = self._steady() + self._pause_seconds

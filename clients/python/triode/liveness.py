"""Whether the broker is still there: silence for two ping intervals means it is not (SPEC 1.15).

Knows times only. The surprising decision: a timer that fired late proves that *we* slept (suspended laptop,
stopped process), so the first verdict is then to ask, not to declare death.
"""

from math import inf
from typing import Final

from triode.backoff import clamp

_LATE_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 5.0  # for the answer
_LEAST_PING_MS: Final = 100
_MOST_PING_MS: Final = 3_600_000


class Liveness:
    """Of one connection at a time."""

    def __init__(self) -> None:
        self._silence_seconds = inf
        self._last_heard = 0.0
        self._probe_until = -inf

    def begin(self, ping_ms: int, now: float) -> None:
        """A connection is up and its broker has announced its ping interval."""
        self._silence_seconds = 2 * clamp(ping_ms, _LEAST_PING_MS, _MOST_PING_MS) / 1000
        self.heard(now)

    def heard(self, now: float) -> None:
        """Something complete came in."""
        self._last_heard = now
        self._probe_until = -inf

    def deadline(self) -> float:
        """When to look again."""
        return max(self._last_heard + self._silence_seconds, self._probe_until)

    def verdict(self, now: float) -> str:
        """ "alive", "ask" (send a ping now) or "dead"."""
        due = self.deadline()
        if now < due:
            return "alive"
        if now - due > _LATE_SECONDS and self._probe_until == -inf:
            self._probe_until = now + min(_PROBE_SECONDS, self._silence_seconds)
            return "ask"
        return "dead"

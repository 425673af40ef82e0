"""What the log says of credentials that were not accepted: why and from where, never the credential (S10).

The surprising decision: it is bounded by time. Whoever guesses at tokens would else fill the disk; what is left
out is counted, and the count is told with the next one.
"""

from collections.abc import Callable
from typing import Any, Final

MOST_IN_A_WINDOW: Final = 20
WINDOW_MS: Final = 10_000


class Refusals:
    """The log's face for refused credentials."""

    def __init__(self, log: Any, now_ms: Callable[[], int]) -> None:
        self._log = log
        self._now_ms = now_ms
        self._window_ends_ms = 0
        self._in_window = 0
        self._untold = 0

    def tell(self, reason: str, address: str) -> None:
        """One more."""
        now_ms = self._now_ms()
        if not self._window_ends_ms - WINDOW_MS <= now_ms < self._window_ends_ms:  # also after the clock was set
            self._window_ends_ms, self._in_window = now_ms + WINDOW_MS, 0
        if self._in_window >= MOST_IN_A_WINDOW:
            self._untold += 1
            return
        self._in_window += 1
        untold, self._untold = self._untold, 0
        more = {"untold": untold} if untold else {}
        self._log.warning("credential_refused", reason=reason, address=address, **more)

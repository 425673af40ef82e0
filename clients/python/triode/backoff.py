"""When to try again: full jitter between bounds, what a close code asks for, and what a URL is (SPEC 5.3).

Knows numbers and names only; the random source comes in. One decision: the figures are the broker's, but never
outside what a sane broker would say, since a hostile one may say anything.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from triode_protocol.errors import CLOSE_RANGES, INITIATORS

NORMAL_CLOSURE: Final = 1000
ABNORMAL_CLOSURE: Final = 1006  # what RFC 6455 calls a connection that just ended
TOO_BIG: Final = 1009

_MAX_DOUBLINGS: Final = 16
_LEAST_MS: Final = 10
_MOST_MS: Final = 600_000
_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def action(code: int) -> str:
    """What a close code asks for: "stop", "backoff" or "once". An unknown one follows its range, or backs off."""
    for first, last, what in CLOSE_RANGES:
        if first <= code <= last:
            return what
    return "backoff"


def initiator(code: int, *, has_refused: bool = False) -> str:
    """Who has ended a connection, by its close code; `has_refused`: the broker, with an error in words."""
    if code in (0, ABNORMAL_CLOSURE):
        return "server" if has_refused else "network"
    return INITIATORS.get(code, "server")


def clamp(value: int, least: int, most: int) -> int:
    """`value` within bounds; for figures that a broker sent and that may be of any size."""
    return min(max(value, least), most)


def asked_seconds(retry_after_ms: int, most_seconds: float) -> float:
    """The pause that a broker asked for, within reason."""
    return clamp(retry_after_ms, 0, int(most_seconds * 1000)) / 1000


class Backoff:
    """Full jitter (SPEC 5.3.4): the n-th delay, from 0, lies between 0 and min_ms × 2^n, at most max_ms."""

    def __init__(self, random: Callable[[], float], min_ms: int = 250, max_ms: int = 20_000) -> None:
        self._random = random  # uniform in [0, 1)
        self.attempts = 0
        self.set_bounds(min_ms, max_ms)

    def set_bounds(self, min_ms: int, max_ms: int) -> None:
        """Take over what the broker announced."""
        self.min_ms = clamp(min_ms, _LEAST_MS, _MOST_MS)
        self.max_ms = clamp(max_ms, self.min_ms, _MOST_MS)

    def reset(self) -> None:
        """Things went well: the next delay is a short one again."""
        self.attempts = 0

    def delay_seconds(self) -> float:
        """The next delay."""
        ceiling = min(self.max_ms, self.min_ms << min(self.attempts, _MAX_DOUBLINGS))
        self.attempts += 1
        return self._random() * ceiling / 1000

    def least_seconds(self) -> float:
        """A delay as short as the first one; it does not count as one."""
        return self._random() * self.min_ms / 1000


def shown_url(url: str) -> str:
    """A URL for errors and logs: without what may hold a token or a password (S10)."""
    place, *more = re.split(r"[?#]", url, maxsplit=1)
    return re.sub(r"[^/]*@", "", place) + ("?…" if more else "")


def websocket_url(url: str) -> str:
    """`url` as a WebSocket URL: http becomes ws, https wss, no path `/ws`. Raises ValueError for anything else."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"not a broker's URL: {shown_url(url)!r}; one looks like ws://127.0.0.1:7400/ws")
    if parts.username is not None or parts.port == 0:  # .port raises ValueError when out of range
        raise ValueError(f"a broker's URL has no user and no port 0: {shown_url(url)!r}")
    path = parts.path if parts.path not in ("", "/") else "/ws"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))

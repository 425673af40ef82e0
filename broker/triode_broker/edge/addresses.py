"""What one network address may take: connections at once, and handshakes a second.

Knows addresses and counts, no sockets. An IPv6 client has a network of its own to take addresses from, so there
the first 64 bits count as one. The surprising decision: a connection that is refused for its address keeps its
place in the count until it is gone. So whatever comes from one address, it never holds more than its share; and
the table has as many rows as there are connections, and those that were there a moment ago.
"""

import socket
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import Final

from triode_broker.config import Limits
from triode_broker.edge.head import Refusal

#: So many more, at once or a second, are told that they are too many; what comes on top is closed without a word.
#: Over TLS whoever is told has had a handshake made for it, the dearest thing that a stranger can ask for.
_TOLD: Final = 16
_FULL_SECONDS: Final = 5  # until one who is told so may try again
_MAX_EMPTY: Final = 65_536  # rows of addresses without a connection
_NETWORK_BYTES: Final = 8  # of an IPv6 address


class Seat:
    """One address's row."""

    __slots__ = ("connections", "filled", "key", "tokens", "told")

    def __init__(self, key: str | bytes, tokens: float, now: float) -> None:
        self.key = key
        self.connections = 0
        self.tokens = tokens  # handshakes that it may begin at once
        self.filled = now
        self.told = now  # until then tellings of too many handshakes are used up, all but a second of them


class Addresses:
    """One per edge. Not counted: who `is_exempt`, and where there is no address."""

    __slots__ = ("_burst", "_empty", "_is_exempt", "_limits", "_most", "_per_second", "_rows")

    def __init__(self, limits: Limits, is_exempt: Callable[[str], bool]) -> None:
        self._limits = limits
        self.limits_changed()
        self._is_exempt = is_exempt
        self._rows: dict[str | bytes, Seat] = {}
        self._empty: OrderedDict[str | bytes, float] = OrderedDict()  # rows without a connection, since when

    def limits_changed(self) -> None:
        """Other bounds from now on; connections that were not counted when they came are not counted later."""
        self._most = self._limits.max_address_connections
        self._per_second = self._limits.max_address_handshakes_per_second
        self._burst = float(self._limits.max_address_handshake_burst)

    def __len__(self) -> int:
        return len(self._rows)

    def is_overfull(self, address: str, now: float) -> bool:
        """Whether one more from there is not even told why it cannot stay."""
        if not address or (row := self._rows.get(_key(address))) is None:
            return False
        if self._most and row.connections >= self._most + _TOLD:
            return True
        return row.told - now > 1 and self._tokens(row, now) < 1

    def enter(self, address: str, now: float) -> tuple[Seat | None, Refusal | None]:
        """One more connection from there: its seat, to `leave` from, and why it cannot stay nevertheless."""
        if not address or not (self._most or self._per_second) or self._is_exempt(address):
            return None, None
        key = _key(address)
        row = self._rows.get(key)
        if row is None:
            self._forget_quiet(now)
            row = self._rows[key] = Seat(key, self._burst, now)
        elif not row.connections:
            self._empty.pop(key, None)
        row.connections += 1
        if self._most and row.connections > self._most:
            return row, _too_many(f"At most {self._most} connections from one address.", _FULL_SECONDS)
        if self._per_second and (wait_seconds := self._take(row, now)):
            row.told = max(row.told, now) + 1 / _TOLD
            return row, _too_many("Too many handshakes from this address.", ceil(wait_seconds))
        return row, None

    def leave(self, row: Seat, now: float) -> None:
        """A connection of it is gone."""
        row.connections -= 1
        if not row.connections:
            self._empty[row.key] = now
            self._forget_quiet(now)

    def _take(self, row: Seat, now: float) -> float:
        """Take one token, or say in how many seconds there is one."""
        row.tokens, row.filled = self._tokens(row, now), now
        if row.tokens < 1:
            return (1 - row.tokens) / self._per_second
        row.tokens -= 1
        return 0.0

    def _tokens(self, row: Seat, now: float) -> float:
        return min(self._burst, row.tokens + (now - row.filled) * self._per_second)

    def _forget_quiet(self, now: float) -> None:
        """Rows whose tokens are all there again say nothing; of the others only the newest are kept."""
        full_seconds = self._burst / self._per_second if self._per_second else 0.0
        while self._empty:
            key, since = next(iter(self._empty.items()))
            if now - since < full_seconds and len(self._empty) <= _MAX_EMPTY:
                return
            del self._empty[key]
            del self._rows[key]


def _too_many(text: str, after_seconds: int) -> Refusal:
    return Refusal(429, text, [("Retry-After", str(max(after_seconds, 1)))])


def _key(address: str) -> str | bytes:
    """What is counted as one: an IPv4 address, the network of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed.startswith(b"\x00" * 10 + b"\xff\xff"):
        return socket.inet_ntoa(packed[12:])  # IPv4 written as IPv6
    return packed[:_NETWORK_BYTES]

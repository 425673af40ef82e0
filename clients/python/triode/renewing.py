"""A token that expires on a live connection: when to fetch the next one, and the broker's word on it.

Knows packets and times; who fetches tokens is the face. The surprising decision: nothing here ends a connection. A
token that could not be renewed is the broker's to act on, with `bye` 4201, and the next connection has a new one.
"""

from math import inf
from typing import Final

from triode_protocol import packets

from triode.backoff import clamp
from triode.outgoing import Outgoing
from triode.records import Complaint, Event

CAPABILITY: Final = "auth"

_LEAST_SECONDS: Final = 1.0  # between two of them, or a broker could make us spin
_AGAIN_SECONDS: Final = 10.0  # after one that failed
_LATEST_SHARE: Final = 0.8  # of the token's time: some is left for fetching
_MOST_AHEAD_SECONDS: Final = 30.0  # so much of a long one is enough
_MOST_MS: Final = 31_536_000_000


class Renewal:
    """Of one connection at a time. `is_wanted`: the face is to fetch a token, and to say `renewed` or `failed`."""

    def __init__(self, outgoing: Outgoing, events: list[Event]) -> None:
        self.is_wanted = False
        self._outgoing = outgoing
        self._events = events
        self._is_possible = False
        self._due = inf
        self._asked = 0  # `id` of the `auth` that is not answered yet

    # The connection

    def attach(self, is_possible: bool, expires_in_ms: int, now: float) -> None:
        """It is up. `is_possible`: its broker takes new tokens, and we can get one."""
        self._is_possible = is_possible
        self.expires(expires_in_ms, now)

    def detach(self) -> None:
        """It is gone; the next one has a token of its own."""
        self._is_possible = self.is_wanted = False
        self._due = inf
        self._asked = 0

    def expires(self, in_ms: int, now: float) -> None:
        """The token is good for so long; 0: nobody said."""
        if in_ms > 0 and self._is_possible:
            left = clamp(in_ms, 0, _MOST_MS) / 1000
            self._due = now + max(_LEAST_SECONDS, left * _LATEST_SHARE, left - _MOST_AHEAD_SECONDS)

    # What the face says

    def renewed(self, token: str) -> None:
        """Here is the next one. Without a connection it is not needed any more."""
        self.is_wanted = False
        if self._is_possible:
            self._asked = self._outgoing.next_id()
            self._outgoing.put(packets.Auth(token, self._asked))

    def failed(self, reason: str, now: float) -> None:
        """There is none to be had; it is tried again."""
        self.is_wanted = False
        self._again("token", reason, now)

    # What the broker says

    def authorized(self, packet: packets.Authorized, now: float) -> None:
        """It has taken the token."""
        if packet.id == self._asked:
            self._asked = 0
            self.expires(packet.expires_in_ms, now)

    def refused(self, packet: packets.Error, now: float) -> bool:
        """It does not take it. False: that was not ours."""
        if not self._asked or packet.id != self._asked:
            return False
        self._asked = 0
        if packet.retry == "never":
            self._events.append(Complaint(packet.name, packet.message, packet.field))
        else:
            self._again(packet.name, packet.message, now)
        return True

    def _again(self, name: str, reason: str, now: float) -> None:
        self._events.append(Complaint(name, reason))
        if self._is_possible:
            self._due = now + _AGAIN_SECONDS

    # Time

    def deadline(self) -> float:
        """When a token is wanted next."""
        return self._due

    def tick(self, now: float) -> None:
        """Want one in time."""
        if now >= self._due:
            self._due = inf
            self.is_wanted = True

"""Operators: who comes in by the administration listener: by its one secret, or by a ticket for its WebSocket.

Knows a secret and addresses, no connections. The surprising decision: wrong secrets wear an address out, and then
the right one waits too. It need not be guessed as long as it is long; but a short one must not be found by trying,
and who shares an address with somebody who tries loses seconds, not the broker.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import Any, Final

from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.auth.refusals import Refusals
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.rights import EVERYTHING, WITH_TOPICS, Rights

METHOD: Final = "operator"
NAME: Final = "operator"  # of whoever has the secret, as `user`
#: Everything that clients may, and all administration calls.
RIGHTS: Final = Rights({**dict.fromkeys(WITH_TOPICS, ("#", "$dead/#")), "operate": ("#",)})

#: Wrong secrets that one address may show at once, and until one of them is forgiven.
MAX_WRONG: Final = 10
FORGIVEN_MS: Final = 3_000
MAX_ADDRESSES: Final = 4_096  # that are remembered; then the one that was quiet for longest is forgotten

TICKET_SECONDS: Final = 60
MAX_TICKETS: Final = 1_024

Done = Callable[[Identity | Refused], None]


class Attempts:
    """How often an address, of IPv6 its first 64 bits, was wrong lately. `now_ms`: a steady clock."""

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self._now_ms = now_ms
        self._until_ms: OrderedDict[str, float] = OrderedDict()  # when all is forgiven

    def wait_ms(self, address: str) -> int:
        """How long it has to wait before it may try; 0: not at all."""
        over_ms = self._until_ms.get(_place(address), 0.0) - self._now_ms() - (MAX_WRONG - 1) * FORGIVEN_MS
        return max(ceil(over_ms), 0)

    def wrong(self, address: str) -> None:
        """Once more."""
        now_ms, place = self._now_ms(), _place(address)
        self._until_ms[place] = max(self._until_ms.pop(place, 0.0), now_ms) + FORGIVEN_MS
        if len(self._until_ms) > MAX_ADDRESSES:
            self._until_ms.popitem(last=False)


class Operators:
    """Those with the secret; `core.interfaces.Gate`."""

    def __init__(self, secret: str, log: Any, now_ms: Callable[[], int], steady_ms: Callable[[], float]) -> None:
        self._secret = _digest(secret)
        self._refusals = Refusals(log, now_ms)
        self._attempts = Attempts(steady_ms)
        self._identity = Identity(NAME, rights=RIGHTS, method=METHOD)

    def ask(self, token: str, arrival: Arrival, done: Done) -> None:
        """`core.interfaces.Gate.ask`."""
        done(self._judge(token or arrival.token, arrival.address))

    def _judge(self, shown: str, address: str) -> Identity | Refused:
        if wait_ms := self._attempts.wait_ms(address):
            self._refusals.tell("too many wrong secrets of operators came from this address", address)
            message = "too many wrong secrets came from this address: wait"
            return Refused(ErrorName.RATE_LIMITED, message, retry_after_ms=wait_ms)
        if hmac.compare_digest(_digest(shown), self._secret):
            return self._identity
        if shown:
            self._attempts.wrong(address)
        self._refusals.tell("it is not the operators' secret" if shown else "no operators' secret", address)
        message = "that is not its secret" if shown else "show its secret"
        return Refused(ErrorName.UNAUTHORIZED, f"this listener is for operators: {message}")


class Tickets:
    """Good for the WebSocket of the administration listener, for a short time; `core.interfaces.Gate`."""

    def __init__(self, log: Any, now_ms: Callable[[], int], steady_ms: Callable[[], float]) -> None:
        self._refusals = Refusals(log, now_ms)
        self._steady_ms = steady_ms
        self._given: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()  # the oldest first

    def give(self, tenant: str) -> str:
        """One for an operator among the clients of a tenant; the oldest goes where there are too many."""
        ticket = secrets.token_urlsafe(32)
        identity = Identity(NAME, tenant, rights=EVERYTHING, method=METHOD)
        self._given[_digest(ticket)] = self._steady_ms() + TICKET_SECONDS * 1000, identity
        if len(self._given) > MAX_TICKETS:
            self._given.popitem(last=False)
        return ticket

    def ask(self, token: str, arrival: Arrival, done: Done) -> None:
        """`core.interfaces.Gate.ask`: a ticket stands in the packet, where no other page can put it."""
        until_ms, identity = self._given.get(_digest(token), (0.0, None))
        if identity is not None and self._steady_ms() < until_ms:
            done(identity)
            return
        self._refusals.tell("no ticket for the administration listener, or an old one", arrival.address)
        done(Refused(ErrorName.UNAUTHORIZED, "this listener's WebSocket takes tickets: POST /v1/console/token"))


def _place(address: str) -> str:
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

"""Guarded: the gate with the table of revocations around it, so that nobody who checks credentials can forget it.

Knows no credentials. The surprising decision: it can be held. A node that joins a cluster, or was cut off, may not
know yet who was revoked meanwhile (G10); until it does, whoever asks waits in `connect` instead of being refused.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from triode_protocol.codec import Refused

from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.interfaces import Gate
from triode_broker.core.revocations import Revocations
from triode_broker.core.timers import Timers

#: Asked in one turn, once it is not held any more: checking a signature takes up to 0.2 ms.
ASKED_PER_TURN: Final = 64

Done = Callable[[Identity | Refused], None]


class Guarded:
    """One per node; `interfaces.Gate`. As many wait as there are connections that have not connected (S2)."""

    __slots__ = ("_gate", "_is_busy", "_is_held", "_revocations", "_timers", "_waiting")

    def __init__(self, gate: Gate, revocations: Revocations, timers: Timers) -> None:
        self._gate = gate
        self._revocations = revocations
        self._timers = timers
        self._is_held = False
        self._is_busy = False  # those who have waited are asked, in turns to come
        self._waiting: OrderedDict[int, tuple[str, Arrival, Done]] = OrderedDict()  # by who is to be answered

    @property
    def waiting(self) -> int:
        """How many it holds."""
        return len(self._waiting)

    def ask(self, token: str, arrival: Arrival, done: Done) -> None:
        """`interfaces.Gate`."""
        if self._is_held or self._waiting:
            self._waiting[id(done)] = token, arrival, done
        else:
            self._ask(token, arrival, done)

    def forget(self, done: Done) -> None:
        """Whoever asked so is gone, and waits no longer (S2)."""
        self._waiting.pop(id(done), None)

    def hold(self) -> None:
        """Nobody is let in until `release`. Idempotent."""
        self._is_held = True

    def release(self) -> None:
        """What is to be known is known. Idempotent."""
        self._is_held = False
        if self._waiting and not self._is_busy:
            self._is_busy = True
            self._timers.at(self._timers.steady_ms(), self._go_on)

    def _go_on(self, _now_ms: int) -> None:
        self._is_busy = False
        for _ in range(min(ASKED_PER_TURN, len(self._waiting))):
            if self._is_held:
                return
            self._ask(*self._waiting.popitem(last=False)[1])
        self.release()

    def _ask(self, token: str, arrival: Arrival, done: Done) -> None:
        def check(answer: Identity | Refused) -> None:
            """When it comes, which may be after somebody was revoked."""
            if isinstance(answer, Identity):
                answer = self._revocations.check(answer, self._timers.now_ms) or answer
            done(answer)

        self._gate.ask(token, arrival, check)

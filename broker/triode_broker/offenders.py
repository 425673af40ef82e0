"""Offenders: who asks for more than it may, for the operator's log: a few lines in a while for each kind.

Knows a log and the steady clock. The surprising decision: one line is of one client and one limit, once in that
time, and of so many clients only. Whoever is refused a thousand times a second neither fills a disk nor hides the
next one (S8, S27); what is left out is counted, and the next line of its kind says how many they were.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

import attrs

from triode_broker.core.identity import Identity
from triode_broker.printable import escape, shorten

QUIET_MS: Final = 10_000
#: Different ones that are told of in that time, of each kind.
MOST_TOLD: Final = 5
_SHOWN_CHARACTERS: Final = 80  # of a name


@attrs.define(eq=False)
class Offenders:
    """Those of one node."""

    warn: Callable[..., object]  # of a log
    steady_ms: Callable[[], int]
    _until_ms: int = 0
    _told: defaultdict[str, set[tuple[str, ...]]] = attrs.field(factory=lambda: defaultdict(set))
    _left_out: Counter[str] = attrs.field(factory=Counter)

    def tell(self, event: str, who: Identity, address: str, limit: str, **facts: object) -> None:
        """It has come to this limit once more; `event` is a constant."""
        now_ms = self.steady_ms()
        if now_ms >= self._until_ms:
            self._until_ms = now_ms + QUIET_MS
            self._told.clear()
        told, key = self._told[event], (who.tenant, who.user, address, limit)
        if key in told or len(told) >= MOST_TOLD:
            self._left_out[event] += 1
            return
        told.add(key)
        if left_out := self._left_out.pop(event, 0):
            facts["more_like_it"] = left_out
        self.warn(event, limit=limit, user=_shown(who.user), tenant=_shown(who.tenant), address=address, **facts)


def _shown(name: str) -> str:
    return shorten(escape(name), _SHOWN_CHARACTERS)

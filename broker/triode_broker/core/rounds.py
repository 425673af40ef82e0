"""Rounds: every connected session is visited, some in each turn, because there may be a hundred thousand.

Knows no sessions but as what it was given. The surprising decision: who connects while a round is under way is not
visited: its credential is judged after whatever the round is about has come into force. And one round takes the
place of another of its kind: so who reloads again and again has as much to do in a turn, and in memory, as once.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar

from triode_broker.core.timers import Timers

S = TypeVar("S")

#: Visited in one turn: to judge one takes 0.07 ms, so a turn takes 10 ms, and 100,000 about as many seconds. One
#: with hundreds of subscriptions and rules takes up to 300 ms: behind such a one the turn ends.
VISITED_PER_TURN: Final = 128
TURN_MS: Final = 20
STEP_MS: Final = 5


class Round(Generic[S]):
    """One visit to each who is there now, and still is when its turn comes. `visit` must not raise.

    `before`: an earlier round that this one makes needless; whom it had not come to is visited first, or nobody at
    the end of a long round would ever be.
    """

    __slots__ = ("_left", "_there", "_timers", "_visit")

    def __init__(
        self,
        there: Mapping[str, S],
        visit: Callable[[S], None],
        timers: Timers,
        before: "Round[S] | None" = None,
    ) -> None:
        """It begins with the next tick, and keeps itself going."""
        self._there = there
        self._left = iter(
            list(there) if before is None else {**dict.fromkeys(before.end()), **dict.fromkeys(there)}
        )
        self._visit = visit
        self._timers = timers
        timers.at(timers.steady_ms(), self._go_on)

    def end(self) -> list[str]:
        """Visit nobody any more; whom it would have."""
        left, self._left, self._there = list(self._left), iter(()), {}
        return left

    def _go_on(self, _now_ms: int) -> None:
        steady_ms = self._timers.steady_ms
        end_ms, count = steady_ms() + TURN_MS, 0
        for name in islice(self._left, VISITED_PER_TURN):
            count += 1
            if (one := self._there.get(name)) is not None:
                self._visit(one)
            if steady_ms() >= end_ms:
                count = VISITED_PER_TURN
                break
        if count == VISITED_PER_TURN:
            self._timers.at(steady_ms() + STEP_MS, self._go_on)

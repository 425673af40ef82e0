"""Timers: what is to happen later, on a clock that only goes forward.

Knows no clock of its own: `steady_ms` is injected, and so is `wake`, which tells whoever calls `tick` that
something is due earlier than was thought. The surprising decision: nothing is ever taken out; who is called looks
whether there is still something to do.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


def _nobody() -> None:
    """Nobody sleeps."""


class Timers:
    """Calls in order of their time. The owner calls `tick` at `next_due_ms` or a little later."""

    __slots__ = ("_heap", "_serial", "offset_ms", "steady_ms", "wake")

    def __init__(self, steady_ms: Callable[[], int], wake: Callable[[], None] = _nobody) -> None:
        self.steady_ms = steady_ms
        self.wake = wake  # may be set later; safe to call at any time, also inside `tick`
        self.offset_ms = 0  # what the wall clock is ahead of the steady one, as last heard
        self._heap: list[tuple[int, int, Callable[[int], None]]] = []
        self._serial = count()

    @property
    def next_due_ms(self) -> int | None:
        """On the steady clock; None while there is nothing to wait for."""
        return self._heap[0][0] if self._heap else None

    @property
    def now_ms(self) -> int:
        """The wall clock, for those whom nobody tells: right unless it was set since it was last heard."""
        return self.steady_ms() + self.offset_ms

    def hear(self, now_ms: int) -> None:
        """Somebody says what the wall clock shows."""
        self.offset_ms = now_ms - self.steady_ms()

    def at(self, due_ms: int, ring: Callable[[int], None]) -> None:
        """Call `ring(now_ms)` at a time of the steady clock, with the wall clock of that moment."""
        is_first = not self._heap or due_ms < self._heap[0][0]
        heappush(self._heap, (due_ms, next(self._serial), ring))
        if is_first:
            self.wake()

    def tick(self, now_ms: int) -> None:
        """Call what is due. What is set meanwhile waits for the next tick, so that each one ends."""
        steady_ms = self.steady_ms()
        self.offset_ms = now_ms - steady_ms
        due: list[Callable[[int], None]] = []
        while self._heap and self._heap[0][0] <= steady_ms:
            due.append(heappop(self._heap)[2])
        for ring in due:
            ring(now_ms)

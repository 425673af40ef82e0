"""Timers: what is to happen later, on a clock that only goes forward.

Knows no clock of its own: `steady_ms` is injected, and so is `wake`, which tells whoever calls `tick` that
something is due earlier than was thought. The surprising decision: nothing is taken out of the middle. What was
dropped stays until it comes to the top, or until half of all there is was dropped.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

#: So many dropped calls are not worth sweeping.
MAX_DROPPED = 64
#: An alarm does not ring more often, whatever its owner is asked for from outside.
MIN_STEP_MS = 10


def _nobody() -> None:
    """Nobody sleeps."""


class Timers:
    """Calls in order of their time. The owner calls `tick` at `next_due_ms` or a little later."""

    __slots__ = ("_dropped", "_heap", "_serial", "offset_ms", "steady_ms", "wake")

    def __init__(self, steady_ms: Callable[[], int], wake: Callable[[], None] = _nobody) -> None:
        self.steady_ms = steady_ms
        self.wake = wake  # may be set later; safe to call at any time, also inside `tick`
        self.offset_ms = 0  # what the wall clock is ahead of the steady one, as last heard
        self._heap: list[tuple[int, int, Callable[[int], object]]] = []
        self._serial = count()
        self._dropped: set[int] = set()  # of what is in the heap, or being called

    def __len__(self) -> int:
        """What is held, dropped calls that were not swept included."""
        return len(self._heap)

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

    def at(self, due_ms: int, ring: Callable[[int], object]) -> int:
        """Call `ring(now_ms)` at a time of the steady clock, with the wall clock of that moment; for `drop`."""
        is_first = not self._heap or due_ms < self._heap[0][0]
        serial = next(self._serial)
        heappush(self._heap, (due_ms, serial, ring))
        if is_first:
            self.wake()
        return serial

    def drop(self, serial: int) -> None:
        """Do not make a call that was not made yet."""
        dropped = self._dropped
        dropped.add(serial)
        if len(dropped) > MAX_DROPPED and len(dropped) * 2 > len(self._heap):
            swept = {entry[1] for entry in self._heap} & dropped  # others are to be called in this very tick
            self._heap = [entry for entry in self._heap if entry[1] not in swept]
            heapify(self._heap)
            dropped -= swept

    def tick(self, now_ms: int) -> None:
        """Call what is due. What is set meanwhile waits for the next tick, so that each one ends."""
        steady_ms = self.steady_ms()
        self.offset_ms = now_ms - steady_ms
        due: list[tuple[int, int, Callable[[int], object]]] = []
        while self._heap and self._heap[0][0] <= steady_ms:
            due.append(heappop(self._heap))
        for _, serial, ring in due:
            if serial in self._dropped:
                self._dropped.remove(serial)
            else:
                ring(now_ms)


class Alarm:
    """A call that its owner wants at the earliest of the times it names; at most one is waited for."""

    __slots__ = ("_ring", "_serial", "_soonest_ms", "_timers", "due_ms")

    def __init__(self, timers: Timers, ring: Callable[[int], object]) -> None:
        self._timers = timers
        self._ring = ring
        self._serial = 0  # of the call that is waited for
        self._soonest_ms = 0
        self.due_ms = 0  # when it is made; 0: not at all

    def by(self, due_ms: int) -> None:
        """Ring then, unless it rings before that anyway."""
        if not self.due_ms or due_ms < self.due_ms:
            due_ms = max(due_ms, self._soonest_ms)
            if due_ms != self.due_ms:
                self.stop()
                self.due_ms = due_ms
                self._serial = self._timers.at(due_ms, self._rung)

    def stop(self) -> None:
        """Nothing is waited for any more."""
        if self.due_ms:
            self.due_ms = 0
            self._timers.drop(self._serial)

    def _rung(self, now_ms: int) -> None:
        self._soonest_ms = self.due_ms + MIN_STEP_MS
        self.due_ms = 0
        self._ring(now_ms)

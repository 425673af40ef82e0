"""How threads wait for each other: bells, and the line of those who wait for something to take.

Knows threads alone. The surprising decision: no Condition and no Event of `threading`. Their insides are locked in
Python, so that a signal handler that runs in the midst of them, or a fork, finds them held. Here is nothing but a
bare lock and a deque, each of whose operations happens whole.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

#: A signal, ctrl-C say, that comes just ahead of a lock that blocks is looked at behind it: nobody waits longer.
_GLANCE_SECONDS: Final = 1.0


class Bell:
    """Rung once; heard by everybody who waits for it then or later."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """It has happened. Again, it does nothing."""
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Until it has happened, at most `timeout` seconds; whether it has."""
        until = deadline(timeout)
        while True:
            left = remaining(until)
            if self._lock.acquire(timeout=_GLANCE_SECONDS if left is None else min(left, _GLANCE_SECONDS)):
                self.ring()  # for the next one
                return True
            if left is not None and left <= _GLANCE_SECONDS:
                return False


class Line:
    """Threads that wait for something to take: as many are woken as there is for."""

    def __init__(self) -> None:
        self._bells: deque[Bell] = deque()

    def ring(self, most: int) -> None:
        """There is something for so many."""
        for _ in range(min(most, len(self._bells))):
            with suppress(IndexError):  # one that has just gone
                self._bells.popleft().ring()

    def ring_all(self) -> None:
        """There is something for everybody to know."""
        self.ring(len(self._bells))

    def wait(
        self,
        is_worth_a_look: Callable[[], bool],
        wait: Callable[[Bell, float | None], object],
        seconds: float | None,
    ) -> None:
        """Until rung, at most so many `seconds`; not at all when it is worth a look by then. Look in any case."""
        bell = Bell()
        self._bells.append(bell)
        try:
            if not is_worth_a_look():
                wait(bell, seconds)
        except BaseException:
            self.ring(1)  # what was meant for this thread is another's
            raise
        finally:
            with suppress(ValueError):
                self._bells.remove(bell)


def deadline(timeout: float | None) -> float | None:
    """When it is over, by this machine's steady clock."""
    return None if timeout is None else time.monotonic() + timeout


def remaining(until: float | None) -> float | None:
    """Seconds until then, not below 0."""
    return None if until is None else max(0.0, until - time.monotonic())

"""Deadlines: things that fall due a constant time after they were added, in a queue instead of a timer each.

Knows time as numbers and nothing of connections. Because the period is constant, the order of adding is the order
of falling due: adding and taking cost a deque's append and popleft (0.1 µs), and an idle entry 0.1 KiB. Nothing is
ever removed early: who takes a due item checks whether it still applies; `forget` thins a queue in which few do.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Deadlines(Generic[_Item]):
    """Items due `seconds` after they were added."""

    __slots__ = ("_queue", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._queue: deque[tuple[float, _Item]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, item: _Item, now: float) -> None:
        """`item` falls due at now + seconds; `now` never goes back."""
        self._queue.append((now + self.seconds, item))

    def retime(self, seconds: float) -> None:
        """Another period from now on, for those that were added before as well: a full pass."""
        later = seconds - self.seconds
        if later:
            self.seconds = seconds
            self._queue = deque((due + later, item) for due, item in self._queue)

    def due(self, now: float) -> list[_Item]:
        """Take out what is due, in order."""
        queue = self._queue
        items = []
        while queue and queue[0][0] <= now:
            items.append(queue.popleft()[1])
        return items

    def forget(self, is_gone: Callable[[_Item], bool]) -> None:
        """Take out what is gone, without its falling due: a full pass, so only where many are."""
        self._queue = deque(entry for entry in self._queue if not is_gone(entry[1]))

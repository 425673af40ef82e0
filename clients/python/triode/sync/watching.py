"""Events of a blocking client: what the loop tells, for other threads to iterate over.

Knows records and bells. As with the other faces a slow watcher loses the oldest events, not the newest.
"""

from collections import deque
from typing import Self
from weakref import WeakSet

from triode.records import Event
from triode.sync.bells import Line, deadline, remaining


class Events:
    """An iterator of events that blocks; it ends after the client is closed, by `close` or for good by the broker.

    The last `max_events` are kept for a slow consumer. Any number of threads may share it, each event going to one
    of them; forgotten when dropped.
    """

    def __init__(self, max_events: int) -> None:
        self._events: deque[Event] = deque(maxlen=max_events)
        self._line = Line()
        self._has_ended = False

    def get(self, timeout: float | None = None) -> Event:
        """The next one. Raises TimeoutError after `timeout` seconds, EOFError where no more will come."""
        until = deadline(timeout)
        while True:
            has_ended = self._has_ended
            try:
                return self._events.popleft()
            except IndexError:
                if has_ended:
                    raise EOFError("the client is closed") from None
            left = remaining(until)
            if left == 0:
                raise TimeoutError("no event in time")
            self._line.wait(self._is_worth_a_look, lambda bell, seconds: bell.wait(seconds), left)

    def _is_worth_a_look(self) -> bool:
        return bool(self._events) or self._has_ended

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            return self.get()
        except EOFError:
            raise StopIteration from None

    def put(self, event: Event) -> None:
        """The loop's: one more."""
        self._events.append(event)
        self._line.ring_all()  # not just one, which may be a thread that a fork has left in the parent

    def end(self) -> None:
        """The loop's: nothing more will come."""
        self._has_ended = True
        self._line.ring_all()


class Watchers:
    """All that are alive. Copied to be changed, because the loop may be going through them."""

    def __init__(self) -> None:
        self._all: WeakSet[Events] = WeakSet()
        self._has_ended = False

    def add(self, watcher: Events) -> None:
        """Tell this one too."""
        self._all = WeakSet([*self._all, watcher])
        if self._has_ended:
            watcher.end()

    def tell(self, event: Event) -> None:
        """Something has happened."""
        for watcher in self._all:
            watcher.put(event)

    def end(self) -> None:
        """The client is closed."""
        self._has_ended = True
        for watcher in self._all:
            watcher.end()

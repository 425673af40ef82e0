"""Events of a client for programs and for the log: changes of state and what the broker says beside messages.

Knows trio's parking lots, nothing of the session. The surprising decision: a slow watcher loses the oldest events,
not the newest: what counts is the present state.
"""

import logging
from collections import deque
from typing import Final, Self

import trio

from triode.records import Complaint, Event, HandshakesRefused, Notice, StateChanged

logger: Final = logging.getLogger("triode")


class Events:
    """An async iterator of events; ends after the client is closed. One consumer; forgotten when dropped."""

    def __init__(self, max_events: int) -> None:
        self._events: deque[Event] = deque(maxlen=max_events)
        self._arrivals = trio.lowlevel.ParkingLot()
        self._has_ended = False

    def put(self, event: Event) -> None:
        """Append one event."""
        self._events.append(event)
        self._arrivals.unpark_all()

    def end(self) -> None:
        """Nothing more will come."""
        self._has_ended = True
        self._arrivals.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._has_ended:
                raise StopAsyncIteration
            await self._arrivals.park()
        return self._events.popleft()


def log_event(event: Event) -> None:
    """One line in the log `triode`. The broker's words are values, never part of the format (S27)."""
    match event:
        case StateChanged():
            logger.debug("%s %s%s", event.state.value, event.url or event.connection, _because(event.reason))
        case HandshakesRefused():
            logger.warning("%d attempts to connect in a row have failed%s", event.count, _because(event.reason))
        case Complaint():
            logger.warning("the broker refused a message or packet: %r", f"{event.name}: {event.message}")
        case Notice():
            logger.info("notice from the broker: %r", event)


def _because(reason: str) -> str:
    return f" ({reason!r})" if reason else ""

"""Events of a client for programs and for the log: changes of state and what the broker says beside messages.

Knows the runtime's parking lots, nothing of the session. The surprising decision: a slow watcher loses the oldest
events, not the newest: what counts is the present state.
"""

import logging
from collections import deque
from typing import Final, Self

from triode.backoff import shown_url
from triode.records import Complaint, Event, HandshakesRefused, HeldBack, Notice, StateChanged
from triode.runtime import Runtime

logger: Final = logging.getLogger("triode")


class Events:
    """An async iterator of events; ends after the client is closed. One consumer; forgotten when dropped."""

    def __init__(self, runtime: Runtime, max_events: int) -> None:
        self._runtime = runtime
        self._events: deque[Event] = deque(maxlen=max_events)
        self._arrivals = runtime.lot()
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
        await self._runtime.checkpoint()
        while not self._events:
            if self._has_ended:
                raise StopAsyncIteration
            await self._arrivals.park()
        return self._events.popleft()


def say(level: int, event: str, *, error: BaseException | None = None, **values: object) -> None:
    """One line in the log `triode`: a constant event, then named values, escaped whatever they hold (S27)."""
    if logger.isEnabledFor(level):
        line = " ".join([event, *(f"{name}={value!r}" for name, value in values.items() if value)])
        logger.log(level, "%s", line, exc_info=error)


def log_event(event: Event) -> None:
    """The line for an event of a client."""
    match event:
        case StateChanged():
            say(
                logging.DEBUG,
                event.state.value,
                url=shown_url(event.url),
                node=event.node,
                reason=event.reason,
                code=event.code,
                delay_seconds=event.delay_seconds,
            )
        case HandshakesRefused():
            say(logging.WARNING, "handshakes_refused", count=event.count, reason=event.reason)
        case HeldBack():
            say(logging.DEBUG, "held_back", name=event.name, message=event.message, seconds=event.seconds)
        case Complaint():
            say(logging.WARNING, "complaint", name=event.name, message=event.message, field=event.field)
        case Notice():
            say(logging.INFO, "notice", draining=event.draining, expires_in_ms=event.expires_in_ms)

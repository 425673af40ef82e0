"""Drives one session on trio: keeps it connected, keeps its time, carries its text, wakes who waits for it.

Knows trio, the transport and the session; decides nothing. The surprising decision: one `settle()` after every
call into the session is the only place that wakes tasks, so a text with a thousand messages costs one wake-up per
subscription.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final
from weakref import WeakSet

import trio
import trio_websocket

from triode.records import State
from triode.session import Session
from triode.transport import Transport, TransportEnded, open_transport
from triode.watching import Events, log_event, say

_RETRY_DIGITS: Final = 9  # of what may be any number
_LOGGED_AT_ONCE: Final = 10  # events of one text: a broker must not fill our log

Token = str | Callable[[], Awaitable[str]]


class Driver:
    """Runs a session until it is CLOSED. `token`: see `connect`."""

    def __init__(self, session: Session, token: Token, ssl_context: ssl.SSLContext | None) -> None:
        self.session = session
        self.changes = trio.lowlevel.ParkingLot()  # woken at each change of state
        self.room = trio.lowlevel.ParkingLot()  # publishers waiting for a place in the queue
        self._token = token
        self._ssl_context = ssl_context
        self._output = trio.lowlevel.ParkingLot()  # the writer waiting for something to write
        self._watchers: WeakSet[Events] = WeakSet()
        self._timer = trio.CancelScope()  # ends at `_due`
        self._due = (
            inf  # the session's deadline, or earlier; kept here because reading a scope's costs microseconds
        )
        self._wanted = trio.CancelScope()  # cancelled when the session wants no more of the connection

    def start(self, nursery: trio.Nursery) -> None:
        """Begin. Both tasks end by themselves when the session is CLOSED, and raise nothing."""
        self.session.start(trio.current_time())
        nursery.start_soon(self._keep_connected)
        nursery.start_soon(self._keep_time)

    def watch(self) -> Events:
        """The session's events from now on."""
        watcher = Events(self.session.options.max_events)
        self._watchers.add(watcher)
        if self.session.state is State.CLOSED:
            watcher.end()
        return watcher

    # The two tasks

    async def _keep_time(self) -> None:
        session = self.session
        while session.state is not State.CLOSED:
            self._due = session.deadline()
            with trio.CancelScope(deadline=self._due) as self._timer:
                await trio.sleep_forever()
            session.tick(trio.current_time())
            self.settle()

    async def _keep_connected(self) -> None:
        session = self.session
        while session.state is not State.CLOSED:
            if session.dial:
                url, session.dial = session.dial, ""
                await self._attempt(url)
            else:
                await self.changes.park()

    async def _attempt(self, url: str) -> None:
        """One connection from dialling to its end. The one barrier: nothing a remote side does passes it."""
        session = self.session
        attempt = session.attempt
        reason, after_ms = "the connection was lost", 0
        try:
            with trio.CancelScope() as self._wanted:
                await self._renew_token()
                receive_bytes = session.options.max_receive_bytes
                async with open_transport(url, receive_bytes, self._ssl_context) as transport:
                    await self._converse(transport)
        except* Exception as errors:  # noqa: BLE001  # no list is complete: the libraries raise more than they say
            reason, after_ms = _describe(errors), _asked_ms(errors)
            level = (
                logging.ERROR if session.state is State.CONNECTED else logging.DEBUG
            )  # a dial fails, and so what
            say(level, "connection_failed", error=errors, url=url)
        if session.attempt == attempt and session.is_attached:
            session.lost(trio.current_time(), reason=reason, after_ms=after_ms)
        self.settle()

    async def _renew_token(self) -> None:
        if not isinstance(self._token, str):
            self.session.identity.token = await self._token()

    async def _converse(self, transport: Transport) -> None:
        session = self.session
        async with trio.open_nursery() as nursery:
            session.opened(trio.current_time())
            nursery.start_soon(self._write, transport)
            with (
                trio.CancelScope() as self._wanted
            ):  # from here on only the reading is cancelled, no half-sent frame
                await self._read(transport)
            if session.is_polite:
                await transport.close(self._farewell_seconds())
            nursery.cancel_scope.cancel()

    def _farewell_seconds(self) -> float:
        """A broker that answers our goodbye has read all that was written before: that is worth more time."""
        options = self.session.options
        return options.close_timeout_seconds if self.session.is_finishing else options.farewell_timeout_seconds

    async def _read(self, transport: Transport) -> None:
        session = self.session
        while session.is_attached:
            try:
                text = await transport.receive()
            except TransportEnded as ended:
                session.lost(trio.current_time(), ended.code, ended.reason)
                self.settle()
                return
            if isinstance(text, str):
                session.receive_text(text, trio.current_time())
            else:
                session.receive_binary(trio.current_time())
            self.settle()

    async def _write(self, transport: Transport) -> None:
        session = self.session
        while session.is_attached:
            text = session.take_text(trio.current_time())
            self.settle()
            try:
                if text is None:
                    await self._output.park()
                else:
                    await transport.send(text)
            except TransportEnded:
                return  # the reader is told the same, with the reason

    # What comes of it

    def settle(self) -> None:
        """Act on whatever the session has decided. No checkpoint."""
        session = self.session
        for finished in session.finished:
            if finished.waiter is not None:
                finished.waiter.set()
        for subscription in session.ready:
            if subscription.waiter is not None:
                subscription.waiter.unpark_all()
        if self.room and session.publisher.has_room:
            self.room.unpark_all()
        session.finished.clear()
        session.ready.clear()
        if session.events:
            self._tell()
        self.wake_writer()
        if not session.is_attached:
            self._wanted.cancel()
        due = session.deadline() if session.state is not State.CLOSED else -inf
        if due < self._due:
            self._due = self._timer.deadline = due

    def wake_writer(self) -> None:
        """All that some calls ask for, and a third of what `settle` costs. No checkpoint."""
        if self._output and self.session.wants_to_write:
            self._output.unpark_all()

    def _tell(self) -> None:
        for number, event in enumerate(self.session.events):
            if number < _LOGGED_AT_ONCE:
                log_event(event)
            for watcher in self._watchers:
                watcher.put(event)
        self.session.events.clear()
        if self.session.state is State.CLOSED:
            for watcher in self._watchers:
                watcher.end()
        self.changes.unpark_all()
        self.room.unpark_all()


def _describe(error: BaseException) -> str:
    """The innermost cause in words."""
    error = _first(error)
    if isinstance(error, trio_websocket.ConnectionRejected):
        return f"the broker answered the WebSocket handshake with HTTP {error.status_code}"
    cause = _describe(error.__cause__) if error.__cause__ is not None else ""
    return ": ".join(filter(None, (str(error), cause))) or type(error).__name__


def _asked_ms(error: BaseException) -> int:
    """The pause that a refused handshake asks for with `Retry-After: SECONDS`; 0 where it does not."""
    error = _first(error)
    if isinstance(error, trio_websocket.ConnectionRejected):
        for name, value in error.headers:
            if name.lower() == b"retry-after" and value.isdigit():
                return int(value[:_RETRY_DIGITS]) * 1000
    return 0


def _first(error: BaseException) -> BaseException:
    """What a failed handshake raises is wrapped in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

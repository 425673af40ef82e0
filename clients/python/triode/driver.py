"""Drives one session on an event loop: keeps it connected, keeps its time, carries its text, wakes who waits.

Knows the runtime, the transport and the session; decides nothing, and knows neither trio nor asyncio. The
surprising decision: one `settle()` after every call into the session is the only place that wakes tasks, so a text
with a thousand messages costs one wake-up per subscription.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final
from weakref import WeakSet

from triode.backoff import shown_url
from triode.publishing import Publication
from triode.records import State
from triode.runtime import HandshakeRefused, Runtime, Scope, Tasks, Transport, TransportEnded
from triode.session import Session
from triode.watching import Events, log_event, say

_LOGGED_AT_ONCE: Final = 10  # events of one text: a broker must not fill our log
_CALLS_PER_CHECKPOINT: Final = 64

Token = str | Callable[[], Awaitable[str]]


class Driver:
    """Runs a session until it is CLOSED. `token`: see `connect`."""

    def __init__(
        self, runtime: Runtime, session: Session, token: Token, ssl_context: ssl.SSLContext | None
    ) -> None:
        self.runtime = runtime
        self.session = session
        self.changes = runtime.lot()  # woken at each change of state
        self.room = runtime.lot()  # publishers waiting for a place in the queue
        self._token = token
        self._is_fetching = False  # the token; one call of the program's function at a time
        self._fetched = runtime.lot()
        self._fetched_token: str | None = None
        self._renewing: Scope | None = None  # a token for the live connection is being fetched
        self._ssl_context = ssl_context
        self._breaths = 0
        self._output = runtime.lot()  # the writer waiting for something to write
        self._never = runtime.lot()
        self._watchers: WeakSet[Events] = WeakSet()
        self._timer = runtime.scope()  # ends at `_due`
        self._due = inf  # the session's deadline, or earlier; kept here because asking the session is not free
        self._wanted = runtime.scope()  # cancelled when the session wants no more of the connection

    def start(self, tasks: Tasks) -> None:
        """Begin. Both tasks end by themselves when the session is CLOSED, and raise nothing."""
        self.session.start(self.runtime.now())
        self._tasks = tasks
        tasks.start_soon(self._to_the_end, self._keep_connected)
        tasks.start_soon(self._to_the_end, self._keep_time)

    async def _to_the_end(self, keep: Callable[[], Awaitable[None]]) -> None:
        """Whatever ends a keeper ends the client: nobody may wait for what will never be done."""
        try:
            await keep()
        finally:
            self.session.close()
            self.settle()

    def watch(self) -> Events:
        """The session's events from now on."""
        watcher = Events(self.runtime, self.session.options.max_events)
        self._watchers.add(watcher)
        if self.session.state is State.CLOSED:
            watcher.end()
        return watcher

    # The two tasks

    async def _keep_time(self) -> None:
        session = self.session
        while session.state is not State.CLOSED:
            self._due = session.deadline()
            async with self.runtime.scope(self._due) as self._timer:
                await self._never.park()
            session.tick(self.runtime.now())
            if session.renewal.is_wanted and self._renewing is None:
                self._renewing = self.runtime.scope()
                self._tasks.start_soon(self._renew_live, self._renewing)
            self.settle()
        if self._renewing is not None:
            self._renewing.cancel()

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
            async with self.runtime.scope() as self._wanted:
                await self._renew_token()
                receive_bytes = session.options.max_receive_bytes
                async with self.runtime.open_transport(url, receive_bytes, self._ssl_context) as transport:
                    if session.attempt == attempt and session.is_attached:  # and not given up a moment ago
                        await self._converse(transport)
        except* Exception as errors:  # noqa: BLE001  # no list is complete: the libraries raise more than they say
            error = _first(errors)
            reason = _describe(error)
            after_ms = error.after_ms if isinstance(error, HandshakeRefused) else 0
            level = logging.ERROR if session.state is State.CONNECTED else logging.DEBUG
            told = errors if level == logging.ERROR or not _is_usual(errors) else None
            say(level, "connection_failed", error=told, url=shown_url(url))
        if session.attempt == attempt and session.is_attached:
            session.lost(self.runtime.now(), reason=reason, after_ms=after_ms)
        self.settle()

    async def _renew_token(self) -> None:
        if not isinstance(self._token, str):
            self.session.identity.token = await self._fetch_token(self._token)

    async def _fetch_token(self, ask: Callable[[], Awaitable[str]]) -> str:
        """A new one; who comes while one is being fetched gets that."""
        while self._is_fetching:
            await self._fetched.park()
            if self._fetched_token is not None:
                return self._fetched_token
        self._is_fetching, self._fetched_token = True, None
        try:
            self._fetched_token = _text(await ask())
            return self._fetched_token
        finally:
            self._is_fetching = False
            self._fetched.unpark_all()

    async def _renew_live(self, scope: Scope) -> None:
        """Get what the live connection wants, and see to it that nothing the program's function does passes."""
        session = self.session
        async with scope:
            while session.renewal.is_wanted and not isinstance(self._token, str):
                attempt = session.attempt
                try:
                    token, reason = await self._fetch_token(self._token), ""
                except Exception as error:  # noqa: BLE001  # it is the program's own code
                    token, reason = "", _describe(error)
                if session.attempt != attempt:
                    continue  # for a connection that is gone
                if reason:
                    session.renewal.failed(reason, self.runtime.now())
                else:
                    session.renewal.renewed(token)
                self.settle()
        self._renewing = None

    async def _converse(self, transport: Transport) -> None:
        session = self.session
        tasks = self.runtime.tasks()
        await tasks.open()
        try:
            session.opened(self.runtime.now())
            # from here on only the reading is cancelled, no half-sent frame
            async with self.runtime.scope() as self._wanted:
                tasks.start_soon(self._write, transport)
                await self._read(transport)
            if session.is_polite:
                await transport.close(self._farewell_seconds())
        finally:
            tasks.cancel()
            await tasks.join()

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
                session.lost(self.runtime.now(), ended.code, ended.reason)
                self.settle()
                return
            if isinstance(text, str):
                session.receive_text(text, self.runtime.now())
            else:
                session.receive_binary(self.runtime.now())
            self.settle()

    async def _write(self, transport: Transport) -> None:
        session = self.session
        try:
            while session.is_attached:
                text = session.take_text(self.runtime.now())
                self.settle()
                if text is None:
                    await self._output.park()
                else:
                    await transport.send(text)
        except TransportEnded:
            return  # the reader is told the same, with the reason
        except Exception:
            self._wanted.cancel()  # without a writer there is nothing to read for
            raise

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
            self._due = due
            self._timer.move_to(due)

    def queued(self, publication: Publication) -> None:
        """Act on a publish that has just joined the queue, and on nothing else: a tenth of what `settle` costs."""
        self.wake_writer()
        if publication.expires_at < self._due:
            self._due = publication.expires_at
            self._timer.move_to(self._due)

    async def breathe(self) -> None:
        """For calls that need not wait: a checkpoint every 64th time, which costs more than all else they do."""
        self._breaths += 1
        if self._breaths % _CALLS_PER_CHECKPOINT == 0:
            await self.runtime.checkpoint()

    def wake_writer(self) -> None:
        """All that some calls ask for, and a third of what `settle` costs. No checkpoint."""
        if self._output and self.session.wants_to_write:
            self._output.unpark_all()

    def _tell(self) -> None:
        events = self.session.events.copy()
        self.session.events.clear()  # first: whoever ships the log with this client comes back here from its line
        for number, event in enumerate(events):
            if number < _LOGGED_AT_ONCE:
                log_event(event)
            for watcher in self._watchers:
                watcher.put(event)
        if self.session.state is State.CLOSED:
            for watcher in self._watchers:
                watcher.end()
        self.changes.unpark_all()
        self.room.unpark_all()


def _text(token: object) -> str:
    """What else a program's function gives is told as its mistake; a broker would refuse us for good."""
    if not isinstance(token, str):
        raise TypeError(f"a token is a str, and the function that fetches it gave {type(token).__name__}")
    return token


def _describe(error: BaseException) -> str:
    """The innermost cause in words."""
    error = _first(error)
    cause = _describe(error.__cause__) if error.__cause__ is not None else ""
    return ": ".join(filter(None, (str(error), cause))) or type(error).__name__


def _is_usual(errors: BaseExceptionGroup[BaseException]) -> bool:
    """Whether dials fail so: the reason in words says it all. A traceback is for what nobody expects."""
    return errors.split((OSError, HandshakeRefused, TransportEnded))[1] is None


def _first(error: BaseException) -> BaseException:
    """What a failed handshake raises may be wrapped in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

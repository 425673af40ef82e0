"""The thread behind a blocking client: it runs the client on trio, and does there what other threads ask for.

Knows trio, threads and the driver. The surprising decision: the loop is never locked out and never waits. Other
threads append to a deque, wake the loop once for all that came together, and are answered by bells, so that
neither a signal handler nor a fork in the midst of it leaves anything held.
"""

import logging
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

import trio

from triode.client import Client
from triode.driver import Driver
from triode.errors import ConnectionClosed, InParentProcess, TriodeError
from triode.records import State
from triode.sync import processes
from triode.sync.bells import Bell
from triode.sync.watching import Watchers
from triode.watching import say

_GRACE_SECONDS: Final = 1.0  # beyond what closing may take by its options: for the thread itself

Result = TypeVar("Result")


class Background:
    """One client, entered and left in a thread of its own. Started once."""

    def __init__(self, client: Client, watchers: Watchers) -> None:
        self.client: Final = client
        self.driver: Final[Driver] = client._driver
        self.session = self.driver.session
        #: Whether the client is connected, or need not wait for it.
        self.is_open = False
        #: Whether the thread has ended, or will in a moment.
        self.is_over = False
        #: Whether it is a parent process's: nothing here is ours then.
        self.is_inherited = False
        #: Guards what threads do among themselves.
        self.lock = threading.RLock()
        #: In the loop, before the client is left: until what waits outside of its queue is in it.
        self.flush: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._error: BaseException | None = None
        self._watchers = watchers
        self._events = client.events()
        self._opened = Bell()
        self._ended = Bell()
        self._bells: dict[Bell, None] = {}  # of all who wait for something: none may wait for a dead thread
        self._commands: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._is_awake = True  # the loop will look at the commands; at the latest when it starts
        self._token: trio.lowlevel.TrioToken | None = None
        self._sockets = _Sockets()
        self._scope = trio.CancelScope()
        self._is_leaving = False  # from here on no task begins
        self._closing = trio.Event()
        self._thread = threading.Thread(target=self._run, name="triode", daemon=True)

    # For any thread

    def start(self) -> None:
        """Begin to connect."""
        processes.enter(self)
        try:
            self._thread.start()
        except BaseException:
            processes.leave(self)
            raise

    def wait_open(self) -> None:
        """Until there is a connection or need not be. Raises what entering the client raises."""
        if not self.is_open:
            self.wait(self._opened)
        if not self.is_open:
            raise self._error if isinstance(self._error, TriodeError) else self.closed()

    @property
    def has_failed(self) -> bool:
        """Whether it never came to a connection: another one may."""
        return self.is_over and not self.is_open

    def closed(self) -> TriodeError:
        """Why nothing can be done any more."""
        if self.is_inherited:
            return InParentProcess("it was begun before a fork: the parent process goes on with it")
        return ConnectionClosed(str(self._error or self.session.error or "the client is closed"))

    def check_open(self) -> None:
        """Raises ConnectionClosed."""
        if self.is_over or self.is_inherited or self.session.is_finishing or self.session.state is State.CLOSED:
            raise self.closed()

    def soon(self, command: Callable[[Any], object], argument: object = None) -> None:
        """Have the loop do it, in the order of asking. Never waits; done by nobody once the thread is over."""
        if not self.is_inherited:
            self.later(command, argument)
            self.wake()

    def later(self, command: Callable[[Any], object], argument: object = None) -> None:
        """The same, once somebody wakes it: what is asked for without a `wake` in between is done together."""
        self._commands.append((command, argument))

    def wake(self) -> None:
        """Have the loop look at what it is to do."""
        if not self._is_awake and self._token is not None:
            try:
                self._is_awake = True
                self._token.run_sync_soon(self._run_commands)
            except trio.RunFinishedError:
                return
            except BaseException:  # a KeyboardInterrupt: the next one wakes it
                self._is_awake = False
                raise

    def call(self, function: Callable[[], Awaitable[Result]]) -> Result:
        """Have the loop run an async function, and wait for it. Interrupted, it is cancelled there."""
        call = _Call(function)
        try:
            self.soon(self._begin, call)
            self.wait(call.bell)
        except BaseException:
            self.soon(call.cancel)
            raise
        if call.error is not None:
            raise call.error
        if not call.results:
            raise self.closed()
        return call.results[0]

    def check_thread(self) -> None:
        """Raises RuntimeError where waiting would be for ever."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("the client's own thread would wait for itself: call this from another one")

    def wait(self, bell: Bell, timeout: float | None = None) -> bool:
        """Wait in this thread; whether the bell was rung, be it because the background thread is over."""
        self.check_thread()
        if self.is_inherited:
            raise self.closed()
        self._bells[bell] = None
        try:
            return self.is_over or bell.wait(timeout)
        finally:
            self._bells.pop(bell, None)

    def finish(self, timeout: float | None = None) -> None:
        """Begin to close. 0: at once, sending nothing more; None: as long as the options allow."""
        self.soon(self._finish, timeout)

    def wait_ended(self) -> bool:
        """Until the thread is gone, at most as long as closing may take; whether it is."""
        options = self.session.options
        seconds = 2 * options.close_timeout_seconds + options.farewell_timeout_seconds + _GRACE_SECONDS
        if self.wait(self._ended, seconds):
            self._thread.join(_GRACE_SECONDS)
        return not self._thread.is_alive()

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """In the loop: begin a task that ends with the client, unless that is about to."""
        if not self._is_leaving:
            self._nursery.start_soon(function)

    def disown(self) -> None:
        """This is the child of a fork. Closing our copies of the sockets tells the broker nothing.

        What trio has besides, an epoll and two pairs of sockets with itself, stays open and unused.
        """
        self.is_inherited = True
        self._sockets.close()

    # In the thread

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001  # the end of the thread: whoever waits is told
            self._error = error
            say(logging.ERROR, "client_failed", error=error)
        self.is_over = True
        processes.leave(self)
        if self.is_open:
            self._watchers.end()
        for bell in (self._opened, self._ended, *list(self._bells)):
            bell.ring()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        trio.socket.set_custom_socket_factory(self._sockets)
        async with trio.open_nursery() as outer:
            outer.start_soon(self._tell_watchers)
            async with trio.open_nursery() as self._nursery:
                self._run_commands()
                with self._scope:
                    await self._live()
                self._is_leaving = True
                self._nursery.cancel_scope.cancel()

    async def _live(self) -> None:
        try:
            async with self.client:
                self.is_open = True
                self._opened.ring()
                await self._closing.wait()
                with trio.move_on_after(self.session.options.close_timeout_seconds):
                    await self.flush()
        except TriodeError as error:
            self._error = error

    async def _tell_watchers(self) -> None:
        async for event in self._events:
            self._watchers.tell(event)
        if self.is_open:  # else the next use tries again
            self._watchers.end()

    def _run_commands(self) -> None:
        self._is_awake = False  # whoever comes from here on wakes us again
        commands = self._commands
        for _ in range(len(commands)):
            command, argument = commands.popleft()
            try:
                command(argument)
            except Exception as error:  # noqa: BLE001  # one that fails is a bug, and no reason to end the client
                say(logging.ERROR, "command_failed", error=error)
        self.driver.settle()

    def _begin(self, call: "_Call[Any]") -> None:
        if self._is_leaving:
            call.bell.ring()
        self.start_soon(call.perform)

    def _finish(self, timeout: float | None) -> None:
        self._closing.set()
        if not self.is_open or timeout == 0:
            self._scope.cancel()
        elif timeout is not None:
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + timeout)


class _Call(Generic[Result]):
    """An async function that another thread waits for."""

    def __init__(self, function: Callable[[], Awaitable[Result]]) -> None:
        self.bell = Bell()
        self.results: list[Result] = []  # one, when it has returned
        self.error: Exception | None = None
        self._function = function
        self._scope = trio.CancelScope()

    async def perform(self) -> None:
        """In the loop."""
        try:
            with self._scope:
                self.results.append(await self._function())
        except Exception as error:  # noqa: BLE001  # it is raised where it was asked for
            self.error = error
        finally:
            self.bell.ring()

    def cancel(self, _: None) -> None:
        """In the loop: nobody waits any more."""
        self._scope.cancel()


class _Sockets(trio.abc.SocketFactory):
    """Makes trio's sockets, and remembers them: the child of a fork has to close its copies."""

    def __init__(self) -> None:
        self._made: WeakSet[socket.socket] = WeakSet()

    def socket(
        self,
        family: socket.AddressFamily | int = socket.AF_INET,
        type: socket.SocketKind | int = socket.SOCK_STREAM,
        proto: int = 0,
    ) -> trio.socket.SocketType:
        """See trio."""
        made = socket.socket(family, type, proto)
        self._made.add(made)
        return trio.socket.from_stdlib_socket(made)

    def close(self) -> None:
        """Close this process's descriptors, without a word to the other end."""
        for made in list(self._made):
            made.close()

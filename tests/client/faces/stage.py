"""A thread with a loop of its own, in which brokers run for clients of any face: scripted, real, or a line to one.

Knows trio and threads, no client. Whatever is an async context manager of trio can be performed here.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any, Generic, TypeVar

import trio

Value = TypeVar("Value")


class Performance(Generic[Value]):
    """One context manager inside the thread: `entered` has what it gave, `ended` what became of it."""

    def __init__(self, token: trio.lowlevel.TrioToken, what: AbstractAsyncContextManager[Value]) -> None:
        self.entered: Future[Value] = _future()
        self.ended: Future[None] = _future()
        self._token = token
        self._what = what
        self._is_over = trio.Event()
        self._scope = trio.CancelScope()

    async def perform(self) -> None:
        """In the thread."""
        try:
            with self._scope:
                async with self._what as value:
                    self.entered.set_result(value)
                    await self._is_over.wait()
        except Exception as error:  # noqa: BLE001  # a test is told of it
            if not self.entered.done():
                self.entered.set_exception(error)
            self.ended.set_exception(error)
            return
        self.ended.set_result(None)

    def leave(self) -> None:
        """Leave its block."""
        self._token.run_sync_soon(self._is_over.set)

    def cancel(self) -> None:
        """Cancel it."""
        self._token.run_sync_soon(self._scope.cancel)


class Stage:
    """The thread. Made by `stage()`."""

    def __init__(self) -> None:
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=[self._live], name="stage")
        self._thread.start()
        self._is_up.wait()

    async def _live(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._is_up.set()
            await trio.sleep_forever()

    def perform(self, what: AbstractAsyncContextManager[Value]) -> Performance[Value]:
        """Begin."""
        performance = Performance(self._token, what)
        self._token.run_sync_soon(self._nursery.start_soon, performance.perform)
        return performance

    def call(self, act: Callable[[], object]) -> None:
        """Call it in the thread, soon."""
        self._token.run_sync_soon(act)

    def close(self) -> None:
        """End all of them, and the thread."""
        self._token.run_sync_soon(self._nursery.cancel_scope.cancel)
        self._thread.join()


@contextmanager
def stage() -> Iterator[Stage]:
    """A thread while it is needed."""
    thread = Stage()
    try:
        yield thread
    finally:
        thread.close()


class Signal:
    """Said on one side, heard on the other: between a scene and the program, whatever loops they run on."""

    def __init__(self) -> None:
        self.said: Future[None] = _future()

    def set(self) -> None:
        """Say it. Once more is the same."""
        if not self.said.done():
            self.said.set_result(None)

    async def wait(self) -> None:
        """For scenes; programs wait with `face.wait`."""
        await on_trio(self.said)


async def on_trio(future: "Future[Value]") -> Value:
    """Its result, on a trio loop."""
    there = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def tell(_: object) -> None:
        with suppress(trio.RunFinishedError):  # nobody waits there any more
            token.run_sync_soon(there.set)

    future.add_done_callback(tell)
    await there.wait()
    return future.result()


def _future() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()  # who waits for it may be cancelled, and it is not
    return future

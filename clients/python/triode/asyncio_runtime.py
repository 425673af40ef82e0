"""The client on asyncio: what `runtime.py` asks for, in asyncio's own terms.

Knows asyncio, nothing of sessions, and no particular event loop. The surprising decision: the client's tasks are
no `TaskGroup`. That one belongs to the task that opened it, and a web framework may open a client in one task and
close it in another.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from math import inf
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from triode.asyncio_transport import open_transport
from triode.runtime import Event, Lot, Scope, Tasks, Transport


class AsyncioRuntime:
    """See `Runtime`."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def lot(self) -> Lot:
        return _Lot()

    def event(self) -> Event:
        return asyncio.Event()

    def scope(self, deadline: float = inf) -> Scope:
        return _Scope(deadline)

    def tasks(self) -> Tasks:
        return _Tasks()

    def open_transport(
        self, url: str, max_receive_bytes: int, ssl_context: SSLContext | None
    ) -> AbstractAsyncContextManager[Transport]:
        return open_transport(url, max_receive_bytes, ssl_context)


class _Lot:
    """All who wait are woken at once: one that is cancelled at that moment takes nothing away from the others."""

    __slots__ = ("_parked",)

    def __init__(self) -> None:
        self._parked: set[asyncio.Future[None]] = set()

    async def park(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._parked.add(waiter)
        try:
            await waiter
        finally:
            self._parked.discard(waiter)

    def unpark_all(self) -> None:
        for waiter in self._parked:
            if not waiter.done():
                waiter.set_result(None)
        self._parked.clear()

    def __bool__(self) -> bool:
        return bool(self._parked)


class _Scope:
    """`asyncio.timeout` keeps apart who was cancelled by whom; this one may be told anything at any time."""

    def __init__(self, deadline: float) -> None:
        self._timeout = asyncio.timeout_at(_when(deadline))
        self._is_open = False
        self._is_cancelled = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._is_open = False
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            return True  # the cancellation was ours
        return False

    def move_to(self, deadline: float) -> None:
        if self._is_open and not self._is_cancelled and not self._timeout.expired():
            self._timeout.reschedule(_when(deadline))

    def cancel(self) -> None:
        self.move_to(-inf)
        self._is_cancelled = self._is_open  # asked again, it would be put off to the loop's next turn


def _when(deadline: float) -> float | None:
    return None if deadline == inf else deadline


class _Tasks:
    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()  # asyncio itself keeps no reference
        self._error: BaseException | None = None

    async def open(self) -> None:
        pass

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        task = asyncio.get_running_loop().create_task(work(*args))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
            told = {"message": "a task of a Triode client failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(told)  # now: `join` may be far away

    def cancel(self) -> None:
        for task in self._running:
            task.cancel()

    async def join(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        while self._running:
            try:
                await asyncio.wait(self._running)
            except asyncio.CancelledError as caught:
                cancelled = caught
                self.cancel()
        error, self._error = self._error, None
        if cancelled is not None:
            raise cancelled
        if error is not None:
            raise error

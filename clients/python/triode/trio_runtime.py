"""The client on trio: what `runtime.py` asks for, in trio's own terms.

Knows trio, nothing of sessions. The surprising decision: a nursery is closed without the error of the block that
it stands in, because it would hand it back wrapped in a group.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from math import inf
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

import trio

from triode.runtime import Event, Lot, Scope, Tasks, Transport
from triode.trio_transport import open_transport


class TrioRuntime:
    """See `Runtime`."""

    now = staticmethod(trio.current_time)

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    def lot(self) -> Lot:
        return trio.lowlevel.ParkingLot()

    def event(self) -> Event:
        return trio.Event()

    def scope(self, deadline: float = inf) -> Scope:
        return _Scope(deadline)

    def tasks(self) -> Tasks:
        return _Tasks()

    def open_transport(
        self, url: str, max_receive_bytes: int, ssl_context: SSLContext | None
    ) -> AbstractAsyncContextManager[Transport]:
        return open_transport(url, max_receive_bytes, ssl_context)


class _Scope:
    def __init__(self, deadline: float) -> None:
        self._scope = trio.CancelScope(deadline=deadline)

    async def __aenter__(self) -> Self:
        self._scope.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return bool(self._scope.__exit__(kind, error, traceback))

    def move_to(self, deadline: float) -> None:
        self._scope.deadline = deadline

    def cancel(self) -> None:
        self._scope.cancel()


class _Tasks:
    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        self._nursery.start_soon(work, *args)

    def cancel(self) -> None:
        self._nursery.cancel_scope.cancel()

    async def join(self) -> None:
        await self._stack.aclose()  # does nothing the second time

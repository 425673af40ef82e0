"""One face of the client and the loop that its programs run on, so that a test body is written once for all.

A body gets a `Face` and asks it for whatever loops do differently. The surprising decision: brokers never run on
the body's own loop, not even where that is trio's, so that no face has it easier than another.
"""

import asyncio
import functools
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pytest
import trio
import triode
import triode.asyncio
from triode.asyncio_runtime import AsyncioRuntime
from triode.runtime import Event, Runtime, Scope
from triode.trio_runtime import TrioRuntime

from tests.client.broker import Scene, playing
from tests.client.faces import blocking
from tests.client.faces.stage import Signal, Stage, on_trio

BODY_SECONDS: Final = 30.0

Value = TypeVar("Value")
Arguments = ParamSpec("Arguments")
Work = Callable[[], Coroutine[Any, Any, None]]


class Face(ABC):
    """What test bodies may ask for."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    # Its client

    @abstractmethod
    def connect(self, url: Any, **options: Any) -> triode.Client:
        """`connect` of this face."""

    # Its loop

    runtime: Runtime

    @abstractmethod
    def run(self, body: Work) -> None:
        """Run one to its end; the loop is empty then."""

    @abstractmethod
    async def result(self, future: "Future[Value]") -> Value:
        """What another thread has done."""

    @abstractmethod
    async def together(self, *works: Work) -> None:
        """Run all of them at once, to their ends."""

    @abstractmethod
    def beside(self, *works: Work) -> AbstractAsyncContextManager[None]:
        """Run all of them while the block runs; at its end they are cancelled."""

    @abstractmethod
    def within(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Raises TimeoutError or trio's own when the block takes longer."""

    def scope(self, seconds: float = inf) -> Scope:
        """A block that ends after so many seconds, or when it is cancelled, without an error."""
        return self.runtime.scope(self.runtime.now() + seconds)

    def event(self) -> Event:
        """Something that happens once, among the tasks of a body."""
        return self.runtime.event()

    async def checkpoint(self) -> None:
        """Let others run, and be cancelled."""
        await self.runtime.checkpoint()

    async def wait(self, signal: Signal) -> None:
        """Until a scene has said it."""
        await self.result(signal.said)

    # Brokers

    @asynccontextmanager
    async def serving(self, what: AbstractAsyncContextManager[Value]) -> AsyncIterator[Value]:
        """A broker, or anything else of trio's, on the stage. What fails there is raised first."""
        performance = self._stage.perform(what)
        value = await self.result(performance.entered)
        try:
            yield value
        except BaseException as error:
            performance.cancel()
            if (failure := performance.ended.exception(timeout=BODY_SECONDS)) is not None:
                raise failure from error
            raise
        performance.leave()
        await self.result(performance.ended)

    def on_stage(self, act: Callable[[], object]) -> None:
        """Let something happen to what is served; soon."""
        self._stage.call(act)

    def playing(self, *scenes: Scene, context: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[str]:
        """A scripted broker's URL."""
        return self.serving(playing(*scenes, ssl_context=context))


class TrioFace(Face):
    """`triode`."""

    runtime = TrioRuntime()

    def connect(self, url: Any, **options: Any) -> triode.Client:
        return triode.connect(url, **options)

    def run(self, body: Work) -> None:
        async def within() -> None:
            with trio.fail_after(BODY_SECONDS):
                await body()

        trio.run(within, strict_exception_groups=True)

    async def result(self, future: "Future[Value]") -> Value:
        return await on_trio(future)

    async def together(self, *works: Work) -> None:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)

    @asynccontextmanager
    async def beside(self, *works: Work) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)
            yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        with trio.fail_after(seconds):
            yield


class SyncFace(TrioFace):
    """`triode.sync`, whose calls are made in threads beside the body's loop."""

    def connect(self, url: Any, **options: Any) -> Any:
        return blocking.connect(url, **options)


class AsyncioFace(Face):
    """`triode.asyncio`."""

    runtime = AsyncioRuntime()

    def connect(self, url: Any, **options: Any) -> triode.Client:
        return triode.asyncio.connect(url, **options)

    def run(self, body: Work) -> None:
        async def within() -> None:
            async with asyncio.timeout(BODY_SECONDS):
                await body()
            await self.checkpoint()
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a client has left a task behind"

        asyncio.run(within())

    async def result(self, future: "Future[Value]") -> Value:
        return await asyncio.wrap_future(future)

    async def together(self, *works: Work) -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work())

    @asynccontextmanager
    async def beside(self, *works: Work) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for work in works]
            yield
            for task in tasks:
                task.cancel()

    def within(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)


#: For tests that count what leaves together, or waits together. Between threads there are no turns.
only_where_a_loop_has_turns: Final = pytest.mark.parametrize("face", ["trio", "asyncio"], indirect=True)

#: For tests of what a cancelled task leaves behind. A thread cannot be cancelled.
only_where_tasks_are_cancelled: Final = pytest.mark.parametrize("face", ["trio", "asyncio"], indirect=True)

FACES: Final[dict[str, Callable[[Stage], Face]]] = {"trio": TrioFace, "asyncio": AsyncioFace, "sync": SyncFace}


def on_its_loop(
    body: Callable[Concatenate[Face, Arguments], Awaitable[None]],
) -> Callable[Concatenate[Face, Arguments], None]:
    """Makes of an async test body a test: `face` runs it on its own loop."""

    @functools.wraps(body)
    def test(face: Face, *args: Arguments.args, **fixtures: Arguments.kwargs) -> None:
        async def run() -> None:
            await body(face, *args, **fixtures)

        face.run(run)

    return test  # type: ignore[return-value]  # what `wraps` gives has a name for its first argument, too

"""The blocking face for test bodies that await: each call of it that may wait is made in a thread.

Knows names, no behaviour: what is not named here is the blocking face's own. The surprising decision: bodies run
on a loop of trio's although the face has none, because only so they are the same for all faces.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import trio
import triode.sync

Result = TypeVar("Result")

_MOST_THREADS = 200
_GLANCE_SECONDS = 0.05


async def in_thread(function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Call it where it may block."""
    limiter = trio.CapacityLimiter(_MOST_THREADS)
    return await trio.to_thread.run_sync(partial(function, *args, **options), limiter=limiter)


class Awaited:
    """A thing of the blocking face. `_WAITING`: the names of what may wait."""

    _WAITING: frozenset[str] = frozenset()

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        return partial(in_thread, found) if name in self._WAITING else found

    def __repr__(self) -> str:
        return repr(self._thing)

    async def __aenter__(self) -> Self:
        await in_thread(self._thing.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await in_thread(self._thing.__exit__, kind, error, traceback)


class Receipt(Awaited):
    """Of `publish_nowait`."""

    _WAITING = frozenset({"wait"})


class Delivery(Awaited):
    """One message to be acknowledged."""

    _WAITING = frozenset({"ack", "nack", "reject", "extend"})

    def __enter__(self) -> Self:
        self._thing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thing.__exit__(kind, error, traceback)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The blocking face has no block that waits: its programs write it so."""
        if error is None and not self._thing.outcome:
            with suppress(triode.DeliveryLost, triode.DeliveryRefused):
                await in_thread(self._thing.ack)
        await super().__aexit__(kind, error, traceback)


class Iterated(Awaited):
    """An iterator that blocks, as an async one."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while True:  # a thread that waits is not cancelled: it looks up now and then
            with suppress(TimeoutError):
                found = await in_thread(self._next)
                return Delivery(found) if isinstance(found, triode.sync.Delivery) else found

    def _next(self) -> Any:
        try:
            return self._thing.get(timeout=_GLANCE_SECONDS)
        except EOFError:
            raise StopAsyncIteration from None


class Receiving(Iterated):
    """Of `subscribe` and `consume`."""

    def events(self) -> Iterated:
        return Iterated(self._thing.events())


class Client(Awaited):
    """Of `connect`."""

    _WAITING = frozenset({"publish", "publish_many", "send", "delete_key", "history", "presence"})

    def publish_nowait(self, *args: Any, **options: Any) -> Receipt:
        return Receipt(self._thing.publish_nowait(*args, **options))

    def subscribe(self, *args: Any, **options: Any) -> Receiving:
        return Receiving(self._thing.subscribe(*args, **options))

    def consume(self, *args: Any, **options: Any) -> Receiving:
        return Receiving(self._thing.consume(*args, **options))

    def events(self) -> Iterated:
        return Iterated(self._thing.events())

    async def aclose(self) -> None:
        await in_thread(self._thing.close)


def connect(url: Any, *, token: str | Callable[[], Awaitable[str]] = "", **options: Any) -> Client:
    """`triode.sync.connect`. A token that a body fetches is fetched on the body's loop."""
    if isinstance(token, str):
        return Client(triode.sync.connect(url, token=token, **options))
    loop = trio.lowlevel.current_trio_token()
    fetch = partial(trio.from_thread.run, token, trio_token=loop)
    return Client(triode.sync.connect(url, token=fetch, **options))

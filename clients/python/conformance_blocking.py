"""The blocking face as the conformance adapter drives it: every call that may block runs in a thread of its own.

Knows `triode.sync` and trio. The surprising decision: a call that is given up goes on in its thread; it ends when
the client is closed, and if it did not, the scenario would say so.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeVar

import trio
import triode.sync

_END: Final = object()
_THREADS: Final = 1_000  # far above what a scenario needs

Result = TypeVar("Result")


class Threads:
    """Where blocking calls run."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_THREADS)

    async def run(self, call: Callable[[], Result]) -> Result:
        """The result of `call`; cancelled, it is left behind."""
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    async def finish(self, call: Callable[[], object]) -> None:
        """The same, to the end."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(call, limiter=self._limiter)


class Iterated:
    """A blocking iterator as an async one."""

    def __init__(self, iterator: Iterator[Any], threads: Threads) -> None:
        self._iterator = iterator
        self._threads = threads

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        item = await self._threads.run(lambda: next(self._iterator, _END))
        if item is _END:
            raise StopAsyncIteration
        return Answerable(item, self._threads) if isinstance(item, triode.sync.Delivery) else item


class Answerable(triode.Delivery):
    """A delivery whose answers are waited for in threads; of the async kind, so that reports know it as one."""

    __slots__ = ("_delivery", "_threads")

    def __init__(self, delivery: triode.sync.Delivery, threads: Threads) -> None:
        self._delivery = delivery
        self._threads = threads
        self.message = delivery.message
        self.attempt = delivery.attempt

    async def ack(self) -> None:
        await self._threads.run(self._delivery.ack)

    async def nack(self, delay: float = 0.0) -> None:
        await self._threads.run(lambda: self._delivery.nack(delay))

    async def reject(self) -> None:
        await self._threads.run(self._delivery.reject)

    async def extend(self, seconds: float) -> None:
        await self._threads.run(lambda: self._delivery.extend(seconds))


class Receiving:
    """A subscription of either kind."""

    def __init__(self, receiving: Any, threads: Threads) -> None:
        self._receiving = receiving
        self._threads = threads

    async def __aenter__(self) -> Self:
        await self._threads.run(self._receiving.__enter__)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._threads.finish(self._receiving.close)

    def events(self) -> Iterated:
        """Everything, in order."""
        return Iterated(self._receiving.events(), self._threads)

    @property
    def position(self) -> triode.Position:
        """How far the program has got."""
        position: triode.Position = self._receiving.position
        return position


class Receipt:
    """A publish on its way."""

    def __init__(self, receipt: triode.sync.Receipt, threads: Threads) -> None:
        self._receipt = receipt
        self._threads = threads

    async def wait(self) -> triode.Published:
        """Its place."""
        return await self._threads.run(self._receipt.wait)


class Client:
    """The blocking client, with the names that the others have."""

    def __init__(self, client: triode.sync.Client) -> None:
        self._client = client
        self._threads = Threads()

    async def __aenter__(self) -> Self:
        await self._threads.run(self._client.open)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._threads.finish(self._client.close if kind is None else lambda: self._client.close(0))

    def events(self) -> Iterated:
        """Of the connection."""
        return Iterated(self._client.events(), self._threads)

    def publish_nowait(self, topic: str, data: object, **options: Any) -> Receipt:
        """Queue a publish."""
        return Receipt(self._client.publish_nowait(topic, data, **options), self._threads)

    async def send(self, topic: str, data: object) -> None:
        """Publish without acknowledgement."""
        await self._threads.run(lambda: self._client.send(topic, data))

    async def delete_key(self, topic: str, key: str) -> triode.Published:
        """Delete a key."""
        return await self._threads.run(lambda: self._client.delete_key(topic, key))

    def subscribe(self, filter: str, **options: Any) -> Receiving:
        """Subscribe."""
        return Receiving(self._client.subscribe(filter, **options), self._threads)

    def consume(self, filter: str, **options: Any) -> Receiving:
        """Subscribe with acknowledgements."""
        return Receiving(self._client.consume(filter, **options), self._threads)

    async def history(self, topic: str, **options: Any) -> triode.HistoryPage:
        """A page."""
        return await self._threads.run(lambda: self._client.history(topic, **options))

    async def presence(self, topic: str) -> triode.Presence:
        """Who is there."""
        return await self._threads.run(lambda: self._client.presence(topic))


def connect(url: str | list[str], *, token: Any, **options: Any) -> Client:
    """As `triode.sync.connect`; a token that is an async function is called from the thread that asks for it."""
    asked = token if isinstance(token, str) else _from_thread(token, trio.lowlevel.current_trio_token())
    return Client(triode.sync.connect(url, token=asked, **options))


def _from_thread(token: Any, where: trio.lowlevel.TrioToken) -> Callable[[], str]:
    def ask() -> str:
        given: str = trio.from_thread.run(token, trio_token=where)
        return given

    return ask

"""What `Messages` and `Deliveries` share: one subscription as an async context manager with an inbox to take from.

Knows the runtime and the session's subscription, no packets and no sockets. The surprising decision: taking an
item is no checkpoint while more are waiting, except every 64th: that costs more than all else about a message.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from triode.driver import Driver
from triode.records import Gap
from triode.subscription import Phase, Subscription
from triode.watching import say

_TAKEN_PER_CHECKPOINT: Final = 64
_REMEMBERED_GAPS: Final = 100

Entry = TypeVar("Entry")


class Receiving(Generic[Entry]):
    """One subscription through all reconnects. `Entry`: what its inbox holds."""

    def __init__(
        self,
        driver: Driver,
        filter: str,
        on_gap: Callable[[Gap], None] | None,
        subscribe: Callable[[], Subscription],
        take: Callable[[Subscription], Entry | None],
    ) -> None:
        self.filter = filter
        self._driver = driver
        self._on_gap = on_gap
        self._subscribe = subscribe
        self._take = take
        self._subscription: Subscription | None = None
        self._arrivals = driver.runtime.lot()
        self._taken = 0
        #: Gaps that were passed on or logged so far.
        self.gap_count = 0
        #: The last of them.
        self.gaps: deque[Gap] = deque(maxlen=_REMEMBERED_GAPS)

    async def __aenter__(self) -> Self:
        if self._subscription is not None:
            raise RuntimeError("a subscription is entered once")
        subscription = self._subscribe()
        subscription.waiter = self._arrivals
        self._subscription = subscription
        self._driver.settle()
        try:
            while not subscription.is_registered:
                await self._arrivals.park()
            await self._driver.runtime.checkpoint()
        except BaseException:
            self._close(subscription)
            raise
        if subscription.error is not None and not subscription.inbox:
            raise subscription.error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unsubscribe. What was received and not taken is dropped. No checkpoint."""
        subscription = self._opened()
        self._close(subscription)
        subscription.inbox.clear()

    def _close(self, subscription: Subscription) -> None:
        self._driver.session.subscriptions.remove(subscription)
        self._driver.settle()

    def _opened(self) -> Subscription:
        if self._subscription is None:
            raise RuntimeError("enter the subscription first: async with client.… as …")
        return self._subscription

    async def _next(self) -> Entry:
        """The next entry. Cancelled, it has taken nothing."""
        subscription = self._opened()
        self._taken += 1
        if self._taken >= _TAKEN_PER_CHECKPOINT or not subscription.inbox:
            self._taken = 0
            await self._driver.runtime.checkpoint()
        while not subscription.inbox:
            if subscription.phase is Phase.ENDED:
                raise subscription.error or StopAsyncIteration
            await self._arrivals.park()
        was_paused = subscription.phase is Phase.PAUSED
        item = self._take(subscription)
        if was_paused:
            self._driver.settle()
        assert item is not None  # the inbox was not empty, and nobody ran since
        return item

    async def _next_event(self) -> Entry:
        item = await self._next()
        if isinstance(item, Gap):
            self._count(item)
        return item

    def _count(self, gap: Gap) -> None:
        self.gap_count += 1
        self.gaps.append(gap)

    def _report(self, gap: Gap) -> None:
        self._count(gap)
        if self._on_gap is not None:
            self._on_gap(gap)
        elif self.gap_count == 1:
            advice = "pass on_gap= or iterate over events() to be told of every gap"
            say(logging.WARNING, "messages_missing", filter=self.filter, reason=gap.reason, advice=advice)


class Everything(Generic[Entry]):
    """The iterator of `events()`."""

    def __init__(self, following: Callable[[], Awaitable[Entry]]) -> None:
        self._following = following

    def __aiter__(self) -> AsyncIterator[Entry]:
        return self

    async def __anext__(self) -> Entry:
        return await self._following()

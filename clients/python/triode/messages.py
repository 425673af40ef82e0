"""What `client.subscribe(…)` gives: one subscription as an async context manager and iterator.

Knows trio and the session's subscription, no packets and no sockets. The surprising decision: taking a message is
no checkpoint while more are waiting, except every 64th: a checkpoint costs more than all else about a message.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import trio
from triode_protocol import packets

from triode.driver import Driver
from triode.records import Gap, Item, Message, Position
from triode.subscriptions import Phase, Subscription
from triode.watching import say

_TAKEN_PER_CHECKPOINT: Final = 64
_REMEMBERED_GAPS: Final = 100


class Messages:
    """The messages of one filter, in order, through all reconnects.

    `async with` waits until the broker has registered the subscription: what is published after that is received.
    It raises SubscriptionEnded when the broker refuses, ConnectionClosed when the client is closed. Iterating
    raises the same when the broker ends the subscription later, after what was received before.

    A gap is never lost: in `events()` it stands before the messages that follow it; when iterating over the
    messages alone it goes to `on_gap`, called in the same place; with neither, the first one is logged as a
    warning. All are counted in `gap_count`, the last hundred kept in `gaps`.

    What the program has not taken yet is bounded (`max_inbox_messages`, `max_inbox_bytes`). Past the bound the
    subscription is paused at the broker and resumed by position at half of it: late, not lost, as far as the
    broker still holds the messages, else there is a gap.
    """

    def __init__(
        self,
        driver: Driver,
        filter: str,
        start: packets.From,
        after: Position | None,
        overflow: packets.Overflow,
        on_gap: Callable[[Gap], None] | None,
    ) -> None:
        self.filter = filter
        self._driver = driver
        self._start = start
        self._after = after
        self._overflow = overflow
        self._on_gap = on_gap
        self._subscription: Subscription | None = None
        self._arrivals = trio.lowlevel.ParkingLot()
        self._taken = 0
        #: Gaps that were passed on or logged so far.
        self.gap_count = 0
        #: The last of them.
        self.gaps: deque[Gap] = deque(maxlen=_REMEMBERED_GAPS)

    async def __aenter__(self) -> Self:
        if self._subscription is not None:
            raise RuntimeError("a subscription is entered once")
        session = self._driver.session
        subscription = session.subscribe(self.filter, self._start, self._after, self._overflow)
        subscription.waiter = self._arrivals
        self._subscription = subscription
        self._driver.settle()
        try:
            while not subscription.is_registered:
                await self._arrivals.park()
            await trio.lowlevel.checkpoint()
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

    @property
    def position(self) -> Position:
        """Everything up to here has been taken: `after=` of a later run resumes without loss or doubles."""
        return self._opened().consumed()

    @property
    def is_live(self) -> bool:
        """Whether it has caught up with what the broker holds, and is connected."""
        return self._opened().is_live

    @property
    def is_paused(self) -> bool:
        """Whether the program has fallen so far behind that the broker keeps the messages."""
        return self._opened().phase is Phase.PAUSED

    def _opened(self) -> Subscription:
        if self._subscription is None:
            raise RuntimeError("enter the subscription first: async with client.subscribe(…) as messages")
        return self._subscription

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        """The next message. One task at a time; cancelled, it has taken nothing."""
        while True:
            item = await self._next()
            if isinstance(item, Message):
                return item
            if isinstance(item, Gap):
                self._report(item)

    def events(self) -> AsyncIterator[Item]:
        """Messages, Gap and CaughtUp, in order: the same inbox, so use this or the plain iteration."""
        self._opened()
        return _Everything(self._next_event)

    async def _next_event(self) -> Item:
        item = await self._next()
        if isinstance(item, Gap):
            self._count(item)
        return item

    async def _next(self) -> Item:
        subscription = self._opened()
        self._taken += 1
        if self._taken >= _TAKEN_PER_CHECKPOINT or not subscription.inbox:
            self._taken = 0
            await trio.lowlevel.checkpoint()
        while not subscription.inbox:
            if subscription.phase is Phase.ENDED:
                raise subscription.error or StopAsyncIteration
            await self._arrivals.park()
        was_paused = subscription.phase is Phase.PAUSED
        item = self._driver.session.subscriptions.take(subscription)
        if was_paused:
            self._driver.settle()
        assert item is not None  # the inbox was not empty, and nobody ran since
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


class _Everything:
    """The iterator of `events()`."""

    def __init__(self, following: Callable[[], Awaitable[Item]]) -> None:
        self._following = following

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        return await self._following()

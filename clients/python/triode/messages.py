"""What `client.subscribe(…)` gives: the messages of one filter.

Knows what all subscriptions share (receiving.py), and positions. One thing to know: gaps come in their place among
the messages, whether the program iterates over everything or over messages alone.
"""

from collections.abc import AsyncIterator, Callable

from triode_protocol import packets

from triode.driver import Driver
from triode.receiving import Everything, Receiving
from triode.records import Gap, Item, Message, Position
from triode.subscription import Phase, Wish


class Messages(Receiving[Item]):
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
        presence: Wish,
    ) -> None:
        session = driver.session
        super().__init__(
            driver,
            filter,
            on_gap,
            lambda: session.subscribe(filter, start, after, overflow, presence),
            session.subscriptions.take,
        )

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
        """All of it, Joined and Left too, in order: the same inbox, so use this or the plain iteration."""
        self._opened()
        return Everything(self._next_event)

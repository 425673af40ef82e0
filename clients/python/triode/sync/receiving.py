"""What `client.subscribe(…)` gives to threads, and what it shares with `client.consume(…)`.

Knows the inbox, and the async face's own object, which checks, counts gaps and subscribes. The surprising
decision: an entered subscription may enter again by itself. After a fork the child's goes on from where the
parent's was.
"""

from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from triode.messages import Messages as AsyncMessages
from triode.receiving import Receiving as AsyncReceiving
from triode.records import CaughtUp, Gap, Item, Message, Position
from triode.subscription import Phase
from triode.sync.background import Background
from triode.sync.inbox import Ended, Inbox
from triode.sync.processes import Locks

Given = TypeVar("Given", covariant=True)
AnyInbox = TypeVar("AnyInbox", bound=Inbox[Any])
AnyAsync = TypeVar("AnyAsync", bound=AsyncReceiving[Any])


class Source(Protocol):
    """The client, as subscriptions see it."""

    def _background(self) -> Background:
        """This process's, open."""


class Receiving(Generic[AnyAsync, AnyInbox]):
    """One subscription through all reconnects.

    `make` gives the async face's own object on a background thread; `inbox` what carries its items between them.
    """

    def __init__(self, source: Source, inner: AnyAsync) -> None:
        self.filter = inner.filter
        self._source = source
        self._inner = inner
        self._inbox: AnyInbox | None = None
        self._locks = Locks()

    def _make(self, background: Background) -> AnyAsync:
        raise AssertionError("a subclass says")

    def _make_inbox(self, background: Background, inner: AnyAsync) -> AnyInbox:
        raise AssertionError("a subclass says")

    @property
    def gap_count(self) -> int:
        """Gaps that were passed on or logged so far."""
        return self._inner.gap_count

    @property
    def gaps(self) -> deque[Gap]:
        """The last hundred of them."""
        return self._inner.gaps

    def __enter__(self) -> Self:
        if self._inbox is not None:
            raise RuntimeError("a subscription is entered once")
        background = self._source._background()
        self._enter(background, self._make(background))
        return self

    def _enter(self, background: Background, inner: AnyAsync) -> AnyInbox:
        """Subscribe, and wait until the broker has answered."""
        made: list[AnyInbox] = []
        is_wanted = True

        async def subscribe() -> None:
            inbox = self._make_inbox(background, inner)
            made.append(inbox)
            try:
                inbox.begin()
                await inbox.registered.wait()
            finally:
                if not is_wanted:  # interrupted: whoever sees the other's mark last closes it
                    inbox.close()

        try:
            background.call(subscribe)
        except BaseException:
            is_wanted = False
            for inbox in made:
                inbox.close()
            raise
        (inbox,) = made
        error = inbox.subscription.error
        if error is not None and not inbox.has_items():
            raise error
        self._inner, self._inbox = inner, inbox
        return inbox

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unsubscribe, as the end of the block does. What was received and not taken is dropped. Does not wait.

        Threads that iterate come to their end quietly.
        """
        if self._inbox is not None:
            self._inbox.close()

    def _opened(self) -> AnyInbox:
        if self._inbox is None:
            raise RuntimeError("enter the subscription first: with client.… as …")
        if self._inbox.background.is_inherited:
            with self._locks.mine():
                if self._inbox.background.is_inherited:  # no other thread of this process has been here
                    return self._after_fork(self._inbox)
        return self._inbox

    def _after_fork(self, inbox: AnyInbox) -> AnyInbox:
        raise inbox.background.closed()

    def _report(self, gap: Gap) -> None:
        self._inner._report(gap)


class Messages(Receiving[AsyncMessages, Inbox[Item]]):
    """The messages of one filter, in order, through all reconnects: `with client.subscribe(…) as messages`.

    `with` waits until the broker has registered the subscription: what is published after that is received. It
    raises SubscriptionEnded when the broker refuses, ConnectionClosed when the client is closed. Iterating blocks,
    ends quietly when the subscription or the client is closed, by any thread, and raises the same errors when the
    broker ends either, after what was received before. Interrupted while it waits, it has taken nothing.

    Any number of threads may iterate over one: each message goes to one of them, in order.

    A gap is never lost: in `events()` it stands before the messages that follow it; when iterating over the
    messages alone it goes to `on_gap`, called in the same place by the thread that iterates; with neither, the
    first one is logged as a warning. All are counted in `gap_count`, the last hundred kept in `gaps`.

    What the program has not taken yet is bounded (`max_inbox_messages`, `max_inbox_bytes`, and three batches on
    their way between the threads, each a fifth of that, 512 messages or 1 MiB at most). Past the bound the
    subscription is paused at the broker and resumed by position at half of it: late, not lost, as far as the
    broker still holds the messages, else there is a gap.

    In the child of a fork it goes on from where this program was at the fork, over the child's own connection and
    without a word to the parent's: both get everything from there on. One that begins with "last" and has not
    caught up begins again.
    """

    def __init__(self, source: Source, subscribe: Callable[..., AsyncMessages], arguments: dict[str, Any]) -> None:
        super().__init__(source, subscribe(**arguments))
        self._arguments = arguments
        self._has_caught_up = False

    def _make(self, background: Background) -> AsyncMessages:
        return background.client.subscribe(**self._arguments)

    def _make_inbox(self, background: Background, inner: AsyncMessages) -> Inbox[Item]:
        return Inbox(background, inner._subscribe(), background.session.subscriptions.take)

    def _after_fork(self, inbox: Inbox[Item]) -> Inbox[Item]:
        if self._has_caught_up or self._arguments["from_"] != "last":
            self._arguments |= {"after": inbox.position(), "from_": "new"}  # with "last" it would begin again (R7)
        background = self._source._background()
        inner = self._make(background)
        inner.gap_count, inner.gaps = self._inner.gap_count, self._inner.gaps.copy()
        return self._enter(background, inner)

    @property
    def position(self) -> Position:
        """Everything up to here has been taken: `after=` of a later run resumes without loss or doubles."""
        return self._opened().position()

    @property
    def is_live(self) -> bool:
        """Whether it has caught up with what the broker holds, and is connected."""
        return self._opened().subscription.is_live

    @property
    def is_paused(self) -> bool:
        """Whether the program has fallen so far behind that the broker keeps the messages."""
        return self._opened().subscription.phase is Phase.PAUSED

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        """The next message."""
        try:
            return self._next(None)
        except Ended:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> Message:
        """The next message. Raises TimeoutError after `timeout` seconds, EOFError where no more will come."""
        try:
            return self._next(timeout)
        except Ended:
            raise EOFError("the subscription is closed") from None

    def _next(self, timeout: float | None) -> Message:
        while True:
            item = self._opened().take(timeout)
            if isinstance(item, Message):
                return item
            if isinstance(item, Gap):
                self._report(item)
            elif isinstance(item, CaughtUp):
                self._has_caught_up = True

    def events(self) -> "Everything[Item]":
        """All of it, Joined and Left too, in order: the same inbox, so use this or the plain iteration."""
        self._opened()
        return Everything(self._next_event)

    def _next_event(self, timeout: float | None) -> Item:
        item = self._opened().take(timeout)
        if isinstance(item, Gap):
            self._inner._count(item)
        elif isinstance(item, CaughtUp):
            self._has_caught_up = True
        return item


class Everything(Generic[Given]):
    """The iterator of `events()`: not a generator, because an interruption ends these."""

    def __init__(self, following: Callable[[float | None], Given]) -> None:
        self._following = following

    def __iter__(self) -> Iterator[Given]:
        return self

    def __next__(self) -> Given:
        try:
            return self._following(None)
        except Ended:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> Given:
        """The next one. Raises TimeoutError after `timeout` seconds, EOFError where no more will come."""
        try:
            return self._following(timeout)
        except Ended:
            raise EOFError("the subscription is closed") from None

"""What one subscription has received, on its way from the loop to the threads that iterate over it.

Knows the session's subscription and bells. The surprising decision: messages change threads in batches, whatever
has come meanwhile, and at most two wait here: the rest stays in the session's inbox, whose bounds pause the
subscription. So a message costs no switch between threads, and the bounds hold but for these batches.
"""

import threading
from collections import deque
from collections.abc import Callable
from operator import length_hint
from typing import Final, Generic, TypeVar

import trio

from triode.consuming import Handed, Terms, Tray
from triode.records import CaughtUp, Gap, Item, Message, Position
from triode.subscription import Phase, Subscription
from triode.subscriptions import advance
from triode.sync.background import Background
from triode.sync.bells import Line, deadline, remaining

_MOST_IN_A_BATCH: Final = 512
_MOST_BATCH_BYTES: Final = 1_048_576
_MOST_BATCHES: Final = 2
_PART: Final = 5  # of the inbox at most: two batches taken from a full one leave it more than half full, so paused
_ANY_NUMBER: Final = 2**30

Entry = TypeVar("Entry", bound=Item | Handed)


class Ended(Exception):
    """Nothing more will come, as the program wished."""


class Inbox(Generic[Entry]):
    """One subscription's, over one background thread. `take`: the session's way of taking an item."""

    def __init__(
        self, background: Background, subscription: Subscription, take: Callable[[Subscription], Entry | None]
    ) -> None:
        self.background: Final = background
        self.subscription: Final = subscription
        #: In the loop: set once the broker has answered.
        self.registered = trio.Event()
        options = background.session.options
        self._most = min(_MOST_IN_A_BATCH, max(1, int(options.max_inbox_messages // _PART)))
        self._most_bytes = min(_MOST_BATCH_BYTES, options.max_inbox_bytes // _PART)
        self._take_one = take
        self._lock = threading.RLock()  # among consumers; reentrant for signal handlers
        self._batch: _Batch[Entry] = _Batch({}, [])  # that consumers are at
        self._batches: deque[_Batch[Entry]] = deque()
        self._has_more = False  # the session's inbox has what found no place in `_batches`
        self._is_moving = False  # items are in neither
        self._end: Exception | None = None
        self._is_closed = False
        self._line = Line()

    # For threads

    def take(self, timeout: float | None = None) -> Entry:
        """The next item. Raises TimeoutError, Ended, or what ended the subscription."""
        until = deadline(timeout)
        while not self._is_closed:
            end = self._end  # read before looking for items: what is last comes before the end
            with self._lock:
                for item in self._batch.items:
                    return item
                if self._turn():
                    continue
            if end is not None:
                raise end
            left = remaining(until)
            if left == 0:
                raise TimeoutError("no message in time")
            self._line.wait(self._is_worth_a_look, self.background.wait, left)
            if self.background.is_over and not self._is_worth_a_look():  # it has failed
                raise self.background.closed()
        raise Ended

    def _turn(self) -> bool:
        """Go on to the next batch. An interruption, or a fork, in the midst of it loses nothing."""
        if self._batches and self._batches[0] is self._batch:
            self._batches.popleft()  # there was one
        if not self._batches:
            return False
        self._batch = self._batches[0]
        self._batches.popleft()
        if self._has_more:
            self.background.soon(self._move)
        return True

    def _is_worth_a_look(self) -> bool:
        return self.has_items() or self._is_closed or self._end is not None

    def has_items(self) -> bool:
        """Whether there is something to take."""
        return bool(self._batches) or bool(self._batch)

    def position(self) -> Position:
        """Everything up to here has been taken. Locks nothing, for the child of a fork asks too."""
        latest = dict(self.subscription.position)
        if self.subscription.inbox or self._is_moving or self.has_items():
            batch = self._batch
            if not batch and self._batches and self._batches[0] is not batch:
                return dict(self._batches[0].before)
            return batch.taken()
        return latest  # looked at before the rest: whatever comes after it is behind it

    def close(self) -> None:
        """Nothing more is taken; whoever waits is told. Locks nothing, for the child of a fork closes too."""
        self._is_closed = True
        self._line.ring_all()
        self.background.soon(self._unsubscribe)

    # In the loop

    def begin(self) -> None:
        """Be woken by the driver from here on."""
        self.subscription.waiter = self
        self.background.driver.settle()

    def unpark_all(self) -> None:
        """The driver's: something is new."""
        if self.subscription.is_registered and not self.registered.is_set():
            self._batch = _Batch(self.subscription.consumed(), [])
            self.registered.set()
        self._move(None)

    def _move(self, _: object) -> None:
        subscription = self.subscription
        while subscription.inbox:
            if len(self._batches) >= _MOST_BATCHES:
                self._has_more = True
                if len(self._batches) >= _MOST_BATCHES:  # again: one taken meanwhile may have seen no more
                    return
            self._has_more = False
            self._is_moving = True
            before = subscription.consumed()
            items = self._take_some()
            self._batches.append(_Batch(before, items))
            self._is_moving = False
            self._line.ring(len(items))
        if subscription.phase is Phase.ENDED and self._end is None:
            self._end = subscription.error or Ended()
            self._line.ring_all()

    def _take_some(self) -> list[Entry]:
        batch: list[Entry] = []
        size = 0
        while len(batch) < self._most and size <= self._most_bytes:
            item = self._take_one(self.subscription)
            if item is None:
                break
            self._came(item)
            batch.append(item)
            size += item.size
        return batch

    def _came(self, item: Entry) -> None:
        """For who must know before it is taken."""

    def _unsubscribe(self, _: object) -> None:
        self.background.session.subscriptions.remove(self.subscription)
        self.subscription.inbox.clear()


class _Batch(Generic[Entry]):
    """Items that changed threads together, and the position before them. True while some are left."""

    def __init__(self, before: Position, items: list[Entry]) -> None:
        self.items: Final = iter(items)
        self.before = before
        self._all: Final = items
        self._counted = 0  # so many of them are in `before`

    def __bool__(self) -> bool:
        return length_hint(self.items) > 0

    def taken(self) -> Position:
        """The position behind what was taken of it."""
        count = len(self._all) - length_hint(self.items)
        for item in self._all[self._counted : count]:
            if isinstance(item, Message):
                advance(self.before, item.log, item.pos)
            elif isinstance(item, Gap | CaughtUp):
                self.before = dict(item.after)
        self._counted = count
        return dict(self.before)


class HandedInbox(Inbox[Handed | Gap]):
    """Of an acknowledged subscription: what the broker has taken back meanwhile is not given out."""

    def __init__(
        self,
        background: Background,
        subscription: Subscription,
        take: Callable[[Subscription], Handed | Gap | None],
    ) -> None:
        super().__init__(background, subscription, take)
        assert subscription.tray is not None
        terms = subscription.tray.terms
        self._theirs: Final = subscription.tray
        #: What is on its way, beside what still waits in the session; the session keeps the bound.
        self.tray: Final = Tray(Terms(terms.durable, terms.shared, terms.group, _ANY_NUMBER))
        self._given_back: Final[dict[Handed, None]] = {}  # by threads; the loop has not heard of it yet

    def take(self, timeout: float | None = None) -> Handed | Gap:
        until = deadline(timeout)
        while True:
            item = super().take(remaining(until))
            if isinstance(item, Gap):
                return item
            if self.tray.holds(item):
                self.tray.pop(item.place)
                is_taken_back = any(self.tray.goes_with(item, each) for each in list(self._given_back))
                if item.round == self._theirs.round and not is_taken_back:
                    return item

    def give_back(self, handed: Handed) -> None:
        """For threads: those of its key behind it come again in order, also what the loop hands over meanwhile."""
        self._given_back[handed] = None
        self._drop_behind(handed)

    def given_back(self, handed: Handed) -> None:
        """In the loop, with the answer: from here on the session drops what comes behind it."""
        self._drop_behind(handed)
        self._given_back.pop(handed, None)

    def _drop_behind(self, handed: Handed) -> None:
        for each in self.tray.behind(handed):
            self.tray.pop(each.place)

    def _came(self, item: Handed | Gap) -> None:
        if isinstance(item, Handed):
            self.tray.put(item)

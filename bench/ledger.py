"""What should have been had, of one topic or of many, and what was: loss, doubles, order.

What it must not know: bytes, sockets, time.
The surprising decision: a hole is not a loss until the run is over. A message that fills it later
came out of order; only what is still missing at the end was lost.
"""

from collections.abc import Sequence
from typing import Protocol


class Tally(Protocol):
    """What is told in the end, of whichever places."""

    @property
    def received(self) -> int:
        """Messages, doubles included."""

    @property
    def doubled(self) -> int:
        """Messages that had been received before."""

    @property
    def misordered(self) -> int:
        """Messages behind which others belong."""

    @property
    def lost(self) -> int:
        """What is missing, once the run is over."""


class Accounts(Tally, Protocol):
    """Of one publisher's answers."""

    def take(self, place: int) -> None:
        """Account for one message."""

    def close(self, published: int) -> None:
        """The run is over."""


class Ledger:
    """Accounts for the offsets of one topic, which are contiguous from `first`."""

    __slots__ = ("doubled", "first", "misordered", "missing", "next", "received")

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first  # the offset that is due
        self.received = 0
        self.doubled = 0
        self.misordered = 0
        self.missing: set[int] = set()

    def take(self, offset: int) -> None:
        """Account for one message."""
        self.received += 1
        if offset >= self.next:
            self.missing.update(range(self.next, offset))
            self.next = offset + 1
        elif offset in self.missing:
            self.missing.remove(offset)
            self.misordered += 1
        else:
            self.doubled += 1

    def take_run(self, offsets: Sequence[int]) -> bool:
        """Account for a run at once if it is exactly what is due; otherwise change nothing."""
        due = self.next
        if offsets != list(range(due, due + len(offsets))):
            return False
        self.advance(len(offsets))
        return True

    def advance(self, count: int) -> None:
        """Account for `count` messages known to be the ones due."""
        self.next += count
        self.received += count

    def close(self, published: int) -> None:
        """The run is over: of the `published` messages, what has not come will not come."""
        due = self.first + published
        self.missing.update(range(self.next, due))
        self.next = max(self.next, due)

    @property
    def lost(self) -> int:
        return len(self.missing)


class Rising:
    """Accounts for places that only rise, with numbers of others between them; 0 is no place at all."""

    __slots__ = ("doubled", "last", "lost", "misordered", "received")

    def __init__(self) -> None:
        self.last = 0
        self.received = 0
        self.doubled = 0
        self.misordered = 0
        self.lost = 0

    def take(self, place: int) -> None:
        """Account for one message."""
        self.received += 1
        if place == 0 or place > self.last:
            self.last = place
        elif place == self.last:
            self.doubled += 1
        else:
            self.misordered += 1

    def close(self, published: int) -> None:
        """The run is over: what was not received will not come."""
        self.lost = max(published - self.received, 0)


class Once:
    """Accounts for messages dealt out to many: each place once, to whichever member, rising for each member."""

    __slots__ = ("_lasts", "doubled", "lost", "misordered", "received", "seen")

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.received = 0
        self.doubled = 0
        self.misordered = 0
        self.lost = 0
        self._lasts: dict[int, int] = {}

    def take(self, member: int, places: Sequence[int]) -> None:
        """Account for what one member was given, in the order in which it came."""
        self.received += len(places)
        before = len(self.seen)
        self.seen.update(places)
        self.doubled += before + len(places) - len(self.seen)
        last = self._lasts.get(member, 0)
        for place in places:
            if place < last:
                self.misordered += 1
            last = place
        self._lasts[member] = last

    def close(self, published: int) -> None:
        """The run is over: what nobody received will not come."""
        self.lost = max(published - len(self.seen), 0)

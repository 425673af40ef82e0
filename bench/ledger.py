"""What one subscriber should have had of one topic, and what it had: loss, doubles, order.

What it must not know: bytes, sockets, time.
The surprising decision: a hole is not a loss until the run is over. A message that fills it later
came out of order; only what is still missing at the end was lost.
"""

from collections.abc import Sequence


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

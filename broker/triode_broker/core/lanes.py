"""Lanes: the messages of one key stay with one member and in order while any of them is unacknowledged (G5).

A lane knows its items and who holds them, nothing of windows or logs. Items in flight come before those that wait;
what fails goes back to the front, and takes everything behind it in flight along.
"""

from collections import deque

from triode_broker.core.item import Item, State
from triode_broker.core.roster import Member


class Lane:
    """One key's unsettled items."""

    __slots__ = ("holder", "in_flight", "key", "waiting")

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key  # topic and key
        self.holder: Member | None = None  # while anything is in flight
        self.in_flight: dict[Item, None] = {}
        self.waiting: deque[Item] = deque()

    @property
    def next(self) -> Item | None:
        """What may be delivered next; None while there is nothing, or the front has to wait."""
        if not self.waiting or self.waiting[0].state != State.READY:
            return None
        return self.waiting[0]

    def deliver(self, member: Member) -> None:
        """The front goes to a member."""
        item = self.waiting.popleft()
        self.in_flight[item] = None
        self.holder = member

    def take_back(self, item: Item) -> list[Item]:
        """One in flight has failed: it goes to the front, and those behind it in flight come back with it.

        Returns those others; their state is the caller's.
        """
        others = [other for other in self.in_flight if other.serial > item.serial]
        for other in (*reversed(others), item):
            del self.in_flight[other]
            self.waiting.appendleft(other)
        if not self.in_flight:
            self._let_go()
        return others

    def settle(self, item: Item) -> None:
        """One is done with."""
        if item in self.in_flight:
            del self.in_flight[item]
            if not self.in_flight:
                self._let_go()
        else:
            self.waiting.remove(item)

    @property
    def is_empty(self) -> bool:
        """Whether the key is forgotten."""
        return not self.in_flight and not self.waiting

    def _let_go(self) -> None:
        assert self.holder is not None
        self.holder.parked.pop(self, None)
        self.holder = None

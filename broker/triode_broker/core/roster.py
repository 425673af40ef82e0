"""Roster: the members of one name, and which of them takes the next message.

The one with the most free places in its window does; among equals it goes round (G5). Kept in one row per number
of free places, because looking at every member for every message would cost 50 ns each.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from triode_broker.core.interfaces import Publisher
from triode_broker.core.outbox import Outbox

if TYPE_CHECKING:
    from triode_broker.core.consumer import Consumer
    from triode_broker.core.item import Item
    from triode_broker.core.lanes import Lane


class Member:
    """One connection's part in an acknowledged subscription."""

    __slots__ = (
        "connection_id",
        "consumer",
        "ended",
        "free",
        "held",
        "is_stalled",
        "number",
        "outbox",
        "parked",
        "publisher",
        "subscribe_id",
        "window",
    )

    def __init__(
        self,
        consumer: "Consumer",
        number: int,
        window: int,
        outbox: Outbox,
        connection_id: str,
        publisher: Publisher,
        ended: Callable[[int], None],
    ) -> None:
        self.consumer = consumer
        self.number = number  # `sub`, chosen by the client
        self.window = window
        self.outbox = outbox
        self.connection_id = connection_id
        self.publisher = publisher  # for answers that come later
        self.ended = ended  # tells the session that the subscription is over
        self.subscribe_id = -1  # of a subscribe that waits for its answer; -1: it has it
        self.held: dict[Item, None] = {}  # in flight, in order of delivery
        self.parked: dict[Lane, None] = {}  # keys that wait for a place in this window
        self.is_stalled = False  # its outbox has no room
        self.free = 0  # as the roster has it


class Roster:
    """Members by their free places."""

    __slots__ = ("_rows", "_top")

    def __init__(self) -> None:
        self._rows: list[dict[Member, None]] = [{}]
        self._top = 0  # no row above has anybody

    def place(self, member: Member) -> None:
        """Its free places have changed; new members come in this way too."""
        free = member.window - len(member.held)
        if free < 0 or member.is_stalled:
            free = 0
        if free == member.free:
            return
        rows = self._rows
        if member.free:
            del rows[member.free][member]
        member.free = free
        while len(rows) <= free:
            rows.append({})
        if free:
            rows[free][member] = None
            if free > self._top:
                self._top = free

    def pick(self) -> Member | None:
        """Who takes the next message; None while nobody can."""
        rows, top = self._rows, self._top
        while top and not rows[top]:
            top -= 1
        self._top = top
        return next(iter(rows[top])) if top else None

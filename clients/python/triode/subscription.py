"""One subscription as its client keeps it: what it asks for, where it stands, what waits for its consumer.

State only: what happens to it is decided in subscriptions.py. The surprising decision: its inbox belongs to it and
outlives its number, because what was received is taken whatever becomes of the connection.
"""

from collections import deque
from enum import Enum
from math import inf
from typing import Any, Literal

from attrs import define, field
from msgspec import UNSET, UnsetType
from triode_protocol import packets

from triode.backoff import Backoff
from triode.consuming import Handed, Tray
from triode.errors import TriodeError
from triode.records import Gap, Item, Position

Wish = Literal["watch"] | packets.Seen | UnsetType


class Malformed(Exception):
    """The broker sent what no broker sends: the connection is dropped (S33)."""


class Phase(Enum):
    """Where a subscription stands with the broker."""

    WANTED = "wanted"  # to be asked for on the next occasion
    ASKED = "asked"  # `subscribe` is on its way
    ACTIVE = "active"  # `subscribed`
    PAUSED = "paused"  # its inbox was full
    DELAYED = "delayed"  # refused for a while: asked for again at `retry_at`
    ENDED = "ended"


@define(eq=False)
class Subscription:
    """One subscription through all connections. `waiter` is the front's to use."""

    filter: str
    start: packets.From
    overflow: packets.Overflow
    position: Position  # R1, R4: everything up to here is in the inbox or was
    has_position: bool  # False until the first `subscribed`, unless the program gave one
    backoff: Backoff
    phase: Phase = Phase.WANTED
    number: int = 0  # `sub` on this connection; 0 = none
    ask_id: int = 0  # `id` of its `subscribe`
    is_live: bool = False
    is_registered: bool = False  # the broker has answered once, or the subscription has ended
    has_caught_up: bool = False
    retry_at: float = inf
    error: TriodeError | None = None  # why it ENDED; None = as the program wished
    tray: Tray | None = None  # acknowledged (G5)
    presence: Wish = UNSET  # told of who comes and goes, maybe seen itself
    inbox: deque[Item | Handed] = field(factory=deque)
    inbox_bytes: int = 0
    taken: Position = field(factory=dict)  # like `position`, of what the program took out
    snapshot: Position = field(factory=dict)  # of `from: last` so far, by log
    skip: Position = field(factory=dict)  # ... what the inbox had taken of it before it was full
    waiter: Any = None

    @property
    def repeats_start(self) -> bool:
        """R7: cut before its first `caught_up`, a snapshot begins anew; everything else resumes."""
        return not self.has_position or (self.start == "last" and not self.has_caught_up)

    def consumed(self) -> Position:
        """Everything up to here has been taken out of the inbox; resumes a later run by `after=`."""
        return dict(self.taken if self.inbox else self.position)

    def drop(self, handed: Handed) -> None:
        """Take a delivery out of the inbox that the program need not see any more."""
        self.inbox.remove(handed)
        self.inbox_bytes -= handed.size

    def drop_behind(self, handed: Handed) -> None:
        """The program gives this one back: those of its key that wait behind it come again in order."""
        if self.tray is not None:
            for each in self.tray.behind(handed):
                self.tray.pop(each.place)
                self.drop(each)

    def give_back(self) -> None:
        """The broker has taken back all deliveries. Gaps stay: what they tell is still so."""
        if self.tray is not None:
            self.tray.void()
            self.inbox = deque(item for item in self.inbox if isinstance(item, Gap))
            self.inbox_bytes = sum(item.size for item in self.inbox)

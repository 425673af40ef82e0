"""Item: one message that a name has taken in and that is not settled yet."""

from enum import IntEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from triode_broker.core.outbox import Outbox
from triode_broker.core.record import Record
from triode_broker.core.roster import Member

if TYPE_CHECKING:
    from triode_broker.core.lanes import Lane
    from triode_broker.core.source import Source


class State(IntEnum):
    """Where an item stands."""

    READY = 0  # for the next member that can take it
    IN_FLIGHT = 1  # with its holder
    DELAYED = 2  # until its time has come
    DYING = 3  # its dead letter is on its way to the disk
    SETTLED = 4


class Item(Struct, eq=False):
    """One unsettled message; `eq=False`: told apart by identity."""

    source: "Source"
    record: Record
    serial: int  # in order of taking in; what comes again keeps it, so it goes before what is new
    prev: int  # as in `delivery` (SPEC 4.3); -1: offset − 1
    failed: int = 0  # deliveries that failed and count
    state: State = State.READY
    holder: Member | None = None
    earlier: tuple[Outbox, ...] = ()  # connections that had it before and may still acknowledge it
    due_ms: int = 0  # in flight: when it comes again; delayed: when it goes on (steady clock)
    is_behind: bool = False  # delivered when newer ones of its log had been
    lane: "Lane | None" = None
    is_queued: bool = False  # stands in its consumer's heap
    reason: str = ""  # why it is to become a dead letter

    @property
    def attempt(self) -> int:
        """The number of its present or next delivery."""
        return self.failed + 1

    def note_earlier(self, outbox: Outbox) -> None:
        """A connection has it no more; those that are gone will never acknowledge it: only open ones are held."""
        earlier = self.earlier if outbox in self.earlier else (*self.earlier, outbox)
        self.earlier = tuple([one for one in earlier if not one.is_closed])


def encode_delivery(sub: int, record: Record, attempt: int, prev: int) -> bytes:
    """A `delivery` (SPEC 4.3); a `prev` of -1, or of offset − 1, is left out, but not where nothing was before."""
    is_next = prev == record.offset - 1 > 0
    return record.delivery(sub, attempt, -1 if is_next else prev)

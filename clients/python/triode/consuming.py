"""The acknowledged side of a subscription (G5): what it asks for, and the tray of deliveries not taken yet.

Knows messages and packets, no connection. The surprising decision: nobody keeps a list of the deliveries that
programs hold. Each remembers the round of asking that it came in. A new connection is a new round, and what is of
an older one is lost: the broker gives it out again, so answering for it might answer for somebody else's.
"""

from attrs import define, field, frozen
from triode_protocol.packets import Subscribe
from triode_protocol.positions import MAX_INTEGER, is_log

from triode.records import Message


@frozen
class Terms:
    """What an acknowledged subscription asks for; 0 and "" leave it to the broker."""

    durable: str = ""
    shared: bool = False
    group: str = ""
    window: int = 1
    ack_wait_ms: int = 0
    max_attempts: int = 0

    def put_into(self, packet: Subscribe) -> None:
        """Ask for them."""
        packet.durable = self.durable
        packet.shared = self.shared
        packet.group = self.group
        packet.window = self.window
        packet.ack_wait_ms = self.ack_wait_ms
        packet.max_attempts = self.max_attempts


@frozen(eq=False)
class Handed:
    """One delivery as the broker handed it over, in one round of its subscription."""

    message: Message
    attempt: int
    round: int

    @property
    def place(self) -> tuple[str, int]:
        """What names the message in the protocol."""
        return self.message.log, self.message.pos

    @property
    def size(self) -> int:
        """What it takes in memory, about, in bytes."""
        return self.message.size

    @property
    def can_be_answered(self) -> bool:
        """Whether its numbers are such that an ack could name them."""
        return is_log(self.message.log) and 0 < self.message.pos <= MAX_INTEGER and 0 < self.attempt <= MAX_INTEGER


@define(eq=False)
class Tray:
    """The deliveries that the program has not taken yet, each message once, never more than the window.

    The broker keeps to the window too; but what lies here longer than `ack_wait` is no longer ours in its eyes,
    and it hands over more. So a newer attempt replaces the older one, at the end (messages of one key come again
    in order), and past the window the oldest goes: it comes again, here or at another member.
    """

    terms: Terms
    round: int = 0  # raised whenever all deliveries so far are void
    _waiting: dict[tuple[str, int], Handed] = field(factory=dict)  # in the order of coming

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, handed: Handed) -> Handed | None:
        """Add one; returns the one that had to go for it."""
        gone = self.pop(handed.place)
        if gone is None and len(self) >= self.terms.window:
            gone = self._waiting.pop(next(iter(self._waiting)))
        self._waiting[handed.place] = handed
        return gone

    def pop(self, place: tuple[str, int]) -> Handed | None:
        """The delivery of that message, which from here on waits no longer."""
        return self._waiting.pop(place, None)

    def holds(self, handed: Handed) -> bool:
        """Whether this one waits here, and not another of the same message."""
        return self._waiting.get(handed.place) is handed

    def behind(self, handed: Handed) -> list[Handed]:
        """What the broker takes back with this one, of what waits here."""
        waiting = list(self._waiting.values())  # a copy: another thread may be adding to it
        return [each for each in waiting if self.goes_with(each, handed)]

    def goes_with(self, each: Handed, handed: Handed) -> bool:
        """Whether the broker takes it back with this one: among members, later messages of its key (SPEC 9.5.3).

        Not where the message itself waits here anew: then the broker took back and gave out all of them already.
        """
        mine, its = handed.message, each.message
        return (
            bool(mine.key and (self.terms.shared or self.terms.group))
            and (its.key, its.topic, its.log) == (mine.key, mine.topic, mine.log)
            and its.pos > mine.pos
            and each.round == handed.round
            and handed.place not in self._waiting
        )

    def void(self) -> None:
        """The broker has taken back everything: what waits here, and what the program holds."""
        self.round += 1
        self._waiting.clear()

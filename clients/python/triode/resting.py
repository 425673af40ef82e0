"""Topics that rest: what the broker cannot take for a while on one topic must not hold up all the others.

Knows publications by their topic, order and deadline, no packets. The decision worth knowing: only what concerns
one topic's store rests here (`unavailable`, `timeout`); what concerns the connection or the whole broker makes the
client slower as a whole (publishing.py).
"""

from bisect import insort
from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING

from attrs import define, field

from triode.backoff import Backoff

if TYPE_CHECKING:
    from triode.publishing import Publication


@define
class _Rest:
    """One topic's. Over once `until` is -inf, and then only remembers how often it was refused in a row."""

    backoff: Backoff
    until: float = -inf
    waiting: list["Publication"] = field(factory=list)  # in the order of publishing

    def wake_at(self) -> float:
        """Its end, or the deadline of the oldest."""
        return min(self.until, self.waiting[0].deadline) if self.waiting else self.until

    def expired(self, now: float) -> list["Publication"]:
        """Take out the oldest whose deadline has come; they are nearly in the order of their deadlines."""
        count = 0
        while count < len(self.waiting) and now >= self.waiting[count].deadline:
            count += 1
        gone, self.waiting = self.waiting[:count], self.waiting[count:]
        return gone


class Resting:
    """The publications of resting topics."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._rests: dict[str, _Rest] = {}
        self._wake_at = inf  # the first end of a rest, or deadline of one that waits; may be early
        self.count = 0

    def __bool__(self) -> bool:
        return bool(self._rests)

    def add(self, publication: "Publication", now: float, asked_seconds: float) -> None:
        """It was refused: its topic rests. Of many refused together the first counts."""
        rest = self._rests.get(publication.topic)
        if rest is None:
            rest = self._rests[publication.topic] = _Rest(Backoff(self._random))
        if rest.until == -inf:
            rest.until = now + max(rest.backoff.delay_seconds(), asked_seconds)
        self._put(rest, publication)

    def take_along(self, publication: "Publication") -> bool:
        """Whether its topic rests, and it with it."""
        rest = self._rests.get(publication.topic)
        if rest is None or rest.until == -inf:
            return False
        self._put(rest, publication)
        return True

    def _put(self, rest: _Rest, publication: "Publication") -> None:
        insort(rest.waiting, publication, key=lambda each: each.order)
        self.count += 1
        self._wake_at = min(self._wake_at, rest.until, publication.deadline)

    def remove(self, publication: "Publication") -> bool:
        """Take one out; whether it was here."""
        rest = self._rests.get(publication.topic)
        if rest is None or publication not in rest.waiting:
            return False
        rest.waiting.remove(publication)
        self.count -= 1
        return True

    def succeeded(self, topic: str) -> Iterable["Publication"]:
        """The topic takes messages again: its own, in order."""
        rest = self._rests.pop(topic, None)
        return self._empty(rest) if rest is not None else ()

    def ended(self, topic: str) -> None:
        """One of the topic failed for good: nothing is remembered of a rest that is over."""
        rest = self._rests.get(topic)
        if rest is not None and rest.until == -inf:
            del self._rests[topic]

    def clear(self) -> list["Publication"]:
        """All of them, and no topic rests any more."""
        every = [publication for rest in self._rests.values() for publication in self._empty(rest)]
        self._rests.clear()
        self._wake_at = inf
        return every

    def _empty(self, rest: _Rest) -> list["Publication"]:
        waiting, rest.waiting = rest.waiting, []
        self.count -= len(waiting)
        return waiting

    def deadline(self) -> float:
        """When `tick` has something to do."""
        return self._wake_at

    def tick(self, now: float) -> tuple[list["Publication"], list["Publication"]]:
        """Those whose rest is over, each topic's in order, and those whose own deadline has come."""
        released: list[Publication] = []
        expired: list[Publication] = []
        if now < self._wake_at:
            return released, expired
        for topic, rest in list(self._rests.items()):
            gone = rest.expired(now)
            self.count -= len(gone)
            expired += gone
            if now >= rest.until:
                alive = self._empty(rest)
                released += alive
                rest.until = -inf
                if not alive:
                    del self._rests[topic]
        self._wake_at = min((rest.wake_at() for rest in self._rests.values() if rest.until > -inf), default=inf)
        return released, expired

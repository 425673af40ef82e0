"""Who is alive: what this node hears itself, and what its peers' pings say they hear.

Pure: time comes from an injected steady clock, links are numbers that somebody else opens and closes. It knows no
shards.

A node is dead when for every node that can be reached, this one included, its links have been closed for 3 s or it
has been silent for 10 s. Who does not know the node at all does not object. So with a cut between two nodes a
third one that reaches both keeps either from burying the other; no majority is counted anywhere.

The surprising decision: what lives and dies is not a node but one *life* of it, (node, incarnation). A new life
that is met on a link of our own retires all earlier ones at once and for good; one that is only known by hearsay
retires nothing, for hearsay arrives in any order, and the dead life falls by the ordinary rule.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from triode_broker.cluster.frames import Heard
from triode_broker.cluster.hello import NAME_PATTERN
from triode_broker.config import Limits

#: Dead after so long without a link, or with one but without a sign of life, where settings do not say otherwise.
DEFAULTS: Final = Limits()
CLOSED_MS: Final = DEFAULTS.peer_closed_ms
SILENT_MS: Final = DEFAULTS.peer_silent_ms
#: A name is taken while another life has a link and was heard within it: three pings.
TAKEN_MS: Final = 3_000
#: A report is believed to have gone on as it was for so long: two pings.
REPORT_AGES_MS: Final = 2_000
#: A dead life may come back over a new link and ask again for what it has not given up (5 s): never after this.
LINGER_MS: Final = 10_000
#: How long the dead are remembered, how many nodes, and how many lives of one.
FORGET_MS: Final = 3_600_000
MAX_NODES: Final = 256
MAX_LIVES: Final = 4
_is_name: Final = re.compile(NAME_PATTERN).match


@attrs.define
class Life:
    """One life of another node, as seen from here."""

    node: str
    incarnation: str
    opened_ms: int  # the newest link
    heard_ms: int
    closed_ms: int  # the last link, or, without any yet, when the life was first spoken of
    links: int = 0
    is_met: bool = False  # there has been a link, with this node or with a peer; others are only names in a table
    is_first_hand: bool = False  # there has been a link with this node
    is_retired: bool = False  # a later life was met
    has_left: bool = False  # it said that it is going
    dead_ms: int | None = None

    @property
    def is_dead(self) -> bool:
        """As of the last tick."""
        return self.is_retired or self.dead_ms is not None


@attrs.frozen
class Reports:
    """What one peer's newest ping said."""

    at_ms: int
    heard: Mapping[str, Heard]


class Membership:
    """All nodes but this one: 256 at most, the long dead are forgotten first."""

    def __init__(
        self,
        node: str,
        incarnation: str,
        steady_ms: Callable[[], int],
        limits: Limits = DEFAULTS,
    ) -> None:
        self.node: Final = node
        self.incarnation = incarnation
        self._steady_ms = steady_ms
        self._closed_ms = limits.peer_closed_ms
        self._silent_ms = limits.peer_silent_ms
        self._lives: dict[str, dict[str, Life]] = {}
        self._reports: dict[str, Reports] = {}

    # What links tell

    def admits(self, node: str, incarnation: str) -> bool:
        """Whether a hello of this life may be accepted: no earlier life comes back, no second one lives beside."""
        if node == self.node:
            return False
        now = self._steady_ms()
        life = self._life(node, incarnation)
        return not (life and life.is_retired) and not any(
            other.links and now - other.heard_ms < TAKEN_MS for other in self._others(node, incarnation)
        )

    def link_opened(self, node: str, incarnation: str) -> None:
        """A hello was accepted. The node's other lives are over."""
        life = self.mention(node, incarnation, is_needed=True)
        if life is None:
            return
        for other in self._others(node, incarnation):
            other.is_retired = True
        life.links += 1
        life.is_met = life.is_first_hand = True
        life.is_retired = False
        life.opened_ms = self._steady_ms()
        self._alive(life)

    def link_closed(self, node: str, incarnation: str) -> None:
        """One of its links has ended, however it did."""
        life = self._life(node, incarnation)
        if life is None or not life.links:
            return
        life.links -= 1
        if not life.links:
            life.closed_ms = self._steady_ms()
            self._reports.pop(node, None)

    def heard_from(self, node: str, incarnation: str) -> None:
        """A complete frame has come on one of its links."""
        life = self._life(node, incarnation)
        if life is not None:
            self._alive(life)

    def heard_of(self, reporter: str, heard: Mapping[str, Heard]) -> None:
        """A ping of a peer. It replaces what the peer said before; lives that it hears have been met.

        What is no node's name is passed over, for names are shown to people.
        """
        if not any(life.links for life in self._lives.get(reporter, {}).values()):
            return
        heard = {node: one for node, one in heard.items() if _is_name(node)}
        self._reports[reporter] = Reports(self._steady_ms(), heard)
        for node, one in heard.items():
            if not self._is_gone(one) and (life := self.mention(node, one.incarnation)):
                life.is_met = True

    def mention(self, node: str, incarnation: str, *, is_needed: bool = False) -> Life | None:
        """Somebody spoke of this life: unless it shows itself it is dead in 3 s.

        None: it is this node, or too many are known. `is_needed` makes room by forgetting whoever has no link.
        """
        if node == self.node:
            return None
        life = self._life(node, incarnation)
        if life is None and self._has_room(node, is_needed=is_needed):
            now = self._steady_ms()
            life = Life(node, incarnation, opened_ms=now, heard_ms=now, closed_ms=now)
            self._lives.setdefault(node, {})[incarnation] = life
        return life

    def take_leave(self, node: str, incarnation: str) -> None:
        """It said that it is going: nobody misses it, and it claims nothing any more."""
        life = self._life(node, incarnation)
        if life is not None:
            life.has_left = True

    # What follows

    def tick(self) -> list[tuple[str, str]]:
        """Judge all. Returns the lives that have been found dead since the last tick."""
        now = self._steady_ms()
        found = []
        for life in self._all():
            if not self._is_judged_dead(life, now):
                life.dead_ms = None
            elif life.dead_ms is None:
                life.dead_ms = now
                found.append((life.node, life.incarnation))
        self._forget(now)
        return found

    def renew(self, incarnation: str) -> None:
        """This node has slept and goes on as a new life, without links: nobody is blamed for the silence.

        Who had been found dead before stays so, or peers would be told of a node that has long left.
        """
        self.incarnation = incarnation
        self._reports.clear()
        now = self._steady_ms()
        for life in self._all():
            life.links = 0
            if not life.is_dead:
                life.heard_ms = life.closed_ms = now

    def is_dead(self, node: str, incarnation: str) -> bool:
        """As of the last tick. A life that nobody speaks of is; so are this node's lives but the present one."""
        if node == self.node:
            return incarnation != self.incarnation
        life = self._life(node, incarnation)
        return life is None or life.is_dead

    def incarnation_of(self, node: str) -> str | None:
        """Its life: the one with a link, or else the one that was last heard."""
        if node == self.node:
            return self.incarnation
        life = self._present(node)
        return None if life is None or life.is_dead or not life.is_met else life.incarnation

    def live(self) -> list[str]:
        """The names of all that are not dead, this node's among them, sorted."""
        return sorted([self.node, *(node for node in self._lives if self.incarnation_of(node) is not None)])

    def has_left(self, node: str) -> bool:
        """Whether its present life said that it is going."""
        life = self._present(node)
        return life is not None and life.has_left

    def linked(self) -> list[Life]:
        """The lives that this node has an open link with."""
        return [life for life in self._all() if life.links]

    def lingering(self) -> dict[str, None]:
        """Incarnations that may still ask again for what they have asked; the others gave that up long ago."""
        now = self._steady_ms()
        return {
            life.incarnation: None
            for life in self._all()
            if life.links or not life.is_dead or now - life.closed_ms < LINGER_MS
        }

    def knows(self, node: str) -> bool:
        """Whether it is remembered, dead or not."""
        return node in self._lives

    def is_alone(self) -> bool:
        """Whether no other node was ever met."""
        return not self._lives

    def report(self) -> dict[str, Heard]:
        """For this node's own pings: what it has heard itself of those that it does not hold for dead."""
        now = self._steady_ms()
        heard = {}
        for node in self._lives:
            life = self._present(node)
            if life is not None and life.is_first_hand and not (life.is_dead or life.has_left):
                heard[node] = self._own_view(life, now)
        return heard

    def unreachable(self) -> list[tuple[str, int]]:
        """Nodes that were met, did not take leave and are not heard now, with ms since when."""
        now = self._steady_ms()
        missed = []
        for node in sorted(self._lives):
            life = self._present(node)
            if life is None or life.has_left or not life.is_met:
                continue
            silent_ms = now - life.heard_ms  # not since the end of its links, which may have come of the silence
            if not life.links or silent_ms >= TAKEN_MS:
                missed.append((node, silent_ms))
        return missed

    # The rule

    def _is_judged_dead(self, life: Life, now: int) -> bool:
        if life.is_retired:
            return True
        return self._is_gone(self._own_view(life, now)) and not any(
            self._objects(reporter, reports, life, now) for reporter, reports in self._reports.items()
        )

    def _own_view(self, life: Life, now: int) -> Heard:
        """A link that is closed because nothing comes leaves its node silent: nobody waits for 3 s more then."""
        silent_ms = max(0, now - life.heard_ms)
        if life.links or silent_ms >= self._silent_ms:
            return Heard(life.incarnation, is_closed=False, ms=silent_ms)
        return Heard(life.incarnation, is_closed=True, ms=max(0, now - life.closed_ms))

    def _objects(self, reporter: str, reports: Reports, life: Life, now: int) -> bool:
        """Whether a peer that is reached itself still counts on this life."""
        heard = reports.heard.get(life.node)
        if heard is None or heard.incarnation != life.incarnation or not self._is_reached(reporter, now):
            return False
        return not self._is_gone(heard, later_ms=min(now - reports.at_ms, REPORT_AGES_MS))

    def _is_reached(self, node: str, now: int) -> bool:
        life = self._present(node)
        return life is not None and life.links > 0 and now - life.heard_ms < self._silent_ms

    def _is_gone(self, heard: Heard, later_ms: int = 0) -> bool:
        """Whether who hears this does not count on the life any more."""
        return heard.ms + later_ms >= (self._closed_ms if heard.is_closed else self._silent_ms)

    def _alive(self, life: Life) -> None:
        life.heard_ms = self._steady_ms()
        life.dead_ms = None

    # Who is known

    def _life(self, node: str, incarnation: str) -> Life | None:
        return self._lives.get(node, {}).get(incarnation)

    def _others(self, node: str, incarnation: str) -> list[Life]:
        return [life for life in self._lives.get(node, {}).values() if life.incarnation != incarnation]

    def _all(self) -> Iterator[Life]:
        return (life for lives in self._lives.values() for life in lives.values())

    def _present(self, node: str) -> Life | None:
        """The life of a node that counts: alive before dead, met, with a link, last heard."""
        lives = self._lives.get(node, {}).values()
        return max(lives, key=_weight, default=None)

    def _has_room(self, node: str, *, is_needed: bool) -> bool:
        lives = self._lives.get(node)
        if lives is None:
            return len(self._lives) < MAX_NODES or self._make_room(is_needed=is_needed)
        if len(lives) >= MAX_LIVES:
            del lives[min(lives.values(), key=_weight).incarnation]
        return True

    def _make_room(self, *, is_needed: bool) -> bool:
        """Forget the node that was heard least lately among those that may go."""
        going = [
            (max(life.heard_ms for life in lives.values()), node)
            for node, lives in self._lives.items()
            if all(life.is_dead or (is_needed and not life.links) for life in lives.values())
        ]
        if going:
            del self._lives[min(going)[1]]
        return bool(going)

    def _forget(self, now: int) -> None:
        for life in list(self._all()):
            if life.dead_ms is not None and now - life.dead_ms >= FORGET_MS:
                del self._lives[life.node][life.incarnation]
                if not self._lives[life.node]:
                    del self._lives[life.node]


def _weight(life: Life) -> tuple[bool, bool, bool, int]:
    return not life.is_dead, life.is_met, life.links > 0, life.heard_ms

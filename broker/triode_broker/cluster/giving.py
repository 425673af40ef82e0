"""Giving: a node that drains hands its memory shards over, one after the other; the side of the owner.

Pure. It names the heir, seals, and sends the shard in pieces, a few at a time: each one is asked for by the answer
to an earlier one, so neither node's memory nor its turns are taken up by it. Clients of the shard read on here
meanwhile; what they publish waits at their nodes (`forwarding`).

The heir is named once, with the seal, and never again: whatever comes to nothing (the heir is dead, refuses, or
takes longer than ownership allows it) leaves an orphan, which is claimed with a new log. A lost link is no end:
over the next one to the same life of the heir everything is sent again, and it begins anew.

The surprising decision: shards go one at a time, though all together would take as long. So each one is sealed for
as long as it takes itself, and whoever publishes waits for that only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, cast

import attrs

from triode_broker.cluster.frames import HandedOver, HandedRest, HandOver
from triode_broker.cluster.link import Link
from triode_broker.cluster.ownership import Ownership
from triode_broker.core.delayed import Later
from triode_broker.core.handed import HandedId, HandedLog
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard

#: One piece, about, in bytes; and how many are on their way.
PIECE_BYTES: Final = 262_144
PIECES: Final = 4
#: What a row of a piece costs beside its texts, in bytes, about.
ROW_BYTES: Final = 64

#: Answers of the heir.
REFUSED: Final = "refused"
MORE: Final = "more"
TAKEN: Final = "taken"

Row = TypeVar("Row")


@attrs.define(eq=False)
class _Gift:
    """A shard on its way."""

    shard: Shard
    log: HandedLog
    heir: str
    laters: list[Later]
    link: Link | None = None
    pieces: Iterator[HandOver] = attrs.field(factory=lambda: iter(()))


class Giving:
    """All that one node gives away, once it is told to."""

    def __init__(
        self,
        router: Router,
        ownership: Ownership,
        links: Callable[[], list[Link]],
        log: Any,
    ) -> None:
        """`links`: those that ask, one for each node that is reached."""
        self._router = router
        self._ownership = ownership
        self._links = links
        self._log = log
        self._gift: _Gift | None = None
        self._late: list[_Gift] = []  # whose heir was silent: it may speak yet, as long as nobody claims them
        self.is_begun = False
        self.given = 0

    def begin(self) -> None:
        """From here on this node claims nothing and gives away what it has; `tick` goes on with it."""
        self.is_begun = True
        self._ownership.leaving()
        self.tick()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing on its way, and nothing more that anybody could take."""
        return self.is_begun and self._gift is None and (not self._owned() or not self._heirs())

    def tick(self) -> None:
        """Several times a second: notice what has become of the last one, and give the next."""
        if not self.is_begun:
            return
        self._late = [gift for gift in self._late if not self._is_settled(gift)]
        if self._gift is not None:
            self._look_after(self._gift)
        if self._gift is None and (owned := self._owned()) and (heirs := self._heard(self._heirs())):
            self._give(owned[0], heirs)

    def _owned(self) -> list[str]:
        ownership = self._ownership
        shards = ownership.table.memory
        return [shard for shard in shards if ownership.owns(shard) and not ownership.is_suspended(shard)]

    def _heirs(self) -> dict[str, Link]:
        """Who may be one, by name: not who is leaving too, nor who was one and silent."""
        membership = self._ownership.membership
        silent = dict.fromkeys(gift.heir for gift in self._late)
        heirs = {}
        for link in self._links():
            node, incarnation = link.peer.node, link.peer.incarnation
            is_present = not membership.has_left(node) and membership.incarnation_of(node) == incarnation
            if is_present and name_of(link) not in silent:
                heirs[node] = link
        return heirs

    def _heard(self, heirs: Mapping[str, Link]) -> dict[str, Link]:
        """Those that showed life lately: there is no second heir, so who may be dead is waited for."""
        missed = dict(self._ownership.membership.unreachable())
        return {node: link for node, link in heirs.items() if node not in missed}

    def _give(self, name: str, heirs: Mapping[str, Link]) -> None:
        """To who owns fewest, ties by name."""
        table = self._ownership.table
        counts = dict.fromkeys(heirs, 0)
        for one in table.memory:
            entry = table.get(one)
            if entry is not None and entry.node in counts:
                counts[entry.node] += 1
        link = heirs[min(counts, key=lambda node: (counts[node], node))]
        shard = self._router.shard_named(name)
        assert shard is not None, "the table knows the shards of the configuration"
        log = cast("HandedLog", shard.log)  # it is in memory, and here
        log.seal()
        laters = self._router.delayed.take_out(shard)
        gift = self._gift = _Gift(shard, log, name_of(link), laters)
        self._log.info("shard_given", shard=name, log=log.name, heir=link.peer.node)
        self._ownership.release(name, gift.heir)
        self._send(gift, link)

    def _send(self, gift: _Gift, link: Link) -> None:
        """From its beginning."""
        gift.link = link
        gift.pieces = numbered(gift.shard, gift.log, self._router, gift.laters)
        for _ in range(PIECES):
            self._send_next(gift)

    def _send_next(self, gift: _Gift) -> None:
        piece = next(gift.pieces, None)
        if piece is not None and gift.link is not None:
            gift.link.put(piece)

    def _look_after(self, gift: _Gift) -> None:
        if self._is_settled(gift):
            self._gift = None
        elif self._ownership.is_orphan(gift.shard.name):
            self._log.warning("shard_not_taken", shard=gift.shard.name, log=gift.log.name, heir=gift.heir)
            self._late.append(gift)
            self._gift = None

    def _is_settled(self, gift: _Gift) -> bool:
        """Its heir has announced it; or somebody else has a new log, and what was delayed for it stays here."""
        entry = self._ownership.table.get(gift.shard.name)
        if entry is None or not entry.log or entry.heir:
            return False
        if entry.log == gift.log.name:
            self.given += 1
        else:
            self._router.delayed.put_back(gift.laters)
        return True

    # The heir

    def opened(self, link: Link) -> None:
        """One that asks: maybe the heir's."""
        gift = self._gift
        if gift is not None and gift.heir == name_of(link):
            self._send(gift, link)

    def closed(self, link: Link) -> None:
        """What was on its way is lost."""
        if self._gift is not None and self._gift.link is link:
            self._gift.link = None

    def received(self, link: Link, frame: HandedOver) -> None:
        """The heir has dealt with a piece."""
        gift = self._gift
        if gift is None or link is not gift.link or frame.log != gift.log.name:
            return
        if frame.answer == REFUSED:
            self._ownership.refused(gift.shard.name)
        if frame.answer == MORE:
            self._send_next(gift)
        else:
            self.tick()


def name_of(link: Link) -> str:
    """Of the life at the other end, as `Entry.heir` has it."""
    return f"{link.peer.node}/{link.peer.incarnation}"


def numbered(shard: Shard, log: HandedLog, router: Router, laters: list[Later]) -> Iterator[HandOver]:
    """All of a sealed shard."""
    for number, piece in enumerate(pieces(shard, log, router, laters)):
        piece.number = number
        yield piece


def pieces(shard: Shard, log: HandedLog, router: Router, laters: list[Later]) -> Iterator[HandOver]:
    """The same without numbers: topics before records, ids before what is delayed, the rest at the end."""
    name = shard.name, log.name, 0
    for topics in parts(log.give_topics(), lambda topic: len(topic.topic)):
        yield HandOver(*name, topics=topics)
    for records in parts(log.give_records(), lambda record: record.size):
        yield HandOver(*name, records=records)
    for counters in parts(router.counters(shard).items(), lambda counter: len(counter[0])):
        yield HandOver(*name, counters=dict(counters))
    ids = (HandedId(*one.key, one.digest, one.pos, one.offset, one.expires_ms) for one in shard.ids.entries())
    for some in parts(ids, lambda one: len(one.topic) + len(one.user) + len(one.message_id)):
        yield HandOver(*name, ids=some)
    for delayed in parts((later.value() for later in laters), len):
        yield HandOver(*name, delayed=delayed)
    yield HandOver(*name, rest=HandedRest(log.give_facts(), shard.ts, shard.has_forgotten))


def parts(rows: Iterable[Row], size_of: Callable[[Row], int]) -> Iterator[list[Row]]:
    """Lists of a bounded size; one row at least, however large."""
    part: list[Row] = []
    room = PIECE_BYTES
    for row in rows:
        size = size_of(row) + ROW_BYTES
        if part and size > room:
            yield part
            part, room = [], PIECE_BYTES
        part.append(row)
        room -= size
    if part:
        yield part

"""Taking: a memory shard that another node hands over to this one; the side of the heir.

Pure. The log is filled beside everything else, and nobody sees it before it is whole. Then, in one step, this
node's own subscribers get what is behind the head of their mirror, the shard goes on here with its numbers, and
the table says so.

Before that step it waits until the old owner has answered all that this node asked of it (`Forwarder.own`): what
comes back as `moved` is published here, in its order; but no longer than publishes wait for a hand-over.

The surprising decision: whether this node is the heir is asked of the table with the first piece and again with
the last step, and of nothing else: the old owner may have been found dead meanwhile, and its shard claimed.
"""

from collections.abc import Callable
from typing import Any

import attrs

from triode_broker.cluster.following import Following
from triode_broker.cluster.forwarding import HAND_OVER_MS
from triode_broker.cluster.frames import HandedOver, HandedRest, HandOver
from triode_broker.cluster.giving import MORE, REFUSED, TAKEN
from triode_broker.cluster.link import Link
from triode_broker.cluster.ownership import Ownership
from triode_broker.core.handed import HandedLog
from triode_broker.core.message_ids import MessageIds, Remembered
from triode_broker.core.node import Node
from triode_broker.core.shard import Shard


@attrs.define(eq=False)
class _Heritage:
    """A shard that comes."""

    link: Link
    shard: Shard
    log: HandedLog
    ids: MessageIds  # filled with the pieces: in the last step it would hold everybody up (0.2 s for 50,000)
    due: int = 0  # the piece that comes next
    counters: dict[str, int] = attrs.field(factory=dict)
    delayed: list[bytes] = attrs.field(factory=list)
    rest: HandedRest | None = None
    whole_ms: int = 0


class Taking:
    """All that come to one node."""

    def __init__(
        self,
        node: Node,
        ownership: Ownership,
        following: Following,
        log_named: Callable[[str], HandedLog],
        now_ms: Callable[[], int],
        steady_ms: Callable[[], int],
        log: Any,
    ) -> None:
        """`log_named`: an empty one of this name. `now_ms`: the wall clock."""
        self._node = node
        self._router = node.router
        self._ownership = ownership
        self._following = following
        self._log_named = log_named
        self._now_ms = now_ms
        self._steady_ms = steady_ms
        self._log = log
        self._coming: dict[str, _Heritage] = {}
        self.taken = 0

    def received(self, link: Link, frame: HandOver) -> None:
        """A piece. Raises ValueError for one that nobody may send."""
        if frame.number == 0:
            self._begin(link, frame)
        heritage = self._coming.get(frame.shard)
        if heritage is None or heritage.link is not link or heritage.log.name != frame.log:
            return  # it was refused
        if frame.number != heritage.due:
            raise ValueError(f"piece {frame.number} of {frame.log} where {heritage.due} was due")
        heritage.due += 1
        self._fill(heritage, frame)
        if heritage.rest is None:
            link.put(HandedOver(frame.shard, frame.log, frame.number, MORE))
        else:
            self.tick()

    def _begin(self, link: Link, frame: HandOver) -> None:
        """Again, if it comes again over a new link."""
        self._coming.pop(frame.shard, None)
        shard = self._router.shard_named(frame.shard)
        if shard is None or not self._ownership.is_heir(frame.shard, frame.log):
            self._refuse(link, frame.shard, frame.log)
        else:
            self._coming[frame.shard] = _Heritage(link, shard, self._log_named(frame.log), shard.new_ids())

    def _refuse(self, link: Link, shard: str, log: str) -> None:
        link.put(HandedOver(shard, log, 0, REFUSED))

    def _fill(self, heritage: _Heritage, frame: HandOver) -> None:
        log = heritage.log
        for topic in frame.topics:
            log.take_topic(topic, self._router.rule_of(topic.topic))
        for record in frame.records:
            log.take_record(record)
        heritage.counters |= frame.counters
        for one in frame.ids:
            key = one.topic, one.user, one.message_id
            heritage.ids.remember(Remembered(key, one.digest, one.pos, one.offset, one.expires_ms))
        heritage.delayed += frame.delayed
        if frame.rest is not None:
            log.take_facts(frame.rest.facts)
            heritage.rest = frame.rest
            heritage.whole_ms = self._steady_ms()

    def tick(self) -> None:
        """Several times a second, and when publishes were answered: take what is whole and waits for nothing."""
        for name, heritage in list(self._coming.items()):
            if not self._ownership.is_heir(name, heritage.log.name):
                del self._coming[name]
                self._refuse(heritage.link, name, heritage.log.name)
            elif heritage.rest is not None and self._may_begin(name, heritage):
                del self._coming[name]
                self._take(heritage, heritage.rest)

    def _may_begin(self, name: str, heritage: _Heritage) -> bool:
        is_asking = self._following.forwarders[name].is_asking
        return not is_asking or self._steady_ms() - heritage.whole_ms >= HAND_OVER_MS

    def _take(self, heritage: _Heritage, rest: HandedRest) -> None:
        """The one step."""
        shard, log, now_ms = heritage.shard, heritage.log, self._now_ms()
        mirror = self._following.mirrors.get(shard.name)
        clock = max(now_ms, rest.ts)
        if mirror is not None and mirror.name == log.name:
            mirror.complete(log, clock)
        self._router.own(shard, log)
        shard.ts, shard.has_forgotten = rest.ts, rest.has_forgotten
        self._router.count_on(shard, heritage.counters)
        shard.ids = heritage.ids
        self._router.delayed.take_in(shard, heritage.delayed)
        if mirror is not None and mirror.name == log.name:
            mirror.end_in(log, clock)
        self._following.owned(shard)
        is_adopted = self._ownership.adopt(shard.name, log.name)
        assert is_adopted, "it was asked before, in the same step"
        self.taken += 1
        self._log.info("shard_taken", shard=shard.name, log=log.name, head=log.head())
        self._following.forwarders[shard.name].own(self._router.publish, now_ms)
        heritage.link.put(HandedOver(shard.name, log.name, heritage.due - 1, TAKEN))

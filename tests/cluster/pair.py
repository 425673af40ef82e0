"""Two kinds of nodes on a desk: one that owns all shards, others that mirror them, and the links between them.

No event loop: a link is two queues of encoded frames, and whoever writes the test says which of them get on.
"""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from msgspec import Raw
from triode_broker.cluster.forwarded import Flushing
from triode_broker.cluster.frames import Frame, decode, encode
from triode_broker.cluster.interest import Interests
from triode_broker.cluster.mirror import Mirror, Shown
from triode_broker.cluster.owner import Owner
from triode_broker.cluster.serving import Serving
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Log
from triode_broker.core.node import Node
from triode_broker.core.nowhere import Nowhere
from triode_broker.core.policy import Policies
from triode_broker.core.record import Record
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog
from triode_protocol.packets import Publish

from tests.core.desk import Desk
from tests.core.far import Away
from tests.log.slow_disk import SlowDisk

DURABLE = TopicRule(filter="d/#", storage="disk")


class End:
    """One end of a link, as the node there sees it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.queue: deque[bytes] = deque()
        self.is_open = True
        self.closed_for = ""
        self.drained: Callable[[], None] = lambda: None

    @property
    def outbox_bytes(self) -> int:
        """What has not got on."""
        return sum(map(len, self.queue))

    @property
    def is_full(self) -> bool:
        """Whether streams are to stop."""
        return self.outbox_bytes > self._max_bytes

    def put(self, frame: Frame) -> None:
        """Encoded at once."""
        if self.is_open:
            self.queue.append(encode([frame]))

    def close(self, reason: str) -> None:
        """The node ends it."""
        self.is_open = False
        self.closed_for = reason

    def frames(self) -> list[Any]:
        """What waits, decoded."""
        return [frame for data in self.queue for frame in decode(data)]


class OwnerDesk(Desk):
    """A node that owns every shard: some in memory, one on disk."""

    def __init__(self, *rules: TopicRule, limits: Limits | None = None, shards: int = 2) -> None:
        self.flushes: list[Flushing] = []
        self.truth: list[tuple[str, Record]] = []  # all that was accepted and committed, with its log
        super().__init__(DURABLE, *rules, limits=limits, shards=shards, durable=True)

    def _build(self, disk: SlowDisk | None) -> None:
        super()._build(disk)
        self.serving = Serving(self.router, lambda: self.now_ms, self.flushes)
        for filter in ("#", "$dead/#"):
            self.router.follow(filter, self)

    def offer(self, record: Record) -> None:
        """As a follower of everything."""
        self.truth.append((self.router.shard_of(record.topic).log.name, record))

    def write(self, topic: str, text: str = "x", **fields: Any) -> None:
        """Publish; on disk it waits for the commit."""
        self.router.publish(Publish(topic, Raw(json.dumps(text).encode()), **fields), "", self.now_ms)

    def renew(self, index: int) -> Shard:
        """A shard in memory begins a new log."""
        shard = self.router.shards[index]
        self._lives += 1
        self.router.own(shard, MemoryLog(f"{shard.name}-again{self._lives}", self.limits))
        return shard


class EntryDesk(Desk):
    """A node that owns nothing and mirrors what an OwnerDesk has."""

    def __init__(self, *rules: TopicRule, limits: Limits | None = None, shards: int = 2, name: str = "n2") -> None:
        self.flushes: list[Flushing] = []
        self._name = name
        super().__init__(DURABLE, *rules, limits=limits, shards=shards)

    def _build(self, disk: SlowDisk | None) -> None:
        self.logs = []
        self._disk = disk
        parts = [Shard(Nowhere("memory"), 0, f"m{index}") for index in range(self._shards)]
        for part in parts:
            part.is_here = part.is_reachable = False
        self.router = Router(parts, Policies(self._rules), self.limits, (None,))
        self.node = Node(self._name, self.router, self.limits, self._next_id, lambda: self.steady_ms)
        self.interests = Interests(self.router.shard_of, lambda: self.steady_ms, self.flushes)
        self.router.coverage = self.interests
        self.owner = Owner("n1", self.interests)
        self.shown = Shown(self.router.deliver, self.router.interrupt, self._changed)

    def follow(self, log: Log, owner: Owner | None = None) -> Mirror:
        """The table says who owns a shard, and what its log is."""
        shard = self.router.shard_named(log.name.partition("-")[0])
        assert shard is not None
        before = shard.log
        mirror = Mirror(log.name, log.level, shard, owner or self.owner, self.shown, is_new=before.name != "")
        self.router.follow_owner(shard, mirror, Away())
        if isinstance(before, Mirror):
            before.end()
        mirror.begin()
        self.interests.moved(shard)
        return mirror

    def follow_all(self, desk: OwnerDesk) -> None:
        """The table says that this one owns everything."""
        for shard in desk.router.shards:
            self.follow(shard.log)

    def _changed(self, mirror: Mirror) -> None:
        if mirror.is_live and (mirror.owes or not mirror.shard.is_reachable):
            self.node.moving.back(mirror.shard)

    def mirror(self, shard: str) -> Mirror:
        """What a shard's log is."""
        found = self.router.shard_named(shard)
        assert found is not None
        assert isinstance(found.log, Mirror)
        return found.log


@attrs.define
class Wire:
    """A link that an entry node has dialled: what it asks goes one way, what is answered the other."""

    entry: EntryDesk
    desk: OwnerDesk
    max_bytes: int = 1 << 30
    asking: End = attrs.field(init=False)
    answering: End = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.asking, self.answering = End(self.max_bytes), End(self.max_bytes)
        self.desk.serving.opened(self.answering)
        self.entry.owner.opened(self.asking)
        turn(self.entry, self.desk)

    def cut(self) -> None:
        """Everything on its way is lost; both notice."""
        self.asking.close("cut")
        self.answering.close("cut")
        self.entry.owner.closed(self.asking)
        self.desk.serving.closed(self.answering)
        turn(self.entry, self.desk)

    def carry_questions(self, count: int = 1_000_000) -> int:
        """Some of what the entry node said gets there."""
        return self._carry(self.asking, count, lambda frame: self.desk.serving.received(self.answering, frame))

    def carry_answers(self, count: int = 1_000_000) -> int:
        """Some of what the owner said."""
        done = self._carry(self.answering, count, lambda frame: self.entry.owner.received(self.asking, frame))
        self.answering.drained()
        return done

    def _carry(self, end: End, count: int, receive: Callable[[Frame], None]) -> int:
        done = 0
        while end.queue and done < count:
            done += 1
            for frame in decode(end.queue.popleft()):
                receive(frame)
            turn(self.entry, self.desk)
        return done

    def carry(self) -> None:
        """Everything, to and fro, until there is nothing."""
        turn(self.entry, self.desk)
        while self.carry_questions() + self.carry_answers():
            self.desk.disk.answer()


def turn(*desks: OwnerDesk | EntryDesk) -> None:
    """The end of a turn: who has something to say says it."""
    for desk in desks:
        while desk.flushes:
            desk.flushes.pop(0).flush()


def pair(*rules: TopicRule, limits: Limits | None = None, shards: int = 2) -> tuple[OwnerDesk, EntryDesk, Wire]:
    """An owner, an entry node that knows of it, and all that an opening link brings."""
    desk = OwnerDesk(*rules, limits=limits, shards=shards)
    entry = EntryDesk(*rules, limits=limits, shards=shards)
    entry.follow_all(desk)
    wire = Wire(entry, desk)
    wire.carry()
    return desk, entry, wire

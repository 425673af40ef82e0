"""Router: takes an accepted publish to its place and to everybody who is live for it.

The walk of one message (architecture.md) passes here: the topic's rule and limits, deduplication, the shard (which
numbers, encodes once and appends), then one bounded loop over the outboxes of the audience. No await, no lock, no
encoding inside the loop. Subscriptions enter and leave live delivery here and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from triode_protocol.codec import Refused, encode
from triode_protocol.errors import CloseCode, ErrorName, GapReason
from triode_protocol.packets import CatchingUp, Publish, Published
from triode_protocol.topics import BadTopic, check_filter, check_topic, is_reserved, is_wildcard

from triode_broker.config import Limits, TopicRule
from triode_broker.core import own_topics
from triode_broker.core.audience import Audience, Follower
from triode_broker.core.awaiting import Awaiting
from triode_broker.core.catch_up import CatchUp, Skip
from triode_broker.core.conflate import Conflation
from triode_broker.core.dead_letters import PREFIX, name_of
from triode_broker.core.delayed import Delayed, Later
from triode_broker.core.interfaces import Acceptor, Coverage, DurableLog, Log, Publisher
from triode_broker.core.message_ids import Remembered, check_same, digest_of
from triode_broker.core.nowhere import Nowhere
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.publish_check import check_publish
from triode_broker.core.record import Record
from triode_broker.core.rights import Allows
from triode_broker.core.shard import Shard, Topic, Topics, shard_index
from triode_broker.core.statistics import Statistics
from triode_broker.core.subscription import Subscription
from triode_broker.core.tenancy import Tenants
from triode_broker.core.tenants import check_own, is_own, outside
from triode_broker.core.topic_tree import TopicTree


def _nobody_cares(shard: Shard, what: Log | int) -> None:
    """There is no subscription yet."""


class Router:
    """One node's topics, shards and live subscriptions."""

    def __init__(
        self,
        shards: Sequence[Shard],
        policies: Policies,
        limits: Limits,
        durable: Sequence[DurableLog | None] = (),
    ) -> None:
        """`shards` are those in memory; for each `durable` log there is one more, None: it is on another node."""
        self._memory = tuple(shards)
        self._durable = tuple(
            Shard(log or Nowhere("disk"), limits.max_dedupe_bytes, f"d{index}")
            for index, log in enumerate(durable)
        )
        self._stores: dict[Shard, DurableLog] = {}
        self._shards = self._memory + self._durable
        self._by_shard_name = {shard.name: shard for shard in self._shards}
        self.coverage: Coverage | None = None  # None: every shard is owned here, and nobody has to be told
        self.moved: Callable[[Shard, Log], None] = _nobody_cares  # a shard has another log than this one now
        self.interrupt: Callable[[Shard, int], None] = _nobody_cares  # `core.moving`
        self._policies = policies
        self._limits = limits
        self._topics = Topics(limits.max_shard_topics * len(self._shards))
        self._by_name = self._topics.by_name
        self._own = Topics(limits.max_shard_topics)  # the broker's own: apart, so that no client publishes there
        self.tenants = Tenants()
        gather = partial(Audience, tenants=self.tenants)
        self._tree: TopicTree[Subscription | Follower, Audience] = TopicTree(gather, limits.match_cache_values)
        self._awaiting: dict[Shard, Awaiting] = {}
        self.delayed = Delayed(limits, self._awaiting, self._stores, self._topic_of, self.deliver)
        self._audiences = self._tree.cache
        self.statistics, self._followers = Statistics(), 0
        for shard, log in zip(self._durable, durable, strict=True):
            if log is None:
                shard.is_here = shard.is_reachable = False
            else:
                self._load(shard, log)

    def _load(self, shard: Shard, log: DurableLog) -> None:
        """Go on where the file ends."""
        self._stores[shard] = log
        shard.acceptor = self._awaiting[shard] = Awaiting(shard, log, self._limits, self.deliver)
        loaded = log.loaded()
        shard.ts, shard.has_forgotten = loaded.ts, loaded.has_forgotten
        for remembered in loaded.remembered:
            shard.ids.remember(remembered)
        self.count_on(shard, loaded.topics)
        self.delayed.load(shard, loaded.values)

    def counters(self, shard: Shard) -> dict[str, int]:
        """The newest offset of each of its topics that is remembered."""
        topics = self.topics().values()
        return {topic.name: topic.offset for topic in topics if topic.shard is shard and topic.offset > 0}

    def count_on(self, shard: Shard, counters: Mapping[str, int]) -> None:
        """Go on with these, in a log that was not begun here."""
        for name, offset in counters.items():
            (self._own if is_own(name) else self._topics).add(Topic(name, self.rule_of(name), shard, offset))

    def limits_changed(self) -> None:
        """What it reads once."""
        self._own.max_topics = self._limits.max_shard_topics
        self._topics.max_topics = self._own.max_topics * len(self._shards)
        self._tree.max_cached = self._limits.match_cache_values
        for shard in self._shards:
            shard.bound_ids(self._limits.max_dedupe_bytes)

    def rule_of(self, name: str) -> TopicRule:
        """Of a client's topic, or one of the broker's own."""
        return self._own_rule(name) if is_own(name) else self._policies.of(name)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All shards of this node."""
        return self._shards

    def shard_named(self, name: str) -> Shard | None:
        """The shard of this name."""
        return self._by_shard_name.get(name)

    @property
    def durable_logs(self) -> tuple[DurableLog, ...]:
        """The logs on this node's disk."""
        return tuple(self._stores.values())

    def topics(self) -> Mapping[str, Topic]:
        """All that are remembered, the broker's own too."""
        return {**self._topics.by_name, **self._own.by_name}

    @property
    def has_disk(self) -> bool:
        """Whether there are shards on disk, here or on other nodes."""
        return bool(self._durable)

    @property
    def own_topics(self) -> tuple[str, ...]:
        """The broker's own topics that it remembers, `$dead/<name>` for one."""
        return tuple(self._own.by_name)

    @property
    def delivered(self) -> int:
        """Messages put into outboxes since the start, live or with acknowledgements."""
        return self.tenants.delivered

    @property
    def live_subscriptions(self) -> int:
        """How many subscriptions are live."""
        return self._tree.size - self._followers

    @property
    def dedupe_window_ms(self) -> int:
        """The deduplication window that holds for every topic that has one."""
        return self._policies.dedupe_window_ms()

    def heads(self) -> dict[str, int]:
        """The head of every log that has a message: the bookmark of a ping (SPEC 4.8)."""
        return {shard.log.name: head for shard in self._shards if (head := shard.log.head())}

    # Owning (see also `core.moving`)

    def own(self, shard: Shard, log: Log) -> None:
        """This node gives out the numbers of a shard in memory from here on, behind the head of this log."""
        self._begin(shard, log, None, is_here=True)

    def own_store(self, shard: Shard, log: DurableLog) -> None:
        """The same for a shard whose file was opened after the start."""
        before = shard.log
        self._topics.forget(shard)
        self._own.forget(shard)
        shard.begin(log)
        shard.is_here = shard.is_reachable = True
        self._load(shard, log)
        self.moved(shard, before)

    def follow_owner(self, shard: Shard, log: Log, acceptor: Acceptor) -> None:
        """Another node does, and `log` is a view of its log."""
        self._begin(shard, log, acceptor, is_here=False)

    def disown(self, shard: Shard, acceptor: Acceptor) -> None:
        """Give out no more numbers; what there is can be read until the new owner is followed."""
        shard.is_here = False
        shard.acceptor = acceptor

    def _begin(self, shard: Shard, log: Log, acceptor: Acceptor | None, *, is_here: bool) -> None:
        before = shard.log
        self._topics.forget(shard)
        self._own.forget(shard)
        shard.is_reachable = is_here or (shard.is_reachable and log.name == before.name)
        shard.begin(log)
        shard.is_here = is_here
        shard.acceptor = acceptor
        self.moved(shard, before)

    # Publishing

    def publish(
        self, packet: Publish, user: str, now_ms: int, publisher: Publisher | None = None
    ) -> Published | None:
        """Accept a message and deliver it; the acknowledgement, where the packet has an id.

        A durable topic's is delivered, and the `publisher` answered, at commit. Raises Refused: then it was surely
        not stored (G2).
        """
        try:
            topic = self._by_name[packet.topic]  # `get` of an OrderedDict takes twice as long
        except KeyError:
            topic = self._open(packet.topic)
        rule = topic.rule
        check_publish(packet, rule, self._limits)
        shard = topic.shard
        later = self.delayed.later(shard, packet, user, now_ms) if packet.deliver_at_ms and shard.is_here else None
        if (acceptor := shard.acceptor) is not None:
            if later is not None and acceptor is self._awaiting.get(shard):
                return self._awaiting[shard].accept(topic, packet, user, publisher, now_ms, later)
            return acceptor.accept(topic, packet, user, publisher, now_ms)
        remembered: Remembered | None = None
        if packet.message_id and rule.dedupe_seconds:
            key = (topic.name, user, packet.message_id)  # the topic's own string: one for all its ids
            if (first := shard.ids.find(key, now_ms)) is not None:
                return self._duplicate(shard, first, packet)
            remembered = Remembered(key, digest_of(packet), 0, 0, now_ms + rule.dedupe_seconds * 1000)
        if later is not None:
            return self._delay(later, packet, remembered)
        record = shard.accept(topic, packet, user, now_ms, remembered)
        if remembered is not None:
            shard.ids.remember(remembered)
        self.statistics.published += 1
        self.deliver(record)
        if not packet.id:
            return None
        log = shard.log
        return Published(packet.id, log.name, record.pos, record.offset, log.level)

    def publish_own(self, packet: Publish, user: str, now_ms: int, publisher: Publisher) -> None:
        """Publish a message of the broker's own on a topic that begins with `$`.

        The `publisher` is answered, in memory at once; the packet has an id. Raises Refused: it was not stored.
        """
        topic = self._own.by_name.get(packet.topic) or self._open_own(packet.topic)
        answer = own_topics.accept(topic, packet, user, now_ms, publisher, self.deliver)
        if answer is not None:
            publisher.answer(answer)

    def _open_own(self, name: str) -> Topic:
        shard = self._shard_of(name)
        topic = Topic(name, self._own_rule(name), shard, shard.offset_before_first())
        self._own.add(topic)
        return topic

    def _own_rule(self, name: str) -> TopicRule:
        return own_topics.rule_of(self._policies, name, is_on_disk=self.has_disk)

    def _delay(self, later: Later, packet: Publish, remembered: Remembered | None) -> Published | None:
        """In memory it is accepted at once; on disk see `core.awaiting`."""
        later.begin(remembered)
        later.settle(True)
        if remembered is not None:
            later.shard.ids.remember(remembered)
        return Published(packet.id, level=later.shard.log.level, delayed=True) if packet.id else None

    def _duplicate(self, shard: Shard, first: Remembered, packet: Publish) -> Published:
        check_same(first, digest_of(packet))
        self.statistics.duplicates += 1
        if not first.pos:
            return Published(packet.id, level=shard.log.level, duplicate=True, delayed=True)
        return Published(packet.id, shard.log.name, first.pos, first.offset, shard.log.level, True)

    def _open(self, name: str) -> Topic:
        self.check_topic(outside(name))
        return self._topic_of(name)

    def _topic_of(self, name: str) -> Topic:
        """A topic that was checked once, though it may have been forgotten since."""
        if (known := self._by_name.get(name)) is not None:
            return known
        shard = self._shard_of(name)
        topic = Topic(name, self._policies.of(name), shard, shard.offset_before_first())
        self._topics.add(topic)
        return topic

    def check_readable(self, name: str) -> None:
        """Raise Refused unless clients may so ask for its history: dead letters may be read (SPEC 6, 9.8)."""
        if not name.startswith(PREFIX):
            self.check_topic(name)
        else:
            self._check_grammar(name)

    def stop_storing(self) -> None:
        """The node is about to end: from here on publishes to disk are refused, what was accepted is committed."""
        for awaiting in self._awaiting.values():
            awaiting.is_ending = True

    def check_topic(self, name: str) -> None:
        """Raise Refused unless clients may publish to what they say (SPEC 6)."""
        self._check_grammar(name)
        if is_reserved(name):
            raise Refused(ErrorName.BAD_TOPIC, "topics beginning with $ belong to the broker", field="topic")

    def check_publishable(self, packet: Publish) -> None:
        """Raise Refused unless it could be published now."""
        self.check_topic(packet.topic)
        check_publish(packet, self._policies.of(packet.topic), self._limits)

    def _check_grammar(self, name: str) -> None:
        try:
            check_topic(name, self._limits.max_topic_levels, self._limits.max_topic_bytes)
        except BadTopic as error:
            raise Refused(ErrorName.BAD_TOPIC, f"not a topic: {error}", field="topic") from None

    def check_filter(self, filter: str) -> None:
        """Raise Refused unless clients may say it as a filter (SPEC 6)."""
        try:
            check_own(filter)
            check_filter(filter, self._limits.max_topic_levels, self._limits.max_topic_bytes)
        except BadTopic as error:
            raise Refused(ErrorName.BAD_TOPIC, f"not a filter: {error}", field="filter") from None

    def covered(self, filter: str) -> tuple[Shard, ...]:
        """The shards that hold topics the filter can match."""
        if not is_wildcard(filter):
            return (self._shard_of(filter),)
        if is_own(filter):
            return self._of_storage("disk" if self._durable else "memory")
        storages = self._policies.storages(filter)
        return tuple(shard for storage in sorted(storages) for shard in self._of_storage(storage))

    def _of_storage(self, storage: str) -> tuple[Shard, ...]:
        return self._durable if storage == "disk" else self._memory

    def _shard_of(self, topic: str) -> Shard:
        """Topics of the broker's own are on disk where there is one: `$dead/<name>` at the home of the name."""
        if is_own(topic):
            return self.home_of(name_of(topic) or topic)
        shards = self._of_storage(self._policies.of(topic).storage)
        return shards[shard_index(topic, len(shards))]

    def home_of(self, name: str) -> Shard:
        """The shard that keeps what belongs to this name: on disk where there is one."""
        shards = self._durable or self._memory
        return shards[shard_index(name, len(shards))]

    def store_of(self, name: str) -> DurableLog:
        """The log on disk that is the home of this name. Raises KeyError where it is not on this node."""
        return self._stores[self.home_of(name)]

    def shard_of(self, topic: str) -> Shard:
        """The shard of a topic that a message came from: looked up, not worked out, where it is known."""
        known = self._by_name.get(topic)
        return known.shard if known is not None else self._shard_of(topic)

    # Delivering

    @property
    def next_due_ms(self) -> int | None:
        """When, on the wall clock, the next delayed message is due; `delayed.sooner` tells of an earlier one."""
        return self.delayed.next_due_ms

    def audience(self, topic: str) -> Audience:
        """Who gets what is published on a topic now."""
        return self._tree.match(topic)

    def tick(self, now_ms: int) -> None:
        """Deliver delayed messages that are due: some; more are due while `next_due_ms` has passed."""
        self.delayed.tick(now_ms)

    def deliver(self, record: Record) -> None:
        """To everybody who is live for it, in the step in which it becomes the head of its log.

        The hottest loop: the same bytes object into every outbox (Outbox.put, written out: 0.05 µs each).
        """
        audience = self._audiences.get(record.topic) or self._tree.match(record.topic)
        if audience.is_empty:
            return
        size = audience.size
        audience.counts.delivered += size
        self.statistics.fanned_out += size
        full: set[Outbox] | None = None
        for frame, boxes in audience.groups:
            item = frame(record.payload)
            length = len(item)
            for box in boxes:
                size = box.size + length
                if size > box.limit:
                    full = full or set()
                    full.add(box)
                    continue
                items = box.items
                if not items and not box.is_blocked:
                    box.dirty.append(box)
                items.append(item)
                box.size = size
        if full:
            audience.counts.delivered -= len(full)
            self._overflow(full, record)
        for follower in audience.followers:
            follower.offer(record)

    def follow(self, filter: str, follower: Follower) -> None:
        """From here on it is offered what is published on a checked filter."""
        self._tree.add(filter, follower)
        self._followers += 1

    def unfollow(self, filter: str, follower: Follower) -> None:
        """Take it out again. Raises KeyError if it is not there."""
        self._tree.remove(filter, follower)
        self._followers -= 1

    def _overflow(self, full: set[Outbox], record: Record) -> None:
        """The message does not fit: each live subscription it was for follows its own policy (G7).

        One pass for all that are full: thousands may stall at once.
        """
        for sub in self._tree.match(record.topic).subscriptions:
            if sub.outbox in full:
                self.statistics.overflows += 1
                self._leave_full(sub, record)

    def leave_live(self, sub: Subscription) -> None:
        """Take it out of live delivery; the caller says how it comes back."""
        self._tree.remove(sub.filter, sub)
        sub.is_live = False

    def _leave_full(self, sub: Subscription, refused: Record) -> None:
        self.leave_live(sub)
        if sub.overflow == "disconnect":
            sub.outbox.connection.close(CloseCode.SLOW_CONSUMER)
            return
        position = sub.heads()
        position[self._shard_of(refused.topic).log.name] = refused.pos - 1
        sub.outbox.put(encode(CatchingUp(sub.number, sub.whole(position), GapReason.SLOW)))
        sub.outbox.wants_room = True
        if sub.overflow == "replay":
            sub.pending = self.catch_up(sub, position)
        elif sub.overflow == "gap":
            sub.pending = Skip(sub, self.go_live)
        else:
            self._conflate(sub, position, refused)

    def _conflate(self, sub: Subscription, position: dict[str, int], refused: Record) -> None:
        max_bytes = self._limits.max_conflated_bytes
        sub.pending = conflation = Conflation(sub, position, max_bytes, self._log_of, self.go_live)
        self.follow(sub.filter, conflation)
        conflation.offer(refused)  # those who are offered it were found before

    def catch_up(self, sub: Subscription, position: dict[str, int]) -> CatchUp:
        """What brings it from a position to live."""
        return CatchUp(sub, position, self.go_live, self.follow, self._log_of)

    def _log_of(self, topic: str) -> str:
        return self._shard_of(topic).log.name

    def forget_pending(self, sub: Subscription) -> None:
        """What stood between it and live does so no more."""
        if isinstance(sub.pending, Conflation) or (isinstance(sub.pending, CatchUp) and sub.pending.is_following):
            self.unfollow(sub.filter, sub.pending)
        sub.pending = None

    def go_live(self, sub: Subscription) -> None:
        """From here on it gets what is published; the caller has seen that it has everything before."""
        self.forget_pending(sub)
        sub.is_live = True
        self._tree.add(sub.filter, sub)

    def permit(self, sub: Subscription, allows: Allows, allows_past: Allows) -> None:
        """Its topics are other ones from here on (SPEC 11.5.2): it is told where, and goes on behind that."""
        sub.allows, sub.allows_past = allows, allows_past
        if sub.is_live:
            self._tree.remove(sub.filter, sub)
            self._tree.add(sub.filter, sub)  # audiences are found again
            sub.tell_gap(sub.heads(), GapReason.PERMISSION)
        elif sub.pending is not None:
            sub.pending.report(GapReason.PERMISSION)

    def close(self, sub: Subscription) -> None:
        """End a subscription; nothing more is put into its outbox. Idempotent."""
        if self.coverage is not None and sub.is_open:
            self.coverage.uncover(sub.filter, self.covered(sub.filter))
        if sub.is_live:
            self._tree.remove(sub.filter, sub)
        sub.is_live = sub.is_open = False
        self.forget_pending(sub)

    def trim(self, now_ms: int) -> None:
        """Forget what retention and windows no longer keep; called about once a second."""
        for shard in self._shards:
            if shard.is_here:
                shard.log.trim(shard.clock(now_ms))
                shard.ids.expire(now_ms)
        for log in self.durable_logs:
            log.room(now_ms)

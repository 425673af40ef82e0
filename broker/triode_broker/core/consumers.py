"""Consumers: all names of acknowledged subscriptions on a node: making, joining, leaving, keeping them (SPEC 9).

A name has one home: a durable one the log on disk that its dead letters go to as well, so that both are written in
one transaction. Knows nothing of packets on the wire but those it answers; sessions call it.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import UNSET
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName, GapReason
from triode_protocol.packets import Ack, Acked, Extend, Nack, ServerPacket, Start, Subscribe, Unsubscribed
from triode_protocol.topics import matches

from triode_broker.config import Limits
from triode_broker.core import keeping, settling
from triode_broker.core.asking import Asked
from triode_broker.core.awaiting import RETRY_STORE_MS
from triode_broker.core.consumer import Consumer
from triode_broker.core.dead_letters import Letter, make_letter
from triode_broker.core.events import Events
from triode_broker.core.interfaces import DurableLog, Outcome, Publisher
from triode_broker.core.interfaces import Place as Found
from triode_broker.core.item import Item
from triode_broker.core.outbox import Outbox
from triode_broker.core.roster import Member
from triode_broker.core.router import Router
from triode_broker.core.source import Source
from triode_broker.core.summaries import details, summary
from triode_broker.core.tenants import name_outside, tenant_of_name
from triode_broker.core.timers import Timers

PREFIX: Final = "consumer/"
#: What nobody waits for is handed to the store so much later: an ack without `id`, a delivery (SPEC 9.2.4).
SAVE_MS = 50
#: How often names without members grow older, and after how many times that is written down.
SWEEP_MS = 60_000
SWEEPS_A_SAVE = 60
#: Closes after which deliveries are given back cleanly: goodbye, revoked, replaced, kicked, shutdown, sent away,
#: draining (SPEC 9.4.4).
CLEAN_CLOSES = frozenset({1000, 4002, 4005, 4006, 4100, 4107, 4200})


class Consumers:
    """The names, and what is done with them."""

    def __init__(self, router: Router, limits: Limits, timers: Timers) -> None:
        self._router = router
        self._limits = limits
        self._timers = timers
        self._sweeps = 0
        self.events: Events | None = None
        self._unsaved: dict[Consumer, None] = {}  # has changed since its store had it
        self.by_name: dict[str, Consumer] = {}
        for log in router.durable_logs:
            for key, value in log.loaded().values.items():
                if key.startswith(PREFIX):
                    self._restore(keeping.decode(value))
        timers.at(timers.steady_ms() + SWEEP_MS, self._sweep)

    # Joining

    def attach(
        self,
        asked: Asked,
        packet: Subscribe,
        outbox: Outbox,
        connection_id: str,
        publisher: Publisher,
        ended: Callable[[int], None],
    ) -> Member:
        """A new member of the name that is asked for; `begin` answers. Raises Refused: then nothing was done."""
        consumer = self.by_name.get(asked.name)
        if consumer is None:
            consumer = self._create(asked, packet)
        else:
            self._check_same(consumer, asked, packet)
        consumer.ack_wait_ms = packet.ack_wait_ms or consumer.ack_wait_ms
        consumer.max_attempts = packet.max_attempts or consumer.max_attempts
        member = Member(consumer, packet.sub, asked.window, outbox, connection_id, publisher, ended)
        member.subscribe_id = packet.id
        return member

    def _create(self, asked: Asked, packet: Subscribe) -> Consumer:
        limits = self._limits
        if asked.is_durable and not self._router.has_disk:
            message = "this node has no disk to write to: durable needs one"
            raise Refused(ErrorName.UNSUPPORTED, message, field="durable")
        if len(self.by_name) >= limits.max_consumers:
            message = f"this node has at most {limits.max_consumers} durable subscriptions and groups"
            raise Refused(ErrorName.QUOTA, message, field=asked.field)
        if asked.is_durable and self._store_of(asked.name).state != "ok":
            message = "the store takes nothing: a new durable subscription cannot be kept"
            raise Refused(ErrorName.UNAVAILABLE, message, retry_after_ms=RETRY_STORE_MS)
        return self._make(asked.name, packet.filter, is_durable=asked.is_durable, is_shared=asked.is_shared)

    def _make(self, name: str, filter: str, *, is_durable: bool, is_shared: bool) -> Consumer:
        consumer = self.by_name[name] = Consumer(
            name,
            filter,
            self._router.covered(filter),
            self._router.shard_of,
            is_durable=is_durable,
            is_shared=is_shared,
            ack_wait_ms=self._limits.default_ack_wait_ms,
            max_attempts=self._limits.default_max_attempts,
            timers=self._timers,
            max_bytes=self._limits.max_consumer_bytes,
            bury=self._bury,
            save=self._save,
            tenant=self._router.tenants.of(tenant_of_name(name)),
            statistics=self._router.statistics,
        )
        return consumer

    def _check_same(self, consumer: Consumer, asked: Asked, packet: Subscribe) -> None:
        name = name_outside(asked.name)
        if consumer.is_durable != asked.is_durable or consumer.is_shared != asked.is_shared:
            message = f"{name} is a {consumer.kind} subscription" if consumer.is_durable else ""
            message = message or f"{name} is a group"
            raise Refused(ErrorName.CONFLICT, message, field=asked.field)
        if consumer.filter != packet.filter:
            message = f"{name} has another filter"  # not which: it may be forbidden to this one (SPEC 11.4.3)
            raise Refused(ErrorName.CONFLICT, message, field=asked.field)
        if asked.is_shared and len(consumer.members) >= self._limits.max_consumer_members:
            message = f"{name} has {len(consumer.members)} members, the most it may have"
            raise Refused(ErrorName.QUOTA, message, field=asked.field)

    def begin(self, member: Member, packet: Subscribe, now_ms: int) -> None:
        """Let it in; its answer comes now, or when its name is ready."""
        self._timers.hear(now_ms)
        consumer = member.consumer
        if not consumer.is_shared:
            for other in list(consumer.members):
                self._take_over(other, now_ms)
        is_first = not consumer.members
        consumer.join(member)
        consumer.absent_ms = 0
        if is_first:
            self._router.follow(consumer.filter, consumer)
            self._cover(consumer, packet, now_ms)
        elif consumer.is_covered and consumer.is_ready:
            self._welcome(member, now_ms)

    def _cover(self, consumer: Consumer, packet: Subscribe, now_ms: int) -> None:
        """Go on when the owners of its shards know of it."""
        coverage = self._router.coverage
        if coverage is None:
            self._covered(consumer, packet, now_ms, [])
            return
        after = None if packet.after is UNSET else packet.after
        consumer.is_covered = False
        coverage.cover(consumer.filter, consumer.shards, after, partial(self._covered, consumer, packet, now_ms))

    def _covered(self, consumer: Consumer, packet: Subscribe, now_ms: int, unavailable: list[str]) -> None:
        """Those that are not reached are fed from later: the others go on."""
        consumer.is_covered = True
        if consumer.is_ready:
            for member in list(consumer.members):
                self._welcome(member, now_ms)
        elif not consumer.created_ms:
            consumer.created_ms = now_ms
            self._place(consumer, packet, now_ms)

    def _uncover(self, consumer: Consumer) -> None:
        self._router.unfollow(consumer.filter, consumer)
        if self._router.coverage is not None:
            self._router.coverage.uncover(consumer.filter, consumer.shards)

    def _welcome(self, member: Member, now_ms: int) -> None:
        id, member.subscribe_id = member.subscribe_id, -1
        member.consumer.welcome(member, id, now_ms)

    def expel(self, member: Member, refused: Refused) -> None:
        """Its client is not allowed it any more: what it holds is given back."""
        self.leave(member, is_clean=True)
        self._end(member, refused.name, refused.message)

    def _take_over(self, member: Member, now_ms: int) -> None:
        """A name that is not shared goes to who asks last."""
        message = "another connection has taken this subscription over"
        is_clean = member.outbox.connection.close_code in CLEAN_CLOSES
        member.consumer.leave(member, now_ms, is_clean=is_clean)
        self._end(member, ErrorName.CONFLICT, message)
        self._uncover(member.consumer)  # it was the only one

    def _end(self, member: Member, name: ErrorName, message: str) -> None:
        """Tell a member that it is none any more, whether it has its answer or waits for it."""
        member.ended(member.number)
        refused = Refused(name, message)
        if member.subscribe_id >= 0:
            refused.id, refused.sub = member.subscribe_id, member.number
            member.publisher.refuse(refused)
        else:
            retry = "backoff" if name == ErrorName.UNAVAILABLE else "never"
            member.publisher.answer(Unsubscribed(member.number, 0, name, message, retry))

    # Starting

    def _place(self, consumer: Consumer, packet: Subscribe, now_ms: int) -> None:
        """Where a new name begins."""
        if packet.after is not UNSET:
            for source in consumer.sources:
                keeping.start_after(source, packet.after.get(source.shard.log.name, -1))
        elif packet.from_ == "new":
            for source in consumer.sources:
                source.start(source.shard.log.head())
        else:
            start = packet.from_ if isinstance(packet.from_, Start) else Start()
            self._seek(consumer, start, now_ms, partial(self._placed, consumer, now_ms))
            return
        self._placed(consumer, now_ms)

    def _seek(self, consumer: Consumer, start: Start, now_ms: int, then: Callable[[], None]) -> None:
        """Start every source where its log says; when all have answered, go on."""
        found: dict[Source, Found] = {}
        names = {source: source.shard.log.name for source in consumer.sources}

        def take(source: Source, place: Found) -> None:
            found[source] = place
            if len(found) < len(consumer.sources):
                return
            for each, place in found.items():
                if not each.is_placed or each.shard.log.name != names[each]:  # it has moved since
                    continue
                each.start(place.pos, place.loss)
                if not place.is_complete:
                    each.note_gap(GapReason.RETENTION, place.pos)
            then()

        for source in consumer.sources:
            shard = source.shard
            shard.log.seek(consumer.filter, start, shard.clock(now_ms), partial(take, source))

    def _placed(self, consumer: Consumer, now_ms: int) -> None:
        if not consumer.is_open:  # everybody has left meanwhile
            return
        if not consumer.is_durable:
            self._ready(consumer, now_ms, "committed")
            return
        consumer.is_marked = False
        self._store_of(consumer.name).save(*self._value(consumer), partial(self._ready, consumer, now_ms))

    def _ready(self, consumer: Consumer, now_ms: int, outcome: Outcome) -> None:
        """It is there to stay: those who wait for it get their answer (G1)."""
        if not consumer.is_open:
            return
        if outcome == "committed":
            consumer.is_ready = True
            for member in list(consumer.members):
                self._welcome(member, now_ms)
            return
        refused = _refused(outcome)
        for member in list(consumer.members):
            self._end(member, refused.name, refused.message)
        self._remove(consumer)

    # Leaving

    def leave(self, member: Member, now_ms: int = 0, *, is_clean: bool) -> None:
        """A member ends its subscription, or its connection has ended: then nobody says what time it is."""
        consumer = member.consumer
        now_ms = now_ms or self._timers.now_ms
        consumer.leave(member, now_ms, is_clean=is_clean)
        if consumer.members:
            return
        self._uncover(consumer)
        if consumer.is_durable and consumer.is_ready:
            consumer.rest()
            consumer.changed()
        else:
            self._remove(consumer)

    def _remove(self, consumer: Consumer) -> None:
        """Forget a name."""
        del self.by_name[consumer.name]
        if consumer.members:
            self._uncover(consumer)
        consumer.close()
        if consumer.is_durable:
            self._store_of(consumer.name).save(*self._value(consumer))

    # Deliveries

    def ack(self, member: Member, packet: Ack, now_ms: int) -> None:
        """SPEC 9.2. Raises Refused."""
        settling.ack(member, packet, now_ms)
        self._answer(member, packet.id)

    def nack(self, member: Member, packet: Nack, now_ms: int) -> None:
        """SPEC 9.3. Raises Refused."""
        settling.nack(member, packet, self._limits, now_ms)
        self._answer(member, packet.id)

    def extend(self, member: Member, packet: Extend) -> None:
        """SPEC 9.3. Raises Refused."""
        settling.extend(member, packet, self._limits)
        if packet.id:
            member.publisher.answer(Acked(packet.id))

    def _answer(self, member: Member, id: int) -> None:
        """Where an answer is wanted: a durable name's when its state is on disk (SPEC 9.2.4)."""
        if not id:
            return
        answer = Acked(id)
        consumer = member.consumer
        if consumer.is_durable:
            told = partial(_told, member.publisher, answer, id, member.number)
            self._store_of(consumer.name).save(*self._value(consumer), told)
        else:
            member.publisher.answer(answer)

    def _bury(self, consumer: Consumer, item: Item) -> None:
        """Write a dead letter, in one step with what is marked now."""
        letter = Letter(partial(self._buried, consumer, item), lambda refused: consumer.postpone(item))
        packet, user = make_letter(consumer.name, item, consumer.now_ms)
        try:
            self._router.publish_own(packet, user, consumer.now_ms, letter)
            if consumer.is_durable:
                self._store_of(consumer.name).save(*self._value(consumer))
        except Refused:  # full, failed or overloaded
            consumer.postpone(item)

    def _buried(self, consumer: Consumer, item: Item) -> None:
        self._router.statistics.dead_letters += 1
        if self.events is not None:
            self.events.buried(consumer.name, item)
        consumer.buried(item)

    # Keeping

    def _store_of(self, name: str) -> DurableLog:
        return self._router.store_of(name)

    def _save(self, consumer: Consumer) -> None:
        """In a moment: many acknowledgements are one encoding of all that is in flight."""
        if not self._unsaved:
            self._timers.at(self._timers.steady_ms() + SAVE_MS, self.save)
        self._unsaved[consumer] = None

    def save(self, now_ms: int = 0) -> None:
        """Hand over to the stores what they do not have."""
        unsaved, self._unsaved = self._unsaved, {}
        for consumer in unsaved:
            if consumer.is_open and consumer.is_marked:
                self._store_of(consumer.name).save(*self._value(consumer))

    def _value(self, consumer: Consumer) -> tuple[str, Callable[[], bytes]]:
        return PREFIX + consumer.name, partial(self._encode, consumer)

    def _encode(self, consumer: Consumer) -> bytes:
        """What is to be found after a restart; called when the store closes a batch."""
        if not consumer.is_open:
            return b""
        consumer.is_marked = False
        return keeping.encode(consumer, self._timers.offset_ms)

    def _restore(self, kept: keeping.Kept) -> None:
        consumer = self._make(kept.name, kept.filter, is_durable=True, is_shared=kept.is_shared)
        previous = {log.name: log.loaded().previous for log in self._router.durable_logs}
        here = {shard.name for shard in self._router.shards if shard.is_here}
        is_as_kept = keeping.restore(consumer, kept, previous, here)
        consumer.is_ready = True
        consumer.is_marked = False
        if not is_as_kept:  # the next start will not know what was before this one
            self._store_of(consumer.name).save(*self._value(consumer))

    def _sweep(self, now_ms: int) -> None:
        """Names that nobody has used for long are deleted; only time that a node was running counts."""
        self._timers.at(self._timers.steady_ms() + SWEEP_MS, self._sweep)
        self._sweeps += 1
        for consumer in list(self.by_name.values()):
            if consumer.members:
                continue
            consumer.absent_ms += SWEEP_MS
            if consumer.absent_ms > self._limits.abandoned_seconds * 1000:
                self._remove(consumer)
            elif self._sweeps % SWEEPS_A_SAVE == 0:
                consumer.changed()

    # The operator's

    def list(self) -> list[dict[str, object]]:
        """All names, each in a few words."""
        return [summary(self.by_name[name]) for name in sorted(self.by_name)]

    def matching(self, topic: str, most: int) -> "tuple[Consumer, ...]":
        """Those that are for a topic, with members or without; none where more than `most` are to be looked at."""
        if len(self.by_name) > most:
            return ()
        return tuple([one for one in self.by_name.values() if matches(one.filter, topic)])

    def show(self, name: str) -> dict[str, object]:
        """One name. Raises Refused."""
        return details(self.find(name))

    def find(self, name: str) -> Consumer:
        """Raises Refused where there is no such name."""
        consumer = self.by_name.get(name)
        if consumer is None:
            message = f"there is no durable subscription or group {name_outside(name)}"
            raise Refused(ErrorName.NO_SUCH_SUBSCRIPTION, message)
        return consumer

    def rewind(
        self,
        name: str,
        start: str | Start | dict[str, int],
        now_ms: int,
        done: Callable[[dict[str, int]], None],
    ) -> None:
        """Go on from another place: "earliest", "new", a start, or after a position (other logs stay).

        What is pending is forgotten. `done` gets the new position once it is on disk. Raises Refused.
        """
        consumer = self.find(name)
        if isinstance(start, dict) and (unknown := start.keys() - consumer.by_log.keys()):
            message = f"{min(unknown)} is not a log of {name_outside(name)}"
            raise Refused(ErrorName.MALFORMED, message, field="after")
        go_on = partial(self._rewound, consumer, now_ms, done)
        if isinstance(start, Start) or start == "earliest":
            wanted = start if isinstance(start, Start) else Start()
            self._seek(consumer, wanted, now_ms, go_on)
            return
        consumer.give_back()
        for log, source in consumer.by_log.items():
            head = source.shard.log.head()
            if not isinstance(start, dict):
                source.start(head)
            elif log in start:
                source.start(min(start[log], head))
            else:
                source.fold(self._timers.offset_ms)
        go_on()

    def _rewound(self, consumer: Consumer, now_ms: int, done: Callable[[dict[str, int]], None]) -> None:
        position = consumer.floors()
        if not consumer.is_open:  # deleted while a log was asked
            done(position)
            return
        consumer.clear()
        consumer.changed()
        if consumer.members:
            consumer.pump(now_ms)
        if consumer.is_durable:
            self._store_of(consumer.name).save(*self._value(consumer), lambda outcome: done(position))
        else:
            done(position)

    def end(self, consumer: Consumer, refused: Refused) -> None:
        """Forget a name; its members are told why."""
        for member in list(consumer.members):
            self._end(member, refused.name, refused.message)
        self._remove(consumer)

    def delete(self, name: str, done: Callable[[], None]) -> None:
        """Forget a name and what it had pending; its members are told. Raises Refused."""
        consumer = self.find(name)
        message = "the operator has deleted this subscription"
        self.end(consumer, Refused(ErrorName.NO_SUCH_SUBSCRIPTION, message))
        if consumer.is_durable:
            self._store_of(name).save(*self._value(consumer), lambda outcome: done())
        else:
            done()


def _refused(outcome: Outcome) -> Refused:
    if outcome == "unknown":
        message = "the write to disk failed: whether it was kept is not known"
        return Refused(ErrorName.TIMEOUT, message, retry_after_ms=RETRY_STORE_MS)
    message = "the store takes nothing: it was not kept"
    return Refused(ErrorName.UNAVAILABLE, message, retry_after_ms=RETRY_STORE_MS)


def _told(publisher: Publisher, answer: ServerPacket, id: int, sub: int, outcome: Outcome) -> None:
    if outcome == "committed":
        publisher.answer(answer)
        return
    refused = _refused(outcome)
    refused.id, refused.sub = id, sub
    publisher.refuse(refused)

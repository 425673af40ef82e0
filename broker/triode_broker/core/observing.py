"""Observing: what becomes of one message on this node, seen from beside its way: who is there for it, who has it.

Follows the topic for as long as it looks, so it is offered the message in the very step in which everybody else
is. Knows router, outboxes and consumers as they are; none of them knows of it, and a message that nobody looks at
pays nothing. The surprising decision: it looks again and again at who has what, instead of being told: a hook for
each outbox and each acknowledgement would be paid for by every message.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import attrs
from triode_protocol.hops import Hop

from triode_broker.core.audience import Audience, Follower
from triode_broker.core.catch_up import CatchUp
from triode_broker.core.conflate import Conflation
from triode_broker.core.consumer import Consumer
from triode_broker.core.consumers import Consumers
from triode_broker.core.outbox import Outbox
from triode_broker.core.record import Record
from triode_broker.core.router import Router
from triode_broker.core.shard import shard_of_log
from triode_broker.core.subscription import Subscription
from triode_broker.core.tenants import name_outside
from triode_broker.core.timers import Timers

#: Messages of the topic that are kept in mind until it is known which of them is looked for.
MAX_SEEN: Final = 256
#: Outboxes that are looked at, of the connections that got it.
MAX_OUTBOXES: Final = 1_000
#: Durable subscriptions and groups that are looked through for those that follow no topic now; of more, none is.
MAX_LOOKED_THROUGH: Final = 1_000
#: Names of durable subscriptions and groups that are told.
MAX_NAMES: Final = 16
#: Between two looks: the first is soon, the later ones are rarer.
LOOK_MS: Final = 5
MAX_LOOK_MS: Final = 200

WAITING, SENT, SETTLED, KEPT = "waiting", "sent", "settled", "kept"
#: The hop that says so.
_HOPS: Final = {SENT: "sent", SETTLED: "acknowledged", KEPT: "kept"}

#: What came out so far; and whether that is all.
Told = Callable[[list[Hop], bool], None]


@attrs.frozen
class Seen:
    """One message, when it was delivered here."""

    offset: int
    at_us: int
    before: Audience
    after: Audience


class _Mark:
    """Stands among the outboxes that are written at the end of the turn, behind those that have the message."""

    __slots__ = ("connection", "write")

    def __init__(self, write: Callable[[], None]) -> None:
        self.connection = self
        self.write = write

    def fail(self, error: Exception) -> None:
        """Of a look that went wrong nobody has to know: the next one comes by the clock."""


class Observation:
    """One message on one node. A `Follower`."""

    def __init__(
        self,
        node: str,
        router: Router,
        consumers: Consumers,
        timers: Timers,
        now_us: Callable[[], int],
        topic: str,
        give_up_ms: int,
    ) -> None:
        """`give_up_ms`: on the steady clock, when it ends at the latest."""
        self._node = node
        self._named = consumers.matching(topic, MAX_LOOKED_THROUGH)
        self._router = router
        self._timers = timers
        self._now_us = now_us
        self.topic = topic
        self._give_up_ms = give_up_ms
        self._seen: dict[int, Seen] = {}
        self._pos = 0  # the one that is looked for, once that is known
        self._told: Told | None = None
        self._outboxes: list[Outbox] = []
        self._left_out = 0  # outboxes that are too many to be looked at
        self._consumers: dict[Consumer, str] = {}  # and where it stands with each
        self._log = ""
        self._step_ms = LOOK_MS
        self._looks_at_ms = 0  # the next look by the clock
        self.is_over = False
        router.follow(topic, self)
        self._before = router.audience(topic)
        timers.at(give_up_ms, self._ring)

    # Seeing it

    def offer(self, record: Record) -> None:
        """From the router, in the step in which it is delivered."""
        if self._pos and record.pos != self._pos:
            return
        after = self._router.audience(self.topic)
        if len(self._seen) < MAX_SEEN:
            self._seen[record.pos] = Seen(record.offset, self._now_us(), self._before, after)
        self._before = after
        for sub in after.subscriptions[:1]:
            sub.outbox.dirty.append(_Mark(self._look))  # type: ignore[arg-type]  # it is written like one
        if self._pos:
            self._tell_seen()

    def look_for(self, log: str, pos: int, told: Told) -> None:
        """It is this one: tell what becomes of it, piece by piece, until that is all, or the time is up."""
        self._log, self._pos, self._told = log, pos, told
        if pos not in self._seen and self._was_delivered(log, pos):
            # Another node's message, which came before the word to look out for it: who is there now had it.
            audience = self._router.audience(self.topic)
            self._seen[pos] = Seen(0, self._now_us(), audience, audience)
        if pos in self._seen:
            self._tell_seen()
        elif self.is_alone:
            self._end([])

    def _was_delivered(self, log: str, pos: int) -> bool:
        shard = self._router.shard_named(shard_of_log(log))
        return shard is not None and shard.log.name == log and shard.log.head() >= pos

    def placed(self, log: str, pos: int, level: str) -> list[Hop]:
        """Of the node that gave it its place, where it was seen."""
        if (seen := self._seen.get(pos)) is None:
            return []
        return [
            Hop("position", self._node, seen.at_us, log=log, pos=pos, offset=seen.offset),
            Hop("stored", self._node, seen.at_us, level=level),
        ]

    @property
    def is_alone(self) -> bool:
        """Whether nobody but observers is there for the topic now."""
        audience = self._router.audience(self.topic)
        others = [one for one in audience.followers if not isinstance(one, Observation) and not _peer(one)]
        others += self._peers(audience)
        return not (audience.subscriptions or others or audience.kept_out or self._named)

    def _tell_seen(self) -> None:
        seen = self._seen[self._pos]
        hops = [
            *self._matched(seen),
            *self._forwarded(seen),
            *self._left(seen),
        ]
        if seen.after.size:
            hops.append(Hop("queued", self._node, seen.at_us, kind="live", count=seen.after.size))
        outboxes = list(dict.fromkeys(sub.outbox for sub in seen.after.subscriptions))
        self._outboxes, self._left_out = outboxes[:MAX_OUTBOXES], max(len(outboxes) - MAX_OUTBOXES, 0)
        self._consumers = dict.fromkeys(self._acknowledged(seen), WAITING)
        self._tell(hops)
        self._look()

    def _matched(self, seen: Seen) -> list[Hop]:
        at_us, found = seen.at_us, Counter[str]()
        found["live"] = len(_open(seen))
        names: dict[str, list[str]] = {"live": []}
        found["live"] += sum(isinstance(one, CatchUp | Conflation) for one in seen.before.followers)
        for consumer in self._acknowledged(seen):
            kind = _kind(consumer)
            found[kind] += 1
            names.setdefault(kind, []).append(name_outside(consumer.name))
        hops = [
            Hop("matched", self._node, at_us, kind=kind, count=count, names=names[kind][:MAX_NAMES])
            for kind, count in found.items()
            if count
        ]
        if seen.before.kept_out:
            hops.append(
                Hop("dropped", self._node, at_us, kind="live", count=seen.before.kept_out, reason="permission")
            )
        return hops

    def _acknowledged(self, seen: Seen) -> list[Consumer]:
        """Durable subscriptions and groups, whether they follow the topic or read the log."""
        live = [one for one in seen.before.followers if isinstance(one, Consumer)]
        return list(dict.fromkeys([*live, *self._named]))

    def _forwarded(self, seen: Seen) -> list[Hop]:
        nodes = dict.fromkeys(_peer(one) for one in self._peers(seen.before))
        return [Hop("forwarded", self._node, seen.at_us, to=peer) for peer in nodes]

    def _peers(self, audience: Audience) -> list[Follower]:
        """The nodes that this one sends it to: wildcards are known to all nodes, and served by the owner alone."""
        if not self._router.shard_of(self.topic).is_here:
            return []
        return [one for one in audience.followers if _peer(one)]

    def _left(self, seen: Seen) -> list[Hop]:
        """Who was live and is not any more, for it did not fit; and who was behind already."""
        policies = Counter(sub.overflow for sub in _open(seen) if not sub.is_live)
        hops = []
        for policy, count in policies.items():
            is_lost = policy in ("gap", "disconnect")
            reason = "gap" if policy == "gap" else "overflow"
            hops.append(
                Hop(
                    "dropped" if is_lost else "behind",
                    self._node,
                    seen.at_us,
                    kind="live",
                    count=count,
                    reason=reason,
                )
            )
        behind = sum(isinstance(one, CatchUp | Conflation) for one in seen.before.followers)
        if behind:
            hops.append(Hop("behind", self._node, seen.at_us, kind="live", count=behind, reason="catching_up"))
        return hops

    # Looking what has become of it

    def _look(self, now_ms: int = 0) -> None:
        """Who has it by now."""
        if self.is_over or self._told is None or self._pos not in self._seen:
            return
        at_us = self._now_us()
        hops = self._look_at_outboxes(at_us) + self._look_at_consumers(at_us)
        if not self._outboxes and not set(self._consumers.values()) & {WAITING, SENT}:
            self._end(hops)
            return
        self._tell(hops)
        self._look_again()

    def _look_again(self) -> None:
        """One call of the clock is waited for at a time."""
        now = self._timers.steady_ms()
        if self._looks_at_ms <= now:
            self._looks_at_ms = now + self._step_ms
            self._step_ms = min(self._step_ms * 2, MAX_LOOK_MS)
            self._timers.at(self._looks_at_ms, self._ring)

    def _look_at_outboxes(self, at_us: int) -> list[Hop]:
        gone = sum(box.is_closed for box in self._outboxes)
        waiting = [box for box in self._outboxes if box.size and not box.is_closed]
        sent = len(self._outboxes) - gone - len(waiting)
        self._outboxes = waiting
        hops = []
        if sent:
            hops.append(Hop("sent", self._node, at_us, kind="live", count=sent))
        if gone:
            hops.append(Hop("dropped", self._node, at_us, kind="live", count=gone, reason="disconnected"))
        return hops

    def _look_at_consumers(self, at_us: int) -> list[Hop]:
        changed = Counter[tuple[str, str]]()
        for consumer, before in self._consumers.items():
            now = _standing(consumer, self._log, self._pos)
            if now != before:
                self._consumers[consumer] = now
                if before == WAITING and now == SETTLED:
                    changed[SENT, _kind(consumer)] += 1  # it was, between two looks
                changed[now, _kind(consumer)] += 1
        return [
            Hop(_HOPS[now], self._node, at_us, kind=kind, count=count)
            for (now, kind), count in changed.items()
            if now in _HOPS
        ]

    # The end

    def _ring(self, now_ms: int) -> None:
        """The time is up, or for another look."""
        if self.is_over:
            return
        if self._timers.steady_ms() >= self._give_up_ms:
            self.give_up()
        else:
            self._look()

    def give_up(self) -> None:
        """The time is up: say what is still missing."""
        at_us, hops = self._now_us(), []
        if self._outboxes:
            hops.append(
                Hop("waiting", self._node, at_us, kind="live", count=len(self._outboxes), reason="not_sent")
            )
        reasons = {WAITING: "not_sent", SENT: "not_acknowledged"}
        missing = Counter((_kind(one), reasons[how]) for one, how in self._consumers.items() if how in reasons)
        for (kind, reason), count in missing.items():
            hops.append(Hop("waiting", self._node, at_us, kind=kind, count=count, reason=reason))
        if self._pos and self._pos not in self._seen:
            hops.append(Hop("waiting", self._node, at_us, reason="not_delivered"))
        self._end(hops)

    def _tell(self, hops: list[Hop]) -> None:
        if hops and self._told is not None:
            self._told(hops, False)

    def _end(self, hops: list[Hop]) -> None:
        if self._left_out:
            hops.append(
                Hop(
                    "waiting",
                    self._node,
                    self._now_us(),
                    kind="live",
                    count=self._left_out,
                    reason="not_looked_at",
                )
            )
        told, self._told = self._told, None
        self.close()
        if told is not None:
            told(hops, True)

    def close(self) -> None:
        """Look no more. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self._router.unfollow(self.topic, self)
            self._seen.clear()
            self._outboxes, self._consumers, self._named = [], {}, ()


def _open(seen: Seen) -> list[Subscription]:
    """The live subscriptions that it was for."""
    subs = dict.fromkeys((*seen.before.subscriptions, *seen.after.subscriptions))
    return [sub for sub in subs if sub.is_open]


def _kind(consumer: Consumer) -> str:
    return "durable" if consumer.is_durable else "group"


def _peer(follower: Follower) -> str:
    """The node that it stands for; "" for one that is here."""
    peer: Any = getattr(follower, "peer", "")
    return str(peer)


def _standing(consumer: Consumer, log: str, pos: int) -> str:
    source = consumer.by_log.get(log)
    if source is None or not consumer.is_open:
        return KEPT
    standing = source.standing(pos)
    return KEPT if standing == WAITING and not consumer.members else standing

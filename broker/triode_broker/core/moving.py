"""Moving: what becomes of a node's subscriptions when a shard gets another log, or its owner is lost and found.

The router says that it happened; this goes through everybody concerned. One rule for all: whoever was fed from
the old log gets a `gap` with reason `reset` and goes on with the first message of the new one, so that only the
tail of the old one is lost; whoever had to do without a shard goes on where it was, and gets a `gap` with reason
`partition` where it was nowhere yet. Knows no peers. Runs rarely, so it looks at every subscription and keeps no
register of them.
"""

from collections.abc import Callable, Iterable

from triode_protocol.codec import Refused, encode
from triode_protocol.errors import ErrorName, GapReason
from triode_protocol.packets import CatchingUp
from triode_protocol.positions import MAX_INTEGER

from triode_broker.core import carrying
from triode_broker.core.catch_up import CatchUp
from triode_broker.core.conflate import Conflation
from triode_broker.core.consumer import Consumer
from triode_broker.core.consumers import Consumers
from triode_broker.core.interfaces import Log
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.core.subscription import Subscription
from triode_broker.core.timers import Timers


class Moving:
    """Carries a node's subscriptions over."""

    def __init__(
        self,
        router: Router,
        consumers: Consumers,
        subscriptions: Callable[[], Iterable[Subscription]],
        timers: Timers,
    ) -> None:
        self._router = router
        self._consumers = consumers
        self._subscriptions = subscriptions
        self._timers = timers

    def moved(self, shard: Shard, before: Log) -> None:
        """The shard has another log than `before`, though maybe one of that name."""
        if shard.log.name == before.name:  # it was handed over, and goes on where it was
            if shard.is_here:
                self.back(shard)
            else:
                self._names(shard)
            return
        for consumer in self._names(shard):
            carrying.moved(consumer, shard, before.name, self._timers)
        for sub in self._covering(shard):
            if shard not in sub.missing:
                self._reset(sub, shard, before.name)
        if shard.is_here:
            self.back(shard)

    def lost(self, shard: Shard) -> None:
        """Its owner was not reached for a while: who catches up goes on without it. Live ones stay as they are."""
        shard.is_reachable = False
        for sub in self._covering(shard):
            if isinstance(sub.pending, CatchUp) and shard in sub.shards:
                log = shard.log.name
                is_whole = log not in sub.pending.snapshot  # what was the newest is to come before what is new
                sub.leave_out(shard, log, sub.pending.leave_out(log), is_whole=is_whole)
                sub.pending.advance(self._timers.now_ms)

    def back(self, shard: Shard) -> None:
        """Its owner is reached, and its head known."""
        shard.is_reachable = True
        for consumer in self._names(shard):
            carrying.back(consumer, shard, self._timers.now_ms)
        for sub in self._covering(shard):
            if shard in sub.missing:
                self._take_in(sub, shard)

    def interrupt(self, shard: Shard, at: int) -> None:
        """Its head has moved on from `at`, over messages that were not delivered: each one reads on by itself."""
        for consumer in self._names(shard):
            carrying.interrupt(consumer, shard, at, self._timers.now_ms)
        for sub in self._covering(shard):
            if shard in sub.missing:
                continue
            if sub.is_live:
                self._catch_up(sub, sub.heads() | {shard.log.name: at}, GapReason.PARTITION)
            elif isinstance(sub.pending, Conflation):
                self._catch_up(sub, sub.pending.position, GapReason.PARTITION)
            elif isinstance(sub.pending, CatchUp):
                sub.pending.part_from(shard.log.name)

    def _names(self, shard: Shard) -> list[Consumer]:
        """The names at home here; those whose home this shard was end."""
        for consumer in list(self._consumers.by_name.values()):
            if not self._router.home_of(consumer.name).is_here:
                refused = Refused(ErrorName.UNAVAILABLE, "the home of this subscription has moved to another node")
                self._consumers.end(consumer, refused)
        return [consumer for consumer in self._consumers.by_name.values() if consumer.is_open]

    def _covering(self, shard: Shard) -> list[Subscription]:
        return [sub for sub in self._subscriptions() if shard in sub.shards or shard in sub.missing]

    def _reset(self, sub: Subscription, shard: Shard, before: str) -> None:
        name = shard.log.name
        pending = sub.pending
        if sub.is_live and not shard.log.head():
            sub.tell_gap(sub.heads(), GapReason.RESET)
        elif sub.is_live:
            catch_up = self._catch_up(sub, sub.heads() | {name: 0}, GapReason.RESET, is_begun=False)
            self._go_on(catch_up, name, 0, GapReason.RESET)
        elif isinstance(pending, CatchUp):
            pending.leave_out(before)
            self._go_on(pending, name, 0, GapReason.RESET)
        elif isinstance(pending, Conflation):
            position = {log: pos for log, pos in pending.position.items() if log != before}
            catch_up = self._catch_up(sub, position, GapReason.RESET, is_begun=False)
            self._go_on(catch_up, name, 0, GapReason.RESET)

    def _take_in(self, sub: Subscription, shard: Shard) -> None:
        log, pos, is_whole = sub.take_in(shard)
        name, head = shard.log.name, shard.log.head()
        at, reason = head, GapReason.PARTITION
        told: GapReason | None = reason
        if log == name and pos <= head:
            at = pos
            told = None if is_whole else reason  # it reads on where it was: nothing can be missing (SPEC 4.2.4)
        elif log:
            at = 0
            told = reason = GapReason.RESET
        pending = sub.pending
        if sub.is_live and at == head:
            if told is not None:
                sub.tell_gap(sub.heads(), told)
        elif sub.is_live:
            catch_up = self._catch_up(sub, sub.heads() | {name: at}, reason, is_begun=False)
            self._go_on(catch_up, name, at, told)
        elif isinstance(pending, CatchUp):
            self._go_on(pending, name, at, told)
        elif isinstance(pending, Conflation):
            catch_up = self._catch_up(sub, pending.position | {name: at}, reason, is_begun=False)
            self._go_on(catch_up, name, at, told)

    def _catch_up(
        self, sub: Subscription, position: dict[str, int], reason: GapReason, *, is_begun: bool = True
    ) -> CatchUp:
        """Out of live, or of what stood in its place, to reading the logs from a position."""
        if sub.is_live:
            self._router.leave_live(sub)
            sub.outbox.put(encode(CatchingUp(sub.number, sub.whole(position), reason)))
        self._router.forget_pending(sub)
        sub.pending = catch_up = self._router.catch_up(sub, dict(position))
        if is_begun:
            catch_up.advance(self._timers.now_ms)
        return catch_up

    def _go_on(self, catch_up: CatchUp, log: str, pos: int, reason: GapReason | None) -> None:
        """Report what may be missing of a log (None: nothing is), and read it from there."""
        catch_up.position[log] = pos
        if reason == GapReason.RESET:
            catch_up.excused[log] = MAX_INTEGER  # what retention took until now is part of this gap
        if reason is not None:
            catch_up.report(reason)
        catch_up.advance(self._timers.now_ms)

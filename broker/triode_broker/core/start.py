"""How a subscription starts: from `new`, the past, or a position it had (SPEC 3.2, 4.2).

Each way ends the same: `subscribed` with the position everything will come after, then a gap where something due
is known to be missing, then the logs, then live. Logs may answer later; the reply waits for all of them.
"""

from collections.abc import Callable
from typing import TypeVar

from msgspec import UNSET
from triode_protocol.codec import Refused, encode
from triode_protocol.errors import ErrorName, GapReason
from triode_protocol.packets import Start, Subscribe, Subscribed
from triode_protocol.positions import MAX_INTEGER

from triode_broker.core.catch_up import CatchUp
from triode_broker.core.interfaces import Place
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard, shard_of_log
from triode_broker.core.subscription import Subscription

T = TypeVar("T")


def check_start(packet: Subscribe, is_wildcard: bool) -> None:
    """Raise Refused for a start that is not one."""
    start = packet.from_
    if isinstance(start, Start):
        if (start.last > 0) == (start.since >= 0):
            raise Refused(ErrorName.MALFORMED, 'from is {"last": n} or {"since": ms}', field="from")
        if start.last and is_wildcard:
            message = 'from {"last": n} is for exact topics; "last" works with wildcards'
            raise Refused(ErrorName.UNSUPPORTED, message, field="from")
    if packet.after is not UNSET and start != "new":
        raise Refused(ErrorName.MALFORMED, "give from or after, not both", field="after")


def start(router: Router, sub: Subscription, packet: Subscribe, now_ms: int) -> None:
    """Answer a checked subscribe and set the subscription going, when the owners of its shards know of it."""
    if router.coverage is None:
        _start(router, sub, packet, now_ms)
        return

    def covered(unavailable: list[str]) -> None:
        outbox.questions -= 1
        if sub.is_open:
            _leave_out(sub, packet, unavailable)
            _start(router, sub, packet, now_ms)

    outbox = sub.outbox
    outbox.questions += 1
    router.coverage.cover(sub.filter, sub.shards, None if packet.after is UNSET else packet.after, covered)


def _leave_out(sub: Subscription, packet: Subscribe, unavailable: list[str]) -> None:
    """Do without the shards that were not reached; where the client had been in their logs is kept."""
    after = {} if packet.after is UNSET else packet.after
    for shard in sub.shards:
        if shard.name in unavailable or not shard.is_reachable:
            had = next((log for log in after if shard_of_log(log) == shard.name), "")
            sub.leave_out(shard, had, after.get(had, 0))


def _start(router: Router, sub: Subscription, packet: Subscribe, now_ms: int) -> None:
    if packet.after is not UNSET:
        _resume(router, sub, packet, now_ms)
    elif packet.from_ == "new":
        router.go_live(sub)
        _answer(sub, packet, sub.heads(), is_live=True)
    elif packet.from_ == "last":
        _from_newest(router, sub, packet, now_ms)
    else:
        _from_place(router, sub, packet, now_ms)


def _resume(router: Router, sub: Subscription, packet: Subscribe, now_ms: int) -> None:
    """Go on after a position. A covered log without a place in it is a reset, never "new" (SPEC 4.6)."""
    assert packet.after is not UNSET
    heads = sub.heads()
    position = {log: pos for log, pos in packet.after.items() if pos <= heads.get(log, -1)}
    reset = [log for log in heads if log not in position]
    position |= dict.fromkeys(reset, 0)
    if position == heads and not reset:
        router.go_live(sub)
        _answer(sub, packet, position, is_live=True)
        return
    catch_up = _begin(router, sub, packet, position)
    if reset:
        catch_up.excused = dict.fromkeys(reset, MAX_INTEGER)  # what retention took until then is part of this gap
        catch_up.report(GapReason.RESET)
    catch_up.advance(now_ms)


def _from_newest(router: Router, sub: Subscription, packet: Subscribe, now_ms: int) -> None:
    """The snapshot is what was the newest now; what is published while it is sent comes behind it."""
    position = sub.heads()
    catch_up = _begin(router, sub, packet, position)
    catch_up.snapshot = {log: 0 for log, head in position.items() if head}
    catch_up.advance(now_ms)


def _from_place(router: Router, sub: Subscription, packet: Subscribe, now_ms: int) -> None:
    wanted = packet.from_ if isinstance(packet.from_, Start) else Start()

    def answer(places: list[Place]) -> None:
        for index, shard in enumerate(shards):
            if not shard.is_reachable:
                sub.leave_out(shard, names[index], places[index].pos)
            elif shard.log.name != names[index]:  # it has a new log since it was asked
                places[index] = Place(0, False, MAX_INTEGER)
        found = {shard.log.name: place for shard, place in zip(shards, places, strict=True) if shard in sub.shards}
        position = {log: place.pos for log, place in found.items()}
        back = [shard for shard in sub.shards if shard not in shards]  # reached since it was asked
        position |= {shard.log.name: shard.log.head() for shard in back}
        catch_up = _begin(router, sub, packet, position)
        catch_up.excused = {log: place.loss for log, place in found.items()}  # not due, or reported here
        if not all(place.is_complete for place in places):
            catch_up.report(GapReason.RETENTION)
        if back:
            catch_up.report(GapReason.PARTITION)
        catch_up.advance(now_ms)

    def ask(shard: Shard, done: Callable[[Place], None]) -> None:
        shard.log.seek(sub.filter, wanted, shard.clock(now_ms), done)

    shards = sub.shards
    names = [shard.log.name for shard in shards]
    _ask(sub, ask, answer)


def _begin(router: Router, sub: Subscription, packet: Subscribe, position: dict[str, int]) -> CatchUp:
    catch_up = router.catch_up(sub, position)
    sub.pending = catch_up
    _answer(sub, packet, position, is_live=False)
    return catch_up


def _answer(sub: Subscription, packet: Subscribe, position: dict[str, int], *, is_live: bool) -> None:
    unavailable = [shard.name for shard in sub.missing]
    after, is_filtered = sub.whole(position), not sub.has_all
    sub.is_answered = True
    sub.outbox.put(encode(Subscribed(sub.number, after, is_live, packet.id, unavailable, is_filtered)))
    if sub.attendance is not None:
        sub.attendance.begin()


def _ask(
    sub: Subscription,
    question: Callable[[Shard, Callable[[T], None]], None],
    then: Callable[[list[T]], None],
) -> None:
    """Ask every covered log; when all have answered, and the subscription is still wanted, go on."""
    answers: dict[int, T] = {}
    shards = sub.shards

    def take(index: int, answer: T) -> None:
        sub.outbox.questions -= 1
        answers[index] = answer
        if len(answers) == len(shards) and sub.is_open:
            then([answers[place] for place in range(len(shards))])

    sub.outbox.questions += len(shards)
    if not shards:
        then([])
    for index, shard in enumerate(shards):
        question(shard, lambda answer, index=index: take(index, answer))  # type: ignore[misc]  # bound now

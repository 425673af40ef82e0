"""Carrying: what becomes of a name's sources when a shard gets another log, or is reached at last (G5).

The counterpart of `core.moving` for acknowledged subscriptions. What was not settled in a log that is gone cannot
be delivered again: it is part of the gap. Everything else the name has comes again, as after a rewind.
"""

from triode_protocol.errors import GapReason
from triode_protocol.positions import MAX_INTEGER

from triode_broker.core.consumer import Consumer
from triode_broker.core.keeping import resume, start_after
from triode_broker.core.shard import Shard, shard_of_log
from triode_broker.core.source import Source
from triode_broker.core.timers import Timers


def moved(consumer: Consumer, shard: Shard, before: str, timers: Timers) -> None:
    """The shard has another log; `before`: the name of the one it had, "" if it was not known."""
    source = _source(consumer, shard)
    if source is None:
        return
    name = shard.log.name
    consumer.by_log.pop(before, None)
    consumer.by_log[name] = source
    if not source.is_placed:  # it is placed when the shard is reached
        return
    _start_over(consumer, source, timers.offset_ms)
    source.start(0, MAX_INTEGER)  # what retention took until then is part of this gap
    consumer.lost(source, GapReason.RESET, 0)
    _go_on(consumer, timers.now_ms)


def back(consumer: Consumer, shard: Shard, now_ms: int) -> None:
    """The shard's owner is reached: a source that waited for it finds its place."""
    source = _source(consumer, shard)
    if source is None or source.is_placed:
        return
    source.is_placed = True
    name = shard.log.name
    consumer.by_log[name] = source
    had = {log: place for log, place in consumer.unplaced.items() if shard_of_log(log) == shard.name}
    for log in had:
        del consumer.unplaced[log]
    if name in had:
        resume(source, had[name])
    elif had:
        start_after(source, -1)
    else:  # nobody was fed from it yet
        source.start(shard.log.head())
        source.note_gap(GapReason.PARTITION, shard.log.head())
    if source.gap_reason:
        consumer.lost(source, GapReason(source.gap_reason), source.gap_at)
    _go_on(consumer, now_ms)


def interrupt(consumer: Consumer, shard: Shard, at: int, now_ms: int) -> None:
    """The head has moved on from `at` over what was not delivered: read it."""
    source = _source(consumer, shard)
    if source is not None and source.is_live:
        source.leave_live(at + 1)
        _go_on(consumer, now_ms)


def _go_on(consumer: Consumer, now_ms: int) -> None:
    """Read, where somebody is there to get it."""
    if consumer.members and consumer.is_ready:
        consumer.pump(now_ms)


def _source(consumer: Consumer, shard: Shard) -> Source | None:
    return next((source for source in consumer.sources if source.shard is shard), None)


def _start_over(consumer: Consumer, source: Source, wall_offset_ms: int) -> None:
    """Let go of everything that is on its way; of other sources it is read again."""
    consumer.give_back()
    for other in consumer.sources:
        if other is not source and other.is_placed:
            other.fold(wall_offset_ms)
    source.items.clear()
    consumer.clear()
    consumer.changed()

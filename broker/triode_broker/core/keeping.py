"""Keeping: a durable subscription as it is on disk, and where it goes on after a restart (SPEC 9.5).

Pure; who writes and reads it is `consumers`. The surprising decision: a place in a log that is not on this node is
kept as it is until its shard's owner is found, however long that takes (`core.carrying` then uses it).
"""

from collections.abc import Container, Mapping
from typing import Final

import msgspec
from msgspec import Struct
from triode_protocol.errors import GapReason
from triode_protocol.positions import MAX_INTEGER

from triode_broker.core.consumer import Consumer
from triode_broker.core.shard import shard_of_log
from triode_broker.core.source import Place, Source


class Kept(Struct, array_like=True):
    """New fields go to the end, with a default."""

    name: str
    filter: str
    is_shared: bool
    ack_wait_ms: int
    max_attempts: int
    created_ms: int
    seen_ms: int
    absent_ms: int
    letters: int
    places: dict[str, Place]


_pack: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Kept).decode


def encode(consumer: Consumer, wall_offset_ms: int) -> bytes:
    """What is to be found after a restart."""
    places = {log: source.place(wall_offset_ms) for log, source in consumer.by_log.items() if source.is_placed}
    return _pack(
        Kept(
            consumer.name,
            consumer.filter,
            consumer.is_shared,
            consumer.ack_wait_ms,
            consumer.max_attempts,
            consumer.created_ms,
            consumer.seen_ms,
            consumer.absent_ms,
            consumer.letters,
            places | consumer.unplaced,
        )
    )


def restore(consumer: Consumer, kept: Kept, previous: Mapping[str, str], here: Container[str]) -> bool:
    """Go on from what was kept; whether it still holds as it was.

    `previous`: the name of the life before of each log on this disk; `here`: the shards this node owns.
    """
    consumer.ack_wait_ms, consumer.max_attempts = kept.ack_wait_ms, kept.max_attempts
    consumer.created_ms, consumer.seen_ms = kept.created_ms, kept.seen_ms
    consumer.absent_ms, consumer.letters = kept.absent_ms, kept.letters
    consumer.unplaced = {log: place for log, place in kept.places.items() if shard_of_log(log) not in here}
    is_as_kept = True
    for log, source in consumer.by_log.items():
        before = previous.get(log, "")
        if log in kept.places:
            is_as_kept = resume(source, kept.places[log]) and is_as_kept
            continue
        is_as_kept = False
        if before in kept.places:  # a new life that goes on with the numbers
            resume(source, kept.places[before])
            source.note_gap(GapReason.RESET, min(source.taken, source.shard.log.head()))
        else:
            start_after(source, -1)
    return is_as_kept


def start_after(source: Source, pos: int) -> None:
    """Behind a position it had; -1, or one that is not in this log, is a reset, never "new" (SPEC 4.6)."""
    if 0 <= pos <= source.shard.log.head():
        source.start(pos)
    else:
        source.start(0, MAX_INTEGER)  # what retention took until then is part of this gap
        source.note_gap(GapReason.RESET, 0)


def resume(source: Source, place: Place) -> bool:
    """Whether the place is one of its log still; else it is a reset."""
    if place.cursor <= source.shard.log.head():
        source.restore(place)
        return True
    start_after(source, -1)
    return False

"""Reading a file that is damaged, or a disk that fails: one message at a time, by its number.

Used where an ordinary read was not possible; slow (15 µs a number) and patient. Every page of it says that there
is a loss, because what is gone cannot be told from what retention has removed.
"""

import sqlite3
from typing import TYPE_CHECKING

import msgspec
from triode_protocol.topics import is_wildcard, matches

from triode_broker.core.interfaces import Page
from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record

if TYPE_CHECKING:  # it reads with what `reading` has
    from triode_broker.log.disk.reading import Reading


def rescued_page(
    reading: "Reading", filter: str, after: int, max_bytes: int, max_records: int, now_ms: int
) -> Page:
    """What of the next numbers can be read."""
    contents = reading.contents
    contents.losses += 1
    page = Page([], [], after, contents.losses, contents.losses, 0)
    offsets: dict[str, int] = {}
    room = max_bytes
    for pos in range(after + 1, min(after + max_records, contents.head) + 1):
        try:
            record = _record(reading, pos)
        except (sqlite3.Error, msgspec.MsgspecError):
            reading.note_damage(pos)
            if page.records:
                return page  # the next one begins with the loss
            record = None
        if record is not None and _is_due(record, filter, now_ms):
            room -= len(record.payload) + RECORD_OVERHEAD_BYTES
            if room < 0 and page.records:
                return page
            page.records.append(record)
            page.prevs.append(offsets.get(record.topic, record.offset - 1))
            offsets[record.topic] = record.offset
        page.looked_at += 1
        page.upto = pos
    return page


def _record(reading: "Reading", pos: int) -> Record | None:
    """The message of a number, or None if it is not there. Raises where it is damaged."""
    head = reading.head_of(pos)
    if head is None:
        return None
    (payload,) = reading.payloads((head,))
    record = None if payload is None else reading.record(head, payload)
    if record is None:
        raise sqlite3.DataError("the checksum is wrong")
    return record


def _is_due(record: Record, filter: str, now_ms: int) -> bool:
    is_wanted = not filter or record.topic == filter or (is_wildcard(filter) and matches(filter, record.topic))
    return is_wanted and not record.is_expired(now_ms)

"""A message's row, without and with its payload."""

import msgspec

from triode_broker.core.record import Record
from triode_broker.log.disk.contents import Topic


class Head(msgspec.Struct, array_like=True, gc=False):
    """A message's row but for its payload."""

    pos: int
    topic: int
    offset: int
    ts: int
    expires: int
    cum: int
    key: str  # as hexadecimal digits: damaged text is none
    compacted: int
    tombstone: int
    payload_sum: int
    sum: int
    size: int  # of the payload


def key_of(head: Head) -> str:
    """A row's key."""
    return bytes.fromhex(head.key).decode("utf-8", "replace") if head.key else ""


def renamed(payload: bytes, name: bytes) -> bytes:
    """A packet with the log's present name; its first `"log":"` that is no part of a text is the name's."""
    start = payload.find(b'"log":"') + 7
    end = payload.find(b'"', start)
    return payload if start < 7 or end < 0 else payload[:start] + name + payload[end:]


def record_of(head: Head, topic: Topic, payload: bytes) -> Record:
    return Record(
        topic.name, head.pos, head.offset, head.ts, payload, head.expires, key_of(head), bool(head.tombstone)
    )

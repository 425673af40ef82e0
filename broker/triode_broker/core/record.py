"""A message as logs and outboxes hold it: encoded once, with the few facts needed to find it again."""

from msgspec import Struct

#: What a record costs beside its payload, in bytes, for the byte bounds of logs (measured: about 180).
RECORD_OVERHEAD_BYTES = 180


class Record(Struct, array_like=True, gc=False):
    """One accepted message. Only its log changes it: the last two. `gc=False`: no cycles; 60 ns, not 200."""

    topic: str
    pos: int
    offset: int
    ts: int
    payload: bytes  # the `message` packet
    expires_ms: int = 0  # wall clock; 0 = only retention ends it
    key: str = ""
    is_tombstone: bool = False  # deletes its key on a compacted topic
    is_retained: bool = True  # until its topic's rule, or its time to live, has removed it
    is_obsolete: bool = False  # compaction has removed it: a newer one of its key, or time, took its place

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.payload) + RECORD_OVERHEAD_BYTES

    def delivery(self, sub: int, attempt: int, prev: int) -> bytes:
        """A `delivery` around the message's own bytes (SPEC 4.3); a `prev` of -1 is left out."""
        if prev < 0:
            return b'{"type":"delivery","sub":%d,"attempt":%d,"message":%b}' % (sub, attempt, self.payload)
        return b'{"type":"delivery","sub":%d,"attempt":%d,"prev":%d,"message":%b}' % (
            sub,
            attempt,
            prev,
            self.payload,
        )

    def is_expired(self, now_ms: int) -> bool:
        """Whether its time to live has passed (SPEC 3.4)."""
        return self.expires_ms != 0 and self.expires_ms <= now_ms

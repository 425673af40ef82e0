"""What one topic of a memory log retains: all its newest messages, or, compacted, the newest of each key.

Knows one topic's records and its rule; nothing of other topics, of filters, of the log's order. `MemoryLog` itself
appends to `records`, once per message, and calls `trim` where a bound may be passed.

The surprising decision: a compacted history keeps replaced records in its row, marked, until they are a quarter of
it, and looks at a new record in the `trim` that follows: so an append costs the same however many keys there are,
and the append of ordinary topics does not know that there are others.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from operator import attrgetter

from triode_protocol.packets import Start
from triode_protocol.positions import MAX_INTEGER

from triode_broker.config import TopicRule
from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record

#: What a key costs beside its record, in bytes, and what a time at which one ends costs.
KEY_OVERHEAD_BYTES = 200
DEADLINE_OVERHEAD_BYTES = 120

_pos = attrgetter("pos")
_ts = attrgetter("ts")


class History:
    """What a topic retains, oldest first; bounded by count, bytes and age."""

    __slots__ = (
        "has_holes",
        "loss",
        "overhead",
        "records",
        "rule",
        "seen_pos",
        "size",
        "trim_bytes",
        "trim_messages",
        "trimmed",
        "trimmed_offset",
        "trimmed_ts",
    )

    def __init__(self, rule: TopicRule, trimmed: int, trimmed_ts: int, trimmed_offset: int, loss: int) -> None:
        self.records: deque[Record] = deque()
        self.follow(rule)
        self.size = 0  # bytes retained
        self.overhead = 0  # bytes beside the records
        self.trimmed = trimmed  # highest pos removed by retention
        self.trimmed_offset = trimmed_offset
        self.trimmed_ts = trimmed_ts
        self.loss = loss  # number of the newest removal
        self.has_holes = False  # policy may have removed some record: then `prev` has to be looked for
        self.seen_pos = 0  # newest pos when the clock hand last passed

    def follow(self, rule: TopicRule) -> None:
        """This is its rule from now on."""
        self.rule = rule
        # Appends trim only when 1/16 over, many records at once; reads trim first, so nobody sees the excess.
        self.trim_messages = rule.retention_messages + rule.retention_messages // 16
        self.trim_bytes = rule.retention_bytes + rule.retention_bytes // 16

    def first_pos(self) -> int:
        """The oldest retained; beyond every pos if there is none."""
        return self.records[0].pos if self.records else MAX_INTEGER

    def newest_pos(self) -> int:
        """Nothing retained lies behind it."""
        return self.records[-1].pos if self.records else self.trimmed

    def restore(self, record: Record) -> None:
        """One that is retained elsewhere, and here from now on; in their order."""
        self.records.append(record)
        self.size += record.size

    # Retention

    def trim(self, now_ms: int) -> None:
        """Remove what the rule does not retain: by count, by bytes, by age; then what has expired at the front."""
        records, rule = self.records, self.rule
        if (excess := len(records) - rule.retention_messages) > 0:
            self.remove_oldest(excess, now_ms)
        oldest_ts = now_ms - rule.retention_seconds * 1000
        while records and (self.size > rule.retention_bytes or records[0].ts < oldest_ts):
            self.remove_oldest(1, now_ms)
        if self.has_holes:  # policy, not loss: `trimmed` stays
            while records and records[0].is_expired(now_ms):
                self._drop(records.popleft())

    def _drop(self, record: Record) -> None:
        record.is_retained = False
        self.size -= record.size

    def halve(self, now_ms: int) -> None:
        """Give up the older half."""
        self.remove_oldest((len(self.records) + 1) // 2, now_ms)

    def remove_oldest(self, count: int, now_ms: int) -> None:
        """Retention takes so many records. One that had expired was not due any more: that is no loss, and `prev`
        may reach behind it."""
        records, size = self.records, 0
        lost: Record | None = None
        for _ in range(count):  # once per message, hence written out
            record = records.popleft()
            record.is_retained = False
            size += len(record.payload) + RECORD_OVERHEAD_BYTES
            if not record.expires_ms or record.expires_ms > now_ms:
                lost = record
        self.size -= size
        self._note_lost(lost)

    def _note_lost(self, lost: Record | None) -> None:
        if lost is not None:
            self.trimmed = lost.pos
            self.trimmed_offset = lost.offset
            self.trimmed_ts = lost.ts

    # Reading

    def prev(self, pos: int, now_ms: int) -> int:
        """The offset after which nothing that is due lies at or before pos."""
        newest = next(self.alive_before(pos + 1, now_ms), None)
        return self.trimmed_offset if newest is None else newest.offset

    def alive_before(self, before: int, now_ms: int) -> Iterator[Record]:
        """Records with pos < before, newest first."""
        records = self.records
        newer = len(records) - bisect_left(records, before, key=_pos)
        return (record for record in islice(reversed(records), newer, None) if _is_alive(record, now_ms))

    def after(self, pos: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """Records behind pos, each with the offset after which nothing else was due before it; -1: is not due."""
        prev = self.prev(pos, now_ms)
        for record in islice(self.records, bisect_right(self.records, pos, key=_pos), None):
            if _is_alive(record, now_ms):
                yield record, prev
                prev = record.offset
            else:
                yield record, -1

    def first_of(self, start: Start, now_ms: int) -> int | None:
        """The pos just before the first record of a start, or None if there is none."""
        records = self.records
        if start.last:
            found: int | None = None
            for record in islice(self.alive_before(MAX_INTEGER, now_ms), start.last):
                found = record.pos - 1
            return found
        place = bisect_left(records, start.since, key=_ts) if start.since >= 0 else 0
        return records[place].pos - 1 if place < len(records) else None

    def snapshot_test(self, upto: int, now_ms: int) -> Callable[[Record], bool]:
        """Tells of this topic's records with pos ≤ upto which are of the snapshot: here, the newest."""
        newest = next(self.alive_before(upto + 1, now_ms), None)
        return lambda record: record is newest

    def snapshot(self, after: int, upto: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """Its snapshot behind `after`; -1 with records that were only looked at."""
        found = next(self.alive_before(upto + 1, now_ms), None)
        return iter([(found, 0)] if found is not None and found.pos > after else [])


class Compacted(History):
    """Retains the newest record of each key, whatever its age; a deletion as long as the rule says.

    Row and bounds are those of any history, but `records` has replaced ones between, not retained and obsolete;
    the first never is one. `trim` follows every append: what is behind `_known_pos` it has not looked at yet.
    """

    __slots__ = ("_by_key", "_deadlines", "_known_pos", "_obsolete_size")

    def __init__(self, rule: TopicRule, trimmed: int, trimmed_ts: int, trimmed_offset: int, loss: int) -> None:
        super().__init__(rule, trimmed, trimmed_ts, trimmed_offset, loss)
        self.has_holes = True
        self._by_key: dict[str, Record] = {}
        self._obsolete_size = 0  # bytes of `records` that are not retained
        self._known_pos = 0
        self._deadlines: list[tuple[int, int, str]] = []  # a heap: wall clock, pos, key; also of replaced ones

    def follow(self, rule: TopicRule) -> None:
        """This is its rule from now on; marks of deleted keys that are there keep their time."""
        super().follow(rule)
        self.trim_messages = -1  # every append is over it

    def trim(self, now_ms: int) -> None:
        """Take note of the newest, end what is at its time, remove the oldest keys over the bounds."""
        records, rule, deadlines = self.records, self.rule, self._deadlines
        if records and records[-1].pos > self._known_pos:
            self._take_note(records[-1])
        while deadlines and deadlines[0][0] <= now_ms:
            _, pos, key = heappop(deadlines)
            if (record := self._by_key.get(key)) is not None and record.pos == pos:
                del self._by_key[key]
                self._make_obsolete(record)
        if (excess := len(self._by_key) - rule.retention_messages) > 0:
            self.remove_oldest(excess, now_ms)
        while self.size > rule.retention_bytes:
            self.remove_oldest(1, now_ms)
        self._tidy()

    def restore(self, record: Record) -> None:
        """With its key."""
        super().restore(record)
        self._take_note(record)
        self._tidy()

    def _take_note(self, record: Record) -> None:
        key, by_key = record.key, self._by_key
        self._known_pos = record.pos
        replaced = by_key.get(key)
        by_key[key] = record
        if replaced is not None:
            self._make_obsolete(replaced)
        ends_ms = record.expires_ms
        if record.is_tombstone:
            kept_ms = record.ts + self.rule.tombstone_seconds * 1000
            ends_ms = min(ends_ms, kept_ms) if ends_ms else kept_ms
        if ends_ms:
            heappush(self._deadlines, (ends_ms, record.pos, key))

    def _make_obsolete(self, record: Record) -> None:
        """Policy has removed it: no loss, and nobody gets it any more."""
        self._drop(record)
        record.is_obsolete = True
        self._obsolete_size += record.size

    def _tidy(self) -> None:
        """Keep the first record a retained one, what is obsolete few; each step is paid for by an append."""
        records = self.records
        while records and not records[0].is_retained:
            self._obsolete_size -= records.popleft().size
        if self._obsolete_size * 4 > self.size:
            self.records = deque(record for record in records if record.is_retained)
            self._obsolete_size = 0
        by_key, deadlines = self._by_key, self._deadlines
        if len(deadlines) > 2 * len(by_key) + 16:
            self._deadlines = [one for one in deadlines if one[2] in by_key and by_key[one[2]].pos == one[1]]
            heapify(self._deadlines)
        self.overhead = len(by_key) * KEY_OVERHEAD_BYTES + len(self._deadlines) * DEADLINE_OVERHEAD_BYTES

    def halve(self, now_ms: int) -> None:
        """Give up the older half of the keys."""
        self.trim(now_ms)
        self.remove_oldest((len(self._by_key) + 1) // 2, now_ms)
        self._tidy()

    def remove_oldest(self, count: int, now_ms: int) -> None:
        """Retention takes so many keys; what is at its time has been ended by `trim`."""
        lost: Record | None = None
        while count:
            record = self.records.popleft()
            if record.is_retained:
                count -= 1
                del self._by_key[record.key]
                self._drop(record)
                lost = record
            else:
                self._obsolete_size -= record.size
        self._note_lost(lost)

    def snapshot_test(self, upto: int, now_ms: int) -> Callable[[Record], bool]:
        """Here, all that are retained and no deletions: what has replaced another lies behind it."""
        return lambda record: _is_alive(record, now_ms) and not record.is_tombstone

    def snapshot(self, after: int, upto: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """Its snapshot behind `after`; -1 with records that were only looked at."""
        records, is_part = self.records, self.snapshot_test(upto, now_ms)
        first, end = (bisect_right(records, pos, key=_pos) for pos in (after, upto))
        return ((record, 0 if is_part(record) else -1) for record in islice(records, first, end))


def _is_alive(record: Record, now_ms: int) -> bool:
    return record.is_retained and not (record.expires_ms and record.expires_ms <= now_ms)

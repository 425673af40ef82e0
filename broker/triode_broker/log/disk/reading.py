"""The reading side of one file: pages, snapshots, history backwards, starts.

Runs in the store thread, between transactions. Two steps a page: first the rows without payloads, as one array,
of which the bounds choose; then the chosen payloads, as one text. Row by row every step would give the interpreter
lock away and wait for it (see `inserting`).

The surprising decision: nothing that fails its checksum, or whose offset says that a row before it is gone, is
served or skipped in silence. The page ends before it; the next one begins with it, and says that there is a loss.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import msgspec
from triode_protocol.packets import Start
from triode_protocol.topics import is_wildcard, matches

from triode_broker.core.interfaces import Page, Place
from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record
from triode_broker.log.disk.choice import Choice
from triode_broker.log.disk.connection import Fault
from triode_broker.log.disk.contents import Contents, Topic
from triode_broker.log.disk.rescue import rescued_page
from triode_broker.log.disk.rows import Head, key_of, record_of, renamed
from triode_broker.log.disk.sums import message_sum

#: Rows looked at in one statement: about what fits into a page.
PIECE_ROWS = 600
_COLUMNS = (
    "pos, topic, offset, ts, expires, cum, hex(key), compacted, tombstone, payload_sum, sum, length(payload)"
)
_ARRAY = "pos, topic, offset, ts, expires, cum, key, compacted, tombstone, payload_sum, sum, size"
_NAMED = _COLUMNS.replace("hex(key)", "hex(key) AS key").replace("length(payload)", "length(payload) AS size")
_ALIVE = "(expires = 0 OR expires > ?)"


def _heads_of(where: str, order: str = "pos") -> str:
    rows = f"SELECT {_NAMED} FROM message WHERE {where} ORDER BY {order} LIMIT ?"
    return f"SELECT json_group_array(json_array({_ARRAY})) FROM ({rows})"


_OF_TOPIC = _heads_of("topic = ? AND pos > ?")
_OF_ALL = _heads_of("pos > ?")
_NEWEST_ROWS = _heads_of("pos > ?", "pos DESC")
_ONE = _heads_of("pos = ?")
_BACK = _heads_of(f"topic = ? AND pos < ? AND {_ALIVE} AND offset > ? AND cum >= ? AND ts >= ?", "pos DESC")
_LISTED = (
    f"SELECT json_group_array(json_array({_ARRAY})) FROM"
    f" (SELECT {_NAMED} FROM (SELECT value FROM json_each(?)) CROSS JOIN message ON pos = value)"
)
_PAYLOADS = (
    "SELECT CAST(group_concat(CAST(payload AS TEXT), '') AS BLOB)"
    " FROM json_each(?) CROSS JOIN message ON pos = value"
)
_BEFORE = f"""
SELECT json_group_array((SELECT offset FROM message WHERE topic = value AND pos <= ? AND {_ALIVE}
ORDER BY pos DESC LIMIT 1)) FROM json_each(?)
"""
#: The newest of each topic up to a pos, behind another.
_NEWEST = f"""
SELECT json_group_array(p) FROM (SELECT (SELECT pos FROM message WHERE topic = value AND pos <= ? AND {_ALIVE}
ORDER BY pos DESC LIMIT 1) AS p FROM json_each(?)) WHERE p > ?
"""
#: Of compacted topics: every key's.
_STATE = f"""
SELECT json_group_array(pos) FROM (SELECT pos FROM json_each(?) CROSS JOIN message ON topic = value
AND pos > ? AND pos <= ? WHERE NOT tombstone AND {_ALIVE} ORDER BY pos LIMIT ?)
"""
_STATE_OF_ONE = f"""
SELECT json_group_array(pos) FROM (SELECT pos FROM message INDEXED BY message_topic
WHERE topic = ? AND pos > ? AND pos <= ? AND NOT tombstone AND {_ALIVE} ORDER BY pos LIMIT ?)
"""
#: The first pos whose message is not older, by halving: there is no index of times.
_IS_LATE = "coalesce((SELECT ts FROM message WHERE pos >= (lo + hi) / 2 ORDER BY pos LIMIT 1), ?3) >= ?4"
_SINCE = f"""
WITH RECURSIVE half(lo, hi) AS (
  SELECT ?1, ?2 UNION ALL
  SELECT CASE WHEN {_IS_LATE} THEN lo ELSE (lo + hi) / 2 + 1 END,
    CASE WHEN {_IS_LATE} THEN (lo + hi) / 2 ELSE hi END
  FROM half WHERE lo < hi)
SELECT lo FROM half WHERE lo >= hi LIMIT 1
"""
_heads = msgspec.json.Decoder(list[Head])
_numbers = msgspec.json.Decoder(list[int | None])
_LATE = 1 << 62


def _array(numbers: Iterable[int]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"


class Reading:
    """Questions to one file; the answers hold for what is committed."""

    def __init__(self, contents: Contents, report: Callable[..., None]) -> None:
        self.contents = contents
        self._db = contents.db
        self._report = report
        self.fault: Fault | None = None  # met while reading
        self.damaged = 0  # rows that were found damaged
        self._reported: set[int] = set()
        self._snapshot: tuple[tuple[str, int], list[int]] = (("", 0), [])
        # Rows up to there were written under a name of an earlier life, which is spliced out.
        self._renamed_upto = int(contents.meta.get("renamed_upto", 0))
        self._name = contents.meta.get("log", "").encode()

    def damaged_newest(self, count: int, max_bytes: int) -> int:
        """How many of the newest messages are damaged, or newer than their topic knows.

        Of this life: what was there when it began has been looked at then.
        """
        newest: dict[int, int] = {}
        damaged = 0
        try:
            heads = self._find(_NEWEST_ROWS, (self._renamed_upto, count))
        except msgspec.MsgspecError:  # a value of a type that none of ours has
            return 1
        room = max_bytes
        for index, head in enumerate(heads):
            room -= head.size
            if room < 0:
                heads = heads[: index + 1]
                break
        for head, payload in zip(heads, self.payloads(heads), strict=True):
            topic = self.topic_of(head)
            if topic is None or payload is None or newest.setdefault(topic.id, head.offset) > topic.offset:
                damaged += 1
        return damaged

    # Forward

    def read(self, filter: str, after: int, max_bytes: int, max_records: int, now_ms: int) -> Page:
        """Records behind `after`; see `core.interfaces.Log`."""
        try:
            return self._read(filter, after, max_bytes, max_records, now_ms)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            self.note_fault(error)
            return rescued_page(self, filter, after, max_bytes, max_records, now_ms)

    def _read(self, filter: str, after: int, max_bytes: int, max_records: int, now_ms: int) -> Page:
        contents = self.contents
        is_of_many = not filter or is_wildcard(filter)
        topic = None if is_of_many else contents.topics.get(filter)
        choice = Choice(self, filter if is_of_many else "", after, max_bytes, now_ms)
        is_end = topic is None and not is_of_many
        while not is_end and not choice.is_full and choice.looked_at < max_records:
            limit = min(choice.rows_that_fit(PIECE_ROWS), max_records - choice.looked_at)
            if topic is None:
                heads = self._find(_OF_ALL, (choice.upto, limit))
            else:
                heads = self._find(_OF_TOPIC, (topic.id, choice.upto, limit))
            choice.look_at(heads)
            is_end = len(heads) < limit and not choice.is_full
        page = Page([], [], choice.upto, 0, 0, choice.looked_at)
        if is_end:
            is_torn = choice.is_missing_the_newest(topic)
            choice.has_loss |= is_torn and not choice.heads
            if not is_torn or not choice.heads:
                page.upto = contents.head
        self._fill(page, choice)
        page.loss = page.known = self._loss(filter, after)
        if choice.has_loss:
            contents.losses += 1
            page.loss = page.known = contents.losses
        return page

    def unreadable(self, after: int, max_records: int, newest_at: int) -> Page:
        """A page of what cannot be read: a loss, and on behind it."""
        contents = self.contents
        contents.losses += 1
        upto = min(after + max_records, newest_at or contents.head)
        return Page([], [], upto, contents.losses, contents.losses, max_records)

    def _find(self, sql: str, parameters: Sequence[int | str]) -> list[Head]:
        (found,) = self._db.execute(sql, parameters).fetchone()
        return _heads.decode(found)

    def _fill(self, page: Page, choice: Choice) -> None:
        """The payloads; where one is damaged, as `Choice` does with rows."""
        heads = choice.heads
        for head, prev, payload in zip(heads, choice.prevs, self.payloads(heads), strict=True):
            if payload is None:
                self.note_damage(head.pos)
                if page.records:
                    page.upto = head.pos - 1
                    return
                choice.has_loss = True
                continue
            page.records.append(record_of(head, self.contents.by_id[head.topic], payload))
            page.prevs.append(prev)

    def payloads(self, heads: Sequence[Head]) -> Iterable[bytes | None]:
        """The payload of each, or None where it is damaged."""
        if not heads:
            return
        (joined,) = self._db.execute(_PAYLOADS, (_array(head.pos for head in heads),)).fetchone()
        start = 0
        for head in heads:
            end = start + head.size
            payload = joined[start:end]
            start = end
            if crc32(payload) != head.payload_sum:
                yield None
            elif head.pos <= self._renamed_upto:
                yield renamed(payload, self._name)
            else:
                yield payload

    def head_of(self, pos: int) -> Head | None:
        """The row of one number."""
        found = self._find(_ONE, (pos, 1))
        return found[0] if found else None

    def record(self, head: Head, payload: bytes) -> Record | None:
        """A row as a record; None: it is damaged."""
        topic = self.topic_of(head)
        return None if topic is None else record_of(head, topic, payload)

    def note_fault(self, error: Exception) -> None:
        """The file or the disk is damaged beyond one row: then nothing more is written."""
        is_row = isinstance(error, msgspec.MsgspecError) or (
            getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR  # of json: a value of a wrong type
        )
        if not is_row and self.fault is None:
            self.fault = Fault("failed", str(error))

    def note_damage(self, pos: int) -> None:
        """A row that is not what was written: reported once."""
        if pos not in self._reported:
            self.damaged += 1
            if len(self._reported) < 10_000:
                self._reported.add(pos)
            self._report("damaged_message", log=self.contents.meta["log"], pos=pos)

    def topic_of(self, head: Head) -> Topic | None:
        """The topic of a sound row; None: it is damaged."""
        topic = self.contents.by_id.get(head.topic)
        if topic is None:
            return None
        expected = message_sum(
            *(head.pos, topic.name, head.offset, head.ts, head.expires, head.cum),
            *(key_of(head), head.compacted, head.tombstone, head.payload_sum),
        )
        return topic if expected == head.sum else None

    def offsets_before(self, topics: Sequence[Topic], after: int, now_ms: int) -> dict[int, int]:
        """By topic: the offset of its newest record that is still due at or before a pos."""
        if not after or not topics:
            return {}
        ids = [topic.id for topic in topics]
        (found,) = self._db.execute(_BEFORE, (after, now_ms, _array(ids))).fetchone()
        return {id: offset for id, offset in zip(ids, _numbers.decode(found), strict=True) if offset is not None}

    def _loss(self, filter: str, after: int) -> int:
        """The newest loss behind `after` of the topics a filter matches; forgotten topics may be among them."""
        contents = self.contents
        if not filter:
            return contents.losses if max(contents.trimmed, contents.forgotten) > after else 0
        loss = contents.forgotten_loss if contents.forgotten > after else 0
        if not is_wildcard(filter):
            topic = contents.topics.get(filter)
            return loss if topic is None else topic.loss if topic.trimmed_pos > after else 0
        if contents.trimmed <= after:
            return loss
        for topic in contents.topics.values():
            if topic.trimmed_pos > after and topic.loss > loss and matches(filter, topic.name):
                loss = topic.loss
        return loss

    # The snapshot

    def snapshot(self, filter: str, after: int, max_bytes: int, max_records: int, now_ms: int, upto: int) -> Page:
        """Of what is retained the newest of each topic, or each key, with pos ≤ upto."""
        page = Page([], [], after, 0, 0, 0)
        limit = min(max_records, max_bytes // RECORD_OVERHEAD_BYTES + 2)
        topic = None if is_wildcard(filter) else self.contents.topics.get(filter)
        if topic is not None and topic.is_compacted:
            part = self._state_of(topic, after, upto, now_ms, limit)
        else:
            positions = self._snapshot_positions(filter, upto, now_ms)
            start = bisect_right(positions, after)
            part = positions[start : start + limit]
        heads = self._find(_LISTED, (_array(part),))
        page.looked_at = len(part)
        page.upto = part[-1] if len(part) == limit else upto
        chosen: list[Head] = []
        room = max_bytes
        for head in heads:
            room -= head.size + RECORD_OVERHEAD_BYTES
            if room < 0 and chosen:
                page.upto = head.pos - 1
                page.looked_at = len(chosen)
                break
            if self.topic_of(head) is None:
                self.note_damage(head.pos)
            elif not head.expires or head.expires > now_ms:
                chosen.append(head)
        for head, payload in zip(chosen, self.payloads(chosen), strict=True):
            if payload is None:
                self.note_damage(head.pos)
            else:
                page.records.append(record_of(head, self.contents.by_id[head.topic], payload))
                page.prevs.append(0)
        return page

    def _state_of(self, topic: Topic, after: int, upto: int, now_ms: int, limit: int) -> list[int]:
        """Where the next keys of one compacted topic lie: a page costs no more, however many there are."""
        (found,) = self._db.execute(_STATE_OF_ONE, (topic.id, after, upto, now_ms, limit)).fetchone()
        return [pos for pos in _numbers.decode(found) if pos]

    def _snapshot_positions(self, filter: str, upto: int, now_ms: int) -> list[int]:
        """Where the snapshot's records lie: found once, for all its pages."""
        if self._snapshot[0] == (filter, upto):
            return self._snapshot[1]
        contents = self.contents
        if is_wildcard(filter):
            topics = [topic for topic in contents.topics.values() if matches(filter, topic.name)]
        else:
            topics = [contents.topics[filter]] if filter in contents.topics else []
        plain = _array(topic.id for topic in topics if not topic.is_compacted)
        (newest,) = self._db.execute(_NEWEST, (upto, now_ms, plain, 0)).fetchone()
        keyed = _array(topic.id for topic in topics if topic.is_compacted)
        (state,) = self._db.execute(_STATE, (keyed, 0, upto, now_ms, 10_000_000)).fetchone()
        positions = sorted(pos for part in (newest, state) for pos in _numbers.decode(part) if pos)
        self._snapshot = ((filter, upto), positions)
        return positions

    # Backward, and starts

    def read_back(
        self, topic_name: str, before: int, max_bytes: int, max_records: int, now_ms: int
    ) -> tuple[list[Record], bool]:
        """The newest before `before`; see `core.interfaces.Log`."""
        topic = self.contents.topics.get(topic_name)
        if topic is None:
            return [], False
        limit = min(max_records, max_bytes // RECORD_OVERHEAD_BYTES + 1) + 1
        bounds = _retained(topic, now_ms)
        heads = self._find(_BACK, (topic.id, before, now_ms, *bounds, limit))
        chosen: list[Head] = []
        room = max_bytes
        has_older = False
        for head in heads:
            room -= head.size + RECORD_OVERHEAD_BYTES
            has_older = len(chosen) == max_records or (room < 0 and bool(chosen))
            if has_older:
                break
            if self.topic_of(head) is None:
                self.note_damage(head.pos)
            else:
                chosen.append(head)
        chosen.reverse()
        records: list[Record] = []
        for head, payload in zip(chosen, self.payloads(chosen), strict=True):
            if payload is None:
                self.note_damage(head.pos)
            else:
                records.append(record_of(head, topic, payload))
        return records, has_older

    def seek(self, filter: str, start: Start, now_ms: int) -> Place:
        """Where a start lies; see `core.interfaces.Log`."""
        contents = self.contents
        pos: int | None = None
        if is_wildcard(filter):
            trimmed_ts = max(contents.trimmed_ts, contents.forgotten_ts)
            if start.since >= 0 and trimmed_ts >= start.since:
                trimmed_ts = max(self._trimmed_of(filter), contents.forgotten_ts)
            pos = self._first("pos >= ?", (self._since(start.since),))
        else:
            topic = contents.topics.get(filter)
            trimmed_ts = contents.forgotten_ts if topic is None else topic.trimmed_ts
            if topic is not None and start.last:
                (pos,) = self._db.execute(
                    f"SELECT min(pos) FROM (SELECT pos FROM message WHERE topic = ? AND {_ALIVE}"
                    " ORDER BY pos DESC LIMIT ?)",
                    (topic.id, now_ms, start.last),
                ).fetchone()
            elif topic is not None:
                pos = self._first("topic = ? AND pos >= ?", (topic.id, self._since(start.since)))
        is_complete = start.since < 0 or trimmed_ts < start.since
        return Place(contents.head if pos is None else pos - 1, is_complete, contents.losses)

    def _first(self, where: str, parameters: Sequence[int]) -> int | None:
        row = self._db.execute(
            f"SELECT pos FROM message WHERE {where} ORDER BY pos LIMIT 1", parameters
        ).fetchone()
        return None if row is None else int(row[0])

    def _since(self, since: int) -> int:
        """The first pos whose message is not older."""
        if since <= 0:
            return 0
        low = self._first("pos >= ?", (0,)) or 0
        row = self._db.execute(_SINCE, (low, self.contents.head + 1, _LATE, since)).fetchone()
        return int(row[0])

    def _trimmed_of(self, filter: str) -> int:
        """The ts of the newest record that retention took of the topics a filter matches."""
        topics = self.contents.topics.values()
        return max((one.trimmed_ts for one in topics if matches(filter, one.name)), default=-1)


def _retained(topic: Topic, now_ms: int) -> tuple[int, int, int]:
    """Bounds of offset, bytes and time: what its rule retains is above, removed yet or not."""
    rule = topic.rule
    if topic.is_compacted:
        return (-1, -1, -1)
    return (
        topic.offset - rule.retention_messages,
        topic.total - rule.retention_bytes,
        now_ms - rule.retention_seconds * 1000,
    )

"""Retention: what the rules no longer keep leaves the file, a bounded piece at a time.

Runs inside the transactions of the store thread. Within a topic offsets, bytes and times all rise with pos, so
what a rule takes is always the oldest rows, and one look finds how far. The surprising decision: which topics are
over is known from memory (two numbers and a time each), so that a quiet log costs no statement.
"""

from collections import deque
from itertools import islice

import msgspec
from triode_protocol.positions import MAX_INTEGER

from triode_broker.config import Limits
from triode_broker.core.message_ids import ENTRY_OVERHEAD_BYTES, Remembered
from triode_broker.core.record import RECORD_OVERHEAD_BYTES
from triode_broker.log.disk.contents import Contents, Topic
from triode_broker.log.disk.inserting import insert
from triode_broker.log.disk.schema import MESSAGE_COLUMNS, ROW_COLUMNS
from triode_broker.log.disk.sums import message_sum

#: Rows removed in one piece: about 5 ms. And topics looked at, and trimmed.
PIECE_ROWS = 1_024
PIECE_LOOKS = 4_096
PIECE_TOPICS = 32

_SIZE = f"length(payload) + {RECORD_OVERHEAD_BYTES}"
_ALIVE = "(expires = 0 OR expires > ?)"
#: Of the oldest rows those that are over: how many, how far, and the newest that was still due.
_OVER = f"""
SELECT count(*), max(pos), max(CASE WHEN {_ALIVE} THEN pos ELSE 0 END),
  max(CASE WHEN {_ALIVE} THEN offset ELSE 0 END), max(CASE WHEN {_ALIVE} THEN ts ELSE 0 END)
FROM (SELECT pos, offset, ts, expires, cum FROM message WHERE topic = ? ORDER BY pos LIMIT ?)
WHERE offset <= ? OR cum < ? OR ts < ?
"""
_OLDEST_KEYS = f"""
SELECT json_group_array(json_array(pos, size, offset, ts, due)) FROM
(SELECT pos, {_SIZE} AS size, offset, ts, {_ALIVE} AS due FROM message WHERE topic = ? ORDER BY pos LIMIT ?)
"""
_OLDEST = "SELECT offset, cum, ts FROM message WHERE topic = ? ORDER BY pos LIMIT 1"
_EXPIRED = f"""
SELECT json_group_array(json_array(pos, topic, size)) FROM
(SELECT pos, topic, {_SIZE} AS size FROM message WHERE expires > 0 AND expires <= ? ORDER BY expires LIMIT ?)
"""
_TOMBSTONES = f"""
SELECT json_group_array(json_array(pos, topic, size)) FROM
(SELECT pos, topic, {_SIZE} AS size FROM message WHERE tombstone AND topic = ? AND ts <= ? ORDER BY ts LIMIT ?)
"""
#: The text as hexadecimal digits: SQLite's `length` ends at a NUL, and damaged text is none.
_IDS = "SELECT json_group_array(json_array(number, hex(user), hex(message_id))) FROM (SELECT * FROM id {} LIMIT ?)"
_EXPIRED_IDS = _IDS.format("WHERE expires <= ? ORDER BY expires")
_OLDEST_IDS = _IDS.format("ORDER BY number")
_REMOVE = "DELETE FROM message WHERE pos IN (SELECT value FROM json_each(?))"
_WHOLE = f"""
SELECT {ROW_COLUMNS} FROM message WHERE topic = ? AND pos > ? AND NOT compacted ORDER BY pos LIMIT ?
"""
_triples = msgspec.json.Decoder(list[tuple[int, int, int]])
_ids = msgspec.json.Decoder(list[tuple[int, str, str]])
_keys = msgspec.json.Decoder(list[tuple[int, int, int, int, int]])


class Retention:
    """What of the file's contents is over, and its removal; within somebody else's transaction."""

    def __init__(self, contents: Contents, limits: Limits) -> None:
        self._contents = contents
        self._limits = limits  # the loop's own: another value may stand there from one look to the next
        self._turn: deque[Topic] = deque()  # still to be looked at before the round is over
        self._next_id_expires = 0  # no message id ends before
        self._next_expires = 0  # no message does

    # What is over

    def is_well_over(self, topic: Topic) -> bool:
        """Whether it is worth a statement in the middle of a commit: a sixteenth is many rows at once."""
        messages, size = topic.rule.retention_messages, topic.rule.retention_bytes
        held, held_bytes = held_of(topic)
        return held > messages + messages // 16 or held_bytes > size + size // 16

    def _is_over(self, topic: Topic, now_ms: int) -> bool:
        rule = topic.rule
        if topic.oldest_ts < 0:
            return False
        held, held_bytes = held_of(topic)
        if topic.is_compacted:
            is_marked = topic.tombstone_ts <= now_ms - rule.tombstone_seconds * 1000
            return is_marked or held > rule.retention_messages or held_bytes > rule.retention_bytes
        return (
            held > rule.retention_messages
            or held_bytes > rule.retention_bytes
            or topic.oldest_ts < now_ms - rule.retention_seconds * 1000
        )

    # One topic

    def trim_topic(self, topic: Topic, now_ms: int) -> bool:
        """Remove the oldest that are over, so many at most; whether there may be more."""
        if topic.is_compacted:
            return self._trim_keys(topic, now_ms)
        rule, contents = topic.rule, self._contents
        bounds = (
            topic.offset - rule.retention_messages,
            topic.total - rule.retention_bytes,
            now_ms - rule.retention_seconds * 1000,
        )
        count, upto, pos, offset, ts = contents.db.execute(
            _OVER, (now_ms, now_ms, now_ms, topic.id, PIECE_ROWS, *bounds)
        ).fetchone()
        if count:
            contents.db.execute("DELETE FROM message WHERE topic = ? AND pos <= ?", (topic.id, upto))
            if pos:
                contents.note_loss(topic, pos, offset, ts)
        self._find_oldest(topic)
        return bool(count == PIECE_ROWS)

    def _find_oldest(self, topic: Topic) -> None:
        oldest = self._contents.db.execute(_OLDEST, (topic.id,)).fetchone()
        if oldest is None:
            topic.cut_offset, topic.cut_total, topic.oldest_ts = topic.offset, topic.total, -1
            self._contents.empty[topic] = None
            self._contents.dirty[topic] = None  # nothing else says its numbers any more
        else:
            topic.cut_offset, topic.cut_total, topic.oldest_ts = oldest[0] - 1, oldest[1], oldest[2]

    def _trim_keys(self, topic: Topic, now_ms: int) -> bool:
        """Of a compacted topic: the oldest keys beyond the bounds."""
        contents, rule = self._contents, topic.rule
        if topic.held < 0:
            topic.held, topic.held_bytes = contents.db.execute(
                f"SELECT count(*), coalesce(sum({_SIZE}), 0) FROM message WHERE topic = ?", (topic.id,)
            ).fetchone()
        if topic.held <= rule.retention_messages and topic.held_bytes <= rule.retention_bytes:
            return False
        gone: list[int] = []
        (found,) = contents.db.execute(_OLDEST_KEYS, (now_ms, topic.id, PIECE_ROWS)).fetchone()
        for pos, size, offset, ts, is_due in _keys.decode(found):
            if topic.held <= rule.retention_messages and topic.held_bytes <= rule.retention_bytes:
                break
            gone.append(pos)
            topic.held -= 1
            topic.held_bytes -= size
            if is_due:
                contents.note_loss(topic, pos, offset, ts)
        self._remove(gone)
        self._find_oldest(topic)
        return len(gone) == PIECE_ROWS

    def _remove(self, positions: list[int]) -> None:
        self._contents.db.execute(_REMOVE, (f"[{','.join(map(str, positions))}]",))

    def compact_whole(self, topic: Topic) -> None:
        """A topic with a history has become a compacted one: its keys count from now on."""
        db = self._contents.db
        db.execute(
            "DELETE FROM message WHERE topic = ?1 AND pos NOT IN"
            " (SELECT max(pos) FROM message WHERE topic = ?1 GROUP BY key)",
            (topic.id,),
        )
        # The checksums say whether keys count: these rows get new ones.
        after = 0
        while rows := db.execute(_WHOLE, (topic.id, after, PIECE_ROWS)).fetchall():
            values: list[object] = []
            for row in rows:
                pos, _, offset, ts, expires, cum, key, _, tombstone, payload_sum, sum, payload = row
                facts = (pos, topic.name, offset, ts, expires, cum, key)
                before = message_sum(*facts, 0, tombstone, payload_sum)
                now = message_sum(*facts, 1, tombstone, payload_sum)
                values += (*row[:7], 1, *row[8:10], now if before == sum else sum, payload)
            insert(db, "message", MESSAGE_COLUMNS, values)
            after = rows[-1][0]

    # All of them

    def has_work(self, now_ms: int) -> bool:
        """Whether a piece would find anything. Begins a new round over the topics when the last is over."""
        contents = self._contents
        if not self._turn:
            self._turn.extend(contents.topics.values())
        for _ in range(min(PIECE_LOOKS, len(self._turn))):
            if self._wants_piece(self._turn[0], now_ms):
                return True
            self._turn.popleft()
        if self._next_id_expires <= now_ms or contents.id_bytes > self._limits.max_dedupe_bytes:
            return True
        return self._next_expires <= now_ms or bool(self._forgettable())

    def _wants_piece(self, topic: Topic, now_ms: int) -> bool:
        if self._contents.by_id.get(topic.id) is not topic:
            return False  # forgotten, or read again, since the round began
        return self._is_over(topic, now_ms)

    def piece(self, now_ms: int) -> bool:
        """Remove so many rows at most; whether there may be more."""
        has_more = self._expire(now_ms)
        has_more |= self._expire_ids(now_ms)
        has_more |= self._forget_oldest_ids()
        for _ in range(PIECE_TOPICS):
            if not self._turn:
                break
            topic = self._turn[0]
            if self._wants_piece(topic, now_ms) and self._trim_piece(topic, now_ms):
                has_more = True
                break
            self._turn.popleft()
        has_more |= bool(self._turn)
        self._forget_topics()
        self._contents.say("head", self._contents.head)
        self._contents.say("ts", self._contents.ts)
        return has_more

    def _trim_piece(self, topic: Topic, now_ms: int) -> bool:
        return self._end_tombstones(topic, now_ms) or self.trim_topic(topic, now_ms)

    def _expire(self, now_ms: int) -> bool:
        """Messages whose time to live is over: policy, no loss."""
        if self._next_expires > now_ms:
            return False
        (found,) = self._contents.db.execute(_EXPIRED, (now_ms, PIECE_ROWS)).fetchone()
        rows = _triples.decode(found)
        self._remove_by_policy(rows)
        if len(rows) == PIECE_ROWS:
            return True
        (first,) = self._contents.db.execute("SELECT min(expires) FROM message WHERE expires > 0").fetchone()
        self._next_expires = MAX_INTEGER if first is None else first
        return False

    def expires_at(self, expires_ms: int) -> None:
        """A message with a time to live was added."""
        self._next_expires = min(self._next_expires, expires_ms)

    def look_anew(self) -> None:
        """A transaction came to nothing: what it removed is there again."""
        self._next_expires = self._next_id_expires = 0

    def id_added(self, remembered: Remembered) -> None:
        """A message id was added."""
        self._contents.id_bytes += remembered.size
        self._next_id_expires = min(self._next_id_expires, remembered.expires_ms)

    def _expire_ids(self, now_ms: int) -> bool:
        if self._next_id_expires > now_ms:
            return False
        db = self._contents.db
        (found,) = db.execute(_EXPIRED_IDS, (now_ms, PIECE_ROWS)).fetchone()
        self._remove_ids(_sized_ids(found))
        (first,) = db.execute("SELECT min(expires) FROM id").fetchone()
        self._next_id_expires = MAX_INTEGER if first is None else first
        return self._next_id_expires <= now_ms

    def _forget_oldest_ids(self) -> bool:
        """Beyond the bound, as `MessageIds` does: what it has forgotten need not be there after a restart."""
        excess = self._contents.id_bytes - self._limits.max_dedupe_bytes
        if excess <= 0:
            return False
        (found,) = self._contents.db.execute(_OLDEST_IDS, (PIECE_ROWS,)).fetchone()
        gone: list[tuple[int, int]] = []
        for number, size in _sized_ids(found):
            if excess <= 0:
                break
            gone.append((number, size))
            excess -= size
        self._remove_ids(gone)
        return bool(gone) and excess > 0

    def _remove_ids(self, sized: list[tuple[int, int]]) -> None:
        numbers = ",".join(str(number) for number, _ in sized)
        self._contents.db.execute(
            "DELETE FROM id WHERE number IN (SELECT value FROM json_each(?))", (f"[{numbers}]",)
        )
        self._contents.id_bytes -= min(sum(size for _, size in sized), self._contents.id_bytes)

    def _end_tombstones(self, topic: Topic, now_ms: int) -> bool:
        """Deleted keys whose mark has been there for its time: policy, no loss."""
        if not topic.is_compacted:
            return False
        db = self._contents.db
        oldest = now_ms - topic.rule.tombstone_seconds * 1000
        (found,) = db.execute(_TOMBSTONES, (topic.id, oldest, PIECE_ROWS)).fetchone()
        rows = _triples.decode(found)
        self._remove_by_policy(rows)
        (first,) = db.execute("SELECT min(ts) FROM message WHERE tombstone AND topic = ?", (topic.id,)).fetchone()
        topic.tombstone_ts = MAX_INTEGER if first is None else first
        return len(rows) == PIECE_ROWS

    def _remove_by_policy(self, rows: list[tuple[int, int, int]]) -> None:
        if not rows:
            return
        self._remove([pos for pos, _, _ in rows])
        touched: dict[Topic, None] = {}
        for _, id, size in rows:
            topic = self._contents.by_id.get(id)
            if topic is None:
                continue
            touched[topic] = None
            if topic.held >= 0:
                topic.held -= 1
                topic.held_bytes -= size
        for topic in touched:
            self._find_oldest(topic)
            self._contents.dirty[topic] = None  # its newest may be among them: no other row says that number

    def _forget_topics(self) -> None:
        if gone := self._forgettable():
            self._contents.forget(gone)

    def _forgettable(self) -> list[Topic]:
        """Beyond the bound: topics that hold nothing, the first that got so first."""
        excess = len(self._contents.topics) - self._limits.max_shard_topics
        return list(islice(self._contents.empty, max(0, min(excess, PIECE_ROWS))))


def _sized_ids(found: str) -> list[tuple[int, int]]:
    """The numbers of ids, and the bytes they count for."""
    return [
        (number, ENTRY_OVERHEAD_BYTES + _length(user) + _length(id)) for number, user, id in _ids.decode(found)
    ]


def _length(digits: str) -> int:
    return len(bytes.fromhex(digits).decode("utf-8", "replace"))


def held_of(topic: Topic) -> tuple[int, int]:
    """Messages and bytes; an upper bound where policy has removed some."""
    if topic.is_compacted and topic.held >= 0:
        return topic.held, topic.held_bytes
    return topic.offset - topic.cut_offset, topic.total - topic.cut_total

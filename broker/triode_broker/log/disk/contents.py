"""What the store thread knows of its file: its topics, the newest pos, what was forgotten.

Read from the file when it is opened and after a transaction that came to nothing: then the file is what counts.
"""

import sqlite3
from collections.abc import Callable

import attrs

from triode_broker.config import TopicRule
from triode_broker.core.record import RECORD_OVERHEAD_BYTES
from triode_broker.log.disk.connection import Connection, code_of
from triode_broker.log.disk.inserting import insert
from triode_broker.log.disk.schema import TOPIC_COLUMNS
from triode_broker.log.disk.sums import row_sum


@attrs.define(eq=False)
class Topic:
    """One topic's counters, and what retention took of it."""

    id: int
    name: str
    rule: TopicRule
    offset: int  # of the newest message
    total: int  # bytes it has taken, ever
    trimmed_pos: int = 0  # of the newest that retention took
    trimmed_offset: int = 0
    trimmed_ts: int = -1
    loss: int = 0  # number of the newest loss
    is_sparse: bool = False  # offsets may have holes by policy: then `prev` is looked up
    is_compacted: bool = False  # all its rows are
    cut_offset: int = 0  # the one before the oldest held
    cut_total: int = 0  # the bytes before the oldest held
    oldest_ts: int = -1  # of the oldest held; -1: holds nothing
    held: int = -1  # rows of a compacted topic, and their bytes; -1: not counted yet
    held_bytes: int = 0
    tombstone_ts: int = 0  # no tombstone is older

    def sum(self) -> int:
        """The checksum of its row."""
        return row_sum(
            self.id,
            self.name,
            self.offset,
            self.total,
            self.trimmed_pos,
            self.trimmed_offset,
            self.trimmed_ts,
            self.loss,
            int(self.is_sparse),
            int(self.is_compacted),
        )


#: One row a topic: what its row says, its newest and its oldest message. The name as bytes: damaged text is none.
_TOPICS = f"""
SELECT t.id, CAST(t.name AS BLOB), t.offset, t.total, t.trimmed_pos, t.trimmed_offset, t.trimmed_ts, t.loss,
  t.is_sparse, t.is_compacted, t.sum, n.offset, n.cum + length(n.payload) + {RECORD_OVERHEAD_BYTES},
  o.offset, o.cum, o.ts, t.newest
FROM (SELECT *, (SELECT pos FROM message WHERE topic = topic.id ORDER BY pos DESC LIMIT 1) AS newest FROM topic) t
LEFT JOIN message n ON n.pos = t.newest
LEFT JOIN message o ON o.pos = (SELECT pos FROM message WHERE topic = t.id ORDER BY pos LIMIT 1)
"""


class Contents:
    """The file's topics and numbers; only the store thread changes them."""

    def __init__(self, db: Connection, rule_of: Callable[[str], TopicRule]) -> None:
        self.db = db
        self.rule_of = rule_of
        self.meta: dict[str, str] = {}
        self.topics: dict[str, Topic] = {}
        self.by_id: dict[int, Topic] = {}
        self.next_id = 1
        self.head = 0
        self.is_torn = False  # the index has newer messages than the table
        self.ts = 0
        self.losses = 0  # number of the newest loss
        self.id_bytes = 0  # of the message ids, as `MessageIds` counts them
        self.trimmed = 0  # the highest pos that retention took, of any topic
        self.trimmed_ts = -1
        self.dirty: dict[Topic, None] = {}  # topics whose row is behind
        self.empty: dict[Topic, None] = {}  # topics that hold nothing, the first that got so first

    @property
    def forgotten(self) -> int:
        """The highest pos that retention took of a topic which is not known any more."""
        return int(self.meta["forgotten"])

    @property
    def forgotten_ts(self) -> int:
        """Its time; -1: none."""
        return int(self.meta["forgotten_ts"])

    @property
    def forgotten_loss(self) -> int:
        """The number of that loss."""
        return int(self.meta["forgotten_loss"])

    def say(self, name: str, value: object) -> None:
        """Write one fact about the whole file."""
        text = str(value)
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?,?,?)", (name, text, row_sum(name, text))).fetchall()
        self.meta[name] = text

    def load_meta(self) -> list[str]:
        """Read the facts; returns the names of those that are damaged."""
        damaged: list[str] = []
        self.meta = {}
        for name, value, sum in self.db.execute(
            "SELECT CAST(name AS BLOB), CAST(value AS BLOB), sum FROM meta ORDER BY rowid"
        ).fetchall():
            key, text = _text(name), _text(value)
            if row_sum(key, text) == sum:
                self.meta[key] = text
            else:
                damaged.append(key)
        return damaged

    def load(self) -> list[int]:
        """Read the topics and the head; returns the numbers of topics that are damaged and therefore unknown."""
        rules = {topic.name: topic.rule for topic in self.topics.values()}
        self.topics, self.by_id, self.dirty, self.empty = {}, {}, {}, {}
        self.trimmed, self.trimmed_ts = 0, -1
        damaged: list[int] = []
        self.next_id = 1
        by_index = 0
        for row in self.db.execute(_TOPICS).fetchall():
            self.next_id = max(self.next_id, row[0] + 1)
            topic = _topic(row, rules, self.rule_of)
            if topic is None:
                damaged.append(row[0])
                continue
            self.topics[topic.name] = self.by_id[topic.id] = topic
            if topic.oldest_ts < 0:
                self.empty[topic] = None
            self.losses = max(self.losses, topic.loss)
            by_index = max(by_index, row[16] or 0)
            if topic.trimmed_pos > self.trimmed:
                self.trimmed, self.trimmed_ts = topic.trimmed_pos, topic.trimmed_ts
        newest = self.db.execute("SELECT pos, ts FROM message ORDER BY pos DESC LIMIT 1").fetchone() or (0, 0)
        self.is_torn = newest[0] < by_index
        self.head = max(newest[0], by_index, int(self.meta.get("head", 0)), self.trimmed)
        self.ts = max(newest[1], int(self.meta.get("ts", 0)), 0)
        self.losses = max(self.losses, int(self.meta.get("forgotten_loss", 0)))
        return damaged

    def add(self, name: str, rule: TopicRule, offset_before: int) -> Topic:
        """A topic's first message; what was forgotten may have been of it."""
        topic = Topic(
            self.next_id,
            name,
            rule,
            offset_before,
            0,
            self.forgotten,
            offset_before,
            self.forgotten_ts,
            self.forgotten_loss,
            cut_offset=offset_before,
        )
        if rule.compact:
            topic.is_compacted = topic.is_sparse = True
            topic.held = 0
        self.next_id += 1
        self.topics[name] = self.by_id[topic.id] = topic
        self.dirty[topic] = None
        return topic

    def write_dirty(self) -> None:
        """Bring the topics' rows up to date; inside a transaction."""
        values: list[object] = []
        for topic in self.dirty:
            values += (
                topic.id,
                topic.name,
                topic.offset,
                topic.total,
                topic.trimmed_pos,
                topic.trimmed_offset,
                topic.trimmed_ts,
                topic.loss,
                int(topic.is_sparse),
                int(topic.is_compacted),
                topic.sum(),
            )
        insert(self.db, "topic", TOPIC_COLUMNS, values)
        self.dirty = {}

    def note_loss(self, topic: Topic, pos: int, offset: int, ts: int) -> None:
        """Retention took everything of a topic up to there, and that one was still due."""
        self.losses += 1
        topic.loss = self.losses
        topic.trimmed_pos, topic.trimmed_offset, topic.trimmed_ts = pos, offset, ts
        if pos > self.trimmed:
            self.trimmed, self.trimmed_ts = pos, ts
        self.dirty[topic] = None

    def forget(self, topics: list[Topic]) -> None:
        """Topics that hold nothing: their losses are remembered together; inside a transaction."""
        for topic in topics:
            del self.topics[topic.name], self.by_id[topic.id]
            self.dirty.pop(topic, None)
            self.empty.pop(topic, None)
            if topic.trimmed_pos > self.forgotten:
                self.say("forgotten", topic.trimmed_pos)
                self.say("forgotten_ts", max(self.forgotten_ts, topic.trimmed_ts))
                self.losses += 1
                self.say("forgotten_loss", self.losses)
        ids = ",".join(str(topic.id) for topic in topics)
        self.db.execute(f"DELETE FROM topic WHERE id IN ({ids})")
        self.say("has_forgotten", 1)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _topic(
    row: tuple[object, ...], rules: dict[str, TopicRule], rule_of: Callable[[str], TopicRule]
) -> Topic | None:
    """A topic of its row, or None if that is damaged."""
    name = _text(row[1])
    if row_sum(row[0], name, *row[2:10]) != row[10]:
        return None
    facts: list[int] = [0 if one is None else one for one in row[2:] if one is None or isinstance(one, int)]
    if len(facts) != len(row) - 2:
        return None
    offset, total = max(facts[0], facts[9]), max(facts[1], facts[10])
    if row[11] is None:
        offset = max(offset, facts[14])  # the index knows of a message that is gone; no offset is above its pos
    topic = Topic(
        int(str(row[0])),
        name,
        rules.get(name) or rule_of(name),
        offset,
        total,
        trimmed_pos=facts[2],
        trimmed_offset=facts[3],
        trimmed_ts=facts[4],
        loss=facts[5],
    )
    topic.is_sparse, topic.is_compacted = facts[6] > 0, facts[7] > 0
    if row[13] is None:
        topic.cut_offset, topic.cut_total = offset, total
    else:
        topic.cut_offset, topic.cut_total, topic.oldest_ts = facts[11] - 1, facts[12], facts[13]
    return topic


def roll_back(db: Connection) -> bool:
    """End a transaction that came to nothing; whether that worked."""
    try:
        db.execute("ROLLBACK")
    except sqlite3.Error as error:
        # Plain "error": there is no transaction, because SQLite ends it by itself on some faults (a full disk).
        return code_of(error) == sqlite3.SQLITE_ERROR
    return True

"""The writing side of one file: batches in, each one transaction.

Runs in the store thread. Knows rows and rules, nothing of queues and of who waits. A transaction that fails is
rolled back and what is known of the file read again: the file is the truth, numbers need no undo. The surprising
decision: nothing that failed is ever tried again, because after a failed fsync the kernel may call the next one a
success although the pages are gone; only a full disk with a clean roll-back may go on.
"""

import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any
from zlib import crc32

import attrs
import msgspec

from triode_broker.config import Limits, TopicRule
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record
from triode_broker.log.disk.connection import Connection, Fault, fault, kind_of, leave_open
from triode_broker.log.disk.contents import Contents, Topic, roll_back
from triode_broker.log.disk.inserting import insert, padded
from triode_broker.log.disk.retention import Retention
from triode_broker.log.disk.schema import ID_COLUMNS, MESSAGE_COLUMNS
from triode_broker.log.disk.sums import message_sum, row_sum

#: The write-ahead log is copied into the file when it has about so many pages: 4 MiB, some 10 ms.
CHECKPOINT_FRAMES = 1_000
#: A message's part of a page in the write-ahead log: b-tree pages are not full, and its indexes take some.
_FRAME_BYTES = 3_400
_ROW_BYTES = 120
#: Topics trimmed within one commit, so that it stays short.
TRIM_IN_COMMIT = 4

#: By topic, key and pos. Keys are bound, never JSON: SQLite's cuts a text at its first NUL.
_REPLACED = """
SELECT json_group_array(json_array(m.pos, m.topic, length(m.payload)))
FROM (VALUES {}) AS v CROSS JOIN message AS m INDEXED BY message_key
WHERE m.compacted AND m.topic = v.column1 AND m.key = v.column2 AND m.pos < v.column3
"""
_DELETE = "DELETE FROM message WHERE pos IN (SELECT value FROM json_each(?))"
_triples = msgspec.json.Decoder(list[tuple[int, int, int]])


@attrs.define
class Batch:
    """What one transaction brings."""

    appended: list[tuple[Record, TopicRule, Remembered | None]] = attrs.Factory(list)
    values: dict[str, bytes] = attrs.Factory(dict)


class Store:
    """One open file, as its thread writes it."""

    def __init__(
        self,
        contents: Contents,
        limits: Limits,
        report: Callable[..., None],
        checkpoint_frames: int = CHECKPOINT_FRAMES,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.contents = contents
        self.db: Connection = contents.db
        self.retention = Retention(contents, limits)
        self.has_failed = False
        self._report = report
        self._checkpoint_frames = checkpoint_frames
        self._closed = closed  # the file is anybody's again
        self._frames = 0.0  # in the write-ahead log, about

    def commit(self, batch: Batch, now_ms: int) -> None:
        """All or nothing. Raises Fault: "full" if surely nothing was stored; else the store has failed."""
        self.transaction(lambda: self._write(batch, now_ms))
        if batch.appended:
            self.contents.head = batch.appended[-1][0].pos
            self.contents.ts = batch.appended[-1][0].ts

    def transaction(self, work: Callable[[], None]) -> None:
        """Do some work within one. Raises Fault as `commit` does."""
        if self.has_failed:
            raise Fault("failed", "the store has failed")
        id_bytes = self.contents.id_bytes
        try:
            self.db.execute("BEGIN")
            work()
            if self.contents.dirty:
                self.contents.write_dirty()
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._come_to_nothing(error, id_bytes) from error
        except BaseException:
            self.has_failed = True
            roll_back(self.db)
            raise
        self._frames += 3

    def _come_to_nothing(self, error: sqlite3.Error, id_bytes: int) -> Fault:
        """Roll back. Unless it was the disk's space, or if that does not leave what was there before: failed."""
        contents = self.contents
        contents.id_bytes = id_bytes
        self.retention.look_anew()
        head = contents.head
        is_clean = roll_back(self.db) and kind_of(error) == "full"
        if is_clean:
            try:
                contents.load_meta()
                contents.load()
                is_clean = contents.head == head
            except sqlite3.Error:
                is_clean = False
        if is_clean:
            return Fault("full", str(error))
        self.has_failed = True
        return Fault("failed", str(error))

    def _write(self, batch: Batch, now_ms: int) -> None:
        touched: dict[Topic, None] = {}
        replaced: dict[tuple[int, str], int] = {}
        messages, ids = self._rows(batch, touched, replaced)
        insert(self.db, "message", MESSAGE_COLUMNS, messages)
        if ids:
            insert(self.db, "id(topic,user,message_id,digest,pos,offset,expires,sum)", ID_COLUMNS - 1, ids)
        if replaced:
            self._replace(replaced)
        if batch.values:
            self._save(batch.values)
        over = [topic for topic in touched if self.retention.is_well_over(topic)]
        for topic in over[:TRIM_IN_COMMIT]:
            self.retention.trim_topic(topic, now_ms)
        if over:  # what is removed may be the newest: no other row says that number
            newest = batch.appended[-1][0]
            self.contents.say("head", newest.pos)
            self.contents.say("ts", newest.ts)
        self._frames += 2 * len(touched) + len(messages) / MESSAGE_COLUMNS * _ROW_BYTES / _FRAME_BYTES
        self._frames += (len(ids) + len(batch.values)) / 4

    def _rows(
        self, batch: Batch, touched: dict[Topic, None], replaced: dict[tuple[int, str], int]
    ) -> tuple[list[Any], list[Any]]:
        """The rows of the messages and of their ids; counts them in."""
        topics, dirty = self.contents.topics, self.contents.dirty
        values: list[Any] = []
        ids: list[Any] = []
        size = 0
        for record, rule, remembered in batch.appended:
            name, pos, offset, key, payload = record.topic, record.pos, record.offset, record.key, record.payload
            topic = topics.get(name)
            if topic is None:
                topic = self.contents.add(name, rule, offset - 1)
            elif topic.rule is not rule or topic.is_compacted is not rule.compact:
                self._change_rule(topic, rule)
            if record.expires_ms:
                self.retention.expires_at(record.expires_ms)
            if not topic.is_sparse and (record.expires_ms or offset != topic.offset + 1):
                topic.is_sparse = True
                dirty[topic] = None
            if topic.oldest_ts < 0:
                topic.oldest_ts = record.ts
                self.contents.empty.pop(topic, None)
            payload_sum = crc32(payload)
            compacted = int(rule.compact)
            tombstone = int(record.is_tombstone)
            facts = (
                *(pos, name, offset, record.ts, record.expires_ms, topic.total, key),
                *(compacted, tombstone, payload_sum),
            )
            values += (pos, topic.id, *facts[2:], message_sum(*facts), payload)
            topic.offset = offset
            topic.total += len(payload) + RECORD_OVERHEAD_BYTES
            size += len(payload)
            touched[topic] = None
            if compacted:
                replaced[topic.id, key] = pos
                if tombstone:
                    topic.tombstone_ts = min(topic.tombstone_ts, record.ts)
                if topic.held >= 0:
                    topic.held += 1
                    topic.held_bytes += len(payload) + RECORD_OVERHEAD_BYTES
            if remembered is not None:
                ids += _id_row(remembered)
                self.retention.id_added(remembered)
        self._frames += size / _FRAME_BYTES
        return values, ids

    def _change_rule(self, topic: Topic, rule: TopicRule) -> None:
        """Usually the same one read again. A topic that becomes a compacted one: its rows get keys that count."""
        topic.rule = rule
        if rule.compact and not topic.is_compacted:
            topic.is_compacted = topic.is_sparse = True
            topic.held = -1
            self.contents.dirty[topic] = None
            self.retention.compact_whole(topic)
        elif not rule.compact and topic.is_compacted:
            topic.is_compacted = False
            self.contents.dirty[topic] = None

    def read_rules(self) -> None:
        """Give topics the rules that hold now; their compaction stays what it is."""
        for topic in self.contents.topics.values():
            rule = self.contents.rule_of(topic.name)
            if rule.compact == topic.rule.compact:
                topic.rule = rule

    def follow_rules(self) -> None:
        """Compact the topics whose rule says so since the file was closed. Raises Fault, unless the disk is full.

        Then each follows with its next message. So does one that is compacted no more: until then its keys are all
        there is of it, and they need not end with the age that its rule would now give them.
        """
        topics = self.contents.topics.values()
        changed = [topic for topic in topics if topic.rule.compact and not topic.is_compacted]
        if not changed:
            return

        def change() -> None:
            for topic in changed:
                self._change_rule(topic, topic.rule)

        try:
            self.transaction(change)
        except Fault as error:
            if error.kind != "full":
                raise
            self._report("rules_not_followed", error=str(error), log=self.contents.meta.get("log"))

    def _replace(self, replaced: dict[tuple[int, str], int]) -> None:
        """What newer messages of the same keys take the place of: policy, no loss."""
        rows: list[tuple[int, int, int]] = []
        for parameters in padded([one for (id, key), pos in replaced.items() for one in (id, key, pos)], 3):
            (found,) = self.db.execute(_replaced_by(len(parameters) // 3), parameters).fetchone()
            rows += _triples.decode(found)
        if not rows:
            return
        self.db.execute(_DELETE, (msgspec.json.encode([pos for pos, _, _ in rows]).decode(),))
        for _, id, size in rows:
            topic = self.contents.by_id[id]
            if topic.held >= 0:
                topic.held -= 1
                topic.held_bytes -= size + RECORD_OVERHEAD_BYTES
        self._frames += len(rows)

    def _save(self, values: dict[str, bytes]) -> None:
        kept: list[Any] = []
        for name, value in values.items():
            if value:
                kept += (name, value, row_sum(name, crc32(value)))
            else:
                self.db.execute("DELETE FROM kept WHERE name = ?", (name,))
            self._frames += len(value) / _FRAME_BYTES
        insert(self.db, "kept", 3, kept)

    def trim(self, now_ms: int) -> bool:
        """One piece of retention; whether there is more to do at once. Raises Fault."""
        more: list[bool] = []
        if self.has_failed or not self.retention.has_work(now_ms):
            return False
        self.transaction(lambda: more.append(self.retention.piece(now_ms)))
        self._frames += 200
        return more[0]

    def probe(self) -> None:
        """A small write, after everything is out of the write-ahead log. Raises Fault: there is no room yet."""
        self.checkpoint()
        self.transaction(lambda: self.contents.say("epoch", int(self.contents.meta["epoch"]) + 1))

    def checkpoint_if_due(self) -> None:
        """Keep the write-ahead log short. Raises Fault, as nothing else tells of a failed fsync there."""
        if self._frames >= self._checkpoint_frames:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the file; the next commit begins it anew."""
        if self.has_failed:
            return
        try:
            busy, frames, copied = self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            self.has_failed = kind_of(error) != "full"
            raise fault(error) from error
        except BaseException:
            self.has_failed = True
            raise
        self._frames = 0
        if busy or frames != copied:
            self.has_failed = True
            raise Fault("failed", f"a checkpoint copied {copied} of {frames} pages")

    def close(self) -> None:
        """In good order: everything in the file itself, and the mark of an unclean stop taken away."""
        contents = self.contents
        try:
            if not self.has_failed:
                self.transaction(self._say_closed)
                self.checkpoint()
        except Fault as error:
            self._report("store_not_closed", error=str(error), log=contents.meta.get("log"))
        finally:
            self._let_go()
            self._closed()

    def _let_go(self) -> None:
        if self.has_failed:
            leave_open(self.db)
            return
        try:
            self.db.close()
        except sqlite3.Error as error:
            self._report("store_not_closed", error=str(error), log=self.contents.meta.get("log"))

    def _say_closed(self) -> None:
        self.contents.say("head", self.contents.head)
        self.contents.say("ts", self.contents.ts)
        self.contents.say("is_open", 0)


@cache
def _replaced_by(rows: int) -> str:
    return _REPLACED.format(",".join(["(?,?,?)"] * rows))


def _id_row(remembered: Remembered) -> tuple[Any, ...]:
    facts = (
        *remembered.key,
        remembered.digest,
        remembered.pos,
        remembered.offset,
        remembered.expires_ms,
    )
    return (*facts, row_sum(*facts))

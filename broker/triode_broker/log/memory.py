"""The memory log: one shard's messages in this process, gone with it (level `memory`).

Knows records and retention, nothing of subscriptions. Two stores hold the same record objects: per topic, what
the topic's rule retains; and `recent`, the newest of the whole log whatever the rules say, so that a short absence
is always bridged in one ordered scan. A read uses `recent` when it reaches back far enough, else it merges the
topics.

Per topic `trimmed` is the highest pos that retention removed, per log `forgotten` the same over topics that were
dropped whole: a read behind `after` is complete iff after ≥ both (architecture: shards, logs, owners).
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from operator import attrgetter

from triode_protocol.packets import Start
from triode_protocol.topics import is_wildcard, matches

from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Page, Place
from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record

#: What an empty topic costs, in bytes, for the byte bound.
TOPIC_OVERHEAD_BYTES = 1_000
#: Topics looked at by one trim, so that a tick stays short.
TRIM_TOPICS = 2_000

_pos = attrgetter("pos")
_ts = attrgetter("ts")


class _History:
    """What one topic retains, oldest first."""

    __slots__ = (
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

    def __init__(self, rule: TopicRule, trimmed: int, trimmed_ts: int, trimmed_offset: int) -> None:
        self.rule = rule
        self.records: deque[Record] = deque()
        # Appends trim only when 1/16 over, many records at once; every read trims first, so nobody sees the excess.
        self.trim_messages = rule.retention_messages + rule.retention_messages // 16
        self.trim_bytes = rule.retention_bytes + rule.retention_bytes // 16
        self.size = 0  # bytes
        self.trimmed = trimmed  # highest pos removed by retention
        self.trimmed_offset = trimmed_offset
        self.trimmed_ts = trimmed_ts
        self.seen_pos = 0  # newest pos when the clock hand last passed

    def newest_pos(self) -> int:
        return self.records[-1].pos if self.records else self.trimmed

    def remove_oldest(self, count: int) -> None:
        """Retention takes so many records, at least one."""
        record = self.records[0]
        for _ in range(count):
            record = self.records.popleft()
            self.size -= len(record.payload) + RECORD_OVERHEAD_BYTES
        self.trimmed = record.pos
        self.trimmed_offset = record.offset
        self.trimmed_ts = record.ts

    def trim(self, now_ms: int) -> None:
        """Remove what the rule does not retain: by count, by bytes, by age."""
        records, rule = self.records, self.rule
        if (excess := len(records) - rule.retention_messages) > 0:
            self.remove_oldest(excess)
        oldest_ts = now_ms - rule.retention_seconds * 1000
        while records and (self.size > rule.retention_bytes or records[0].ts < oldest_ts):
            self.remove_oldest(1)

    def expire(self, now_ms: int) -> int:
        """Drop expired records from the front; that is policy, not loss: `trimmed` stays. Returns bytes."""
        before = self.size
        while self.records and self.records[0].is_expired(now_ms):
            self.size -= self.records.popleft().size
        return before - self.size

    def after(self, pos: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """Records behind pos, each with the offset after which nothing else was due before it."""
        records = self.records
        first = bisect_right(records, pos, key=_pos)
        prev = self.trimmed_offset
        for place in range(first - 1, -1, -1):
            if not records[place].is_expired(now_ms):
                prev = records[place].offset
                break
        for record in islice(records, first, None):
            if not record.is_expired(now_ms):
                yield record, prev
                prev = record.offset


class MemoryLog:
    """One life of one shard in memory; see `core.interfaces.Log`. Every `done` is called at once."""

    level = "memory"

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self._max_size = limits.max_shard_bytes
        self._recent_bytes = limits.recent_bytes
        self._trim_recent_bytes = limits.recent_bytes + limits.recent_bytes // 16
        self._recent_ms = limits.recent_seconds * 1000
        self._head = 0
        self._now_ms = 0  # ts of the newest record or the last trim
        self._topics: dict[str, _History] = {}
        self._size = 0  # bytes of all histories, topics' overhead included
        self._recent: deque[Record] = deque()
        self._recent_size = 0
        self._recent_after = 0  # `recent` has everything with a higher pos
        self._forgotten = 0
        self._forgotten_ts = -1
        self._has_expiring = False  # some record has a time to live: then `prev` needs the topics

    @property
    def size(self) -> int:
        """Bytes held, histories and topics' overhead; `recent` shares its records with them."""
        return self._size

    @property
    def topic_count(self) -> int:
        """Topics with a history or the memory of one."""
        return len(self._topics)

    def head(self) -> int:
        """The newest pos."""
        return self._head

    def append(self, record: Record, rule: TopicRule) -> None:
        """Add a record; retention follows, at the front of its topic."""
        # Once per message, hence written out.
        self._head = record.pos
        self._now_ms = ts = record.ts
        size = len(record.payload) + RECORD_OVERHEAD_BYTES
        history = self._topics.get(record.topic)
        if history is None:
            history = self._open(record, rule)
        records = history.records
        records.append(record)
        history.size += size
        self._size += size
        if record.expires_ms:
            self._has_expiring = True
        if len(records) > history.trim_messages or history.size > history.trim_bytes:
            self._trim_topic(history, ts)
        self._recent.append(record)
        self._recent_size += size
        if self._recent_size > self._trim_recent_bytes:
            self._trim_recent(ts)
        if self._size > self._max_size:
            self._make_room()

    def _open(self, record: Record, rule: TopicRule) -> _History:
        history = _History(rule, self._forgotten, self._forgotten_ts, record.offset - 1)
        self._topics[record.topic] = history
        self._size += TOPIC_OVERHEAD_BYTES
        return history

    def read(self, filter: str, after: int, max_bytes: int, done: Callable[[Page], None]) -> None:
        """Records behind `after`; see the interface."""
        if after >= self._recent_after and not self._has_expiring:
            rows: Iterator[tuple[Record, int]] = self._recent_rows(filter, after)
            missing = 0
        else:
            histories = self._matching(filter)
            rows = merge(*(history.after(after, self._now_ms) for history in histories), key=_row_pos)
            missing = max(self._lost(filter, histories), default=0)
        page = Page([], [], self._head, missing if missing > after else 0)
        room = max_bytes
        for record, prev in rows:
            room -= record.size
            if room < 0 and page.records:
                page.upto = page.records[-1].pos
                break
            page.records.append(record)
            page.prevs.append(prev)
        done(page)

    def _recent_rows(self, filter: str, after: int) -> Iterator[tuple[Record, int]]:
        recent = self._recent
        first = bisect_right(recent, after, key=_pos)
        known: dict[str, bool] = {}
        for record in islice(recent, first, None):
            topic = record.topic
            is_match = known.get(topic)
            if is_match is None:
                is_match = known[topic] = matches(filter, topic)
            if is_match:
                yield record, record.offset - 1

    def _matching(self, filter: str) -> list[_History]:
        """The histories of the topics a filter matches, trimmed to what their rules retain."""
        if is_wildcard(filter):
            found = [history for topic, history in self._topics.items() if matches(filter, topic)]
        else:
            found = [self._topics[filter]] if filter in self._topics else []
        for history in found:
            self._trim_topic(history, self._now_ms)
        return found

    def _lost(self, filter: str, histories: list[_History]) -> Iterator[int]:
        """Highest pos lost, per matching topic; dropped topics count unless the one asked for is known."""
        if is_wildcard(filter) or not histories:
            yield self._forgotten
        for history in histories:
            yield history.trimmed

    def seek(self, filter: str, start: Start, before: int, done: Callable[[Place], None]) -> None:
        """Where a start lies; see the interface."""
        histories = self._matching(filter)
        is_complete = True
        if start.since >= 0:
            lost = [history.trimmed_ts for history in histories]
            lost += [self._forgotten_ts] if is_wildcard(filter) or not histories else []
            is_complete = max(lost, default=-1) < start.since
        places = [place for history in histories if (place := _first(history, start, before)) is not None]
        done(Place(min(places, default=min(self._head, before - 1)), is_complete))

    def newest(self, filter: str, done: Callable[[list[Record]], None]) -> None:
        """The newest unexpired record of each matching topic, in pos order."""
        found: list[Record] = []
        for history in self._matching(filter):
            alive = (record for record in reversed(history.records) if not record.is_expired(self._now_ms))
            found += islice(alive, 1)
        done(sorted(found, key=_pos))

    def trim(self, now_ms: int) -> None:
        """Apply age: to `recent`, and to the next TRIM_TOPICS topics in turn."""
        self._now_ms = max(self._now_ms, now_ms)
        self._trim_recent(now_ms)
        for topic in list(islice(self._topics, TRIM_TOPICS)):
            history = self._topics.pop(topic)
            self._trim_topic(history, now_ms)
            self._topics[topic] = history  # to the end: the next call goes on with others

    def _trim_topic(self, history: _History, now_ms: int) -> None:
        before = history.size
        history.trim(now_ms)
        self._size += history.size - before
        if self._has_expiring:
            self._size -= history.expire(now_ms)

    def _trim_recent(self, now_ms: int) -> None:
        recent, max_bytes = self._recent, self._recent_bytes
        oldest_ts = now_ms - self._recent_ms
        while recent and (self._recent_size > max_bytes or recent[0].ts < oldest_ts):
            record = recent.popleft()
            self._recent_size -= len(record.payload) + RECORD_OVERHEAD_BYTES
            self._recent_after = record.pos

    def _make_room(self) -> None:
        """Under a flood: a clock hand over the topics; one with nothing new since it last passed is dropped whole,
        another gives up the older half of its history."""
        while self._size > self._max_size and self._topics:
            topic = next(iter(self._topics))
            history = self._topics.pop(topic)
            newest = history.newest_pos()
            self._size -= history.size
            if newest == history.seen_pos or not history.records:
                self._size -= TOPIC_OVERHEAD_BYTES
                self._forget(newest, history)
                continue
            history.seen_pos = newest
            history.remove_oldest((len(history.records) + 1) // 2)
            self._size += history.size
            self._topics[topic] = history

    def _forget(self, newest: int, history: _History) -> None:
        self._forgotten = max(self._forgotten, newest)
        newest_ts = history.records[-1].ts if history.records else history.trimmed_ts
        self._forgotten_ts = max(self._forgotten_ts, newest_ts)


def _row_pos(row: tuple[Record, int]) -> int:
    return row[0].pos


def _first(history: _History, start: Start, before: int) -> int | None:
    """The pos just before a history's first record of the start, or None if it has none before `before`."""
    records = history.records
    end = bisect_left(records, before, key=_pos)
    if start.since >= 0:
        place = bisect_left(records, start.since, key=_ts)
    elif start.last:
        place = max(0, end - start.last)
    else:
        place = 0
    return records[place].pos - 1 if place < end else None

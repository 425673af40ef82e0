"""The memory log: one shard's messages in this process, gone with it (level `memory`).

Knows records and retention, nothing of subscriptions. Two stores hold the same record objects: per topic a
history, what the topic's rule retains; and `order`, in the order of pos, all of that (for wildcards: merging the
topics took 0.2 s a page at 20,000 topics) and besides it the newest of the whole log whatever the rules say, so
that a short absence is always bridged. Appends only add to it; it is tidied many records at a time.

Per topic `trimmed` is the highest pos that retention removed, per log `forgotten` the same over topics that were
dropped whole: a read behind `after` is complete iff after ≥ both (architecture: shards, logs, owners). Each comes
with the number of the loss, so that a reader can tell a new one from one that it knows.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, takewhile
from operator import attrgetter

from triode_protocol.packets import Start
from triode_protocol.positions import MAX_INTEGER
from triode_protocol.topics import is_wildcard, matches

from triode_broker.config import Limits, TopicRule
from triode_broker.core.handed import HandedFacts, HandedTopic
from triode_broker.core.interfaces import PAGE_RECORDS, Page, Place
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record
from triode_broker.log.history import Compacted, History

#: What an empty topic costs, in bytes, for the byte bound.
TOPIC_OVERHEAD_BYTES = 1_000
#: Topics looked at by one trim, so that a tick stays short.
TRIM_TOPICS = 2_000
#: `order` may hold a quarter more than is retained and recent, and so many bytes, before all of it is tidied.
ORDER_SLACK_BYTES = 262_144

_pos = attrgetter("pos")
_ts = attrgetter("ts")


class MemoryLog:
    """One life of one shard in memory; see `core.interfaces.Log`. Every `done` is called at once."""

    level = "memory"

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self._limits = limits
        self._read_limits()
        self._head = 0
        # Ordered, because a plain dict that loses its first entry again and again is searched from its old start:
        # 40 µs a message under a flood.
        self._topics: OrderedDict[str, History] = OrderedDict()
        self._size = 0  # bytes of all histories, all overhead included
        self._overhead = 0  # of these, what is not records
        self._order: deque[Record] = deque()
        self._order_size = 0  # bytes, at the last tidying
        self._recent_after = 0  # `order` has everything with a higher pos
        self._written = self._counted = 0  # bytes appended, ever; and of these known to `_order_size`
        self._tidy_at = self._tidy_step  # bytes written
        self._marks: deque[tuple[int, int, int]] = deque()  # pos, bytes written and ts, at each tidying
        self._forgotten = 0
        self._forgotten_ts = -1
        self._forgotten_loss = 0
        self._trimmed = 0  # the highest pos that retention removed, of any topic
        self._trimmed_ts = -1  # its time
        self._losses = 0  # number of the newest loss, of any topic
        self._is_sealed = False

    def _read_limits(self) -> None:
        limits = self._limits
        self._max_size = limits.max_shard_bytes
        self._recent_bytes = limits.recent_bytes
        self._recent_ms = limits.recent_seconds * 1000
        self._tidy_step = limits.recent_bytes // 16 + 1

    def limits_changed(self) -> None:
        """Other bounds: the next append makes room, the next tidying keeps what is recent by them."""
        self._read_limits()
        self._tidy_at = min(self._tidy_at, self._written + self._tidy_step)

    @property
    def histories(self) -> Mapping[str, History]:
        """By topic."""
        return self._topics

    def follow_rule(self, name: str, rule: TopicRule, now_ms: int) -> None:
        """A topic's rule is another one from now on, compacted as before."""
        if (history := self._topics.get(name)) is not None:
            history.follow(rule)
            self._trim_topic(history, now_ms)

    @property
    def size(self) -> int:
        """Bytes retained, topics' overhead included; the other stores share the records, and are bounded by it."""
        return self._size

    @property
    def topic_count(self) -> int:
        """Topics with a history or the memory of one."""
        return len(self._topics)

    def held(self, topic: str) -> tuple[int, int]:
        """Messages and bytes retained of a topic."""
        history = self._topics.get(topic)
        return (len(history.records), history.size) if history is not None else (0, 0)

    def head(self) -> int:
        """The newest pos."""
        return self._head

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """Add a record; retention follows, at the front of its topic. Message ids are not for this store."""
        # Once per message, hence written out.
        self._head = record.pos
        ts = record.ts
        size = len(record.payload) + RECORD_OVERHEAD_BYTES
        try:
            history = self._topics[record.topic]  # `get` of an OrderedDict takes twice as long
        except KeyError:
            history = self._open(record, rule)
        records = history.records
        records.append(record)
        history.size += size
        self._size += size
        if record.expires_ms:
            history.has_holes = True
        if len(records) > history.trim_messages or history.size > history.trim_bytes:
            self._trim_topic(history, ts)
        self._order.append(record)
        self._written += size
        if self._written >= self._tidy_at:
            self._tidy(ts)
        if self._size > self._max_size:
            self._make_room(ts)

    def _open(self, record: Record, rule: TopicRule) -> History:
        offset, loss = record.offset - 1, self._forgotten_loss
        kind = Compacted if rule.compact else History
        history = kind(rule, self._forgotten, self._forgotten_ts, offset, loss)
        self._topics[record.topic] = history
        self._size += TOPIC_OVERHEAD_BYTES
        self._overhead += TOPIC_OVERHEAD_BYTES
        return history

    def read(
        self,
        filter: str,
        after: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[Page], None],
        newest_at: int = 0,
    ) -> None:
        """Records behind `after`; see the interface."""
        if newest_at:
            rows = self._snapshot_rows(filter, after, newest_at, now_ms)
            done(_page(rows, after, newest_at, max_bytes, max_records))
            return
        if not filter or is_wildcard(filter):
            rows = self._ordered_rows(filter, after, now_ms)
        else:
            rows = self._topic_rows(filter, after, now_ms)
        page = _page(rows, after, self._head, max_bytes, max_records)
        if after < self._recent_after:  # behind the rows: looking for them let retention follow
            page.loss = self._loss(filter, after)
            page.known = page.loss if page.upto < self._recent_after else 0
        done(page)

    def _ordered_rows(self, filter: str, after: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """Every record of `order` behind `after`, with its `prev`, or -1: not held, or not of this filter.

        What is recent is held, whatever its topic's rule has removed (SPEC 4.6.2); but what a newer message of its
        key has replaced is not, or a reader might have the old state last.
        """
        order, recent_after = self._order, self._recent_after
        is_recent = after >= recent_after
        # Per topic met: the offset of its last row; -1: it does not match; -2: none yet.
        prevs: dict[str, int] = {}
        for record in islice(order, bisect_right(order, after, key=_pos), None):
            topic = record.topic
            prev = prevs.get(topic)
            if prev is None:
                prev = prevs[topic] = -2 if not filter or matches(filter, topic) else -1
                if prev == -2 and not is_recent and (history := self._topics.get(topic)) is not None:
                    self._trim_topic(history, now_ms)
            is_held = record.is_retained or (record.pos > recent_after and not record.is_obsolete)
            if prev == -1 or not is_held or record.is_expired(now_ms):
                yield record, -1
                continue
            yield record, prev if prev >= 0 else self._prev(record, after, now_ms)
            prevs[topic] = record.offset

    def _topic_rows(self, topic: str, after: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """One topic's: its history, and where that has lost something behind `after`, first what is recent."""
        history = self._topics.get(topic)
        if history is not None:
            self._trim_topic(history, now_ms)
        if (history.trimmed if history is not None else self._forgotten) > after:
            first = history.first_pos() if history is not None else MAX_INTEGER
            rows = self._ordered_rows(topic, max(after, self._recent_after), now_ms)
            yield from takewhile(lambda row: row[0].pos < first, rows)
        if history is not None:
            yield from history.after(after, now_ms)

    def _prev(self, record: Record, after: int, now_ms: int) -> int:
        """`prev` of the first record of its topic behind `after`."""
        history = self._topics.get(record.topic)
        if history is None or not history.has_holes:
            return record.offset - 1
        prev = history.prev(after, now_ms)
        # Retention may have taken the record itself, and what was before it is not known any more. Nothing of that
        # was lost to this reader, or it has been told of a gap: 0 is true of it.
        return prev if prev < record.offset else 0

    def _loss(self, filter: str, after: int) -> int:
        """The newest loss behind `after` of the topics a filter matches; dropped topics may be among them."""
        if not filter:
            return self._losses if max(self._trimmed, self._forgotten) > after else 0
        loss = self._forgotten_loss if self._forgotten > after else 0
        if not is_wildcard(filter):
            history = self._topics.get(filter)
            return loss if history is None else history.loss if history.trimmed > after else 0
        if self._trimmed <= after:
            return loss
        start = _literal_start(filter)
        for topic, history in self._topics.items():
            if (
                history.trimmed > after
                and history.loss > loss
                and topic.startswith(start)
                and matches(filter, topic)
            ):
                loss = history.loss
        return loss

    def read_back(
        self,
        topic: str,
        before: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[list[Record], bool], None],
    ) -> None:
        """The newest before `before`; see the interface."""
        found: list[Record] = []
        has_older = False
        room = max_bytes
        history = self._topics.get(topic)
        if history is not None:
            self._trim_topic(history, now_ms)
            for record in history.alive_before(before, now_ms):
                room -= record.size
                has_older = len(found) == max_records or (room < 0 and bool(found))
                if has_older:
                    break
                found.append(record)
        done(found[::-1], has_older)

    def seek(self, filter: str, start: Start, now_ms: int, done: Callable[[Place], None]) -> None:
        """Where a start lies; see the interface."""
        if is_wildcard(filter):
            done(self._seek_ordered(filter, start, now_ms))
            return
        history = self._topics.get(filter)
        place: int | None = None
        trimmed_ts = self._forgotten_ts
        if history is not None:
            self._trim_topic(history, now_ms)
            place = history.first_of(start, now_ms)
            trimmed_ts = history.trimmed_ts
        is_complete = start.since < 0 or trimmed_ts < start.since
        done(Place(self._head if place is None else place, is_complete, self._losses))

    def _seek_ordered(self, filter: str, start: Start, now_ms: int) -> Place:
        """In `order`, so that no start walks all topics."""
        since = start.since
        if since < 0:
            return Place(self._oldest(now_ms), True, self._losses)
        order = self._order
        index = bisect_left(order, since, key=_ts)
        pos = order[index].pos - 1 if index < len(order) else self._head
        is_complete = (
            max(self._trimmed_ts, self._forgotten_ts) < since
            or pos > self._recent_after  # nothing is missing from there on, and what is before is older
            or max(self._trimmed_of(filter), self._forgotten_ts) < since
        )
        # What is there only because it is recent may be lost before the reader comes to it: that is not known yet.
        return Place(pos, is_complete, 0 if is_complete else self._losses)

    def _oldest(self, now_ms: int) -> int:
        """The pos before the oldest record retained, or, if it takes too long to find, one further back."""
        pos = 0
        for record in islice(self._order, PAGE_RECORDS):
            if record.is_retained:
                self._trim_topic(self._topics[record.topic], now_ms)  # else its age would be a loss to the reader
            if record.is_retained:
                return record.pos - 1
            pos = record.pos
        return pos if len(self._order) > PAGE_RECORDS else self._head

    def _trimmed_of(self, filter: str) -> int:
        """The ts of the newest record that retention removed from the topics a filter matches."""
        start = _literal_start(filter)
        topics = self._topics.items()
        found = (one.trimmed_ts for topic, one in topics if topic.startswith(start) and matches(filter, topic))
        return max(found, default=-1)

    def _snapshot_rows(self, filter: str, after: int, upto: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """The snapshot of each topic at `upto`, what of it is behind `after`."""
        if is_wildcard(filter):
            return self._ordered_snapshot(filter, after, upto, now_ms)
        history = self._topics.get(filter)
        if history is None:
            return iter(())
        self._trim_topic(history, now_ms)
        return history.snapshot(after, upto, now_ms)

    def _ordered_snapshot(self, filter: str, after: int, upto: int, now_ms: int) -> Iterator[tuple[Record, int]]:
        """Every record of `order` behind `after`, with -1 where it is not of the snapshot."""
        order = self._order
        tests: dict[str, Callable[[Record], bool]] = {}  # per topic met
        for record in islice(order, bisect_right(order, after, key=_pos), bisect_right(order, upto, key=_pos)):
            topic = record.topic
            if (is_part := tests.get(topic)) is None:
                is_part = tests[topic] = self._snapshot_test(filter, topic, upto, now_ms)
            yield record, 0 if is_part(record) else -1

    def _snapshot_test(self, filter: str, topic: str, upto: int, now_ms: int) -> Callable[[Record], bool]:
        history = self._topics.get(topic) if matches(filter, topic) else None
        if history is None:
            return _is_no_part
        self._trim_topic(history, now_ms)
        return history.snapshot_test(upto, now_ms)

    def trim(self, now_ms: int) -> None:
        """Apply age: to the next TRIM_TOPICS topics in turn, and to `order`."""
        if self._is_sealed:
            return
        for topic in list(islice(self._topics, TRIM_TOPICS)):
            self._trim_topic(self._topics[topic], now_ms)
            self._topics.move_to_end(topic)  # the next call goes on with others
        self._tidy(now_ms)

    def _trim_topic(self, history: History, now_ms: int) -> None:
        if self._is_sealed:
            return
        size, overhead, trimmed = history.size, history.overhead, history.trimmed
        history.trim(now_ms)
        self._size += history.size - size
        if history.overhead != overhead:
            self._count(0, history.overhead - overhead)
        if history.trimmed != trimmed:
            self._note_loss(history)

    def _count(self, size: int, overhead: int) -> None:
        """Histories have grown by so many bytes of records and of what is beside them."""
        self._size += size + overhead
        self._overhead += overhead

    def _note_loss(self, history: History) -> None:
        self._losses += 1
        history.loss = self._losses
        if history.trimmed > self._trimmed:
            self._trimmed, self._trimmed_ts = history.trimmed, history.trimmed_ts

    def _tidy(self, now_ms: int) -> None:
        """Drop from `order` what is neither recent nor retained: from its front, and if too much is left, all."""
        order, written, marks = self._order, self._written, self._marks
        self._tidy_at = written + self._tidy_step
        if order:
            marks.append((self._head, written, order[-1].ts))
        while marks and (marks[0][1] <= written - self._recent_bytes or marks[0][2] < now_ms - self._recent_ms):
            self._recent_after = marks.popleft()[0]
        recent_after = self._recent_after
        while order and not order[0].is_retained and order[0].pos <= recent_after:
            self._order_size -= len(order.popleft().payload) + RECORD_OVERHEAD_BYTES
        retained = self._size - self._overhead
        self._order_size += written - self._counted
        self._counted = written
        if self._order_size > (retained + self._recent_bytes) * 5 // 4 + ORDER_SLACK_BYTES:
            self._order = deque(record for record in order if record.is_retained or record.pos > recent_after)
            self._order_size = sum(record.size for record in self._order)

    def _make_room(self, now_ms: int) -> None:
        """Under a flood: a clock hand over the topics; one with nothing new since it last passed is dropped whole,
        another gives up the older half of its history."""
        while self._size > self._max_size and self._topics:
            topic, history = self._topics.popitem(last=False)
            newest = history.newest_pos()
            if newest == history.seen_pos or not history.records:
                self._count(-history.size, -history.overhead - TOPIC_OVERHEAD_BYTES)
                self._note_loss(history)
                self._forget(newest, history)
                continue
            size, overhead = history.size, history.overhead
            history.seen_pos = newest
            history.halve(now_ms)
            self._note_loss(history)
            self._count(history.size - size, history.overhead - overhead)
            self._topics[topic] = history

    def _forget(self, newest: int, history: History) -> None:
        for record in history.records:
            record.is_retained = False
        self._forgotten = max(self._forgotten, newest)
        newest_ts = history.records[-1].ts if history.records else history.trimmed_ts
        self._forgotten_ts = max(self._forgotten_ts, newest_ts)
        self._forgotten_loss = history.loss

    # `core.handed.HandedLog`

    def seal(self) -> None:
        """Retention stops too."""
        self._is_sealed = True

    def give_topics(self) -> Iterator[HandedTopic]:
        """As the clock hand will pass them."""
        for topic, one in self._topics.items():
            yield HandedTopic(topic, one.trimmed, one.trimmed_offset, one.trimmed_ts, one.loss, one.has_holes)

    def give_records(self) -> Iterator[Record]:
        """What is retained, and what is recent: `order`, but for what its tidying has not come to."""
        recent_after = self._recent_after
        return (record for record in self._order if record.is_retained or record.pos > recent_after)

    def give_facts(self) -> HandedFacts:
        """See there."""
        forgotten = self._forgotten, self._forgotten_ts, self._forgotten_loss
        return HandedFacts(
            self._head, self._recent_after, *forgotten, self._trimmed, self._trimmed_ts, self._losses
        )

    def take_topic(self, handed: HandedTopic, rule: TopicRule) -> None:
        """An empty history that has lost what it has lost."""
        kind = Compacted if rule.compact else History
        self._topics[handed.topic] = history = kind(
            rule, handed.trimmed, handed.trimmed_ts, handed.trimmed_offset, handed.loss
        )
        history.has_holes = history.has_holes or handed.has_holes

    def take_record(self, record: Record) -> None:
        """One without a history is held as recent: its topic's was dropped whole."""
        self._order.append(record)
        self._written += record.size
        if record.is_retained:
            if (history := self._topics.get(record.topic)) is None:
                raise ValueError(f"a record of {record.topic}, which was not named before")
            history.restore(record)

    def take_facts(self, facts: HandedFacts) -> None:
        """Count it all. What is recent stays so for a whole window from here on, for the marks are not handed."""
        self._head, self._recent_after = facts.head, facts.recent_after
        self._forgotten, self._forgotten_ts = facts.forgotten, facts.forgotten_ts
        self._forgotten_loss, self._losses = facts.forgotten_loss, facts.losses
        self._trimmed, self._trimmed_ts = facts.trimmed, facts.trimmed_ts
        self._order_size = self._counted = self._written
        self._tidy_at = self._written + self._tidy_step
        for history in self._topics.values():
            self._count(history.size, history.overhead + TOPIC_OVERHEAD_BYTES)


def _page(rows: Iterator[tuple[Record, int]], after: int, end: int, max_bytes: int, max_records: int) -> Page:
    """As many rows as the bounds allow, those with a `prev` of -1 counted only; `end` where there are no more."""
    page = Page([], [], after, 0, 0, 0)
    room = max_bytes
    for record, prev in rows:
        if page.looked_at == max_records:
            return page
        if prev >= 0:
            room -= record.size
            if room < 0 and page.records:
                return page
            page.records.append(record)
            page.prevs.append(prev)
        page.looked_at += 1
        page.upto = record.pos
    page.upto = end
    return page


def _is_no_part(record: Record) -> bool:
    return False


def _literal_start(filter: str) -> str:
    """What every topic that a wildcard matches begins with: a test that spares nearly all topics the whole one."""
    literal = filter[: min(place for place in (filter.find("+"), filter.find("#")) if place >= 0)]
    return literal[:-1]  # a/# matches a

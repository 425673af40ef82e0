"""Which rows a page takes: those of the filter that are due, while there is room and nothing is amiss.

Knows rows and topics; who finds the rows and reads their payloads is `reading`. What is amiss (a row that fails
its checksum, an offset that says that rows before it are gone) ends a page that has something, and is a loss at
the beginning of the next one.
"""

from collections.abc import Sequence
from typing import Protocol

from triode_protocol.topics import matches

from triode_broker.core.record import RECORD_OVERHEAD_BYTES
from triode_broker.log.disk.contents import Topic
from triode_broker.log.disk.rows import Head


class Source(Protocol):
    """What a choice asks of the file."""

    def topic_of(self, head: Head) -> Topic | None:
        """The topic of a sound row; None: it is damaged."""

    def note_damage(self, pos: int) -> None:
        """A row is not what was written, or one before it is gone."""

    def offsets_before(self, topics: Sequence[Topic], after: int, now_ms: int) -> dict[int, int]:
        """By topic: the offset of its newest record that is still due at or before a pos."""


class Choice:
    """One page in the making."""

    __slots__ = (
        "_after",
        "_before",
        "_filter",
        "_is_wanted",
        "_now_ms",
        "_room",
        "_source",
        "has_loss",
        "heads",
        "is_full",
        "looked_at",
        "prevs",
        "upto",
    )

    def __init__(self, source: Source, filter: str, after: int, max_bytes: int, now_ms: int) -> None:
        self._source = source
        self._filter = filter  # "": all rows are wanted
        self._after = after
        self._now_ms = now_ms
        self._room = max_bytes
        self._is_wanted: dict[int, bool] = {}  # by topic
        self._before: dict[int, int] = {}  # by topic: the offset of its last record
        self.heads: list[Head] = []
        self.prevs: list[int] = []
        self.upto = after
        self.looked_at = 0
        self.is_full = False  # the next row belongs to the next page
        self.has_loss = False  # before the first that was taken

    def rows_that_fit(self, at_first: int) -> int:
        """About so many more: of a size with those that were taken."""
        taken = len(self.heads)
        if not taken:
            return at_first
        used = sum(head.size for head in self.heads) + taken * RECORD_OVERHEAD_BYTES
        return min(at_first, max(self._room, 0) * taken // used + 8)

    def look_at(self, heads: list[Head]) -> None:
        """Take the next rows, in order."""
        source, is_wanted, now_ms = self._source, self._is_wanted, self._now_ms
        looked = [(head, source.topic_of(head)) for head in heads]
        self._meet([topic for _, topic in looked if topic is not None])
        for head, topic in looked:
            if topic is not None and not is_wanted[topic.id]:
                self._pass(head)
                continue
            if topic is None or self._has_hole(head, topic):
                if self.heads:
                    self.is_full = True
                    return
                if topic is None or not self.has_loss:
                    source.note_damage(head.pos)
                self.has_loss = True
                if topic is None:
                    self._pass(head)
                    continue
            if head.expires and head.expires <= now_ms:
                self._pass(head)
                continue
            self._room -= head.size + RECORD_OVERHEAD_BYTES
            if self._room < 0 and self.heads:
                self.is_full = True
                return
            self._take(head, topic)

    def _meet(self, topics: list[Topic]) -> None:
        """Topics not met before: whether the filter matches, and what was before the page."""
        is_wanted, filter = self._is_wanted, self._filter
        new: dict[int, Topic] = {topic.id: topic for topic in topics if topic.id not in is_wanted}
        for id, topic in new.items():
            is_wanted[id] = not filter or matches(filter, topic.name)
        wanted = [topic for id, topic in new.items() if is_wanted[id]]
        found = self._source.offsets_before(wanted, self._after, self._now_ms)
        for topic in wanted:
            self._before[topic.id] = found.get(topic.id, topic.trimmed_offset)

    def _has_hole(self, head: Head, topic: Topic) -> bool:
        """Whether a row of its topic that should be before this one is gone."""
        return head.offset != self._before[topic.id] + 1 and not topic.is_sparse

    def _pass(self, head: Head) -> None:
        self.looked_at += 1
        self.upto = head.pos

    def _take(self, head: Head, topic: Topic) -> None:
        if not topic.is_sparse:
            prev = head.offset - 1
        elif (prev := self._before[topic.id]) >= head.offset:
            prev = 0  # what was before it is not known any more: nothing of that was lost to this reader
        self.heads.append(head)
        self.prevs.append(prev)
        self._before[topic.id] = head.offset
        self.looked_at += 1
        self.upto = head.pos

    def is_missing_the_newest(self, topic: Topic | None) -> bool:
        """Whether rows at the end of the topic, which all rows are of, are gone."""
        if topic is None or topic.is_sparse:
            return False
        if topic.id not in self._before:
            self._meet([topic])
        return self._before[topic.id] != topic.offset

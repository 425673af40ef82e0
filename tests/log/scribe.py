"""A log under test with somebody who writes and reads it: numbers, time, and answers waited for.

It gives out `pos` and `offset` as a shard does and keeps everything it wrote, to compare with.
"""

from collections.abc import Callable

import attrs
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Log, Page, Place
from triode_broker.core.record import Record
from triode_protocol.packets import Start

PLENTY = 10_000_000
#: Keeps all that a test writes.
KEEP = TopicRule(retention_messages=100_000, retention_seconds=100_000, retention_bytes=PLENTY)
#: No memory of the newest beside what the rules retain.
NO_RECENT = Limits(recent_bytes=0, recent_seconds=0)


@attrs.frozen
class Opened:
    """A log, and what makes it do now what it would do later."""

    log: Log
    settle: Callable[[], None]


#: Makes an empty log of some engine.
Open = Callable[[Limits], Opened]


class Scribe:
    """Writes and reads one log; `now_ms` is yours."""

    def __init__(self, open_log: Open, limits: Limits = NO_RECENT, rule: TopicRule = KEEP) -> None:
        opened = open_log(limits)
        self.log = opened.log
        self._settle = opened.settle
        self.rule = rule
        self.now_ms = 1_000_000
        self.pos = 0
        self._offsets: dict[str, int] = {}
        self.written: list[Record] = []

    def write(
        self,
        topic: str,
        *,
        size: int = 20,
        ttl_ms: int = 0,
        key: str = "",
        tombstone: bool = False,
        rule: TopicRule | None = None,
    ) -> Record:
        """Append a record with a payload of `size` bytes; a tombstone deletes its key."""
        self.pos += 1
        offset = self._offsets[topic] = self._offsets.get(topic, 0) + 1
        expires_ms = self.now_ms + ttl_ms if ttl_ms else 0
        record = Record(topic, self.pos, offset, self.now_ms, b"x" * size, expires_ms, key, tombstone)
        self.log.append(record, rule or self.rule)
        self._settle()
        self.written.append(record)
        return record

    def write_keys(self, topic: str, keys: str) -> list[Record]:
        """Append a record for each letter, its key."""
        return [self.write(topic, key=key) for key in keys]

    def write_many(self, topic: str, count: int, *, size: int = 20) -> list[Record]:
        """Append several records."""
        return [self.write(topic, size=size) for _ in range(count)]

    def page(self, filter: str = "#", after: int = 0, max_bytes: int = PLENTY, max_records: int = PLENTY) -> Page:
        """One read."""
        pages: list[Page] = []
        self.log.read(filter, after, max_bytes, max_records, self.now_ms, pages.append)
        self._settle()
        (page,) = pages
        return page

    def read(
        self, filter: str = "#", after: int = 0, max_bytes: int = PLENTY, max_records: int = PLENTY
    ) -> list[Record]:
        """Everything behind `after`, page by page."""
        found: list[Record] = []
        while after < self.log.head():
            page = self.page(filter, after, max_bytes, max_records)
            assert page.looked_at <= max_records
            assert page.upto > after, "a read gets on"
            found += page.records
            after = page.upto
        return found

    def back(
        self, topic: str, before: int, max_bytes: int = PLENTY, max_records: int = PLENTY
    ) -> tuple[list[Record], bool]:
        """A read backwards."""
        answers: list[tuple[list[Record], bool]] = []
        self.log.read_back(
            topic, before, max_bytes, max_records, self.now_ms, lambda *answer: answers.append(answer)
        )
        self._settle()
        (answer,) = answers
        return answer

    def seek(self, filter: str, start: Start) -> Place:
        """Where a start lies."""
        places: list[Place] = []
        self.log.seek(filter, start, self.now_ms, places.append)
        self._settle()
        (place,) = places
        return place

    def snapshot_page(
        self, filter: str, after: int, upto: int, max_bytes: int = PLENTY, max_records: int = PLENTY
    ) -> Page:
        """One page of a snapshot."""
        pages: list[Page] = []
        self.log.read(filter, after, max_bytes, max_records, self.now_ms, pages.append, upto)
        self._settle()
        (page,) = pages
        return page

    def newest(self, filter: str = "#", max_bytes: int = PLENTY, max_records: int = PLENTY) -> list[Record]:
        """The snapshot, page by page."""
        found: list[Record] = []
        after, upto = 0, self.log.head()
        while after < upto:
            page = self.snapshot_page(filter, after, upto, max_bytes, max_records)
            assert page.upto > after, "a page gets on"
            assert page.looked_at <= max_records
            found += page.records
            after = page.upto
        return found

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and retention follow."""
        self.now_ms += int(seconds * 1000)
        self.trim()

    def trim(self) -> None:
        """Let retention follow."""
        self.log.trim(self.now_ms)
        self._settle()

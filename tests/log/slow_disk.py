"""A durable log whose disk obeys the test: nothing is on it before `commit`, and it can fill up, fail, lose power.

The surprising decision: it wraps the memory log and is no fake of one, so what it answers is true; what it adds is
only when things count. Reads answer at once, or, with `is_late`, when told to.
"""

from collections import deque
from collections.abc import Callable

import attrs
from msgspec.structs import replace
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Loaded, Outcome, Page, Place, StoreState
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record
from triode_broker.log.memory import MemoryLog
from triode_protocol.packets import Start

Saved = tuple[Callable[[], bytes], list[Callable[[Outcome], None]]]


@attrs.define
class Disk:
    """What a restart finds: committed records with their rules, message ids, values."""

    name: str
    records: list[tuple[Record, TopicRule]] = attrs.field(factory=list)
    remembered: list[Remembered] = attrs.field(factory=list)
    values: dict[str, bytes] = attrs.field(factory=dict)


class SlowDisk:
    """A `core.interfaces.DurableLog`; `commit`, `fill`, `fail` and `reopen` are the test's."""

    level = "disk"

    def __init__(self, name: str, limits: Limits, disk: Disk | None = None, previous: str = "") -> None:
        self.name = name
        self.limits = limits
        self.disk = disk or Disk(name)
        self.previous = previous
        self.state: StoreState = "ok"
        self.uncommitted_bytes = 0
        self.is_late = False
        self.questions: deque[Callable[[], None]] = deque()
        self.inner = MemoryLog(name, limits)
        for record, rule in self.disk.records:
            self.inner.append(replace(record, is_retained=True), rule)
        self._appended: list[tuple[Record, TopicRule, Remembered | None]] = []
        self._saved: dict[str, Saved] = {}
        self._told: Callable[[int, Outcome], None] = lambda upto, outcome: None

    # The test's

    @property
    def is_dirty(self) -> bool:
        """Whether there is something to commit."""
        return bool(self._appended or self._saved)

    def commit(self) -> None:
        """One transaction with all that was appended and saved; told of, as the store's thread would."""
        assert self.state == "ok"
        appended, self._appended = self._appended, []
        saved, self._saved = self._saved, {}
        for name, (encode, _) in saved.items():
            value = encode()
            if value:
                self.disk.values[name] = value
            else:
                self.disk.values.pop(name, None)
        for record, rule, remembered in appended:
            self.disk.records.append((record, rule))
            self.inner.append(record, rule)
            if remembered is not None:
                self.disk.remembered.append(remembered)
        self._tell(appended, saved, "committed")

    def fill(self) -> None:
        """The disk is full: what waits is lost, and nothing is taken until `drain`. Values wait."""
        self.state = "full"
        self._drop("lost")

    def drain(self) -> None:
        """There is room again."""
        self.state = "ok"

    def fail(self) -> None:
        """The write of what waits failed halfway; the store is failed for good."""
        self.state = "failed"
        self._drop("unknown")

    def refuse(self) -> None:
        """What waits behind a failure is never handed to the disk."""
        self.state = "failed"
        self._drop("refused")

    def reopen(self, name: str = "") -> "SlowDisk":
        """The process was killed and started again; with a `name`, in a new life."""
        disk = self.disk
        if not name:
            return SlowDisk(self.name, self.limits, disk)
        old, new = b'"log":"%b"' % self.name.encode(), b'"log":"%b"' % name.encode()
        records = [(replace(one, payload=one.payload.replace(old, new)), rule) for one, rule in disk.records]
        return SlowDisk(name, self.limits, Disk(name, records, disk.remembered, disk.values), self.name)

    def answer(self, count: int = 1_000_000) -> None:
        """Answer the oldest questions, those that come meanwhile too, while there are any."""
        while self.questions and count:
            self.questions.popleft()()
            count -= 1

    def _drop(self, outcome: Outcome) -> None:
        appended, self._appended = self._appended, []
        saved, self._saved = self._saved, {}
        if self.state == "full":
            self._saved = {name: (encode, []) for name, (encode, _) in saved.items()}
        self._tell(appended, saved, outcome)

    def _tell(
        self,
        appended: list[tuple[Record, TopicRule, Remembered | None]],
        saved: dict[str, Saved],
        outcome: Outcome,
    ) -> None:
        self.uncommitted_bytes -= sum(record.size for record, _, _ in appended)
        if appended:
            self._told(appended[-1][0].pos, outcome)
        for _, waiting in saved.values():
            for done in waiting:
                done(outcome)

    # `DurableLog`

    def listen(self, told: Callable[[int, Outcome], None]) -> None:
        """One listener."""
        self._told = told

    def save(self, name: str, value: Callable[[], bytes], done: Callable[[Outcome], None] | None = None) -> None:
        """With the next commit."""
        waiting = self._saved[name][1] if name in self._saved else []
        self._saved[name] = (value, [*waiting, done] if done is not None else waiting)

    def loaded(self) -> Loaded:
        """Everything: no topic is forgotten here."""
        records = self.disk.records
        topics = {record.topic: record.offset for record, _ in records}
        reason = "the test said so" if self.previous else ""
        ts = records[-1][0].ts if records else 0
        remembered, values = list(self.disk.remembered), dict(self.disk.values)
        return Loaded(ts, topics, False, remembered, values, self.previous, reason)

    def room(self, now_ms: int) -> None:
        """The test says when."""

    def head(self) -> int:
        """The newest committed pos."""
        return self.inner.head()

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """With the next commit."""
        self._appended.append((record, rule, remembered))
        self.uncommitted_bytes += record.size

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
        """At once or later."""
        self._ask(lambda: self.inner.read(filter, after, max_bytes, max_records, now_ms, done, newest_at))

    def read_back(
        self,
        topic: str,
        before: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[list[Record], bool], None],
    ) -> None:
        """At once or later."""
        self._ask(lambda: self.inner.read_back(topic, before, max_bytes, max_records, now_ms, done))

    def seek(self, filter: str, start: Start, now_ms: int, done: Callable[[Place], None]) -> None:
        """At once or later."""
        self._ask(lambda: self.inner.seek(filter, start, now_ms, done))

    def trim(self, now_ms: int) -> None:
        """At once."""
        self.inner.trim(now_ms)

    def _ask(self, question: Callable[[], None]) -> None:
        if self.is_late:
            self.questions.append(question)
        else:
            question()

"""A log that answers when it is told to: what an engine with a store thread looks like from the core.

It reads at the moment of the answer, as the interface asks: the answer holds for the head at the moment of `done`.
The surprising decision: it is a wrapper around the memory log and no fake of it, so what it answers is true.
"""

from collections import deque
from collections.abc import Callable

from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Page, Place
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record
from triode_broker.log.memory import MemoryLog
from triode_protocol.packets import Start


class LateLog:
    """A `core.interfaces.Log` whose questions wait for `answer`."""

    level = "memory"

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.inner = MemoryLog(name, limits)
        self.questions: deque[Callable[[], None]] = deque()

    def answer(self, count: int = 1_000_000) -> None:
        """Answer the oldest questions, those that come meanwhile too, while there are any."""
        while self.questions and count:
            self.questions.popleft()()
            count -= 1

    def head(self) -> int:
        """The newest pos."""
        return self.inner.head()

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """At once."""
        self.inner.append(record, rule)

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
        """Later."""
        self.questions.append(
            lambda: self.inner.read(filter, after, max_bytes, max_records, now_ms, done, newest_at)
        )

    def read_back(
        self,
        topic: str,
        before: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[list[Record], bool], None],
    ) -> None:
        """Later."""
        self.questions.append(lambda: self.inner.read_back(topic, before, max_bytes, max_records, now_ms, done))

    def seek(self, filter: str, start: Start, now_ms: int, done: Callable[[Place], None]) -> None:
        """Later."""
        self.questions.append(lambda: self.inner.seek(filter, start, now_ms, done))

    def trim(self, now_ms: int) -> None:
        """At once."""
        self.inner.trim(now_ms)

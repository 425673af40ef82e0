"""Nowhere: the log of a shard that nobody is known to own. Nothing is in it, and it has no name.

Its shard is named in `unavailable` (SPEC 4.2), and has no entry in any position.
"""

from collections.abc import Callable

from triode_protocol.packets import Start

from triode_broker.config import TopicRule
from triode_broker.core.interfaces import Page, Place
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record


class Nowhere:
    """An `interfaces.Log`. Every `done` is called at once."""

    __slots__ = ("level", "name")

    def __init__(self, level: str) -> None:
        self.name = ""
        self.level = level

    def head(self) -> int:
        """There is no message."""
        return 0

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """Never called: who owns the shard appends to a log."""
        raise AssertionError("nobody owns this shard")

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
        """An empty page."""
        done(Page([], [], after, 0, 0, 0))

    def read_back(
        self,
        topic: str,
        before: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[list[Record], bool], None],
    ) -> None:
        """Nothing, and nothing older."""
        done([], False)

    def seek(self, filter: str, start: Start, now_ms: int, done: Callable[[Place], None]) -> None:
        """The beginning."""
        done(Place(0, True, 0))

    def trim(self, now_ms: int) -> None:
        """There is nothing to forget."""

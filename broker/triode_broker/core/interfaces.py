"""What the core asks of others: a connection it can end, and a log it can append to and read.

Interfaces live here, with their consumer; implementations are joined to it in `server.py`.
"""

from collections.abc import Callable
from typing import Protocol

import attrs
from triode_protocol.packets import Start

from triode_broker.config import TopicRule
from triode_broker.core.record import Record


class Connection(Protocol):
    """One live attachment of a client, as the core sees it."""

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """Say bye (for codes ≥ 4000), flush, close. Only marks: safe in the middle of a fan-out; idempotent."""


#: A page looks at no more records than this, whether they match or not, so that a turn of the loop stays short.
PAGE_RECORDS = 5_000


@attrs.define
class Page:
    """What a read found, in pos order.

    `upto`: everything up to there was looked at; the log's head at the moment of `done` if the read got that far.
    `looked_at`: how many records were, those included that do not match.
    `loss`: 0, or the number of the newest loss among the matching topics that may have lost something behind the
    read's `after` to retention. A log numbers its losses in the order in which they happen.
    `known`: for the reader who was told of `loss` and goes on behind `upto`, losses up to that number are known.
    Lower than `loss` where what a rule removed is still held there, as recent: that may be lost later.
    `prevs[i]`: the offset after which nothing else of that topic was due before `records[i]` (SPEC 4.3).
    """

    records: list[Record]
    prevs: list[int]
    upto: int
    loss: int
    known: int
    looked_at: int


@attrs.define
class Place:
    """Where a start lies: deliver what has a higher pos.

    `is_complete`: retention has removed nothing of it. `loss`: losses up to that number are known by now: they
    took nothing that was due behind `pos`, or `is_complete` says that they did.
    """

    pos: int
    is_complete: bool
    loss: int


class Log(Protocol):
    """One life of one sequence. `done` may be called at once (memory) or later (a store thread), exactly once.

    Appends arrive in rising `pos`. A read never sees what is not committed, and its answer holds for the head at
    the moment of `done`. Records that have expired at `now_ms` are passed over; `now_ms` never goes back in a log
    and is never behind the newest record's `ts`. No method raises for what is not there; a storage fault is
    reported through the log's own state, never through `done`.
    """

    name: str
    level: str

    def head(self) -> int:
        """The highest committed pos; 0 while empty."""

    def append(self, record: Record, rule: TopicRule) -> None:
        """Add one record. Retention by `rule` follows at once or at the next trim."""

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
        """Records held that match with pos > after, oldest first: one, and more while within max_bytes.

        Looks at no more than max_records (≥ 1), so `upto` may be behind the head with nothing found.
        With `newest_at` the snapshot of that pos: of what is retained, what was the newest of its topic there. The
        last page then ends there too, and `prevs` and `loss` say nothing.
        """

    def read_back(
        self,
        topic: str,
        before: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[list[Record], bool], None],
    ) -> None:
        """The newest records retained of one topic with pos < before, oldest first; whether there are older ones.

        One at least, and more while within max_bytes and max_records: the newest are those that fit.
        """

    def seek(self, filter: str, start: Start, now_ms: int, done: Callable[[Place], None]) -> None:
        """The place of `start` among what is held; `Start()` is the oldest held.

        A wildcard's is looked for among all topics and may lie before its own first record; it has no `last`.
        """

    def trim(self, now_ms: int) -> None:
        """Forget what retention no longer keeps; a bounded piece of work per call."""

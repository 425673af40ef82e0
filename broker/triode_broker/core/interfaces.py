"""What the core asks of others: a connection it can end, a log it can append to and read, a home for its state.

Interfaces live here, with their consumer; implementations are joined to it in `server.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs
from triode_protocol.codec import Refused
from triode_protocol.packets import Publish, Published, ServerPacket, Start

from triode_broker.config import TopicRule
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record


class Connection(Protocol):
    """One live attachment of a client, as the core sees it."""

    @property
    def close_code(self) -> int:
        """The code of the close that either side has begun; 0 while there is none."""

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """Say bye (for codes ≥ 4000), flush, close. Only marks: safe in the middle of a fan-out; idempotent."""

    def drop(self) -> None:
        """Gone at once, without a word, whatever it has to send; not in the middle of a fan-out. Idempotent."""

    def wake(self) -> None:
        """Call the session's `room` soon, in a turn of its own, whether its outbox was full or not."""


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


class Gate(Protocol):
    """Says who a client is; the broker's is made in `auth`."""

    def ask(self, token: str, arrival: Arrival, done: Callable[[Identity | Refused], None]) -> None:
        """Call `done` once, at once or later: who this is, or why it is nobody (`unauthorized`, `token_expired`,
        `revoked`; `unavailable` where that cannot be found out now). `token` is the one of the packet, else "".
        Whoever asked may be gone by then. Must not raise.
        """


class Publisher(Protocol):
    """Who waits for the answer to a publish; may be gone when it comes."""

    inflight: int  # publishes accepted and not answered yet

    def answer(self, packet: ServerPacket) -> None:
        """Hand over the answer."""

    def refuse(self, refused: Refused) -> None:
        """Say what it came to."""


class Acceptor(Protocol):
    """Takes the publishes of a shard whose numbers are not given out at once: by a disk, or by another node."""

    def accept(
        self, topic: Any, packet: Publish, user: str, publisher: Publisher | None, now_ms: int
    ) -> Published | None:
        """Take a checked publish for a `shard.Topic`. Its answer is returned where it is known, else it comes.

        Raises Refused: then it was surely not stored, nor handed on.
        """


class Coverage(Protocol):
    """Has the owners of shards send what a filter matches: the barrier of `subscribed` (SPEC 4.2)."""

    def cover(
        self,
        filter: str,
        shards: Sequence[Any],
        position: Mapping[str, int] | None,
        then: Callable[[list[str]], None],
    ) -> None:
        """Call `then`, once, when every owner sends it, within two seconds, with the names of `shard.Shard`s whose
        owner was not reached. Every log's head is then at least what it was at its owner when this was called, if
        `position` was ahead of it. To be undone as often as done."""

    def uncover(self, filter: str, shards: Sequence[Any]) -> None:
        """It is not wanted any more by who wanted it."""


class Log(Protocol):
    """One life of one sequence. `done` may be called at once (memory) or later (a store thread), exactly once.

    Appends arrive in rising `pos`. A read never sees what is not committed, and its answer holds for the head at
    the moment of `done`. Records that have expired at `now_ms` are passed over; `now_ms` never goes back in a log
    and is never behind the newest record's `ts`. No method raises for what is not there; a storage fault is
    reported through the log's own state, never through `done`.
    """

    name: str  # of this life: a new one whenever the sequence could not be continued
    level: str

    def head(self) -> int:
        """The highest committed pos; 0 while empty."""

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """Add one record. Retention by `rule` follows at once or at the next trim; so does compaction, but no
        snapshot ever has two of one key. What was replaced is not read any more, and was no loss.

        `remembered`: the message id it came with, for a log that outlives the process (G2).
        """

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
        The filter "" matches every topic, the broker's own too; `loss` is then the newest of any.
        With `newest_at` the snapshot of that pos: of what is retained, what was the newest of its topic there; of
        a compacted topic all up to there but tombstones. The last page then ends there too, and `prevs` and `loss`
        say nothing.
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


#: What became of appended records and saved values. "lost": surely not stored. "unknown": may come back after a
#: restart; the store is failed from then on. "refused": was never handed to the disk.
Outcome = Literal["committed", "lost", "unknown", "refused"]
#: "full": the disk is; nothing is taken until there is room again. "failed": for as long as the process lives.
StoreState = Literal["ok", "full", "failed"]


class DurableLog(Log, Protocol):
    """A log on disk: what is appended and saved counts once it is committed, and is still there after a restart.

    Everything between two commits is one transaction: what is appended and saved in one synchronous step is
    committed together or not at all. `head` moves when a commit is told of; a read's `done` is called in the same
    order as commits are told, so a read that got to the end is told while `upto == head()`.
    """

    @property
    def state(self) -> StoreState:
        """Whether it takes appends."""

    @property
    def uncommitted_bytes(self) -> int:
        """Appended or saved, and not told of yet."""

    def listen(self, told: Callable[[int, Outcome], None]) -> None:
        """`told(upto, outcome)`: all records appended so far with pos ≤ upto that were not told of before.

        Called in order of pos, once for each record. Once one is not committed, none behind it is, and all of them
        are told of in one synchronous step; after "lost" and "refused" their numbers are free again.
        """

    def save(self, name: str, value: Callable[[], bytes], done: Callable[[Outcome], None] | None = None) -> None:
        """Keep a value under a name (b"": forget it), in the same transaction as what is appended around it.

        `value` is called, in the core's thread, when the batch is closed: once, however often its name was saved;
        it then says what holds after all that was appended so far. Of several for one name the last counts, and
        all their `done` are called. One that was "lost" or "refused" because the disk was full is called again for
        the next commit, which comes as soon as there is room.
        """

    def loaded(self) -> "Loaded":
        """What the file held when it was opened."""

    def room(self, now_ms: int) -> None:
        """Called about once a second: whether a disk that was full has room again."""


@attrs.define
class Loaded:
    """What a durable log brings along from its file."""

    ts: int  # of the newest record
    topics: dict[str, int]  # newest offset by topic: as many topics as are remembered
    has_forgotten: bool  # there were more topics
    remembered: list[Remembered]  # oldest first, whose window was open at the last trim
    values: dict[str, bytes]  # saved under their names
    previous: str  # the name of the life before, where this one is new; else ""
    reason: str  # why it is new, for the operator; else ""

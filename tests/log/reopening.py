"""Durable engines as their files see it: written to, killed, changed behind their back, opened again.

A further engine is one entry more in `HOMES`. The surprising decision: a kill keeps the bytes of the files, lets
the engine close as it likes and puts the bytes back in place, so that the files are the same ones to the system.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs
from msgspec.structs import replace
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import DurableLog, Loaded, Outcome, Page
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record
from triode_broker.log.disk import DiskLog, open_log
from triode_broker.log.disk.connection import Connect, connect

RULE = TopicRule(storage="disk")


class Home(Protocol):
    """Where one durable log lives."""

    def open(self) -> DurableLog:
        """Open or create it."""

    def settle(self) -> None:
        """Do now what would be done later."""

    def close(self) -> None:
        """In good order."""

    def kill(self) -> dict[Path, bytes]:
        """The process is gone, the files stay; returns what is in them."""

    def put(self, files: dict[Path, bytes]) -> None:
        """Change the files, in place."""


@attrs.define
class DiskHome:
    """One directory."""

    directory: Path
    lives: int = 0
    reports: list[str] = attrs.Factory(list)
    log: DiskLog | None = None
    rule: TopicRule = RULE
    limits: Limits = attrs.Factory(Limits)
    connect: Connect = connect

    def open(self) -> DiskLog:
        """With a short write-ahead log, so that a byte of it is a byte that counts."""
        self.log = open_log(
            self.directory,
            "d0",
            node="n1",
            limits=self.limits,
            new_name=self.new_name,
            rule_of=lambda topic: self.rule,
            report=lambda event, **facts: self.reports.append(event),
            connect=self.connect,
            checkpoint_frames=12,
        )
        return self.log

    def new_name(self) -> str:
        """Of equal length, as the product's are."""
        self.lives += 1
        return f"d0-life{self.lives:04}"

    def settle(self) -> None:
        """In this thread."""
        assert self.log is not None
        self.log.run_inline()

    def close(self) -> None:
        """In good order."""
        assert self.log is not None
        self.log.close()
        self.log = None

    def kill(self) -> dict[Path, bytes]:
        """What the kernel has of the files is what stays."""
        files = {path: path.read_bytes() for path in self.directory.iterdir() if path.suffix != ".lock"}
        self.close()
        self.put(files)
        return files

    def put(self, files: dict[Path, bytes]) -> None:
        """No file is made anew that is there."""
        for path, data in files.items():
            with path.open("r+b" if path.exists() else "wb") as file:
                file.truncate(0)
                file.write(data)


HOMES: dict[str, Callable[[Path], Home]] = {"disk": DiskHome}


def payload_of(log: str, topic: str, pos: int, size: int) -> bytes:
    """What the shard would encode."""
    return b'{"type":"message","topic":"%b","log":"%b","pos":%d,"data":"%b"}' % (
        topic.encode(),
        log.encode(),
        pos,
        b"\xc3\xa4x" * (size // 3),
    )


@attrs.define
class Writer:
    """Writes to a log as a shard does, and knows what it was told."""

    log: DurableLog
    settle: Callable[[], None]
    pos: int = 0
    now_ms: int = 1_000_000
    offsets: dict[str, int] = attrs.Factory(dict)
    written: dict[int, Record] = attrs.Factory(dict)
    told: list[tuple[int, Outcome]] = attrs.Factory(list)
    saved: dict[str, bytes] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        self.log.listen(lambda upto, outcome: self.told.append((upto, outcome)))

    def append(
        self,
        topic: str,
        *,
        size: int = 60,
        message_id: str = "",
        key: str = "",
        ttl_ms: int = 0,
        rule: TopicRule = RULE,
    ) -> Record:
        """One record, not settled."""
        self.pos += 1
        self.now_ms += 1
        offset = self.offsets[topic] = self.offsets.get(topic, 0) + 1
        payload = payload_of(self.log.name, topic, self.pos, size)
        record = Record(topic, self.pos, offset, self.now_ms, payload, key=key)
        record.expires_ms = self.now_ms + ttl_ms if ttl_ms else 0
        remembered = None
        if message_id:
            remembered = Remembered((topic, "ada", message_id), 7, self.pos, offset, self.now_ms + 60_000)
        self.log.append(record, rule, remembered)
        self.written[self.pos] = record
        return record

    def save(self, name: str, value: bytes) -> None:
        """One value, not settled."""
        self.log.save(name, lambda: value)
        self.saved[name] = value

    def fill(self, count: int) -> None:
        """Some messages of some topics, ids and values, in commits of different sizes."""
        for number in range(count):
            message_id = f"m{self.pos}" if number % 3 == 0 else ""
            self.append(("a", "b/1", "b/2")[number % 3], message_id=message_id, key="k" * (number % 4))
            if number % 5 == 0:
                self.save(f"s{number % 4}", b"value %d" % number)
            if number % 4 == 0:
                self.settle()
        self.settle()

    @classmethod
    def going_on(cls, log: DurableLog, settle: Callable[[], None], before: "Writer") -> "Writer":
        """After a restart: the numbers are those of the file."""
        loaded = log.loaded()
        offsets = {**{topic: log.head() for topic in before.offsets}, **loaded.topics}
        return cls(log, settle, log.head(), before.now_ms, offsets)


@attrs.frozen
class Found:
    """What a log answers."""

    loaded: Loaded
    name: str
    head: int
    records: list[Record]
    has_loss: bool


def look(log: DurableLog, settle: Callable[[], None], filter: str = "#", now_ms: int = 2_000_000) -> Found:
    """Everything of a filter, page by page."""
    records: list[Record] = []
    after, has_loss = 0, False
    while after < log.head():
        pages: list[Page] = []
        log.read(filter, after, 1_000, 50, now_ms, pages.append)
        settle()
        (page,) = pages
        assert page.upto > after, "a read gets on"
        has_loss |= page.loss > 0
        records += page.records
        after = page.upto
    return Found(log.loaded(), log.name, log.head(), records, has_loss)


def as_named(record: Record, name: str) -> Record:
    """The record as a later life with that name has it."""
    start = record.payload.index(b'"log":"') + 7
    return replace(record, payload=record.payload[:start] + name.encode() + record.payload[start + len(name) :])

"""The log on disk when the disk is full or fails: every write, fsync and cut in turn.

Nothing told as committed is ever lost, nothing told as lost or refused ever comes back, nothing that failed is
tried again, and a full disk goes on without a restart once there is room.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Outcome
from triode_broker.log.disk import DiskLog, StoreError, open_log
from triode_broker.log.disk.connection import connect

from tests.log.apsw_disk import FaultyDisk, connector
from tests.log.reopening import RULE, DiskHome, Writer, look

FULL = sqlite3.SQLITE_FULL
WRITES = ("write", "sync", "truncate")


@pytest.fixture(scope="module")
def disk() -> FaultyDisk:
    return FaultyDisk("faulty")


@pytest.fixture(autouse=True)
def healed(disk: FaultyDisk) -> Iterator[None]:
    yield
    disk.heal()


def open_on(
    disk: FaultyDisk, directory: Path, reports: list[str] | None = None, rule: TopicRule = RULE
) -> DiskLog:
    return open_log(
        directory,
        "d0",
        node="n1",
        limits=Limits(),
        new_name=lambda: "d0-life0001",
        rule_of=lambda topic: rule,
        report=lambda event, **facts: reports.append(event) if reports is not None else None,
        connect=connector(disk.name),
        checkpoint_frames=12,
    )


class Story:
    """One run: batches until something goes wrong, and what was said of each record and value."""

    def __init__(self, log: DiskLog) -> None:
        self.log = log
        self.writer = Writer(log, log.run_inline)
        self.by_outcome: dict[Outcome, list[int]] = {"committed": [], "lost": [], "unknown": [], "refused": []}
        self.values: list[Outcome] = []
        log.listen(self.told)
        self.upto = 0

    def told(self, upto: int, outcome: Outcome) -> None:
        assert upto > self.upto
        self.by_outcome[outcome] += range(self.upto + 1, upto + 1)
        self.upto = upto

    def batch(self) -> None:
        """Three records and a value, handed over behind each other; settled."""
        for topic in ("a", "b/1", "a"):
            self.writer.append(topic)
            self.log.close_turn()
        value = b"%d" % self.writer.pos
        self.log.save("count", lambda: value, self.values.append)
        self.log.run_inline()

    def until_it_stops(self, batches: int = 9) -> None:
        for _ in range(batches):
            self.batch()
            self.log.trim(self.writer.now_ms)
            self.log.run_inline()
            if self.log.state != "ok":
                return

    @property
    def committed(self) -> int:
        return max(self.by_outcome["committed"], default=0)


def operations(disk: FaultyDisk, directory: Path, kinds: tuple[str, ...]) -> int:
    """How many operations the story takes."""
    log = open_on(disk, directory)
    disk.fail(kinds, 0, 0, FULL)
    Story(log).until_it_stops()
    count = disk.seen
    log.close()
    return count


@pytest.mark.parametrize(
    ("kinds", "code", "is_full"),
    [
        (("write",), FULL, True),
        (("write",), sqlite3.SQLITE_IOERR_WRITE, False),
        (("sync", "truncate"), sqlite3.SQLITE_IOERR_FSYNC, False),
    ],
)
def test_every_operation_in_turn_fails_once(
    disk: FaultyDisk, tmp_path: Path, kinds: tuple[str, ...], code: int, is_full: bool
) -> None:
    """G2, I1, I8; faults: disk full, EIO, failed fsync."""
    for number in range(1, operations(disk, tmp_path / "count", kinds) + 1):
        home = DiskHome(tmp_path / f"at-{number}")
        log = open_on(disk, home.directory, home.reports)
        disk.fail(kinds, number, number, code)
        story = Story(log)
        story.until_it_stops()
        assert log.state == ("full" if is_full else "failed"), number
        assert ("store_full" if is_full else "store_failed") in home.reports
        after_a_stop(story, is_full)
        log.close()
        reopened(home, story)


def after_a_stop(story: Story, is_full: bool) -> None:
    log, said = story.log, story.by_outcome
    assert not said["unknown" if is_full else "lost"]
    assert log.head() == story.committed
    assert log.uncommitted_bytes == 0
    assert [one.pos for one in look(log, log.run_inline).records] == said["committed"], "reads go on"
    story.writer.append("a")
    log.run_inline()
    assert said["refused"][-1] == story.writer.pos, "later ones are refused"
    log.save("late", lambda: b"x", story.values.append)
    log.run_inline()
    assert story.values[-1] == "refused"
    log.room(story.writer.now_ms)
    log.run_inline()
    if not is_full:
        assert log.state == "failed"
        return
    assert log.state == "ok"
    going_on(story)


def going_on(story: Story) -> None:
    """After a full disk: numbers that were lost are given again, values come by themselves."""
    log = story.log
    lost = [*story.by_outcome["lost"], *story.by_outcome["refused"]]
    for name in ("lost", "refused"):
        story.by_outcome[name] = []
    story.writer.pos = story.upto = log.head()
    for pos in lost:
        story.writer.written.pop(pos, None)
    story.writer.offsets = {
        topic: max((one.offset for one in story.writer.written.values() if one.topic == topic), default=0)
        for topic in ("a", "b/1")
    }
    story.batch()
    assert story.upto == story.writer.pos == log.head()
    assert story.values[-1] == "committed"


def reopened(home: DiskHome, story: Story) -> None:
    """With the real file system: what was told is what is there."""
    log = home.open()
    found = look(log, home.settle)
    there = {one.pos for one in found.records}
    said = story.by_outcome
    assert there >= set(said["committed"])
    assert there <= {*said["committed"], *said["unknown"]}
    assert not found.has_loss
    for record in found.records:
        assert record == story.writer.written[record.pos]
    again = Writer.going_on(log, home.settle, story.writer)
    again.fill(3)
    assert again.told[-1][1] == "committed"
    home.close()


def test_full_disk_stays_full_until_there_is_room(disk: FaultyDisk, tmp_path: Path) -> None:
    """Item 1: disk-full recovers without a restart."""
    log = open_on(disk, tmp_path / "data")
    story = Story(log)
    story.batch()
    disk.fail(("write",), 1, 1_000_000, FULL)
    story.until_it_stops()
    for _ in range(3):
        log.room(story.writer.now_ms)
        log.run_inline()
        assert log.state == "full"
    assert [one.pos for one in look(log, log.run_inline).records] == story.by_outcome["committed"]
    disk.heal()
    log.room(story.writer.now_ms)
    log.run_inline()
    assert log.state == "ok"
    going_on(story)
    log.close()


def test_what_a_full_disk_did_not_let_go_of_goes_later(disk: FaultyDisk, tmp_path: Path) -> None:
    """S8: messages and ids that are over."""
    home = DiskHome(tmp_path / "data")
    log = open_on(disk, home.directory)
    writer = Writer(log, log.run_inline)
    for number in range(3):
        writer.append("a", message_id=f"m{number}", ttl_ms=10)
    writer.settle()
    disk.fail(("write",), 1, 1_000_000, FULL)
    log.trim(writer.now_ms + 100_000)
    log.run_inline()
    assert log.state == "full"
    disk.heal()
    log.room(writer.now_ms)
    log.trim(writer.now_ms + 100_000)
    log.run_inline()
    log.close()
    log = home.open()
    assert (log.loaded().remembered, look(log, home.settle, now_ms=writer.now_ms).records) == ([], [])
    home.close()


def test_value_of_a_full_disk_goes_with_the_next_commit_as_it_is_then(disk: FaultyDisk, tmp_path: Path) -> None:
    home = DiskHome(tmp_path / "data")
    log = open_on(disk, home.directory)
    number = 1
    log.save("count", lambda: b"%d" % number)
    disk.fail(("write",), 1, 1_000_000, FULL)
    log.run_inline()
    assert log.state == "full"
    number = 2
    disk.heal()
    log.room(1)
    log.run_inline()
    log.close()
    assert home.open().loaded().values == {"count": b"2"}
    home.close()


class OutOfMemory:
    """A connection whose checkpoints raise, when told to, what the standard library makes of SQLITE_NOMEM."""

    def __init__(self, path: Path) -> None:
        self.inner = connect(path)
        self.is_out = False

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:
        """One statement."""
        if self.is_out and "wal_checkpoint" in sql:
            raise MemoryError
        return self.inner.execute(sql, parameters)

    def close(self) -> None:
        """As the engine asks."""
        self.inner.close()


def test_checkpoint_that_raises_anything_is_a_failed_store_and_the_commit_before_it_is_told(
    tmp_path: Path,
) -> None:
    """G2: the store thread goes on, and answers."""
    connections: list[OutOfMemory] = []

    def opened(path: Path) -> OutOfMemory:
        connections.append(OutOfMemory(path))
        return connections[-1]

    home = DiskHome(tmp_path / "data")
    log = open_log(
        home.directory,
        "d0",
        node="n1",
        limits=Limits(),
        new_name=home.new_name,
        rule_of=lambda topic: RULE,
        report=lambda event, **facts: home.reports.append(event),
        connect=opened,
        checkpoint_frames=12,
    )
    connections[-1].is_out = True
    story = Story(log)
    story.until_it_stops()
    assert (log.state, home.reports) == ("failed", ["store_failed"])
    after_a_stop(story, is_full=False)
    log.close()
    files = {path: path.read_bytes() for path in home.directory.glob("d0.sqlite*")}
    connections[-1].inner.close()  # which the end of a process does not do: it only lets go of the files
    home.put(files)
    reopened(home, story)


def test_failed_read_costs_a_loss_and_ends_the_writing(disk: FaultyDisk, tmp_path: Path) -> None:
    """Faults: EIO. A reader is told, and not left waiting."""
    log = open_on(disk, tmp_path / "data")
    writer = Writer(log, log.run_inline)
    count = 1_000  # more than SQLite's cache and the newest, which are looked at when it opens
    for _ in range(count):
        writer.append("a", size=20_000)
    log.run_inline()
    log.close()
    log = open_on(disk, tmp_path / "data")
    disk.fail(("read",), 1, 1_000_000, sqlite3.SQLITE_IOERR_READ)
    found = look(log, log.run_inline)
    assert found.has_loss
    assert log.state == "failed"
    assert len(found.records) < count
    disk.heal()
    assert len(look(log, log.run_inline).records) == count
    log.close()


def test_disk_too_full_to_compact_by_a_new_rule_does_not_keep_the_file_closed(
    disk: FaultyDisk, tmp_path: Path
) -> None:
    """The topic follows when there is room; until then it is as it was."""
    compact = TopicRule(storage="disk", compact=True)
    ways: set[str] = set()
    for number in range(1, 250):
        home = DiskHome(tmp_path / f"at-{number}")
        writer = Writer(home.open(), home.settle)
        for key in "kmkn":
            writer.append("a", key=key)
        home.close()
        home.rule = compact
        disk.fail(WRITES, number, number, FULL)
        with suppress(StoreError):
            log = open_on(disk, home.directory, home.reports, compact)
            ways.add(" ".join(home.reports))
            assert log.state == "ok"
            assert len(look(log, log.run_inline).records) == (4 if home.reports else 3)
            log.close()
        disk.heal()
        assert len(look(home.open(), home.settle).records) == 3
        home.close()
        if disk.seen < number:
            assert ways == {"", "rules_not_followed"}
            return
    raise AssertionError("it takes less than that")


@pytest.mark.parametrize("code", [FULL, sqlite3.SQLITE_IOERR_WRITE])
@pytest.mark.parametrize("is_new", [True, False])
def test_opening_that_fails_anywhere_can_be_repeated(
    disk: FaultyDisk, tmp_path: Path, code: int, is_new: bool
) -> None:
    for number in range(1, 250):
        home = DiskHome(tmp_path / f"at-{number}")
        if not is_new:
            writer = Writer(home.open(), home.settle)
            writer.fill(8)
            home.kill()
        disk.fail(WRITES, number, number, code)
        with suppress(StoreError):
            open_on(disk, home.directory).close()
        disk.heal()
        log = home.open()
        assert len(look(log, home.settle).records) == (0 if is_new else 8)
        home.close()
        if disk.seen < number:
            return
    raise AssertionError("it takes less than that")

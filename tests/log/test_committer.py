"""The committer: a real thread beside the loop; commits are told, readers reach the end, the end is in order."""

import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import trio
from triode_broker.core.interfaces import Outcome, Page
from triode_broker.log.committer import serve
from triode_broker.log.disk import DiskLog
from triode_broker.log.disk.store import Store

from tests.house.tree import ROOT
from tests.log.reopening import DiskHome, Writer, look


@pytest.fixture
def home(tmp_path: Path) -> DiskHome:
    return DiskHome(tmp_path / "data")


class Seat:
    """Where the loop's side sits: counts flushes, keeps reports."""

    def __init__(self) -> None:
        self.flushes = 0
        self.reports: list[tuple[str, dict[str, object]]] = []

    def flush(self) -> None:
        self.flushes += 1

    def report(self, event: str, **facts: object) -> None:
        self.reports.append((event, facts))


class Commits:
    """Hears what is told, and waits for it."""

    def __init__(self, log: DiskLog) -> None:
        self.told: list[tuple[int, Outcome]] = []
        self._changed = trio.Event()
        log.listen(self.hear)

    def hear(self, upto: int, outcome: Outcome) -> None:
        self.told.append((upto, outcome))
        self._changed.set()

    async def upto(self, pos: int) -> None:
        with trio.fail_after(20):
            while not self.told or self.told[-1][0] < pos:
                await self._changed.wait()
                self._changed = trio.Event()


async def test_commit_is_told_and_flushed(home: DiskHome, nursery: trio.Nursery) -> None:
    log, seat = home.open(), Seat()
    writer = Writer(log, home.settle)
    commits = Commits(log)
    await nursery.start(serve, [log], seat.flush, seat.report)
    for _ in range(10):
        writer.append("a")
    assert log.head() == 0
    await commits.upto(10)
    assert commits.told == [(10, "committed")], "one turn of the loop is one commit"
    assert (log.head(), log.uncommitted_bytes) == (10, 0)
    assert seat.flushes > 0


async def test_what_was_accepted_is_committed_and_closed_at_the_end(home: DiskHome) -> None:
    """A clean stop: nothing is lost, and the next start finds no unclean one."""
    log, seat = home.open(), Seat()
    writer = Writer(log, home.settle)
    commits = Commits(log)
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, [log], seat.flush, seat.report)
        for _ in range(5):
            writer.append("a")
        log.save("state", lambda: b"1", outcomes.append)
        nursery.cancel_scope.cancel()
    assert (commits.told, outcomes) == ([(5, "committed")], ["committed"])
    assert not (home.directory / "d0.sqlite-wal").exists()
    log = home.open()
    assert (log.head(), log.loaded().reason, log.loaded().values) == (5, "", {"state": b"1"})
    home.close()


async def test_reader_is_told_that_it_got_to_the_end_while_it_is_the_end(
    home: DiskHome, nursery: trio.Nursery
) -> None:
    """G4: or it would chase the head for ever, and the hand-over to live never happen."""
    log, seat = home.open(), Seat()
    writer = Writer(log, home.settle)
    commits = Commits(log)
    await nursery.start(serve, [log], seat.flush, seat.report)
    ends: list[bool] = []

    def found(page: Page) -> None:
        ends.append(page.upto == log.head())
        if len(ends) < 30:
            writer.append("b")
            log.read("#", 0, 10**6, 5_000, 2_000_000, found)

    for _ in range(50):
        writer.append("a")
        log.read("#", 0, 10**6, 5_000, 2_000_000, found)
        await trio.lowlevel.checkpoint()
    await commits.upto(50)
    with trio.fail_after(20):
        while len(ends) < 50:
            await trio.lowlevel.checkpoint()
    assert all(ends)


async def test_broken_callback_ends_nothing_else(home: DiskHome, nursery: trio.Nursery) -> None:
    log, seat = home.open(), Seat()
    writer = Writer(log, home.settle)
    await nursery.start(serve, [log], seat.flush, seat.report)

    def broken(page: Page) -> None:
        raise ValueError("a bug")

    log.read("#", 0, 1, 1, 1, broken)
    log.save("bad", lambda: bytes(1 // 0))
    commits = Commits(log)
    writer.append("a")
    await commits.upto(1)
    assert [event for event, _ in seat.reports] == ["callback_failed"] * 2


async def test_bug_in_the_thread_fails_the_store_and_leaves_nobody_waiting(
    home: DiskHome, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, seat = home.open(), Seat()
    writer = Writer(log, home.settle)
    commits = Commits(log)
    await nursery.start(serve, [log], seat.flush, seat.report)
    monkeypatch.setattr(Store, "_save", lambda self, values: 1 // 0)
    log.save("a", lambda: b"1")
    writer.append("a")
    await commits.upto(1)
    assert log.state == "failed"
    writer.append("a")
    await commits.upto(2)
    assert commits.told == [(1, "unknown"), (2, "refused")]


async def test_each_log_has_a_thread_of_its_own(tmp_path: Path, nursery: trio.Nursery) -> None:
    homes = [DiskHome(tmp_path / name) for name in ("one", "two")]
    logs = [home.open() for home in homes]
    seat = Seat()
    writers = [Writer(log, home.settle) for log, home in zip(logs, homes, strict=True)]
    commits = [Commits(log) for log in logs]
    await nursery.start(serve, logs, seat.flush, seat.report)
    for writer in writers:
        writer.append("a")
    for one in commits:
        await one.upto(1)
    assert [log.head() for log in logs] == [1, 1]


async def test_many_writers_and_savers_are_grouped_in_order(home: DiskHome, nursery: trio.Nursery) -> None:
    """Order under concurrent appends; a value is never older than a record of its step."""
    log, seat = home.open(), Seat()
    writer = Writer(log, home.settle)
    commits = Commits(log)
    await nursery.start(serve, [log], seat.flush, seat.report)
    seen: list[tuple[int, int]] = []

    def note(at: int, outcome: Outcome) -> None:
        seen.append((at, log.head()))

    async def write(topic: str) -> None:
        for _ in range(60):
            record = writer.append(topic, size=30)
            log.save("newest", lambda: b"%d" % writer.pos, partial(note, record.pos))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as writers:
        for number in range(8):
            writers.start_soon(write, f"t/{number}")
    await commits.upto(480)
    assert [upto for upto, _ in commits.told] == sorted({upto for upto, _ in commits.told})
    assert all(head >= at for at, head in seen)
    assert len(seen) == 480
    assert log.commits < 480


def test_killed_process_keeps_what_it_was_told(tmp_path: Path) -> None:
    """G1: kill -9 at any moment; here from outside, while it writes."""
    script = f"""
        import sys
        import trio
        from pathlib import Path
        from triode_broker.log.committer import serve
        from tests.log.reopening import DiskHome, Writer

        async def main():
            home = DiskHome(Path({str(tmp_path / "data")!r}))
            log = home.open()
            writer = Writer(log, home.settle)
            log.listen(lambda upto, outcome: print(upto, flush=True))
            async with trio.open_nursery() as nursery:
                await nursery.start(serve, [log], lambda: None, print)
                while True:
                    for _ in range(20):
                        writer.append("a")
                    await trio.lowlevel.checkpoint()

        trio.run(main)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    told = 0
    while told < 500:
        told = int(process.stdout.readline())
    process.kill()
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    told = int(rest[-1]) if rest else told
    home = DiskHome(tmp_path / "data")
    log = home.open()
    assert (log.name, log.loaded().reason) == ("d0-life0001", "")
    assert log.head() >= told
    assert [one.pos for one in look(log, home.settle).records] == list(range(1, log.head() + 1))
    home.close()

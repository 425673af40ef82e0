"""Power cuts: unflushed sectors gone, torn, or there in any order; no message told as committed is ever lost.

I1, I2, I3, I7 and I8 at the engine itself, over several lives on one disk. A run whose commits are not flushed
must be caught, or these tests are too weak.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.record import Record
from triode_broker.log.disk import DiskLog, open_log
from triode_broker.log.disk.connection import Connection

from tests.crash.power import PowerDisk
from tests.log.apsw_disk import connector
from tests.log.reopening import DiskHome, Writer, as_named, look

SEEDS = 40
CUTS = 3  # of each seed, one behind the other on the same files
FEW = TopicRule(storage="disk", retention_messages=12)
STATE = TopicRule(storage="disk", compact=True)
ALL = TopicRule(storage="disk")
RULES = {"few": FEW, "state": STATE}


@pytest.fixture(scope="module")
def disk() -> PowerDisk:
    return PowerDisk("power")


class Lives:
    """One directory over several lives: what was told, and what may be there besides."""

    def __init__(self, directory: Path, disk: PowerDisk, connect: Callable[[Path], Connection]) -> None:
        self.home = DiskHome(directory)
        self.disk = disk
        self.connect = connect
        self.told: dict[int, Record] = {}
        self.values: dict[str, bytes] = {}  # told
        self.may_be: dict[int, list[Record]] = {}  # attempted, by pos
        self.cuts = self.new_lives = 0

    def open(self) -> DiskLog:
        log = open_log(
            self.home.directory,
            "d0",
            node="n1",
            limits=Limits(),
            new_name=self.home.new_name,
            rule_of=lambda topic: RULES.get(topic, ALL),
            report=lambda event, **facts: None,
            connect=self.connect,
            checkpoint_frames=10,
        )
        self.home.log = log
        return log

    def live(self, seed: int, cut_at: int, survivors: float) -> int:
        """One life, cut at some operation. Returns how many operations it took."""
        self.disk.plug_in(seed, cut_at, survivors)
        random = Random(seed)
        log = self.open()
        self.write(log, random)
        if self.disk.picture is None and random.random() < 0.5:
            self.disk.cut()  # while it is open; else in the middle of the closing, or behind it
        log.close()
        if self.disk.picture is None:
            self.disk.cut()
        assert self.disk.picture is not None
        self.cuts += 1
        for path in self.home.directory.glob("d0.sqlite*"):
            if path not in self.disk.picture:
                path.unlink()
        self.home.put(self.disk.picture)
        return self.disk.operations

    def write(self, log: DiskLog, random: Random) -> None:
        writer = Writer(log, log.run_inline, log.head(), 1_000_000 + log.head())
        writer.offsets = {**dict.fromkeys(("a", "few", "state"), log.head()), **log.loaded().topics}
        for batch in range(25):
            records = []
            for _ in range(random.randrange(1, 9)):
                topic = random.choice(("a", "few", "state"))
                record = writer.append(
                    topic,
                    size=random.randrange(3, 1_500),
                    message_id=f"m{writer.pos}",
                    key=f"k{random.randrange(6)}",
                    rule=RULES.get(topic, ALL),
                )
                records.append(record)
                self.may_be.setdefault(record.pos, []).append(record)
            outcomes: list[str] = []
            value = b"%d" % writer.pos
            log.save("newest", lambda value=value: value, outcomes.append)  # type: ignore[misc]  # bound now
            log.run_inline()
            if batch % 6 == 5:
                log.trim(writer.now_ms)
                log.run_inline()
            if self.disk.picture is not None:
                return  # what it hears now is nothing that anybody is told of
            assert outcomes == ["committed"]
            self.told |= {record.pos: record for record in records}
            self.values["newest"] = value

    def judge(self) -> None:
        """What is there now: everything told that its rule retains, nothing that was never sent."""
        name = self.home.log.name if self.home.log else ""
        log = self.home.open()
        self.new_lives += log.name != name
        found = look(log, self.home.settle)
        there = {record.pos: record for record in found.records}
        for pos, record in there.items():
            assert any(record == as_named(one, log.name) for one in self.may_be[pos]), "never a wrong one"
        missing = [one for pos, one in self.told.items() if pos not in there and one.topic == "a"]
        assert not missing, "told as committed, and gone"
        keys = {one.key for one in there.values() if one.topic == "state"}
        assert {one.key for one in self.told.values() if one.topic == "state"} <= keys, (
            "told as committed, and gone"
        )
        newest = [one for one in self.told.values() if one.topic == "few"][-12:]
        behind = max((one.offset for one in there.values() if one.topic == "few"), default=0)
        assert all(one.pos in there or one.offset <= behind - 12 for one in newest), "told as committed, and gone"
        assert log.head() >= max(self.told, default=0), "no number is given twice"
        assert int(log.loaded().values.get("newest", b"0")) >= int(self.values.get("newest", b"0"))
        ids = {one.pos for one in log.loaded().remembered}
        assert set(self.told) <= ids
        for pos in [pos for pos in self.may_be if pos > log.head()]:
            del self.may_be[pos]  # the number is free
        self.home.close()


def operations(tmp_path: Path, disk: PowerDisk) -> int:
    lives = Lives(tmp_path / "count", disk, connector(disk.name))
    return lives.live(0, 0, 1.0)


def test_no_acknowledged_message_is_lost_in_any_power_cut(disk: PowerDisk, tmp_path: Path) -> None:
    """At least 100 power cuts with 0 acknowledged messages lost."""
    most = operations(tmp_path, disk)
    cuts = new_lives = told = 0
    for seed in range(SEEDS):
        lives = Lives(tmp_path / str(seed), disk, connector(disk.name))
        random = Random(seed)
        for number in range(CUTS):
            lives.live(seed * 10 + number, random.randrange(1, most), random.choice((0.0, 0.3, 0.7, 1.0)))
            lives.judge()
        cuts += lives.cuts
        new_lives += lives.new_lives
        told += len(lives.told)
    assert cuts == SEEDS * CUTS >= 100
    assert told > 2_000, "power was there long enough to tell of something"


def test_commits_that_are_not_flushed_are_caught(disk: PowerDisk, tmp_path: Path) -> None:
    """The planted bug: `synchronous` is not FULL."""

    class Careless:
        def __init__(self, path: Path) -> None:
            self._inner = connector(disk.name)(path)

        def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
            return self._inner.execute(sql.replace("synchronous=FULL", "synchronous=NORMAL"), parameters)

        def close(self) -> None:
            self._inner.close()

    most = operations(tmp_path, disk)

    def run() -> None:
        for seed in range(SEEDS):
            lives = Lives(tmp_path / str(seed), disk, lambda path: Careless(path))
            lives.live(seed, Random(seed).randrange(1, most), 0.3)
            lives.judge()

    with pytest.raises(AssertionError, match="told as committed, and gone"):
        run()

"""Opening the log on disk: who may, whose life goes on, what is upgraded, what is laid aside."""

import os
import shutil
import sqlite3
import stat
from pathlib import Path
from zlib import crc32

import pytest
from triode_broker.config import Limits
from triode_broker.core.interfaces import Page
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record
from triode_broker.log.disk import DiskLog, StoreError, open_log, schema
from triode_broker.log.disk.sums import message_sum, row_sum

from tests.log.reopening import RULE, DiskHome, Writer, as_named, look


@pytest.fixture
def home(tmp_path: Path) -> DiskHome:
    return DiskHome(tmp_path / "data")


@pytest.fixture
def written(home: DiskHome) -> Writer:
    """Twelve messages in a file that was closed."""
    writer = Writer(home.open(), home.settle)
    writer.fill(12)
    home.close()
    return writer


def open_as(home: DiskHome, *, node: str = "n1", shard: str = "d0", restored: bool = False) -> DiskLog:
    home.log = open_log(
        home.directory,
        shard,
        node=node,
        limits=Limits(),
        new_name=home.new_name,
        rule_of=lambda topic: RULE,
        restored=restored,
        report=lambda event, **facts: home.reports.append(event),
        checkpoint_frames=12,
    )
    return home.log


def is_a_new_life(home: DiskHome, log: DiskLog, written: Writer, why: str) -> None:
    """Everything is readable under the new name, numbers go on behind the old ones."""
    loaded = log.loaded()
    assert log.name != written.log.name
    assert loaded.previous == written.log.name
    assert why in loaded.reason
    assert "store_has_new_life" in home.reports
    found = look(log, home.settle)
    assert found.records == [as_named(one, log.name) for one in written.written.values()]
    assert (loaded.topics, loaded.values, len(loaded.remembered)) == (written.offsets, written.saved, 4)
    again = Writer.going_on(log, home.settle, written)
    again.fill(3)
    assert [one.pos for one in look(log, home.settle).records] == list(range(1, 16))
    home.close()
    log = home.open()
    assert (log.name, log.loaded().reason) == (again.log.name, ""), "told once"
    home.close()


# Whose life goes on


def test_copied_file_begins_a_new_life(home: DiskHome, written: Writer) -> None:
    copy = home.directory / "copy"
    shutil.copy(home.directory / "d0.sqlite", copy)
    copy.replace(home.directory / "d0.sqlite")
    is_a_new_life(home, home.open(), written, "the file is a copy")


def test_file_of_another_node_begins_a_new_life(home: DiskHome, written: Writer) -> None:
    is_a_new_life_of_another(home, open_as(home, node="n2"), written, "a copy of node n1")


def test_file_of_another_shard_begins_a_new_life(home: DiskHome, written: Writer) -> None:
    (home.directory / "d0.sqlite").rename(home.directory / "d1.sqlite")
    is_a_new_life_of_another(home, open_as(home, shard="d1"), written, "a copy of shard d0")


def is_a_new_life_of_another(home: DiskHome, log: DiskLog, written: Writer, why: str) -> None:
    assert log.name != written.log.name
    assert why in log.loaded().reason
    assert len(look(log, home.settle).records) == 12
    home.close()


def test_restored_file_begins_a_new_life(home: DiskHome, written: Writer) -> None:
    is_a_new_life(home, open_as(home, restored=True), written, "restored")


@pytest.mark.parametrize("is_there", [False, True])
def test_missing_write_ahead_log_after_an_unclean_stop_begins_a_new_life(home: DiskHome, is_there: bool) -> None:
    writer = Writer(home.open(), home.settle)
    writer.fill(12)
    home.kill()
    if is_there:
        home.put({home.directory / "d0.sqlite-wal": b""})
    else:
        (home.directory / "d0.sqlite-wal").unlink()
    log = home.open()
    assert log.name != writer.log.name
    assert "missing" in log.loaded().reason
    home.close()


def test_new_life_of_a_new_life_names_every_message_anew(home: DiskHome, written: Writer) -> None:
    log = open_as(home, restored=True)
    again = Writer.going_on(log, home.settle, written)
    again.fill(5)
    home.close()
    log = open_as(home, restored=True)
    assert log.loaded().previous == again.log.name
    everything = [*written.written.values(), *again.written.values()]
    assert look(log, home.settle).records == [as_named(one, log.name) for one in everything]
    records, _ = read_back(log, home)
    assert records[-1].payload.count(log.name.encode()) == 1
    home.close()


def read_back(log: DiskLog, home: DiskHome) -> tuple[list[Record], bool]:
    answers: list[tuple[list[Record], bool]] = []
    log.read_back("a", 10**9, 10**6, 100, 2_000_000, lambda *answer: answers.append(answer))
    home.settle()
    return answers[0]


def test_name_within_a_text_is_left_alone(home: DiskHome) -> None:
    """Only the packet's own field is the log's name."""
    log = home.open()
    payload = b'{"topic":"\\"log\\":\\"d0-life0001\\"","log":"d0-life0001","data":{"log":"d0-life0001"}}'
    log.append(Record("a", 1, 1, 1, payload), RULE)
    home.settle()
    home.close()
    log = open_as(home, restored=True)
    (record,) = look(log, home.settle).records
    assert record.payload == payload.replace(b',"log":"d0-life0001"', b',"log":"d0-life0002"')
    home.close()


# Who may


def test_second_opener_is_refused_with_what_to_do(home: DiskHome) -> None:
    home.open()
    with pytest.raises(StoreError, match="is in use by another triode"):
        DiskHome(home.directory).open()
    home.close()
    home.open()
    home.close()


def test_files_are_the_owners_alone(home: DiskHome) -> None:
    """S31: whatever the umask."""
    before = os.umask(0)
    try:
        writer = Writer(home.open(), home.settle)
        writer.fill(3)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.directory.iterdir()}
        assert modes == dict.fromkeys(("d0.lock", "d0.sqlite", "d0.sqlite-wal"), 0o600)
        assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    home.close()


def test_file_that_others_could_read_is_closed_to_them(home: DiskHome, written: Writer) -> None:
    (home.directory / "d0.sqlite").chmod(0o644)
    home.open()
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.directory.iterdir()} == {0o600}
    home.close()


def test_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    home = DiskHome(tmp_path)
    home.open()
    home.close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_path_that_is_no_directory_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match=r"cannot use .*data for data"):
        DiskHome(tmp_path / "data").open()
    with pytest.raises(StoreError, match=r"cannot use .*more for data"):
        DiskHome(tmp_path / "data" / "more").open()


def test_file_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d0.sqlite").mkdir()
    with pytest.raises(StoreError, match="cannot open"):
        DiskHome(tmp_path).open()


# Layouts


def first_layout(path: Path) -> Remembered:
    """A file as the first layout had it: one topic, two messages, one id."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT, sum INTEGER)",
        "CREATE TABLE topic(id INTEGER PRIMARY KEY, name TEXT, offset INTEGER, total INTEGER, trimmed_pos INTEGER,"
        " trimmed_offset INTEGER, trimmed_ts INTEGER, loss INTEGER, is_sparse INTEGER, is_compacted INTEGER,"
        " sum INTEGER)",
        "CREATE TABLE message(pos INTEGER PRIMARY KEY, topic INTEGER, offset INTEGER, ts INTEGER, expires INTEGER,"
        " cum INTEGER, key TEXT, compacted INTEGER, tombstone INTEGER, payload_sum INTEGER, sum INTEGER,"
        " payload BLOB)",
        "CREATE INDEX message_topic ON message(topic)",
        "CREATE INDEX message_key ON message(topic, key) WHERE compacted",
        "CREATE TABLE id(number INTEGER PRIMARY KEY, topic TEXT, user TEXT, message_id TEXT, digest INTEGER,"
        " pos INTEGER, offset INTEGER, expires INTEGER, sum INTEGER)",
        "CREATE INDEX id_expires ON id(expires)",
    ):
        db.execute(statement)
    facts = {"version": 1, "log": "d0-before", "node": "n1", "shard": "d0", "inode": path.stat().st_ino}
    facts |= dict.fromkeys(("is_open", "epoch", "head", "ts", "forgotten", "forgotten_loss"), 0)
    facts |= {"has_forgotten": 0, "renamed_upto": 0, "wal_bytes": 0, "forgotten_ts": -1}
    for name, value in facts.items():
        db.execute("INSERT INTO meta VALUES (?,?,?)", (name, str(value), row_sum(name, value)))
    topic = (1, "a", 0, 0, 0, 0, -1, 0, 0, 0)
    db.execute(f"INSERT INTO topic VALUES ({'?,' * 10}?)", (*topic, row_sum(*topic)))
    for pos in (1, 2):
        payload = b"x%d" % pos
        checked = (pos, "a", pos, 1_000, 0, (pos - 1) * 182, "", 0, 0, crc32(payload))
        row = (pos, 1, *checked[2:], message_sum(*checked), payload)
        db.execute(f"INSERT INTO message VALUES ({'?,' * 11}?)", row)
    id = ("a", "ada", "m1", 5, 2, 2, 9_000)
    db.execute("INSERT INTO id VALUES (NULL,?,?,?,?,?,?,?,?)", (*id, row_sum(*id)))
    db.execute("PRAGMA user_version=1")
    db.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
    db.close()
    return Remembered(("a", "ada", "m1"), 5, 2, 2, 9_000)


def test_file_of_the_first_layout_is_upgraded(home: DiskHome) -> None:
    """Schema versioned, an upgrade path tested: the same life, and everything of it."""
    home.directory.mkdir()
    path = home.directory / "d0.sqlite"
    remembered = first_layout(path)
    log = home.open()
    loaded = log.loaded()
    assert (log.name, loaded.reason, loaded.topics, loaded.ts) == ("d0-before", "", {"a": 2}, 1_000)
    assert loaded.remembered == [remembered]
    assert [one.payload for one in look(log, home.settle).records] == [b"x1", b"x2"]
    writer = Writer(log, home.settle, 2, 2_000, {"a": 2})
    writer.append("a")
    writer.save("state", b"1")
    writer.settle()
    home.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    db.close()
    log = home.open()
    assert (log.name, log.head(), log.loaded().values) == ("d0-before", 3, {"state": b"1"})
    home.close()


def test_upgrade_that_fails_leaves_the_old_layout(home: DiskHome, tmp_path: Path) -> None:
    home.directory.mkdir()
    path = home.directory / "d0.sqlite"
    first_layout(path)
    db = sqlite3.connect(path)
    found = db.execute("SELECT sql FROM sqlite_master").fetchall()
    db.close()
    lock = path.with_name("reader")
    os.link(path, lock)
    reader = sqlite3.connect(lock, isolation_level=None)
    reader.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        home.open()
    reader.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT sql FROM sqlite_master").fetchall() == found
    db.close()
    assert home.open().name == "d0-before"
    home.close()


def test_file_of_a_newer_triode_is_refused_and_left_alone(home: DiskHome, written: Writer) -> None:
    change(home, "PRAGMA user_version=9", ("version", 9))
    before = (home.directory / "d0.sqlite").read_bytes()
    with pytest.raises(StoreError, match="layout 9, this Triode knows 2: start the newer Triode"):
        home.open()
    assert (home.directory / "d0.sqlite").read_bytes() == before


def test_version_damaged_in_one_place_is_no_newer_triode(home: DiskHome, written: Writer) -> None:
    change(home, "PRAGMA user_version=66")
    is_a_new_life(home, home.open(), written, "version is damaged")


def change(home: DiskHome, statement: str, *facts: tuple[str, int]) -> None:
    db = sqlite3.connect(home.directory / "d0.sqlite", isolation_level=None)
    db.execute(statement)
    for name, value in facts:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?,?,?)", (name, str(value), row_sum(name, value)))
    db.close()


# Damage


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE meta SET value = 'd0-other' WHERE name = 'log'", "the fact log is damaged"),
        ("UPDATE meta SET value = 999 WHERE name = 'forgotten'", "the fact forgotten is damaged"),
        ("UPDATE kept SET value = x'00' WHERE name = 's0'", "1 damaged saved values"),
        ("UPDATE id SET pos = pos + 1 WHERE number = 2", "1 damaged message ids"),
        ("UPDATE message SET payload = x'7b7d' WHERE pos = 12", "1 damaged messages among the newest"),
        ("UPDATE message SET offset = 9 WHERE pos = 11", "damaged messages among the newest"),
        ("UPDATE message SET ts = 'x' WHERE pos = 11", "damaged messages among the newest"),
        ("UPDATE topic SET name = 'z' WHERE id = 1", "1 damaged topics"),
        ("UPDATE message SET pos = 0 WHERE pos = 1", "a message has no number"),
    ],
)
def test_damaged_row_begins_a_new_life_once(home: DiskHome, written: Writer, statement: str, why: str) -> None:
    change(home, statement)
    log = home.open()
    assert why in log.loaded().reason
    assert log.name != written.log.name
    for record in look(log, home.settle).records:
        assert record == as_named(written.written[record.pos], log.name)
    again = Writer.going_on(log, home.settle, written)
    again.fill(3)
    assert again.told[-1] == (15, "committed")
    home.close()
    log = home.open()
    assert (log.name, log.loaded().reason) == (again.log.name, "")
    home.close()


@pytest.mark.parametrize("filter", ["a", "#"])
def test_damaged_message_is_a_loss_and_not_served(home: DiskHome, filter: str) -> None:
    """I6: the gap comes before the message behind it. Far behind the newest, which are looked at when it opens."""
    writer = Writer(home.open(), home.settle)
    for _ in range(5_000):
        writer.append("a", size=3)
    home.settle()
    home.close()
    change(home, "UPDATE message SET payload = x'7b7d' WHERE pos = 7")
    log = home.open()
    assert log.loaded().reason == ""
    first = page(log, home, filter, 0)
    assert ([one.pos for one in first[0]], first[1], first[2]) == ([1, 2, 3, 4, 5, 6], 6, 0)
    second = page(log, home, filter, 6)
    assert second[0][0].pos == 8
    assert second[2] > 0
    third = page(log, home, filter, 7)
    assert third[2] == 0
    assert home.reports.count("damaged_message") == 1
    home.close()


@pytest.mark.parametrize("filter", ["a", "#"])
def test_vanished_message_is_a_loss(home: DiskHome, filter: str) -> None:
    """A row can go with its page: the offsets say so."""
    writer = Writer(home.open(), home.settle)
    for _ in range(20):
        writer.append("a")
    home.settle()
    home.close()
    change(home, "DELETE FROM message WHERE pos = 7")
    log = home.open()
    assert [one.pos for one in page(log, home, filter, 0)[0]] == [1, 2, 3, 4, 5, 6]
    assert page(log, home, filter, 6)[2] > 0
    home.close()


def page(log: DiskLog, home: DiskHome, filter: str, after: int) -> tuple[list[Record], int, int]:
    found: list[Page] = []
    log.read(filter, after, 10**6, 5_000, 2_000_000, found.append)
    home.settle()
    return found[0].records, found[0].upto, found[0].loss


def test_file_that_cannot_be_read_is_laid_aside_and_kept(home: DiskHome, written: Writer) -> None:
    path = home.directory / "d0.sqlite"
    damaged = b"no database".ljust(5_000, b"x")
    home.put({path: damaged})
    log = home.open()
    (aside,) = home.directory.glob("d0.sqlite.damaged-*")
    assert aside.read_bytes() == damaged
    assert aside.name in log.loaded().reason
    assert (log.head(), "store_laid_aside" in home.reports) == (0, True)
    writer = Writer(log, home.settle)
    writer.fill(3)
    home.close()
    home.put({path: b"again no database"})
    home.open()
    assert len(list(home.directory.glob("d0.sqlite.damaged-*"))) == 2
    home.close()

"""Retention of the log on disk: bounded pieces between commits, and everything still right after a restart.

What retention means is the contract's (`test_contract`, `test_compaction`); here is what only a store of its own
has: pieces, restarts in between, topics and ids that end, rules that change.
"""

import sqlite3
from pathlib import Path

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Page, Place
from triode_broker.core.message_ids import MessageIds, Remembered
from triode_broker.core.record import Record
from triode_broker.log.disk import DiskLog
from triode_broker.log.disk.connection import connect
from triode_broker.log.disk.retention import PIECE_ROWS
from triode_protocol.packets import Start

from tests.log.reopening import RULE, DiskHome, Writer, look


@pytest.fixture
def home(tmp_path: Path) -> DiskHome:
    return DiskHome(tmp_path / "data")


def positions(records: list[Record]) -> list[int]:
    return [record.pos for record in records]


def reopened(home: DiskHome, rule: TopicRule = RULE) -> DiskLog:
    home.close()
    home.rule = rule
    return home.open()


def trim(log: DiskLog, now_ms: int) -> None:
    log.trim(now_ms)
    log.run_inline()


def test_excess_leaves_within_commits_while_traffic_goes_on(home: DiskHome) -> None:
    """Without stopping traffic: no trim is called, and yet the topic stays about what its rule says."""
    rule = TopicRule(storage="disk", retention_messages=100)
    writer = Writer(home.open(), home.settle)
    for _ in range(40):
        for _ in range(25):
            writer.append("a", size=9, rule=rule)
        writer.settle()
        found = look(writer.log, home.settle, "a")
        assert len(found.records) <= 100 + 100 // 16 + 25
    assert found.has_loss
    assert positions(found.records)[-1] == 1_000
    home.close()


def test_trim_works_in_pieces_and_lets_commits_between(home: DiskHome) -> None:
    rule = TopicRule(storage="disk", retention_seconds=1)
    writer = Writer(home.open(), home.settle)
    count = 3 * PIECE_ROWS
    for _ in range(count):
        writer.append("a", size=9, rule=rule)
    writer.settle()
    heads: list[int] = []
    log = writer.log
    log.trim(writer.now_ms + 5_000)
    writer.append("b")
    for _ in range(3):
        log.read("a", 0, 10**6, 5_000, writer.now_ms, lambda page: heads.append(page.records[0].pos))
    home.settle()
    assert log.head() == count + 1
    assert heads == [PIECE_ROWS + 1] * 3, "reads were asked before the second piece was"
    assert positions(look(log, home.settle).records) == [count + 1]
    home.close()


def test_numbers_and_losses_outlive_the_messages(home: DiskHome) -> None:
    """I7: a topic that holds nothing any more goes on with its next offset."""
    rule = TopicRule(storage="disk", retention_seconds=1)
    writer = Writer(home.open(), home.settle)
    for _ in range(5):
        writer.append("a", rule=rule)
    writer.settle()
    trim(home.log or home.open(), writer.now_ms + 5_000)
    before = look(writer.log, home.settle)
    assert (before.records, before.has_loss) == ([], True)
    log = reopened(home, rule)
    assert (log.head(), log.loaded().topics, log.loaded().ts) == (5, {"a": 5}, writer.now_ms)
    assert look(log, home.settle, "a").has_loss
    again = Writer.going_on(log, home.settle, writer)
    record = again.append("a", rule=rule)
    again.settle()
    assert (record.pos, record.offset) == (6, 6)
    assert positions(look(log, home.settle, "a").records) == [6]
    home.close()


@pytest.mark.parametrize("is_killed", [True, False])
def test_number_of_a_newest_message_that_expired_is_not_given_again(home: DiskHome, *, is_killed: bool) -> None:
    """I3, I7: while an older one of its topic, which lives longer, is still there."""
    writer = Writer(home.open(), home.settle)
    for ttl_ms in (0, 10, 10):
        writer.append("a", ttl_ms=ttl_ms)
        writer.settle()
    writer.append("b", ttl_ms=10)
    writer.settle()
    trim(home.log or home.open(), writer.now_ms + 60)
    if is_killed:
        home.kill()
    else:
        home.close()
    log = home.open()
    assert (log.head(), log.loaded().topics) == (4, {"a": 3, "b": 1})
    home.close()


@pytest.mark.parametrize("is_killed", [True, False])
def test_numbers_of_what_a_commit_removes_at_once_are_not_given_again(home: DiskHome, *, is_killed: bool) -> None:
    """I3: nothing is retained, and it had expired before the disk was ready for it, so it is no loss either."""
    rule = TopicRule(storage="disk", retention_messages=0)
    writer = Writer(home.open(), home.settle)
    writer.append("b", rule=rule)
    writer.append("a", ttl_ms=1, rule=rule)
    writer.append("a", ttl_ms=1, rule=rule).expires_ms = writer.now_ms
    writer.settle()
    if is_killed:
        home.kill()
    else:
        home.close()
    log = home.open()
    assert (log.head(), log.loaded().topics) == (3, {"a": 2, "b": 1})
    home.close()


def test_rules_hold_after_a_restart_before_anything_is_appended(home: DiskHome) -> None:
    writer = Writer(home.open(), home.settle)
    writer.fill(9)
    log = reopened(home, TopicRule(storage="disk", retention_messages=1))
    trim(log, writer.now_ms)
    assert positions(look(log, home.settle).records) == [7, 8, 9]
    home.close()


def test_loss_numbers_go_on_after_a_restart(home: DiskHome) -> None:
    """SPEC 4.6.1: a subscription that remembers a loss is told of the next one."""
    rule = TopicRule(storage="disk", retention_messages=1)
    writer = Writer(home.open(), home.settle)
    losses = []
    for _ in range(3):
        for _ in range(2):
            writer.append("a", rule=rule)
        writer.settle()
        trim(home.log or home.open(), writer.now_ms)
        losses.append(place(home).loss)
        log = reopened(home, rule)
        assert place(home).loss == losses[-1]
        writer = Writer.going_on(log, home.settle, writer)
    assert losses == sorted(set(losses))
    home.close()


def place(home: DiskHome) -> Place:
    found: list[Place] = []
    assert home.log is not None
    home.log.seek("#", Start(), 2_000_000, found.append)
    home.settle()
    return found[0]


def test_topics_that_hold_nothing_are_forgotten_beyond_the_bound(home: DiskHome) -> None:
    """S8: their losses are remembered together, their numbers never come back."""
    rule = TopicRule(storage="disk", retention_seconds=1)
    home.rule, home.limits = rule, Limits(max_shard_topics=10)
    log = home.open()
    writer = Writer(log, log.run_inline)
    for number in range(30):
        writer.append(f"t/{number}", rule=rule)
    writer.settle()
    assert len(log.loaded().topics) == 0
    trim(log, writer.now_ms + 5_000)
    for _ in range(3):
        trim(log, writer.now_ms + 6_000)
    writer.append("late", rule=rule)
    writer.settle()
    assert look(log, log.run_inline, "late").has_loss, "it may have been there before"
    assert look(log, log.run_inline, "t/0").has_loss
    log = reopened(home, rule)
    loaded = log.loaded()
    assert (len(loaded.topics), loaded.has_forgotten, log.head()) == (11, True, 31)
    assert look(log, log.run_inline, "t/0").has_loss
    home.close()


@pytest.mark.parametrize("is_reopened", [False, True])
def test_topics_are_forgotten_however_many_before_them_are_held(home: DiskHome, *, is_reopened: bool) -> None:
    """S8: and one that was written to again is none of them."""
    brief = TopicRule(storage="disk", retention_seconds=1)
    home.limits = Limits(max_shard_topics=5_000)
    log = home.open()
    writer = Writer(log, home.settle)
    for number in range(4_990):
        writer.append(f"held/{number}")
    for number in range(20):
        writer.append(f"brief/{number}", rule=brief)
    writer.settle()
    for _ in range(3):
        trim(log, writer.now_ms + 5_000)
    if is_reopened:
        log = reopened(home)
        assert set(log.loaded().topics) == {*of("held", 0, 4_990), *of("brief", 10, 20)}
        writer = Writer.going_on(log, home.settle, writer)
    for topic in ("brief/10", *of("new", 0, 3)):
        writer.append(topic)
    writer.settle()
    for _ in range(3):
        trim(log, writer.now_ms)
    topics = reopened(home).loaded().topics
    assert set(topics) == {*of("held", 0, 4_990), "brief/10", *of("brief", 14, 20), *of("new", 0, 3)}
    home.close()


def of(name: str, start: int, stop: int) -> list[str]:
    return [f"{name}/{number}" for number in range(start, stop)]


def test_message_ids_end_with_their_window(home: DiskHome) -> None:
    log = home.open()
    for pos, ends in ((1, 5_000), (2, 9_000)):
        log.append(
            Record("a", pos, pos, 1_000, b"{}"), RULE, Remembered(("a", "ada", f"m{pos}"), 1, pos, pos, ends)
        )
    home.settle()
    trim(log, 5_000)
    log = reopened(home)
    assert [one.key[2] for one in log.loaded().remembered] == ["m2"]
    trim(log, 9_000)
    assert reopened(home).loaded().remembered == []
    home.close()


def write_ids(home: DiskHome, count: int) -> list[Remembered]:
    """Ids of different sizes: one counts characters, and all of them."""
    log = home.log or home.open()
    written: list[Remembered] = []
    for pos in range(log.head() + 1, log.head() + count + 1):
        remembered = Remembered(("a", ("ada", "b\0b", "\u00e9")[pos % 3], f"m\0{pos}"), 1, pos, pos, 5_000)
        log.append(Record("a", pos, pos, 1_000, b"{}"), RULE, remembered)
        written.append(remembered)
    home.settle()
    return written


def newest_in(max_bytes: int, written: list[Remembered]) -> list[Remembered]:
    """What the memory of a shard would still find."""
    ids = MessageIds(max_bytes)
    for remembered in written:
        ids.remember(remembered)
    return [one for one in written if ids.find(one.key, 0) is one]


@pytest.mark.parametrize("max_bytes", [0, 100_000, 100_001, 600_000])
def test_message_ids_are_bounded_in_bytes_too(home: DiskHome, max_bytes: int) -> None:
    """S8, G2: the file keeps those that the memory of its shard does, whoever is behind the bound."""
    home.limits = Limits(max_dedupe_bytes=max_bytes)
    written = write_ids(home, 2 * PIECE_ROWS)
    trim(home.log or home.open(), 2_000)
    written += write_ids(home, 3)
    trim(home.log or home.open(), 2_000)
    home.limits = Limits()
    kept = newest_in(max_bytes, written)
    assert reopened(home).loaded().remembered == kept
    home.limits = Limits(max_dedupe_bytes=max_bytes)
    log = reopened(home)
    written = kept + write_ids(home, 5)
    trim(log, 2_000)
    home.limits = Limits()
    assert reopened(home).loaded().remembered == newest_in(max_bytes, written)
    home.close()


@pytest.mark.parametrize("max_bytes", [0, 20_000, 20_001])
def test_no_more_message_ids_are_read_at_the_opening_than_are_remembered(home: DiskHome, max_bytes: int) -> None:
    """S8: the others are over for good."""
    written = write_ids(home, 500)
    home.kill()
    home.limits = Limits(max_dedupe_bytes=max_bytes)
    kept = newest_in(max_bytes, written)
    assert home.open().loaded().remembered == kept
    home.limits = Limits()
    assert reopened(home).loaded().remembered == kept
    home.close()


def test_id_of_a_delayed_message_is_remembered_without_a_place(home: DiskHome) -> None:
    log = home.open()
    remembered = Remembered(("later", "ada", "m1"), 1, 0, 0, 9_000)
    log.append(Record("a", 1, 1, 1_000, b"{}"), RULE, remembered)
    home.settle()
    assert reopened(home).loaded().remembered == [remembered]
    home.close()


def test_topic_that_becomes_compacted_keeps_the_newest_of_each_key(home: DiskHome) -> None:
    writer = Writer(home.open(), home.settle)
    for key in "kmkn":
        writer.append("a", key=key)
    writer.settle()
    compact = TopicRule(storage="disk", compact=True)
    writer.append("a", key="m", rule=compact)
    writer.settle()
    found = look(writer.log, home.settle)
    assert (positions(found.records), found.has_loss) == ([3, 4, 5], False)
    log = reopened(home, compact)
    assert positions(look(log, home.settle).records) == [3, 4, 5]
    again = Writer.going_on(log, home.settle, writer)
    again.append("a", key="n", rule=compact)
    again.settle()
    assert positions(look(log, home.settle, "a").records) == [3, 5, 6]
    home.close()


def test_topic_that_becomes_compacted_over_a_restart(home: DiskHome) -> None:
    writer = Writer(home.open(), home.settle)
    for key in "kmkn":
        writer.append("a", key=key)
    writer.settle()
    compact = TopicRule(storage="disk", compact=True)
    log = reopened(home, compact)
    assert positions(look(log, home.settle).records) == [2, 3, 4]
    assert positions(newest(home)) == [2, 3, 4]
    again = Writer.going_on(log, home.settle, writer)
    again.append("a", key="m", rule=compact)
    again.settle()
    assert positions(look(log, home.settle).records) == [3, 4, 5]
    log = reopened(home)
    assert positions(newest(home)) == [3, 4, 5], "it has had no message since"
    home.close()


def newest(home: DiskHome, topic: str = "a", after: int = 0, max_records: int = 100) -> list[Record]:
    """A page of the snapshot."""
    pages: list[Page] = []
    assert home.log is not None
    home.log.read(topic, after, 10**6, max_records, 2_000_000, pages.append, home.log.head())
    home.settle()
    return pages[0].records


def test_topic_that_is_compacted_no_longer_keeps_everything_from_then_on(home: DiskHome) -> None:
    writer = Writer(home.open(), home.settle)
    for key in "kk":
        writer.append("a", key=key, rule=TopicRule(storage="disk", compact=True))
    for key in "kk":
        writer.append("a", key=key)
    writer.settle()
    assert positions(look(writer.log, home.settle).records) == [2, 3, 4]
    assert positions(look(reopened(home), home.settle).records) == [2, 3, 4]
    home.close()


def test_page_of_a_state_costs_the_same_however_many_keys_there_are(home: DiskHome) -> None:
    """S8: counted in SQLite's steps; nor does it matter that somebody else reads another state meanwhile."""
    steps = [0]

    def counted(path: Path) -> sqlite3.Connection:
        db = connect(path)
        db.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 10)
        return db

    home.rule = TopicRule(storage="disk", compact=True, retention_messages=10_000)
    home.connect = counted
    writer = Writer(home.open(), home.settle)
    costs: list[int] = []
    for keys in (100, 5_000):
        while writer.pos < 2 * keys:
            for topic in ("a", "b"):
                writer.append(topic, key=f"k{writer.pos}", rule=home.rule)
        writer.settle()
        found: dict[str, list[int]] = {"a": [], "b": []}
        steps[0] = 0
        for _ in range(5):
            for topic, seen in found.items():
                seen += positions(newest(home, topic, seen[-1] if seen else 0, 10))
        costs.append(steps[0])
        assert found == {"a": list(range(1, 100, 2)), "b": list(range(2, 101, 2))}
    assert costs[1] < costs[0] * 1.1
    home.close()


def test_compacted_bounds_hold_after_a_restart(home: DiskHome) -> None:
    rule = TopicRule(storage="disk", compact=True, retention_messages=3)
    writer = Writer(home.open(), home.settle)
    for number in range(20):
        writer.append("a", key=f"k{number % 5}", rule=rule)
    writer.settle()
    log = reopened(home, rule)
    trim(log, writer.now_ms)
    assert positions(look(log, home.settle).records) == [18, 19, 20]
    again = Writer.going_on(log, home.settle, writer)
    again.append("a", key="k9", rule=rule)
    again.settle()
    trim(log, again.now_ms)
    assert positions(look(log, home.settle).records) == [19, 20, 21]
    home.close()


def test_offset_that_jumps_is_no_loss(home: DiskHome) -> None:
    """I6: a topic whose counter the node forgot goes on with offset = pos; that is told by `prev`."""
    log = home.open()
    for pos, offset in ((1, 1), (2, 2), (3, 3), (4, 4)):
        log.append(Record("a" if pos != 3 else "b", pos, offset if pos != 4 else 4, 1_000, b"{}"), RULE)
    home.settle()
    pages: list[Page] = []
    log.read("a", 0, 10**6, 100, 2_000, pages.append)
    home.settle()
    assert (positions(pages[0].records), pages[0].prevs, pages[0].loss) == ([1, 2, 4], [0, 1, 2], 0)
    home.close()


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1_300])
def test_batch_of_any_size_is_stored_whole(home: DiskHome, count: int) -> None:
    """Statements take rows by powers of two, up to 512."""
    writer = Writer(home.open(), home.settle)
    for number in range(count):
        writer.append("a", size=3, message_id=f"m{number}")
        writer.save(f"s{number}", b"%d" % number)
    writer.settle()
    assert writer.told == [(count, "committed")]
    log = reopened(home)
    assert len(look(log, home.settle).records) == count
    assert (len(log.loaded().remembered), log.loaded().values) == (count, writer.saved)
    home.close()

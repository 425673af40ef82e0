"""The memory log's own promises about compacted topics: what is recent, what it costs, every bound holds.

Knows `MemoryLog.size` and what it counts for a key, nothing inside.
"""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_broker.core.record import Record
from triode_broker.log.history import DEADLINE_OVERHEAD_BYTES, KEY_OVERHEAD_BYTES
from triode_broker.log.memory import ORDER_SLACK_BYTES, TOPIC_OVERHEAD_BYTES, MemoryLog
from triode_protocol.packets import Start
from triode_protocol.topics import matches

from tests.log.conftest import open_memory
from tests.log.scribe import NO_RECENT, PLENTY, Scribe
from tests.log.test_memory import ONE, RECENT, memory_of, positions

COMPACT = TopicRule(compact=True, retention_messages=100_000, retention_bytes=PLENTY)
ONE_KEY = TopicRule(compact=True, retention_messages=1)
IN_ALL = TOPIC_OVERHEAD_BYTES + KEY_OVERHEAD_BYTES


# What is recent


@pytest.mark.parametrize("filter", ["a", "#"])
def test_replaced_record_is_not_held_as_recent(filter: str) -> None:
    """G4: policy; a reader who is behind gets the newest of each key, whatever it reads."""
    scribe = Scribe(open_memory, RECENT, COMPACT)
    scribe.write_keys("a", "nkkk")
    page = scribe.page(filter, 1)
    assert (positions(page.records), page.prevs, page.loss) == ([4], [1], 0)


@pytest.mark.parametrize("filter", ["a", "#"])
def test_lost_key_is_held_as_recent_unless_it_was_replaced(filter: str) -> None:
    """SPEC 4.6.2: a short absence is bridged; what compaction took before does not come back."""
    scribe = Scribe(open_memory, RECENT, ONE_KEY)
    scribe.write_keys("a", "kknm")
    page = scribe.page(filter, 0)
    assert (positions(page.records), page.prevs, page.loss) == ([2, 3, 4], [0, 2, 3], 0)
    assert positions(scribe.newest(filter)) == [4], "the snapshot is of what is retained"


def test_dropped_topic_does_not_bring_replaced_records_back() -> None:
    """The topic's history is gone under a flood, the newest are still there."""
    scribe = Scribe(open_memory, Limits(recent_bytes=1_000_000, max_shard_bytes=5_000), COMPACT)
    scribe.write_keys("a", "kkn")
    for number in range(20):
        scribe.write(f"flood/{number}")
    page = scribe.page("a")
    assert (positions(page.records), page.prevs) == ([2, 3], [1, 2])


# Bounds and costs


def test_replaced_records_give_their_bytes_back() -> None:
    scribe = Scribe(open_memory, NO_RECENT, COMPACT)
    for number in range(1_000):
        scribe.write("a", key=f"k{number % 10}", size=number)
        assert memory_of(scribe).size <= TOPIC_OVERHEAD_BYTES + 10 * (ONE + KEY_OVERHEAD_BYTES + 1_000)
    for number in range(10):
        scribe.write("a", key=f"k{number}")
    assert memory_of(scribe).size == TOPIC_OVERHEAD_BYTES + 10 * (ONE + KEY_OVERHEAD_BYTES)


def test_deleted_keys_give_everything_back() -> None:
    scribe = Scribe(open_memory, NO_RECENT, COMPACT)
    scribe.write("a", key="k", tombstone=True)
    assert memory_of(scribe).size == IN_ALL + ONE + DEADLINE_OVERHEAD_BYTES
    scribe.pass_time(86_400)
    assert memory_of(scribe).size == TOPIC_OVERHEAD_BYTES
    scribe.write("a", key="k")
    assert positions(scribe.newest("a")) == [2]


def test_bytes_of_a_shard_stay_under_their_bound() -> None:
    """I13: keys flood as topics do; the oldest half goes at a time and is a loss, then whole topics."""
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=50_000), COMPACT)
    for number in range(2_000):
        scribe.write(f"b/{number % 50 * (number % 3)}", key=f"k{number}", size=number % 300)
        assert memory_of(scribe).size <= 50_000
    assert scribe.page("#").loss
    for _ in range(2_000):
        scribe.write("a", key=f"k{scribe.pos}")
        assert memory_of(scribe).size <= 50_000
    held = positions(scribe.page("a").records)
    assert held == list(range(held[0], 4_001))
    assert positions(scribe.newest("a")) == held
    assert len(held) * (ONE + KEY_OVERHEAD_BYTES) > 50_000 / 3, "half goes at a time, not more"
    assert scribe.page("a").loss
    assert scribe.page("a", held[0]).loss == 0


def test_dropped_topics_give_everything_back() -> None:
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=50_000), COMPACT)
    for number in range(300):
        scribe.write_keys(f"flood/{number}", "kmn")
    log = memory_of(scribe)
    held = len(scribe.page("#").records)
    assert log.size == log.topic_count * TOPIC_OVERHEAD_BYTES + held * (ONE + KEY_OVERHEAD_BYTES)
    assert 10 < log.topic_count < 50


@pytest.mark.parametrize("ttl_ms", [0, 10**9])
@pytest.mark.parametrize("keys", [1, 500, 10**9])
def test_flood_takes_real_memory_within_the_bound(keys: int, ttl_ms: int) -> None:
    """S8, I13: what the bound counts is what the interpreter spends, but for what is not tidied away yet."""
    bound = 3_000_000
    tracemalloc.start()
    try:
        log = MemoryLog("m0-life", Limits(recent_bytes=0, max_shard_bytes=bound))
        for number in range(1, 20_001):
            now_ms = 10**12 + number
            payload, key = b"%d" % number * 20, f"user/{number % keys}"
            expires_ms = now_ms + ttl_ms if ttl_ms else 0
            log.append(Record("a", number, number, now_ms, payload, expires_ms, key), COMPACT)
            assert log.size <= bound
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < log.size * 1.4 + 2 * ORDER_SLACK_BYTES


class Key(str):
    """A key that counts how often one is looked at."""

    looks = 0

    def __hash__(self) -> int:
        Key.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


class Payload(bytes):
    """A payload that counts how often its size is asked for."""

    looks = 0

    def __len__(self) -> int:
        Payload.looks += 1
        return super().__len__()


@pytest.mark.parametrize("keys", [10, 2_000])
def test_append_costs_the_same_however_many_keys_there_are(keys: int) -> None:
    """S8: replaced, deleted, expiring and lost ones included."""
    log = MemoryLog("m0-life", NO_RECENT)
    rule = TopicRule(compact=True, retention_messages=keys * 3 // 4, retention_bytes=PLENTY)
    Key.looks = Payload.looks = 0
    for number in range(1, 10_001):
        key, is_tombstone = Key(number * number % keys), number % 7 == 0
        expires_ms = 1_000 + number + number % 50 if number % 3 == 0 else 0
        log.append(Record("a", number, number, 1_000 + number, Payload(b"x"), expires_ms, key, is_tombstone), rule)
    assert Key.looks < 10 * 10_000
    assert Payload.looks < 10 * 10_000


def test_history_row_is_tidied_so_that_reads_do_not_look_at_all_that_was_replaced() -> None:
    """S8: one old key in front, another written again and again."""
    scribe = Scribe(open_memory, NO_RECENT, COMPACT)
    scribe.write_keys("a", "n" + "k" * 1_000)
    page = scribe.page("a")
    assert positions(page.records) == [1, 1_001]
    assert page.looked_at <= 3
    assert scribe.seek("a", Start()).pos == 0


# A reader who stays

SMALL = Limits(recent_bytes=1_500, recent_seconds=2, max_shard_bytes=9_000)
WRITES = st.lists(
    st.tuples(
        st.integers(0, 5),  # topic
        st.sampled_from("kmnopq"),
        st.integers(0, 200),  # size
        st.integers(0, 900),  # ms passed
        st.sampled_from([0, 0, 0, 500]),  # time to live
        st.integers(0, 3),  # 0: a deletion
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(WRITES, st.sampled_from(["#", "t/1", "t/2", "t/+"]), st.integers(1, 4))
def test_reader_who_stays_behind_a_flood_has_the_state_or_is_told_of_a_loss(
    writes: list[tuple[int, str, int, int, int, int]], filter: str, keys: int
) -> None:
    """G4, I6, I10: page after page, the newest of each key has come, unless a gap says otherwise."""
    rule = TopicRule(compact=True, retention_messages=keys, tombstone_seconds=10**6)
    scribe = Scribe(open_memory, SMALL, rule)
    after = known = 0
    has_gap: set[str] = set()  # topics of which nothing has come since the newest gap
    for topic, key, size, passed_ms, ttl_ms, kind in writes:
        scribe.write(f"t/{topic}", key=key, size=size, ttl_ms=ttl_ms, tombstone=kind == 0)
        scribe.now_ms += passed_ms
        assert memory_of(scribe).size <= 9_000
        if passed_ms % 3:
            continue
        page = scribe.page(filter, after, max_bytes=400)
        if page.loss > known:
            has_gap = {record.topic for record in scribe.written}
        newest = {(record.topic, record.key): record for record in scribe.written}
        came = {record.pos for record in page.records}
        missing = {
            record.topic
            for record in newest.values()
            if after < record.pos <= page.upto
            and record.pos not in came
            and matches(filter, record.topic)
            and not record.is_expired(scribe.now_ms)
        }
        assert missing <= has_gap
        assert positions(page.records) == sorted(came)
        assert not came or min(came) > after
        has_gap -= {record.topic for record in page.records}
        known, after = page.known, page.upto

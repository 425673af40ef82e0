"""The memory log's own promises beside the contract: the newest bridge a short absence, and every bound holds.

Knows `MemoryLog.size` and `topic_count`, nothing inside.
"""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import PAGE_RECORDS, Place
from triode_broker.core.record import Record
from triode_broker.log.memory import ORDER_SLACK_BYTES, TOPIC_OVERHEAD_BYTES, TRIM_TOPICS, MemoryLog
from triode_protocol.packets import Start
from triode_protocol.topics import matches

from tests.log.conftest import open_memory
from tests.log.scribe import KEEP, NO_RECENT, Scribe

NO_HISTORY = TopicRule(retention_messages=0)
RECENT = Limits(recent_bytes=1_000_000, recent_seconds=30)
ONE = Record("t", 1, 1, 1, b"x" * 20).size


def positions(records: list[Record]) -> list[int]:
    return [record.pos for record in records]


def memory_of(scribe: Scribe) -> MemoryLog:
    assert isinstance(scribe.log, MemoryLog)
    return scribe.log


# The newest, whatever the rules say


def test_recent_messages_bridge_a_topic_without_history() -> None:
    scribe = Scribe(open_memory, RECENT, NO_HISTORY)
    scribe.write_many("a", 5)
    page = scribe.page("a", after=2)
    assert (positions(page.records), page.prevs, page.loss) == ([3, 4, 5], [2, 3, 4], 0)


def test_recent_messages_bridge_only_what_is_young() -> None:
    """SPEC 4.6.2: the bridge is too short for who had 2 only, and yet it goes on with the oldest held."""
    scribe = Scribe(open_memory, RECENT, NO_HISTORY)
    scribe.write_many("a", 3)
    scribe.pass_time(20)
    scribe.write_many("a", 2)
    scribe.pass_time(20)
    assert positions(scribe.page("a", after=3).records) == [4, 5]
    assert scribe.page("a", after=3).loss == 0
    assert positions(scribe.page("a", after=2).records) == [4, 5]
    assert scribe.page("a", after=2).loss


def test_recent_messages_bridge_only_so_many_bytes() -> None:
    scribe = Scribe(open_memory, Limits(recent_bytes=10 * ONE, recent_seconds=30), NO_HISTORY)
    scribe.write_many("a", 40)
    scribe.trim()
    assert positions(scribe.page("a", after=30).records) == list(range(31, 41))
    assert scribe.page("a", after=30).loss == 0
    assert scribe.page("a", after=29).loss


def test_recent_messages_go_where_no_more_are_wanted() -> None:
    scribe = Scribe(open_memory, NO_RECENT, NO_HISTORY)
    scribe.write_many("a", 3)
    assert scribe.page("a", after=2).loss


@pytest.mark.parametrize("filter", ["zero", "+", "#"])
@pytest.mark.parametrize("kept", [0, 2])
def test_recent_messages_are_held_behind_a_loss_too(filter: str, kept: int) -> None:
    """SPEC 4.6.2, G4: whatever the rule retains, a gap is followed by everything that is still there."""
    scribe = Scribe(open_memory, Limits(recent_bytes=20 * ONE, recent_seconds=30))
    few = TopicRule(retention_messages=kept)
    scribe.write("zero", rule=few)
    scribe.write_many("fill/0", 200)
    scribe.trim()
    later = [scribe.write("zero", rule=few) for _ in range(5)]
    page = scribe.page(filter, after=0)
    assert [record for record in page.records if record.topic == "zero"] == later
    assert [prev for record, prev in zip(page.records, page.prevs, strict=True) if record in later] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert page.loss


@pytest.mark.parametrize("max_records", [1, 2, 3])
def test_recent_messages_behind_a_loss_come_in_pages(max_records: int) -> None:
    """SPEC 4.6.2: what expired meanwhile is passed over, in what is recent as in the history behind it."""
    scribe = Scribe(open_memory, Limits(recent_bytes=20 * ONE, recent_seconds=30))
    few = TopicRule(retention_messages=3)
    scribe.write("a", rule=few)
    scribe.write_many("fill/0", 200)
    scribe.trim()
    for number in range(8):
        scribe.write("a", ttl_ms=10 if number in (2, 6) else 60_000, rule=few)
        scribe.write("b")
    scribe.now_ms += 10
    alive = [one for one in scribe.written[201:] if one.topic == "a" and not one.is_expired(scribe.now_ms)]
    assert len(alive) == 6
    assert scribe.read("a", max_records=max_records) == alive


def test_recent_message_that_is_lost_while_its_reader_is_slow_is_a_loss_again() -> None:
    """SPEC 4.6.1, I6: it was removed by its rule before the first page, and was held all the same."""
    scribe = Scribe(open_memory, Limits(recent_bytes=20 * ONE, recent_seconds=30), NO_HISTORY)
    scribe.write_many("a", 100)
    scribe.trim()
    page = scribe.page("a", max_records=2)
    assert page.loss > page.known
    scribe.write_many("b", 100)
    assert scribe.page("a", page.upto).loss > page.known


def test_time_to_live_on_one_topic_does_not_end_the_bridge_of_another() -> None:
    scribe = Scribe(open_memory, RECENT, NO_HISTORY)
    scribe.write("b", ttl_ms=10)
    scribe.write_many("a", 3)
    page = scribe.page("a", after=2)
    assert (positions(page.records), page.prevs, page.loss) == ([3, 4], [1, 2], 0)


def test_bridge_passes_over_expired_messages_and_says_so() -> None:
    """SPEC 3.4.9, 4.3.4: `prev` is never behind what the reader had."""
    scribe = Scribe(open_memory, RECENT, NO_HISTORY)
    scribe.write("a")
    scribe.write("a", ttl_ms=10)
    scribe.write("a")
    scribe.now_ms += 10
    page = scribe.page("a", after=1)
    assert (positions(page.records), page.loss) == ([3], 0)
    assert page.prevs[0] <= 1


def test_bridge_knows_what_expired_before_it_from_the_history() -> None:
    scribe = Scribe(open_memory, RECENT)
    scribe.write("a")
    scribe.write("a", ttl_ms=10)
    scribe.write_many("a", 2)
    scribe.now_ms += 10
    page = scribe.page("a", after=2)
    assert (positions(page.records), page.prevs) == ([3, 4], [1, 3])


def test_bridge_of_a_dropped_topic_says_the_offset_before() -> None:
    """The topic's history is gone under a flood, the newest are still there."""
    scribe = Scribe(open_memory, Limits(recent_bytes=1_000_000, max_shard_bytes=5_000))
    scribe.write("a", ttl_ms=60_000)
    scribe.write("a", ttl_ms=60_000)
    for number in range(20):
        scribe.write(f"flood/{number}")
    page = scribe.page("a", after=1)
    assert (positions(page.records), page.prevs, page.loss) == ([2], [1], 0)


# Where a wildcard's start lies


class Watched(str):
    """A topic that counts how often a walk over the topics comes by."""

    visits = 0

    def startswith(self, *args: Any) -> bool:
        """Where such a walk begins."""
        Watched.visits += 1
        return super().startswith(*args)


class Moment(int):
    """A time that counts how often it is looked at."""

    looks = 0

    def __lt__(self, other: int) -> bool:
        Moment.looks += 1
        return int(self) < int(other)


@pytest.fixture
def watched() -> MemoryLog:
    """A log of 1,000 topics with a message each, one per ms; the first hundred have lost one before it."""
    Watched.visits = Moment.looks = 0
    log = MemoryLog("m0-life", NO_RECENT)
    one = TopicRule(retention_messages=1, retention_seconds=10**6)
    for number in range(1_100):
        topic = Watched(f"t/{number % 1_000 if number < 1_000 else number - 1_000}")
        log.append(Record(topic, number + 1, number // 1_000 + 1, Moment(number), b"x"), one)
    Watched.visits = Moment.looks = 0
    return log


def place_of(log: MemoryLog, filter: str, start: Start) -> Place:
    places: list[Place] = []
    log.seek(filter, start, 1_100, places.append)
    (place,) = places
    return place


@pytest.mark.parametrize("filter", ["#", "t/+", "nobody/#"])
def test_earliest_of_a_wildcard_walks_no_topics(watched: MemoryLog, filter: str) -> None:
    """S8: the ordered store knows."""
    assert place_of(watched, filter, Start()).pos == 100
    assert Watched.visits == 0
    assert Moment.looks < 5


@pytest.mark.parametrize("filter", ["#", "t/+", "nobody/#"])
def test_since_of_a_wildcard_walks_no_topics_where_nothing_so_young_was_lost(
    watched: MemoryLog, filter: str
) -> None:
    """S8, SPEC 3.2.7."""
    place = place_of(watched, filter, Start(since=500))
    assert (place.pos, place.is_complete) == (500, True)
    assert Watched.visits == 0
    assert Moment.looks < 20


def test_since_of_a_wildcard_is_complete_where_others_lost(watched: MemoryLog) -> None:
    """SPEC 3.2.7: exact, where it has to walk."""
    assert not place_of(watched, "t/+", Start(since=50)).is_complete
    assert Watched.visits == 1_000
    assert place_of(watched, "u/+", Start(since=50)).is_complete


def test_earliest_behind_much_that_is_not_retained_looks_at_one_page_of_it() -> None:
    """S8: it then lies further back than it might, and reading finds the same."""
    scribe = Scribe(open_memory, Limits(recent_bytes=100_000_000), NO_HISTORY)
    scribe.write_many("a", PAGE_RECORDS + 10)
    kept = scribe.write("b", rule=KEEP)
    scribe.trim()
    assert scribe.seek("#", Start()).pos == PAGE_RECORDS
    assert scribe.read("b", scribe.seek("b", Start()).pos) == [kept]
    few = Scribe(open_memory, RECENT, NO_HISTORY)
    few.write_many("a", 3)
    assert few.seek("#", Start()).pos == 3


def test_earliest_of_a_wildcard_passes_over_what_is_too_old() -> None:
    """SPEC 3.2.4: it is held no more, and no loss to who comes now."""
    scribe = Scribe(open_memory, NO_RECENT, TopicRule(retention_seconds=10))
    for number in range(TRIM_TOPICS + 2):
        scribe.write(f"t/{number}")
    scribe.now_ms += 8_000
    young = scribe.write("t/0")
    scribe.now_ms += 8_000
    place = scribe.seek("#", Start())
    assert place.pos == young.pos - 1
    page = scribe.page("#", place.pos)
    assert page.records == [young]
    assert page.loss <= place.loss


def test_since_finds_what_is_recent_complete_and_tells_when_it_is_not_any_more() -> None:
    """SPEC 3.2.7, 4.6.1, I6: what only the bridge holds may be gone before a slow reader comes to it."""
    scribe = Scribe(open_memory, RECENT, NO_HISTORY)
    scribe.write("a")
    scribe.now_ms += 10
    later = scribe.write_many("a", 3)
    place = scribe.seek("+", Start(since=scribe.now_ms))
    assert (place.pos, place.is_complete) == (1, True)
    page = scribe.page("+", place.pos)
    assert (page.records, page.loss) == (later, 0)
    scribe.pass_time(40)
    assert scribe.page("+", place.pos).loss > place.loss


# Bounds


def test_bytes_of_a_shard_stay_under_their_bound() -> None:
    """I13: whatever is written, by many topics or by one."""
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=50_000))
    for number in range(2_000):
        scribe.write(f"flood/{number}" if number % 2 else "one", size=number % 300)
        assert memory_of(scribe).size <= 50_000


def test_one_topic_may_fill_its_shard() -> None:
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=50_000))
    scribe.write_many("a", 1_000)
    assert memory_of(scribe).topic_count == 1
    held = positions(scribe.page("a").records)
    assert held == list(range(held[0], 1_001))
    assert len(held) * ONE > 50_000 / 3, "half goes at a time, not more"


def test_every_half_that_a_topic_gives_up_is_a_new_loss() -> None:
    """SPEC 4.6.1: a reader who was told of one is told of the next."""
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=50_000))
    losses: list[int] = []
    while len(losses) < 4:
        held = positions(scribe.page("a").records)
        scribe.write("a", size=300)
        page = scribe.page("a")
        if held and page.records[0].pos != held[0]:
            losses.append(page.loss)
    assert losses[0] > 0
    assert losses == sorted(set(losses))


def test_flood_drops_topics_that_nobody_writes_to_first() -> None:
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=20_000))
    for number in range(200):
        scribe.write("busy")
        scribe.write(f"flood/{number}")
    assert memory_of(scribe).topic_count < 20
    assert scribe.page("busy").records
    assert scribe.page("flood/199").records
    assert not scribe.page("flood/0").records


def test_flood_is_a_loss_to_those_it_concerns() -> None:
    """SPEC 4.6.1: dropped topics are remembered together; a topic that is held knows its own losses."""
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=20_000))
    scribe.write("early")
    for number in range(200):
        scribe.write(f"flood/{number}")
    assert scribe.page("early").loss
    assert scribe.page("flood/0").loss
    assert scribe.page("flood/#").loss
    assert scribe.page("#", after=scribe.pos - 1).loss == 0
    late = scribe.write("late")
    assert scribe.page("late").loss, "it may have been there before the flood"
    assert scribe.page("late", after=late.pos - 1).loss == 0


def test_flood_makes_an_earlier_time_incomplete() -> None:
    """SPEC 3.2.7."""
    scribe = Scribe(open_memory, Limits(recent_bytes=0, max_shard_bytes=20_000))
    for number in range(200):
        scribe.write(f"flood/{number}")
        scribe.now_ms += 10
    assert not scribe.seek("#", Start(since=1_000_000)).is_complete
    assert not scribe.seek("never/seen", Start(since=1_000_000)).is_complete
    assert scribe.seek("#", Start(since=scribe.now_ms - 10)).is_complete


def test_flood_takes_real_memory_within_the_bound() -> None:
    """S8, I13: what the bound counts is what the interpreter spends, but for what is not tidied away yet."""
    bound = 3_000_000
    tracemalloc.start()
    try:
        log = MemoryLog("m0-life", Limits(recent_bytes=0, max_shard_bytes=bound))
        for number in range(1, 20_001):
            log.append(
                Record(f"flood/{number}", number, number, 10**12 + number, b"%d" % number * 20), TopicRule()
            )
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert bound * 0.5 < taken < bound * 1.25 + 2 * ORDER_SLACK_BYTES


def test_old_message_of_a_quiet_topic_does_not_pin_the_past_of_a_busy_one() -> None:
    """I13."""
    tracemalloc.start()
    try:
        scribe = Scribe(open_memory, rule=TopicRule(retention_messages=1))
        scribe.write("quiet")
        scribe.written.clear()
        for _ in range(500):
            scribe.write("busy", size=20_000)
            scribe.written.clear()
        assert tracemalloc.get_traced_memory()[1] < 3 * ORDER_SLACK_BYTES
    finally:
        tracemalloc.stop()
    assert positions(scribe.page("#").records) == [1, 501]


@pytest.mark.parametrize("filter", ["#", "quiet/#", "+/1"])
def test_wildcard_reads_what_is_held_between_what_is_not(filter: str) -> None:
    scribe = Scribe(open_memory, rule=TopicRule(retention_messages=2))
    for number in range(600):
        scribe.write(f"quiet/{number}" if number % 100 == 0 else "busy", size=2_000)
    scribe.trim()
    held = [1, 101, 201, 301, 401, 501, 599, 600]
    expected = {"#": held, "quiet/#": held[:6], "+/1": []}[filter]
    assert positions(scribe.read(filter, max_bytes=3_000)) == expected


def test_everything_aged_out_leaves_only_the_topics() -> None:
    scribe = Scribe(open_memory, Limits(recent_seconds=1), TopicRule(retention_seconds=1))
    for number in range(50):
        scribe.write(f"t/{number % 10}", ttl_ms=number % 3 * 500)
        scribe.now_ms += 10
    scribe.pass_time(5)
    log = memory_of(scribe)
    assert (log.topic_count, log.size) == (10, 10 * TOPIC_OVERHEAD_BYTES)


def test_expired_messages_give_their_bytes_back() -> None:
    scribe = Scribe(open_memory)
    for _ in range(10):
        scribe.write("a", ttl_ms=100)
    scribe.write("a")
    scribe.pass_time(1)
    assert memory_of(scribe).size == TOPIC_OVERHEAD_BYTES + ONE


def test_trim_looks_at_some_topics_a_time_and_at_all_in_turn() -> None:
    scribe = Scribe(open_memory, rule=TopicRule(retention_seconds=1))
    for number in range(2 * TRIM_TOPICS + 1):
        scribe.write(f"t/{number}")
    log = memory_of(scribe)
    before = log.size
    scribe.pass_time(5)
    assert log.size == before - TRIM_TOPICS * ONE
    scribe.trim()
    scribe.trim()
    assert log.size == log.topic_count * TOPIC_OVERHEAD_BYTES


SMALL = Limits(recent_bytes=1_500, recent_seconds=2, max_shard_bytes=6_000)
WRITES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 300), st.integers(0, 900), st.sampled_from([0, 0, 500])),
    max_size=80,
)


@settings(max_examples=100, deadline=None)
@given(WRITES, st.sampled_from(["#", "t/1", "t/2", "t/+", "v"]))
def test_reader_who_stays_behind_a_flood_is_told_of_every_loss(
    writes: list[tuple[int, int, int, int]], filter: str
) -> None:
    """G4, I6: a reader who takes a page now and then has all that was due, or a new loss before it."""
    scribe = Scribe(open_memory, SMALL, TopicRule(retention_messages=4))
    after = known = 0
    has_gap: set[str] = set()  # topics of which nothing has come since the newest gap
    for topic, size, passed_ms, ttl_ms in writes:
        scribe.write(f"t/{topic}" if topic else "v", size=size, ttl_ms=ttl_ms)
        scribe.now_ms += passed_ms
        assert memory_of(scribe).size <= 6_000
        if passed_ms % 3:
            continue
        page = scribe.page(filter, after, max_bytes=400)
        if page.loss > known:
            has_gap = {record.topic for record in scribe.written}
        due = [
            record
            for record in scribe.written
            if after < record.pos <= page.upto
            and matches(filter, record.topic)
            and not record.is_expired(scribe.now_ms)
        ]
        assert page.records == [record for record in due if record in page.records]
        assert {record.topic for record in due if record not in page.records} <= has_gap
        has_gap -= {record.topic for record in page.records}
        known, after = page.known, page.upto


@pytest.mark.parametrize("recent_bytes", [0, 1_000_000])
def test_only_one_of_the_two_stores_needs_a_record(recent_bytes: int) -> None:
    """`recent` shares its records with the histories: bytes are counted once."""
    scribe = Scribe(open_memory, Limits(recent_bytes=recent_bytes))
    scribe.write_many("a", 10)
    assert memory_of(scribe).size == TOPIC_OVERHEAD_BYTES + 10 * ONE

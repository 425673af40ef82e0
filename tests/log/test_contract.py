"""What every log engine promises (`core.interfaces.Log`), each clause held against each engine of conftest.

Knows the interface only, nothing of how an engine stores. Retention may follow at once or at the next trim, so
tests let it follow before they look.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import TopicRule
from triode_broker.core.record import Record
from triode_protocol.packets import Start
from triode_protocol.topics import matches

from tests.log.scribe import KEEP, Open, Scribe


@pytest.fixture
def scribe(open_log: Open) -> Scribe:
    return Scribe(open_log)


def positions(records: list[Record]) -> list[int]:
    return [record.pos for record in records]


# Appending and reading


def test_empty_log_has_head_0_and_nothing_to_read(scribe: Scribe) -> None:
    assert scribe.log.head() == 0
    page = scribe.page("#")
    assert (page.records, page.prevs, page.upto, page.loss, page.looked_at) == ([], [], 0, 0, 0)
    assert scribe.newest("#") == []


def test_head_is_the_newest_pos(scribe: Scribe) -> None:
    for _ in range(3):
        record = scribe.write("a")
        assert scribe.log.head() == record.pos


def test_read_returns_what_was_appended(scribe: Scribe) -> None:
    record = scribe.write("a", ttl_ms=5_000)
    assert scribe.page("a").records == [record]


def test_read_of_a_wildcard_is_in_order_over_all_topics(scribe: Scribe) -> None:
    """SPEC 2.4, I10."""
    written = [scribe.write(topic) for topic in ("a", "b/1", "a", "b/2", "b/1", "a")]
    assert scribe.page("#").records == written


def test_read_of_a_topic_has_that_topic_only(scribe: Scribe) -> None:
    for topic in ("a", "a/b", "b", "a"):
        scribe.write(topic)
    assert positions(scribe.page("a").records) == [1, 4]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("a/#", [1, 2, 3]),
        ("a/+", [2]),
        ("+", [1, 5]),
        ("#", [1, 2, 3, 5]),
        ("$sys/#", [4]),
        ("+/x", [2]),
        ("c", []),
    ],
)
def test_read_finds_what_the_filter_matches(scribe: Scribe, filter: str, found: list[int]) -> None:
    """SPEC 6.4."""
    for topic in ("a", "a/x", "a/x/y", "$sys/x", "b"):
        scribe.write(topic)
    assert positions(scribe.page(filter).records) == found


def test_read_begins_behind_after(scribe: Scribe) -> None:
    scribe.write_many("a", 5)
    assert positions(scribe.page("a", after=3).records) == [4, 5]
    assert positions(scribe.page("#", after=5).records) == []


def test_read_gets_to_the_head_even_where_nothing_matches(scribe: Scribe) -> None:
    scribe.write_many("a", 3)
    page = scribe.page("b")
    assert (page.records, page.upto) == ([], 3)


def test_read_says_the_offset_before_each_record(scribe: Scribe) -> None:
    """SPEC 4.3.4: nothing lies between, so `prev` is offset − 1."""
    for topic in ("a", "b", "a", "a", "b"):
        scribe.write(topic)
    assert scribe.page("#", after=1).prevs == [0, 1, 2, 1]


# Pages


def test_page_has_at_least_one_record_however_large(scribe: Scribe) -> None:
    scribe.write_many("a", 2, size=5_000)
    page = scribe.page("a", max_bytes=1)
    assert (positions(page.records), page.upto) == ([1], 1)


def test_page_stays_within_its_bytes(scribe: Scribe) -> None:
    written = scribe.write_many("a", 10, size=100)
    page = scribe.page("a", max_bytes=3 * written[0].size)
    assert (positions(page.records), page.upto) == ([1, 2, 3], 3)


@pytest.mark.parametrize("max_bytes", [1, 300, 1_000, 3_000])
@pytest.mark.parametrize("filter", ["#", "a", "b/+"])
def test_pages_put_together_are_everything(scribe: Scribe, filter: str, max_bytes: int) -> None:
    for number in range(30):
        scribe.write(("a", "b/1", "b/2", "c")[number * 7 % 4], size=number * 11)
    expected = [record for record in scribe.written if matches(filter, record.topic)]
    assert scribe.read(filter, 0, max_bytes) == expected


@pytest.mark.parametrize("max_records", [1, 3, 10])
@pytest.mark.parametrize("filter", ["#", "a", "b/+", "nobody/#", "none"])
def test_page_looks_at_no_more_records_than_it_may(scribe: Scribe, filter: str, max_records: int) -> None:
    """S8: whether they match or not; and gets on all the same, to everything that matches."""
    for number in range(40):
        scribe.write(("a", "b/1", "b/2", "c")[number * 7 % 4])
    page = scribe.page(filter, max_records=max_records)
    assert page.looked_at <= max_records
    assert len(page.records) <= max_records
    expected = [record for record in scribe.written if matches(filter, record.topic)]
    assert scribe.read(filter, max_records=max_records) == expected


def test_page_of_a_topic_does_not_look_at_others(scribe: Scribe) -> None:
    for number in range(40):
        scribe.write("ab"[number % 2])
    assert scribe.page("a").looked_at == 20


def test_expired_records_count_as_looked_at(scribe: Scribe) -> None:
    scribe.write("a")
    for _ in range(8):
        scribe.write("a", ttl_ms=10)
    written = scribe.write("a")
    scribe.now_ms += 10
    page = scribe.page("a", after=1, max_records=3)
    assert (page.records, page.upto, page.looked_at) == ([], 4, 3)
    assert scribe.read("a", after=1, max_records=3) == [written]


def test_last_page_gets_to_the_head(scribe: Scribe) -> None:
    scribe.write("a")
    scribe.write("b")
    assert scribe.page("a", max_bytes=1).upto == 2


# Retention, and what it lost


def test_retention_by_count_keeps_the_newest(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=3))
    scribe.write_many("a", 10)
    scribe.trim()
    page = scribe.page("a")
    assert positions(page.records) == [8, 9, 10]
    assert page.loss


def test_retention_by_age_keeps_what_is_young(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_seconds=10))
    scribe.write_many("a", 2)
    scribe.pass_time(8)
    scribe.write("a")
    scribe.pass_time(8)
    page = scribe.page("a")
    assert positions(page.records) == [3]
    assert page.loss


def test_retention_by_bytes_keeps_the_newest_that_fit(open_log: Open) -> None:
    size = Record("a", 1, 1, 1, b"x" * 100).size
    scribe = Scribe(open_log, rule=TopicRule(retention_bytes=3 * size))
    scribe.write_many("a", 10, size=100)
    scribe.trim()
    page = scribe.page("a")
    assert positions(page.records) == [8, 9, 10]
    assert page.loss


def test_retention_follows_the_rule_of_each_topic(open_log: Open) -> None:
    scribe = Scribe(open_log)
    for _ in range(3):
        scribe.write("short", rule=TopicRule(retention_messages=1))
        scribe.write("none", rule=TopicRule(retention_messages=0))
        scribe.write("long")
    scribe.trim()
    assert positions(scribe.page("#").records) == [3, 6, 7, 9]


def test_nothing_lost_is_no_loss(scribe: Scribe) -> None:
    scribe.write_many("a", 5)
    scribe.trim()
    assert scribe.page("a").loss == 0
    assert scribe.page("#").loss == 0


def test_loss_before_after_does_not_concern_the_reader(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=3))
    scribe.write_many("a", 10)
    scribe.trim()
    assert scribe.page("a", after=6).loss
    assert scribe.page("a", after=7).loss == 0


def test_loss_on_another_topic_does_not_concern_the_reader(open_log: Open) -> None:
    scribe = Scribe(open_log)
    for _ in range(3):
        scribe.write("a/1", rule=TopicRule(retention_messages=1))
        scribe.write("a/2")
    scribe.trim()
    assert scribe.page("a/2").loss == 0
    assert scribe.page("a/1").loss
    assert scribe.page("a/+").loss
    assert scribe.page("b/#").loss == 0


def test_later_loss_has_a_higher_number(open_log: Open) -> None:
    """A reader that was told of a loss is told of the next one, on whichever of its topics."""
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=2))
    scribe.write_many("b", 9)
    for topic in ("a", "a", "a", "b", "a"):
        before = scribe.page("#").loss
        assert scribe.page("#").loss == before, "asking again is no new loss"
        scribe.write(topic)
        scribe.trim()
        is_over = topic == "b" or len([one for one in scribe.written if one.topic == "a"]) > 2
        assert (scribe.page("#").loss > before) == is_over


def test_place_knows_the_newest_loss(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=2))
    assert scribe.seek("#", Start()).loss == 0
    scribe.write_many("a", 3)
    scribe.write_many("b", 3)
    scribe.trim()
    place = scribe.seek("#", Start())
    assert scribe.page("#", place.pos).loss <= place.loss, "what was lost before the start is known"
    scribe.write("a")
    scribe.trim()
    assert scribe.page("#", place.pos).loss > place.loss


# Time to live


def test_expired_record_is_passed_over_without_loss(scribe: Scribe) -> None:
    """SPEC 3.4.9, 4.3.4: policy, no gap; `prev` reaches over it."""
    scribe.write("a")
    scribe.write("a", ttl_ms=1_000)
    scribe.write("a")
    scribe.now_ms += 1_000
    page = scribe.page("a")
    assert (positions(page.records), page.prevs, page.loss) == ([1, 3], [0, 1], 0)


def test_record_lives_until_its_time_has_passed(scribe: Scribe) -> None:
    scribe.write("a", ttl_ms=1_000)
    scribe.now_ms += 999
    assert positions(scribe.page("a").records) == [1]


def test_expired_records_stay_no_loss_when_retention_takes_them(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=2))
    scribe.write("a")
    scribe.write("a", ttl_ms=1_000)
    scribe.now_ms += 2_000
    scribe.write_many("a", 2)
    scribe.trim()
    page = scribe.page("a", after=1)
    assert (positions(page.records), page.loss) == ([3, 4], 0)
    assert page.prevs[0] <= 1, "who had the first one missed nothing"


def test_read_of_expired_records_alone_gets_to_the_head(scribe: Scribe) -> None:
    for _ in range(5):
        scribe.write("a", ttl_ms=10)
    scribe.pass_time(1)
    page = scribe.page("a")
    assert (page.records, page.upto, page.loss) == ([], 5, 0)


# The newest


def test_newest_is_one_record_of_each_matching_topic_in_order(scribe: Scribe) -> None:
    """SPEC 3.2.5."""
    for topic in ("a/2", "a/1", "b", "a/1", "a/3"):
        scribe.write(topic)
    assert positions(scribe.newest("a/+")) == [1, 4, 5]
    assert positions(scribe.newest("a/1")) == [4]
    assert scribe.newest("c") == []


@pytest.mark.parametrize("bounds", [(1, 1_000), (1_000_000, 1), (1_000_000, 3), (150, 4)])
@pytest.mark.parametrize("filter", ["#", "b/+", "a", "nobody/#", "none"])
def test_pages_of_a_snapshot_put_together_are_all_of_it(
    scribe: Scribe, filter: str, bounds: tuple[int, int]
) -> None:
    for number in range(40):
        scribe.write(("a", "b/1", "b/2", "c")[number * 7 % 4] if number < 30 else "c")
    newest = {record.topic: record for record in scribe.written}
    expected = [one for one in scribe.written if newest[one.topic] is one and matches(filter, one.topic)]
    assert scribe.newest(filter, *bounds) == expected


def test_snapshot_is_of_its_moment(scribe: Scribe) -> None:
    """SPEC 3.2.5: what came behind it neither belongs to it nor hides what does."""
    for topic in ("a", "b", "a", "c"):
        scribe.write(topic)
    assert positions(scribe.snapshot_page("#", 0, 4).records) == [2, 3, 4]
    scribe.write("a")
    scribe.write("d")
    page = scribe.snapshot_page("#", 0, 4)
    assert (positions(page.records), page.upto) == ([2, 3, 4], 4)
    assert page.looked_at <= 4
    assert positions(scribe.snapshot_page("a", 0, 4).records) == [3]
    assert positions(scribe.snapshot_page("#", 3, 4).records) == [4]
    assert positions(scribe.snapshot_page("a", 3, 4).records) == []


def test_snapshot_does_not_go_back_to_what_was_not_the_newest(open_log: Open) -> None:
    """What replaced it comes behind the snapshot."""
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=2))
    scribe.write_many("a", 4)
    scribe.trim()
    assert positions(scribe.snapshot_page("a", 0, 2).records) == []
    assert positions(scribe.snapshot_page("#", 0, 2).records) == []
    assert positions(scribe.snapshot_page("#", 0, 3).records) == [3]


def test_newest_passes_over_what_has_expired(scribe: Scribe) -> None:
    scribe.write("a")
    scribe.write("a", ttl_ms=10)
    scribe.write("b", ttl_ms=10)
    scribe.now_ms += 10
    assert positions(scribe.newest("#")) == [1]


def test_newest_has_nothing_where_nothing_is_retained(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=0))
    scribe.write("a")
    scribe.trim()
    assert scribe.newest("a") == []


# Reading back

PLENTY = 10**9


@pytest.mark.parametrize(
    ("before", "max_bytes", "max_records", "found"),
    [
        (99, PLENTY, 99, ([1, 3, 5, 7, 9], False)),
        (99, PLENTY, 2, ([7, 9], True)),
        (99, PLENTY, 5, ([1, 3, 5, 7, 9], False)),
        (7, PLENTY, 2, ([3, 5], True)),
        (8, PLENTY, 4, ([1, 3, 5, 7], False)),
        (1, PLENTY, 9, ([], False)),
        (99, 1, 9, ([9], True)),
        (2, 1, 9, ([1], False)),
        (99, 450, 9, ([7, 9], True)),
    ],
)
def test_read_back_finds_the_newest_that_fit(
    scribe: Scribe, before: int, max_bytes: int, max_records: int, found: tuple[list[int], bool]
) -> None:
    """SPEC 4.7.2: paging backwards."""
    for number in range(10):
        scribe.write("ab"[number % 2])
    records, has_older = scribe.back("a", before, max_bytes, max_records)
    assert (positions(records), has_older) == found
    assert scribe.back("none", before, max_bytes, max_records) == ([], False)


def test_read_back_passes_over_what_has_expired(scribe: Scribe) -> None:
    scribe.write("a", ttl_ms=10)
    scribe.write("a")
    scribe.write("a", ttl_ms=10)
    scribe.write("a")
    scribe.now_ms += 10
    records, has_older = scribe.back("a", 99, max_records=2)
    assert (positions(records), has_older) == ([2, 4], False)


def test_read_back_has_what_is_retained(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=3))
    scribe.write_many("a", 6)
    records, has_older = scribe.back("a", 6)
    assert (positions(records), has_older) == ([4, 5], False)


# Where a start lies


def test_earliest_lies_before_the_oldest_held(open_log: Open) -> None:
    """SPEC 3.2.4."""
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=2))
    scribe.write_many("a", 3)
    scribe.write_many("b", 2)
    scribe.trim()
    assert scribe.seek("a", Start()).pos == 1
    assert scribe.seek("b", Start()).pos == 3
    assert scribe.seek("#", Start()).pos == 1


def test_start_on_a_topic_without_messages_lies_at_the_head(scribe: Scribe) -> None:
    scribe.write_many("a", 3)
    for start in (Start(), Start(last=2), Start(since=0)):
        place = scribe.seek("b", start)
        assert (place.pos, place.is_complete) == (3, True)


@pytest.mark.parametrize(("last", "first"), [(1, 7), (2, 5), (3, 3), (4, 1), (99, 1)])
def test_last_counts_messages_of_the_topic(scribe: Scribe, last: int, first: int) -> None:
    """SPEC 3.2.6."""
    for topic in ("a", "b", "a", "b", "a", "b", "a"):
        scribe.write(topic)
    place = scribe.seek("a", Start(last=last))
    assert scribe.page("a", place.pos).records[0].pos == first


def test_last_does_not_count_what_has_expired(scribe: Scribe) -> None:
    scribe.write_many("a", 3)
    scribe.write("a", ttl_ms=10)
    scribe.write("a")
    scribe.write("a", ttl_ms=10)
    scribe.now_ms += 10
    place = scribe.seek("a", Start(last=3))
    assert positions(scribe.page("a", place.pos).records) == [2, 3, 5]


def test_since_lies_before_the_first_record_of_that_time(scribe: Scribe) -> None:
    """SPEC 3.2.7."""
    times = []
    for _ in range(4):
        times.append(scribe.now_ms)
        scribe.write("a")
        scribe.write("b")
        scribe.now_ms += 1_000
    assert scribe.seek("a", Start(since=times[2])).pos == 4
    assert scribe.seek("b", Start(since=times[2])).pos == 5
    assert scribe.seek("#", Start(since=times[2] - 999)).pos == 4
    assert scribe.seek("#", Start(since=0)).pos == 0
    assert scribe.seek("#", Start(since=scribe.now_ms)).pos == 8


def test_since_is_complete_unless_retention_took_of_that_time(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(retention_messages=2))
    times = []
    for _ in range(4):
        times.append(scribe.now_ms)
        scribe.write("a")
        scribe.now_ms += 1_000
    scribe.trim()
    assert not scribe.seek("a", Start(since=times[1])).is_complete
    assert scribe.seek("a", Start(since=times[1] + 1)).is_complete
    assert scribe.seek("a", Start(since=times[2])).is_complete
    assert not scribe.seek("#", Start(since=times[0])).is_complete


# Everything together, against a list

TOPICS = ("a", "a/1", "a/2", "b", "$sys/a")
FILTERS = ("a", "a/1", "b", "a/#", "+", "#", "$sys/#", "c")
RULES = {
    "a": TopicRule(retention_messages=3),
    "a/1": TopicRule(retention_seconds=3),
    "a/2": TopicRule(retention_bytes=700),
    "b": TopicRule(retention_messages=0),
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(TOPICS), st.integers(0, 400)),
        st.tuples(st.just("write"), st.sampled_from(TOPICS), st.integers(0, 400)),
        st.tuples(st.just("write briefly"), st.sampled_from(TOPICS), st.integers(1, 3_000)),
        st.tuples(st.just("time"), st.just(""), st.integers(0, 2_000)),
        st.tuples(st.just("trim"), st.just(""), st.just(0)),
        st.tuples(st.just("read"), st.sampled_from(FILTERS), st.integers(0, 20)),
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(STEPS, st.sampled_from([1, 500, 100_000]), st.sampled_from([1, 4, 1_000]))
def test_reads_return_what_a_list_would(
    open_log: Open, steps: list[Any], max_bytes: int, max_records: int
) -> None:
    """I3, I6, I7: what is retained comes, in order; what does not come is a loss, or has expired."""
    scribe = Scribe(open_log)
    for name, word, number in steps:
        if name == "write":
            scribe.write(word, size=number, rule=RULES.get(word, KEEP))
        elif name == "write briefly":
            scribe.write(word, ttl_ms=number, rule=RULES.get(word, KEEP))
        elif name == "time":
            scribe.now_ms += number
        elif name == "trim":
            scribe.trim()
        else:
            check_read(scribe, word, min(number, scribe.log.head()), max_bytes, max_records)


def check_read(scribe: Scribe, filter: str, after: int, max_bytes: int, max_records: int) -> None:
    page = scribe.page(filter, after, max_bytes, max_records)
    assert page.looked_at <= max_records
    due = [
        record
        for record in scribe.written
        if after < record.pos <= page.upto
        and matches(filter, record.topic)
        and not record.is_expired(scribe.now_ms)
    ]
    assert page.records == [record for record in due if record in page.records], (
        "in order, nothing twice or foreign"
    )
    absent = [record for record in due if record not in page.records]
    assert not [record for record in absent if is_retained(scribe, record)]
    assert page.loss or not absent, "never a silent hole"
    assert page.upto == scribe.log.head() or page.upto > after
    for record, prev in zip(page.records, page.prevs, strict=True):
        assert prev < record.offset
        assert page.loss or not [
            one for one in due if one.topic == record.topic and prev < one.offset < record.offset
        ]


def is_retained(scribe: Scribe, record: Record) -> bool:
    rule = RULES.get(record.topic, KEEP)
    newer = [one for one in scribe.written if one.topic == record.topic and one.pos >= record.pos]
    return (
        len(newer) <= rule.retention_messages
        and sum(one.size for one in newer) <= rule.retention_bytes
        and record.ts + rule.retention_seconds * 1000 >= scribe.now_ms
    )

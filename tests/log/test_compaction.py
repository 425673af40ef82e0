"""What every log engine promises of compacted topics (`TopicRule.compact`), each clause held against each engine.

Knows the interface only. Compaction may follow at once or at the next trim, so tests let it follow before they
look at what was replaced; a snapshot is right at any moment.
"""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import TopicRule
from triode_broker.core.record import Record
from triode_protocol.packets import Start
from triode_protocol.topics import matches

from tests.log.scribe import KEEP, PLENTY, Open, Scribe

COMPACT = TopicRule(compact=True, retention_messages=100_000, retention_seconds=1, retention_bytes=PLENTY)
DAY_SECONDS = 86_400


@pytest.fixture
def scribe(open_log: Open) -> Scribe:
    return Scribe(open_log, rule=COMPACT)


def positions(records: list[Record]) -> list[int]:
    return [record.pos for record in records]


# The newest of each key


@pytest.mark.parametrize("filter", ["a", "+", "#"])
def test_newest_record_of_each_key_is_retained(scribe: Scribe, filter: str) -> None:
    scribe.write_keys("a", "kmknk")
    scribe.trim()
    page = scribe.page(filter)
    assert (positions(page.records), page.upto) == ([2, 4, 5], 5)


@pytest.mark.parametrize("filter", ["a", "#"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_replaced_record_is_no_loss_and_prev_reaches_over_it(scribe: Scribe, filter: str, after: int) -> None:
    """G4, SPEC 4.3.4: policy, no gap."""
    scribe.write_keys("a", "mkkkn")
    scribe.trim()
    page = scribe.page(filter, after)
    kept = [1, 4, 5][min(after, 1) :]
    assert (positions(page.records), page.loss) == (kept, 0)
    assert page.prevs == [0, 1, 4][min(after, 1) :]


def test_prev_is_never_behind_what_a_reader_had(scribe: Scribe) -> None:
    """I6: what came before the position was replaced since."""
    scribe.write_keys("a", "kkn")
    scribe.write("a", key="k")
    scribe.trim()
    for filter in ("a", "#"):
        page = scribe.page(filter, 2)
        assert positions(page.records) == [3, 4]
        assert page.prevs[0] <= 2
        assert page.prevs[1] == 3


def test_no_key_is_one_more_key(scribe: Scribe) -> None:
    for key in ("", "k", "", "k", ""):
        scribe.write("a", key=key)
    scribe.trim()
    assert positions(scribe.page("a").records) == [4, 5]
    assert positions(scribe.newest("a")) == [4, 5]


def test_key_belongs_to_its_topic(scribe: Scribe) -> None:
    for topic in ("a", "b", "a", "c"):
        scribe.write(topic, key="k")
    scribe.trim()
    assert positions(scribe.page("#").records) == [2, 3, 4]


@pytest.mark.parametrize(
    ("key", "other"),
    [("a", "a\0b"), ("", "\0"), ("a\0b", "a\0c"), ('"', '\\"'), ("\u00e9", "e\u0301"), ("1", "1.0")],
)
def test_key_is_any_text_and_the_whole_of_it(scribe: Scribe, key: str, other: str) -> None:
    """G4: what differs behind a NUL, or looks alike, is another key."""
    for one in (key, other, other):
        scribe.write("a", key=one)
    scribe.trim()
    assert [record.key for record in scribe.page("a").records] == [key, other]
    assert positions(scribe.newest("a")) == [1, 3]
    scribe.write("a", key=other, tombstone=True)
    scribe.write("a", key=key)
    scribe.trim()
    assert positions(scribe.page("a").records) == [4, 5]
    assert positions(scribe.newest("a")) == [5]


def test_key_means_nothing_where_the_topic_is_not_compacted(open_log: Open) -> None:
    scribe = Scribe(open_log)
    scribe.write_keys("a", "kkk")
    scribe.trim()
    assert positions(scribe.page("a").records) == [1, 2, 3]
    assert positions(scribe.newest("a")) == [3]


def test_compacted_and_other_topics_live_in_one_log(open_log: Open) -> None:
    scribe = Scribe(open_log)
    for number in range(6):
        scribe.write("state", key="kn"[number % 2], rule=COMPACT)
        scribe.write("events", key="k")
    scribe.trim()
    assert positions(scribe.page("events").records) == [2, 4, 6, 8, 10, 12]
    assert positions(scribe.page("#").records) == [2, 4, 6, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("filter", ["a", "#"])
def test_read_that_begins_between_goes_on_with_what_is_retained(scribe: Scribe, filter: str) -> None:
    """A reader had a page; meanwhile the next ones were replaced."""
    scribe.write_keys("a", "abcdef")
    page = scribe.page(filter, max_records=2)
    assert positions(page.records) == [1, 2]
    scribe.write_keys("a", "acde")
    scribe.trim()
    rest = scribe.page(filter, page.upto)
    assert (positions(rest.records), rest.prevs, rest.loss) == ([6, 7, 8, 9, 10], [2, 6, 7, 8, 9], 0)


@pytest.mark.parametrize("bounds", [(1, 1_000), (PLENTY, 1), (PLENTY, 3), (500, 4)])
@pytest.mark.parametrize("filter", ["#", "a", "b/+", "none"])
def test_pages_put_together_are_everything_retained(scribe: Scribe, filter: str, bounds: tuple[int, int]) -> None:
    """S8: however few records a turn looks at."""
    for number in range(60):
        scribe.write(("a", "b/1", "b/2")[number * 7 % 3], key=f"k{number * number % 11}", size=number)
    scribe.trim()
    newest = {(record.topic, record.key): record.pos for record in scribe.written}
    expected = sorted(pos for (topic, _), pos in newest.items() if matches(filter, topic))
    assert positions(scribe.read(filter, 0, *bounds)) == expected
    assert positions(scribe.newest(filter, *bounds)) == expected


# Retention


def test_age_does_not_apply(scribe: Scribe) -> None:
    scribe.write_keys("a", "kmk")
    scribe.pass_time(100_000)
    page = scribe.page("a")
    assert (positions(page.records), page.loss) == ([2, 3], 0)
    assert positions(scribe.newest("#")) == [2, 3]


def test_retention_by_count_counts_keys(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_messages=3))
    for key in "abcabcabc":
        scribe.write("a", key=key)
        scribe.trim()
        assert scribe.page("#").loss == 0
    assert positions(scribe.page("a").records) == [7, 8, 9]


@pytest.mark.parametrize("filter", ["a", "#"])
def test_oldest_keys_beyond_the_count_go_and_are_a_loss(open_log: Open, filter: str) -> None:
    """SPEC 4.6.1: the oldest is the one that was longest not written."""
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_messages=3))
    for key in "abcad":
        scribe.write("a", key=key)
        scribe.trim()
    page = scribe.page(filter)
    assert positions(page.records) == [3, 4, 5]
    assert page.loss
    assert scribe.page(filter, 1).loss, "b was lost behind it"
    assert scribe.page(filter, 2).loss == 0
    assert positions(scribe.newest(filter)) == [3, 4, 5]


def test_every_loss_has_a_higher_number(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_messages=2))
    losses = []
    for key in "abcbcde":
        scribe.write("a", key=key)
        scribe.trim()
        losses.append(scribe.page("a").loss)
    assert losses[:2] == [0, 0]
    assert losses[2] == losses[3] == losses[4] > 0
    assert losses[4] < losses[5] < losses[6]


def test_retention_by_bytes_counts_what_is_retained(open_log: Open) -> None:
    size = Record("a", 1, 1, 1, b"x" * 100).size
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_bytes=3 * size))
    for key in "abcabcbb":
        scribe.write("a", key=key, size=100)
        scribe.trim()
    assert (positions(scribe.page("a").records), scribe.page("a").loss) == ([4, 6, 8], 0)
    scribe.write("a", key="d", size=100)
    scribe.trim()
    page = scribe.page("a", 3)
    assert positions(page.records) == [6, 8, 9]
    assert page.loss


def test_large_record_takes_the_place_of_several_keys(open_log: Open) -> None:
    size = Record("a", 1, 1, 1, b"x" * 100).size
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_bytes=8 * size))
    for key in "abcdefghb":
        scribe.write("a", key=key, size=100)
    scribe.write("a", key="large", size=100 + 3 * size)
    scribe.trim()
    page = scribe.page("a", 4)
    assert (positions(page.records), page.prevs) == ([6, 7, 8, 9, 10], [5, 6, 7, 8, 9])
    assert page.loss
    assert scribe.page("a", 5).loss == 0


def test_nothing_is_retained_where_the_count_is_0(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_messages=0))
    scribe.write_keys("a", "ab")
    scribe.trim()
    assert (scribe.page("a").records, scribe.newest("#")) == ([], [])
    assert scribe.page("a").loss


# Deletions


def test_tombstone_replaces_its_key_and_is_read_like_any_other(scribe: Scribe) -> None:
    scribe.write_keys("a", "kn")
    scribe.write("a", key="k", tombstone=True)
    scribe.trim()
    for filter in ("a", "#"):
        page = scribe.page(filter)
        assert (positions(page.records), page.prevs, page.loss) == ([2, 3], [0, 2], 0)
        assert page.records[-1].is_tombstone
        assert page.records[-1].key == "k"


def test_tombstone_is_kept_for_its_time_and_goes_without_loss(scribe: Scribe) -> None:
    scribe.write_keys("a", "kn")
    scribe.write("a", key="k", tombstone=True)
    scribe.write("a", key="m")
    scribe.now_ms += DAY_SECONDS * 1_000 - 1
    scribe.trim()
    assert positions(scribe.page("a", 2).records) == [3, 4]
    scribe.now_ms += 1
    scribe.trim()
    for filter in ("a", "#"):
        page = scribe.page(filter, 2)
        assert (positions(page.records), page.prevs, page.loss) == ([4], [2], 0)


def test_tombstones_time_is_the_rules(open_log: Open) -> None:
    scribe = Scribe(open_log, rule=TopicRule(compact=True, tombstone_seconds=5))
    scribe.write("a", key="k", tombstone=True)
    scribe.pass_time(4)
    scribe.write("a", key="n", tombstone=True)
    scribe.pass_time(2)
    assert positions(scribe.page("a").records) == [2]
    scribe.pass_time(3)
    page = scribe.page("a")
    assert (page.records, page.upto, page.loss) == ([], 2, 0)


def test_deletion_does_not_bring_an_older_one_back(scribe: Scribe) -> None:
    scribe.write_keys("a", "kk")
    scribe.write("a", key="k", tombstone=True)
    scribe.pass_time(2 * DAY_SECONDS)
    assert (scribe.page("a").records, scribe.newest("a"), scribe.newest("#")) == ([], [], [])


def test_key_that_is_written_again_outlives_its_tombstone(scribe: Scribe) -> None:
    scribe.write("a", key="k", tombstone=True)
    scribe.write("a", key="k")
    scribe.pass_time(2 * DAY_SECONDS)
    assert positions(scribe.page("#").records) == [2]
    assert positions(scribe.newest("a")) == [2]


def test_tombstone_with_a_time_to_live_goes_with_it(scribe: Scribe) -> None:
    scribe.write("a", key="k")
    scribe.write("a", key="k", tombstone=True, ttl_ms=500)
    scribe.pass_time(0.499)
    assert positions(scribe.page("a").records) == [2]
    scribe.pass_time(0.001)
    page = scribe.page("a")
    assert (page.records, page.loss) == ([], 0)


# The snapshot: the state


@pytest.mark.parametrize("filter", ["a", "+", "#"])
def test_snapshot_has_the_newest_of_each_key_in_order_at_any_moment(scribe: Scribe, filter: str) -> None:
    """SPEC 3.2.5: also before the log has been tidied."""
    scribe.write_keys("a", "kmknk")
    assert positions(scribe.newest(filter)) == [2, 4, 5]


@pytest.mark.parametrize("filter", ["a", "#"])
def test_snapshot_leaves_tombstones_out(scribe: Scribe, filter: str) -> None:
    scribe.write_keys("a", "kmn")
    scribe.write("a", key="m", tombstone=True)
    assert positions(scribe.newest(filter)) == [1, 3]
    scribe.write("a", key="m")
    assert positions(scribe.newest(filter)) == [1, 3, 5]


def test_snapshot_of_a_wildcard_has_each_topic_by_its_own_rule(open_log: Open) -> None:
    scribe = Scribe(open_log)
    for number in range(9):
        topic = ("state/1", "state/2", "events")[number % 3]
        scribe.write(topic, key="kmn"[number // 3], rule=KEEP if topic == "events" else COMPACT)
    scribe.write("state/2", key="m", tombstone=True, rule=COMPACT)
    assert positions(scribe.newest("#")) == [1, 2, 4, 7, 8, 9]
    assert positions(scribe.newest("state/+")) == [1, 2, 4, 7, 8]
    assert positions(scribe.newest("state/2")) == [2, 8]


@pytest.mark.parametrize("filter", ["a", "+"])
def test_snapshot_lacks_what_was_replaced_behind_it(scribe: Scribe, filter: str) -> None:
    """What replaced it comes behind the snapshot; neither is a deletion undone."""
    scribe.write_keys("a", "kmn")
    scribe.write("b", key="k")
    scribe.write("a", key="k")
    scribe.write("a", key="m", tombstone=True)
    scribe.trim()
    page = scribe.snapshot_page(filter, 0, 4)
    of_a = [record.pos for record in page.records if record.topic == "a"]
    assert (of_a, page.upto) == ([3], 4)
    assert positions(scribe.page("a", 4).records) == [5, 6]


@pytest.mark.parametrize("filter", ["a", "+"])
def test_snapshot_goes_on_behind_the_page_before(scribe: Scribe, filter: str) -> None:
    scribe.write_keys("a", "klmno")
    page = scribe.snapshot_page(filter, 0, 5, max_records=2)
    assert (positions(page.records), page.upto) == ([1, 2], 2)
    scribe.write_keys("a", "kn")
    scribe.trim()
    assert positions(scribe.snapshot_page(filter, 2, 5).records) == [3, 5]
    assert positions(scribe.page(filter, 5).records) == [6, 7]


# History and starts


def test_read_back_has_what_is_retained(scribe: Scribe) -> None:
    """SPEC 4.7.2."""
    scribe.write_keys("a", "kmknkm")
    scribe.write("a", key="n", tombstone=True)
    scribe.trim()
    assert positions(scribe.back("a", 99)[0]) == [5, 6, 7]
    records, has_older = scribe.back("a", 7, max_records=1)
    assert (positions(records), has_older) == ([6], True)
    records, has_older = scribe.back("a", 6)
    assert (positions(records), has_older) == ([5], False)
    assert scribe.back("a", 5) == ([], False)


@pytest.mark.parametrize(
    ("start", "found"),
    [
        (Start(), [3, 4, 6]),
        (Start(last=2), [4, 6]),
        (Start(last=99), [3, 4, 6]),
        (Start(since=0), [3, 4, 6]),
        (Start(since=1_002_000), [3, 4, 6]),
        (Start(since=1_002_001), [4, 6]),
        (Start(since=1_004_000), [6]),
        (Start(since=1_005_001), []),
    ],
)
def test_start_finds_what_is_retained(scribe: Scribe, start: Start, found: list[int]) -> None:
    """SPEC 3.2.4, 3.2.6, 3.2.7: what was replaced is not missing."""
    for key in "kknmkk":
        scribe.write("a", key=key)
        scribe.now_ms += 1_000
    scribe.trim()
    for filter in ("a", "#"):
        if not (start.last and filter == "#"):
            place = scribe.seek(filter, start)
            assert place.is_complete
            assert positions(scribe.read(filter, place.pos)) == found


def test_earliest_lies_before_the_oldest_retained(scribe: Scribe) -> None:
    """SPEC 3.2.4."""
    scribe.write_keys("a", "nkmnopqrstuvwk")
    scribe.trim()
    assert scribe.seek("a", Start()).pos == 2
    assert scribe.seek("#", Start()).pos == 2


def test_since_is_not_complete_where_keys_were_lost(open_log: Open) -> None:
    """SPEC 3.2.7."""
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_messages=2))
    times = []
    for key in "abcc":
        times.append(scribe.now_ms)
        scribe.write("a", key=key)
        scribe.trim()
        scribe.now_ms += 1_000
    for filter in ("a", "#"):
        assert not scribe.seek(filter, Start(since=times[0])).is_complete
        assert scribe.seek(filter, Start(since=times[1])).is_complete


# Time to live


@pytest.mark.parametrize("filter", ["a", "#"])
def test_key_ends_with_its_time_to_live(scribe: Scribe, filter: str) -> None:
    """SPEC 3.4.9: nor does what it replaced come back."""
    scribe.write_keys("a", "kn")
    scribe.write("a", key="k", ttl_ms=1_000)
    scribe.now_ms += 999
    assert positions(scribe.newest(filter)) == [2, 3]
    scribe.now_ms += 1
    assert positions(scribe.newest(filter)) == [2]
    page = scribe.page(filter)
    assert (positions(page.records), page.loss) == ([2], 0)


def test_key_that_is_written_again_outlives_its_first_time_to_live(scribe: Scribe) -> None:
    scribe.write("a", key="k", ttl_ms=1_000)
    scribe.write("a", key="k", ttl_ms=3_000)
    scribe.pass_time(2)
    assert positions(scribe.newest("a")) == [2]
    scribe.write("a", key="k")
    scribe.pass_time(2)
    assert positions(scribe.newest("a")) == [3]


@pytest.mark.parametrize("tombstone", [False, True])
def test_expired_keys_do_not_cost_others_their_place(open_log: Open, tombstone: bool) -> None:
    """Age does not end what stands before them, so they count no longer than they live."""
    scribe = Scribe(open_log, rule=TopicRule(compact=True, retention_messages=3))
    scribe.write("a", key="forever")
    for number in range(10):
        scribe.write("a", key=f"brief{number}", ttl_ms=1_000, tombstone=tombstone)
        scribe.pass_time(2)
    page = scribe.page("a")
    assert (positions(page.records), page.loss) == ([1], 0)


# Everything together, against a table

TOPICS = ("a", "b/1", "b/2", "plain")
FILTERS = ("a", "b/1", "b/+", "#", "plain")
RULES = {
    "a": COMPACT,
    "b/1": TopicRule(compact=True, retention_messages=2, tombstone_seconds=2),
    "b/2": TopicRule(compact=True, retention_bytes=700, tombstone_seconds=3),
    "plain": KEEP,
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(TOPICS), st.sampled_from("kmno"), st.integers(0, 300)),
        st.tuples(st.just("write"), st.sampled_from(TOPICS), st.sampled_from("kmno"), st.integers(0, 300)),
        st.tuples(st.just("delete"), st.sampled_from(TOPICS), st.sampled_from("kmno"), st.just(0)),
        st.tuples(st.just("briefly"), st.sampled_from(TOPICS), st.sampled_from("kmno"), st.integers(1, 3_000)),
        st.tuples(st.just("time"), st.just("a"), st.just("k"), st.integers(0, 2_000)),
        st.tuples(st.just("read"), st.sampled_from(FILTERS), st.just("k"), st.integers(0, 30)),
    ),
    max_size=60,
)


class Table:
    """What a log should retain, found the slow way."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Record]] = defaultdict(list)
        self.lost: dict[str, Record] = {}  # per topic the newest that retention took

    def write(self, record: Record) -> None:
        if RULES[record.topic].compact:
            self.kept[record.topic] = [one for one in self.kept[record.topic] if one.key != record.key]
        self.kept[record.topic].append(record)

    def trim(self, now_ms: int) -> None:
        for topic, records in self.kept.items():
            rule = RULES[topic]
            records[:] = [one for one in records if not _is_over(one, rule, now_ms)]
            while (
                len(records) > rule.retention_messages or sum(one.size for one in records) > rule.retention_bytes
            ):
                self.lost[topic] = records.pop(0)

    def matching(self, filter: str) -> list[Record]:
        found = [one for topic, records in self.kept.items() if matches(filter, topic) for one in records]
        return sorted(found, key=lambda record: record.pos)

    def snapshot(self, filter: str, upto: int) -> list[Record]:
        held = [one for one in self.matching(filter) if one.pos <= upto]
        newest = {one.topic: one for one in held}
        return [
            one for one in held if (not one.is_tombstone if RULES[one.topic].compact else newest[one.topic] is one)
        ]


def _is_over(record: Record, rule: TopicRule, now_ms: int) -> bool:
    is_faded = record.is_tombstone and rule.compact and record.ts + rule.tombstone_seconds * 1_000 <= now_ms
    return is_faded or record.is_expired(now_ms)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([1, 500, PLENTY]), st.sampled_from([1, 4, 1_000]))
def test_reads_return_what_a_table_would(
    open_log: Open, steps: list[Any], max_bytes: int, max_records: int
) -> None:
    """G4, I3, I6, I7: what is retained comes, in order; what was lost is said, what was replaced is not."""
    scribe, table = Scribe(open_log), Table()
    for name, word, key, number in steps:
        if name == "time":
            scribe.now_ms += number
        elif name != "read":
            fields = {"delete": {"tombstone": True}, "briefly": {"ttl_ms": number}, "write": {"size": number}}
            table.write(scribe.write(word, key=key, rule=RULES[word], **fields[name]))
        scribe.trim()
        table.trim(scribe.now_ms)
        if name == "read":
            check_reads(scribe, table, word, min(number, scribe.log.head()), max_bytes, max_records)


def check_reads(scribe: Scribe, table: Table, filter: str, after: int, max_bytes: int, max_records: int) -> None:
    held = table.matching(filter)
    assert positions(scribe.read(filter, after, max_bytes, max_records)) == [
        one.pos for one in held if one.pos > after
    ]
    assert positions(scribe.newest(filter, max_bytes, max_records)) == positions(
        table.snapshot(filter, scribe.log.head())
    )
    if after:
        found = scribe.snapshot_page(filter, 0, after).records
        assert positions(found) == positions(table.snapshot(filter, after))
    page = scribe.page(filter, after)
    lost = [one for topic, one in table.lost.items() if matches(filter, topic) and one.pos > after]
    assert bool(page.loss) == bool(lost)
    for record, prev in zip(page.records, page.prevs, strict=True):
        before = [one.offset for one in table.kept[record.topic] if one.pos < record.pos]
        taken = table.lost.get(record.topic)
        assert prev == before[-1] if before else prev <= (taken.offset if taken else 0)

"""The shard table: a join, so that order and repetition do not matter, and bounded whatever is sent."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.cluster.frames import Entry
from triode_broker.cluster.table import MAX_EPOCH, MAX_STRAYS, Table

HOLDERS = ["n1", "n2"]


def table() -> Table:
    """Two memory shards, two durable ones."""
    return Table(2, HOLDERS)


def entry(shard: str = "m0", epoch: int = 1, node: str = "n1", incarnation: str = "i", log: str = "") -> Entry:
    """With a log that fits."""
    return Entry(shard, epoch, node, incarnation, log or f"{shard}-{node}{epoch}")


entries = st.lists(
    st.builds(
        entry,
        st.sampled_from(["m0", "m1", "d0", "d1"]),
        st.integers(1, 4),
        st.sampled_from([f"n{number}" for number in range(1, 9)]),
        st.sampled_from(["a", "b"]),
    ),
    max_size=30,
)


@given(entries, st.randoms(use_true_random=False))
def test_merge_gives_equal_tables_in_any_order_and_split(what: list[Entry], dice: random.Random) -> None:
    one, other = table(), table()
    one.merge(what)
    shuffled = [*what, *what[: len(what) // 2]]
    dice.shuffle(shuffled)
    middle = len(shuffled) // 2
    first = table()
    first.merge(shuffled[:middle])
    other.merge(shuffled[middle:])
    other.merge(first.entries())
    assert other.entries() == one.entries()
    assert other.digest() == one.digest()
    assert not other.merge(one.entries())


@given(entries)
def test_merge_keeps_the_highest_epoch_and_node_of_a_memory_shard(what: list[Entry]) -> None:
    kept = table()
    news = kept.merge(what)
    for shard in ("m0", "m1"):
        all_of_it = [(one.epoch, one.node, one.incarnation) for one in what if one.shard == shard]
        best = kept.get(shard)
        assert (best is None) == (not all_of_it)
        if best is not None:
            assert (best.epoch, best.node, best.incarnation) == max(all_of_it)
            assert best in news


def test_merge_says_what_was_news() -> None:
    one = table()
    assert one.merge([entry(epoch=2), entry(epoch=1), entry("m1")]) == [entry(epoch=2), entry("m1")]
    assert one.merge([entry(epoch=2)]) == []
    assert one.announce(entry(epoch=2, node="n2"))
    assert not one.announce(entry(epoch=2, node="n1"))
    assert one.get("m0") == entry(epoch=2, node="n2")


def test_durable_shard_is_the_configured_holders_whoever_else_announces_it() -> None:
    one = table()
    stray = entry("d0", epoch=9, node="n2")
    assert one.merge([entry("d0"), stray]) == [entry("d0"), stray]
    assert one.get("d0") == entry("d0")
    assert one.strays("d0") == [stray]
    assert one.strays("m0") == []
    assert one.get("d1") is None
    assert one.entries() == [entry("d0"), stray]


def test_strays_are_few() -> None:
    one = table()
    all_of_it = [entry("d0", epoch=number, node=f"n{number}") for number in range(2, MAX_STRAYS + 5)]
    one.merge([entry("d0"), *all_of_it])
    assert one.strays("d0") == all_of_it[-MAX_STRAYS:]
    assert one.merge(all_of_it) == []
    assert one.get("d0") == entry("d0")
    assert one.dropped > 0


@pytest.mark.parametrize(
    "bad",
    [
        entry("m2"),
        entry("d2"),
        entry(""),
        entry(epoch=0),
        entry(epoch=MAX_EPOCH + 1),
        entry(node=""),
        entry(node="a b"),
        entry(node="n" * 129),
        entry(incarnation=""),
        entry(log="m1-other"),
        entry(log="m0-" + "x" * 130),
        Entry("m0", 1, "n1", "i", "", "h" * 257),
    ],
)
def test_entry_that_is_none_is_dropped_and_counted(bad: Entry) -> None:
    one = table()
    empty = one.digest()
    assert one.merge([bad]) == []
    assert one.dropped == 1
    assert one.entries() == []
    assert one.digest() == empty


def test_digest_differs_with_the_table() -> None:
    one, other = table(), table()
    one.announce(entry())
    other.announce(entry(epoch=2))
    assert one.digest() != other.digest()


def test_released_entry_says_nobody_serves() -> None:
    one = table()
    one.announce(Entry("m0", 3, "n1", "i", ""))
    kept = one.get("m0")
    assert kept is not None
    assert kept.log == ""

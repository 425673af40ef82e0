"""The topic tree finds what naive matching finds, in order of arrival, whatever was added, removed and cached."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.core.topic_tree import ANSWER_VALUES, TopicTree, is_any
from triode_protocol.topics import HARD_MAX_LEVELS, check_filter, check_topic, matches

Tree = TopicTree[int, tuple[int, ...]]


def make_tree(max_cached: int = 100) -> Tree:
    return TopicTree(lambda values, topic: tuple(values), max_cached)


def test_some_only_ask_whether_there_is_anybody() -> None:
    tree: TopicTree[int, bool] = TopicTree(is_any, 10)
    tree.add("a/+", 1)
    assert (tree.match("a/1"), tree.match("b")) == (True, False)


def tree_of(*filters: str) -> Tree:
    """Each filter with its place in the list as value."""
    tree = make_tree()
    for place, filter in enumerate(filters):
        tree.add(filter, place)
    return tree


def test_exact_filter_matches_its_topic_alone() -> None:
    """SPEC 6.1: byte by byte."""
    tree = tree_of("a/b")
    assert tree.match("a/b") == (0,)
    for other in ("a", "a/b/c", "a/B", "b"):
        assert tree.match(other) == ()


@pytest.mark.parametrize(
    ("filter", "topic", "is_match"),
    [
        ("+", "a", True),
        ("+", "a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("+/b", "a/b", True),
        ("+/+", "a/b", True),
        ("#", "a", True),
        ("#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "b", False),
        ("a/+/#", "a/b", True),
        ("a/+/#", "a", False),
        ("+/#", "a", True),
        ("#", "$sys/a", False),
        ("+/a", "$sys/a", False),
        ("+", "$sys", False),
        ("$sys/#", "$sys", True),
        ("$sys/+", "$sys/a", True),
        ("a/#", "a/$b", True),
        ("a/+", "a/$b", True),
    ],
)
def test_wildcards_match_as_the_grammar_says(filter: str, topic: str, is_match: bool) -> None:
    """SPEC 6.4."""
    assert tree_of(filter).match(topic) == ((0,) if is_match else ())
    assert matches(filter, topic) == is_match


def test_value_under_several_filters_is_found_once_for_each() -> None:
    tree = make_tree()
    for filter in ("a", "+", "#"):
        tree.add(filter, 7)
    assert tree.match("a") == (7, 7, 7)


def test_values_of_one_filter_come_in_order_of_arrival() -> None:
    tree = tree_of("a", "a", "a")
    tree.remove("a", 0)
    tree.add("a", 0)
    assert tree.match("a") == (1, 2, 0)


@pytest.mark.parametrize("filter", ["a", "a/+", "#"])
def test_removing_what_is_not_there_is_an_error(filter: str) -> None:
    tree = make_tree()
    with pytest.raises(KeyError):
        tree.remove(filter, 1)


def test_size_counts_values() -> None:
    tree = tree_of("a", "a", "a/+")
    assert tree.size == 3
    tree.remove("a", 0)
    tree.remove("a/+", 2)
    assert tree.size == 1


def test_answers_are_gathered_once_until_something_changes() -> None:
    gathered: list[list[int]] = []

    def gather(values: list[int], topic: str) -> tuple[int, ...]:
        gathered.append(values)
        return tuple(values)

    tree: Tree = TopicTree(gather, 100)
    tree.add("a", 1)
    assert tree.match("a") is tree.match("a")
    tree.add("b", 2)
    assert tree.match("a") == (1,)
    assert len(gathered) == 1, "another exact filter does not concern it"
    tree.add("a", 3)
    assert tree.match("a") == (1, 3)
    tree.add("+", 4)
    assert tree.match("a") == (1, 3, 4)
    tree.remove("+", 4)
    tree.remove("a", 1)
    assert tree.match("a") == (3,)


def test_cache_is_bounded() -> None:
    """S8: topics without subscribers are remembered too."""
    tree = make_tree(max_cached=3)
    for number in range(10):
        tree.match(f"t/{number}")
        assert len(tree.cache) <= 3
    assert tree.match("t/9") == ()


def test_cache_is_bounded_by_the_values_it_holds() -> None:
    """I13: many topics with many subscribers each are not remembered all at once."""
    tree = make_tree(max_cached=10 * (ANSWER_VALUES + 30))
    for value in range(30):
        tree.add("+", value)
    for number in range(100):
        assert len(tree.match(f"t{number}")) == 30
        assert len(tree.cache) <= 10


def test_empty_branches_are_pruned() -> None:
    """Filters that come and go leave nothing: a node left behind would make every later match look there."""
    tree = tree_of("a/b/+", "a/+")
    tree.remove("a/b/+", 0)
    assert tree.match("a/b") == (1,)
    tree.remove("a/+", 1)
    tree.add("a/b/+", 2)
    assert (tree.match("a/b/c"), tree.match("a/b")) == ((2,), ())


def test_deepest_filters_of_wildcards_alone_are_found() -> None:
    """S24: matching is bounded by levels, 16 at most, and does not recurse."""
    levels = HARD_MAX_LEVELS
    tree = tree_of("/".join("+" * levels), "/".join("+" * (levels - 1)) + "/#", "/".join("a" * levels))
    assert tree.match("/".join("a" * levels)) == (2, 1, 0)


LEVELS = st.sampled_from(["a", "b", "$x"])
TOPIC = st.lists(LEVELS, min_size=1, max_size=4).map("/".join)
FILTER = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]) or "#",
    st.lists(st.sampled_from(["a", "b", "$x", "+"]), max_size=3),
    st.sampled_from([[], ["#"]]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), FILTER, st.integers(0, 3)),
        st.tuples(st.just("add"), FILTER, st.integers(0, 3)),
        st.tuples(st.just("remove"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("match"), TOPIC, st.just(0)),
    ),
    max_size=50,
)


@given(STEPS, st.integers(1, 5))
def test_tree_finds_what_naive_matching_finds(steps: list[tuple[str, str, int]], max_cached: int) -> None:
    tree = make_tree(max_cached)
    held: dict[tuple[str, int], None] = {}
    for step, name, number in steps:
        if step == "add":
            check_filter(name)
            if (name, number) not in held:
                held[name, number] = None
                tree.add(name, number)
        elif step == "remove" and held:
            filter, value = list(held)[number % len(held)]
            del held[filter, value]
            tree.remove(filter, value)
        elif step == "match":
            check_topic(name)
            assert sorted(tree.match(name)) == sorted(value for filter, value in held if matches(filter, name))
            assert len(tree.cache) <= max_cached
        assert tree.size == len(held)

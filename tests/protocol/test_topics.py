"""The grammar of topics and filters as properties; single cases are vectors."""

import json
import unicodedata
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from triode_protocol import topics

from tests.protocol import strategies

#: Mostly names that come close to being topics.
names = st.one_of(
    st.text(max_size=30),
    st.text("ab/+#$é\u0301\u200b\ud800\n", max_size=12),
    st.lists(st.text("ab$+#", max_size=3), max_size=10).map("/".join),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Cn"]), min_size=200, max_size=260),
)


accepted = st.lists(st.text("aé$ .😀", min_size=1, max_size=8), min_size=1, max_size=8).map("/".join) | (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Cn", "Zl", "Zp"]), min_size=1, max_size=60)
    .map(lambda name: unicodedata.normalize("NFC", name))
    .filter(lambda name: is_topic(name))
)


def is_topic(name: str) -> bool:
    try:
        topics.check_topic(name)
    except topics.BadTopic:
        return False
    return True


def is_filter(name: str) -> bool:
    try:
        topics.check_filter(name)
    except topics.BadTopic:
        return False
    return True


def obeys_the_letter(name: str) -> bool:
    """SPEC 6.1 and 6.2, rule by rule, without a thought for speed."""
    levels = name.split("/")
    return (
        all(c < "\ud800" or c > "\udfff" for c in name)
        and len(name.encode("utf-8", "surrogatepass")) <= 255
        and len(levels) <= 8
        and all(levels)
        and not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") for c in name)
        and unicodedata.normalize("NFC", name) == name
    )


@given(names)
@example("é" * 127 + "a")
@example("é" * 128)
def test_topic_is_accepted_exactly_by_the_letter(name: str) -> None:
    """SPEC 6.1, 6.2"""
    assert is_topic(name) == (obeys_the_letter(name) and "+" not in name and "#" not in name)


@given(names)
def test_filter_is_accepted_exactly_by_the_letter(name: str) -> None:
    """SPEC 6.3"""
    *front, last = name.split("/")
    has_wildcards_in_place = all(level == "+" or not set(level) & set("+#") for level in front) and (
        last in ("+", "#") or not set(last) & set("+#")
    )
    assert is_filter(name) == (obeys_the_letter(name) and has_wildcards_in_place)


@given(accepted)
def test_accepted_topic_is_byte_equal_everywhere(name: str) -> None:
    """S24-S25: through UTF-8, through JSON with and without escapes, and through normalization."""
    assert is_topic(name)
    assert name.encode().decode() == name
    assert json.loads(json.dumps(name)) == name
    assert json.loads(json.dumps(name, ensure_ascii=False).encode()) == name
    assert unicodedata.normalize("NFC", name) == name


@given(accepted)
def test_every_topic_is_a_filter_that_matches_it_alone(name: str) -> None:
    """SPEC 6.3"""
    assert is_filter(name)
    assert not topics.is_wildcard(name)
    assert topics.matches(name, name)
    assert not topics.matches(name, name + "x")
    assert topics.matches("#", name) != topics.is_reserved(name)


def naive_matches(wanted: list[str], given_levels: list[str]) -> bool:
    """SPEC 6.4 as a recursion on the levels."""
    if wanted == ["#"]:
        return True
    if not wanted or not given_levels:
        return wanted == given_levels
    return wanted[0] in ("+", given_levels[0]) and naive_matches(wanted[1:], given_levels[1:])


@given(strategies.filters, strategies.topics)
def test_matches_agrees_with_the_naive_recursion(filter: str, topic: str) -> None:
    """SPEC 6.4"""
    levels = filter.split("/")
    is_hidden = topic.startswith("$") and levels[0] in ("+", "#")
    assert topics.matches(filter, topic) == (not is_hidden and naive_matches(levels, topic.split("/")))


@given(strategies.filters)
def test_filters_of_the_strategy_are_filters(filter: str) -> None:
    assert is_filter(filter)
    assert topics.is_wildcard(filter) == any(level in ("+", "#") for level in filter.split("/"))


def test_limits_can_be_configured() -> None:
    """SPEC 6.1"""
    topics.check_topic("/".join("a" * 16), topics.HARD_MAX_LEVELS, topics.HARD_MAX_BYTES)
    topics.check_filter("é" * 512, topics.HARD_MAX_LEVELS, topics.HARD_MAX_BYTES)
    with pytest.raises(topics.BadTopic, match="more than 2 levels"):
        topics.check_topic("a/b/c", max_levels=2)
    with pytest.raises(topics.BadTopic, match="longer than 3 bytes"):
        topics.check_filter("éé", max_bytes=3)


#: Every topic of up to four levels over few names; z stands for all that no filter below names.
UNIVERSE = ["/".join(levels) for count in range(1, 5) for levels in product(("a", "b", "$c", "z"), repeat=count)]
few_filters = st.builds(
    lambda levels, end: "/".join([*levels, *end]) or "a",
    st.lists(st.sampled_from(["a", "b", "$c", "+"]), max_size=3),
    st.sampled_from([[], ["#"]]),
)


@given(few_filters, few_filters)
def test_filters_overlap_where_one_topic_matches_both(one: str, other: str) -> None:
    """SPEC 6.4"""
    both = any(topics.matches(one, name) and topics.matches(other, name) for name in UNIVERSE)
    assert topics.overlap(one, other) == both


@given(few_filters, few_filters)
@example("+/#", "#")
@example("#", "$c/a")
@example("a/#", "a/+/#")
def test_filter_covers_another_where_it_matches_all_its_topics(wide: str, narrow: str) -> None:
    """SPEC 6.4"""
    all_of_it = all(topics.matches(wide, name) for name in UNIVERSE if topics.matches(narrow, name))
    assert topics.covers(wide, narrow) == all_of_it

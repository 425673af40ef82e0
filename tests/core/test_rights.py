"""What rules allow: a filter's verdict is never wrong about one of its topics (S11), and memory has its bounds."""

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from triode_broker.core.rights import (
    ACTIONS,
    EVERYTHING,
    MAX_FILTERS,
    MAX_REMEMBERED,
    MAX_REMEMBERED_CHARACTERS,
    BadRules,
    Rights,
    RightsTable,
)
from triode_protocol.topics import matches

#: Small worlds, in which rules and filters often meet: all topics of at most three levels.
NAMES = ("a", "b", "$dead")
TOPICS = ["/".join(levels) for count in (1, 2, 3) for levels in product(NAMES, repeat=count)]
front = st.sampled_from([*NAMES, "+"])
filters = st.builds(
    lambda levels, last: "/".join([*levels, last]),
    st.lists(front, max_size=2),
    st.sampled_from([*NAMES, "+", "#"]),
)
rules = st.lists(filters, max_size=4)


def naive(allow: Iterable[str], deny: Iterable[str], topic: str) -> bool:
    """The words of SPEC 11.4, without a thought for speed."""
    return any(matches(rule, topic) for rule in allow) and not any(matches(rule, topic) for rule in deny)


def rights(allow: Iterable[str] = (), deny: Iterable[str] = ()) -> Rights:
    return Rights({"subscribe": allow}, {"subscribe": deny})


@given(rules, rules, filters)
@example(["a/#"], ["a/b"], "a/+")
@example(["+/#"], [], "#")
@example(["#"], ["$dead/#"], "$dead/a")
@example(["a", "a/+", "a/+/#"], [], "a/#")
def test_verdict_is_never_wrong_about_a_topic(allow: list[str], deny: list[str], filter: str) -> None:
    """S11: "all" means every topic that it matches, "none" not one of them, and `may` is the naive answer."""
    judged = rights(allow, deny)
    verdict = judged.verdict("subscribe", filter)
    for topic in TOPICS:
        assert judged.may("subscribe", topic) == naive(allow, deny, topic)
        if verdict != "some" and matches(filter, topic):
            assert naive(allow, deny, topic) == (verdict == "all")


@given(rules, rules, st.sampled_from(TOPICS))
def test_one_topic_is_allowed_or_not_and_never_in_part(allow: list[str], deny: list[str], topic: str) -> None:
    """S11: a filter without wildcards has a verdict that is its topic's."""
    judged = rights(allow, deny)
    assert judged.verdict("subscribe", topic) == ("all" if naive(allow, deny, topic) else "none")


@given(rules, rules, rules)
def test_more_rules_allow_what_each_of_them_does(one: list[str], other: list[str], deny: list[str]) -> None:
    """S11: allowing is a union, and what is denied stays denied however much is allowed."""
    both, first, second = rights(one + other, deny), rights(one, deny), rights(other, deny)
    for topic in TOPICS:
        answers = first.may("subscribe", topic), second.may("subscribe", topic)
        assert both.may("subscribe", topic) == any(answers)
        assert not (both.may("subscribe", topic) and any(matches(rule, topic) for rule in deny))


@pytest.mark.parametrize(
    ("allow", "deny", "filter", "verdict"),
    [
        (["rooms/#"], [], "rooms/+/chat", "all"),
        (["rooms/#"], ["rooms/7/#"], "rooms/+/chat", "some"),
        (["rooms/#"], ["rooms/7/#"], "rooms/7/chat", "none"),
        (["rooms/#"], ["rooms/7/#"], "rooms/8/chat", "all"),
        (["rooms/#"], ["#"], "rooms/#", "none"),
        (["rooms/1/#", "rooms/2/#"], [], "rooms/#", "some"),
        (["#"], [], "#", "all"),
        (["#"], [], "$dead/billing", "none"),
        (["$dead/billing"], [], "$dead/#", "some"),
        ([], [], "rooms/#", "none"),
        (["a/+", "a/b"], ["a/b"], "a/+", "some"),
        (["a/b"], ["a/b"], "a/+", "some"),  # nothing is left of it: each topic is asked for, and denied
        (["a", "a/+/#"], [], "a/#", "some"),  # together they cover it
    ],
)
def test_filter_is_allowed_wholly_in_part_or_not(
    allow: list[str], deny: list[str], filter: str, verdict: str
) -> None:
    """S11"""
    assert rights(allow, deny).verdict("subscribe", filter) == verdict


def test_actions_do_not_lend_each_other_anything() -> None:
    for action in ACTIONS:
        judged = Rights({action: ["a/#"]}, {})
        assert [other for other in ACTIONS if judged.may(other, "a/b")] == [action]
        assert [other for other in ACTIONS if judged.verdict(other, "a/b") != "none"] == [action]


def test_where_nothing_is_forbidden_the_brokers_own_topics_are_still_named() -> None:
    """S11: `#` never reaches a first level that begins with $."""
    assert EVERYTHING.may("subscribe", "$dead/billing")
    assert not EVERYTHING.may("subscribe", "$sys/load")
    assert EVERYTHING.verdict("subscribe", "$sys/#") == "none"


def test_rules_of_an_identity_have_a_bound() -> None:
    """S11: what one judgement costs is bounded by the number of rules."""
    many = [f"a/{number}" for number in range(MAX_FILTERS)]
    assert rights(many).may("subscribe", "a/0")
    with pytest.raises(BadRules, match=str(MAX_FILTERS)):
        rights(many, ["b"])


def test_same_filters_count_once_in_whatever_order() -> None:
    assert rights(["a", "b", "a"]).rules == rights(["b", "a"]).rules


def test_answers_are_remembered_in_bounds() -> None:
    """S11: whoever asks for ever new topics takes no more memory than that, and gets right answers."""
    judged = rights(["a/+"])
    for number in range(3 * MAX_REMEMBERED):
        assert judged.may("subscribe", f"a/{number}")
        assert not judged.may("publish", f"a/{number}")
    assert sum(map(len, judged.known.values())) <= MAX_REMEMBERED
    long = "a/" + "x" * (MAX_REMEMBERED_CHARACTERS // 4)
    for number in range(12):
        assert judged.may("subscribe", long + str(number))
    kept = [topic for known in judged.known.values() for topic in known]
    assert kept
    assert sum(map(len, kept)) <= MAX_REMEMBERED_CHARACTERS


def test_rights_with_equal_rules_are_one_while_somebody_has_them() -> None:
    table = RightsTable()
    one = table.of({"subscribe": ["a/#", "b"]}, {"publish": ["a/x"]})
    assert table.of({"subscribe": ("b", "a/#")}, {"publish": ["a/x"]}) is one
    other = table.of({"subscribe": ["a/#", "b"]})
    assert other is not one
    assert len(table) == 2
    del one
    assert len(table) == 1


@given(rules, rules, rules, rules, filters)
def test_rules_that_say_the_same_of_a_filter_allow_the_same(
    allow: list[str], deny: list[str], others: list[str], denied: list[str], filter: str
) -> None:
    """A subscription whose rules are called the same after a change is right as it is."""
    one, other = rights(allow, deny), rights(others, denied)
    if one.is_same(other, "subscribe", filter):
        for topic in TOPICS:
            if matches(filter, topic):
                assert one.may("subscribe", topic) == other.may("subscribe", topic)


def test_rules_about_other_topics_change_nothing_for_a_filter() -> None:
    before = rights(["rooms/#", "users/1"], ["rooms/7"])
    assert before.is_same(before, "subscribe", "rooms/+")
    assert before.is_same(rights(["rooms/#", "users/2"], ["rooms/7", "users/3"]), "subscribe", "rooms/+")
    assert before.is_same(rights(["#"], ["rooms/8"]), "subscribe", "rooms/9")  # all of it, however it is put
    assert not before.is_same(rights(["rooms/#"], ["rooms/8"]), "subscribe", "rooms/+")
    assert not before.is_same(rights(["rooms/#"]), "subscribe", "rooms/+")


def test_nobody_operates_a_broker_because_it_asks_nobody_who_they_are() -> None:
    """S15, S29: what is open to all is what is done with topics."""
    assert not EVERYTHING.may("operate", "connections")
    assert EVERYTHING.verdict("operate", "#") == "none"
    judged = Rights({"operate": ["subs/#", "kick"]}, {"operate": ["subs/delete"]})
    calls = ("subs/list", "subs/delete", "kick", "drain")
    assert [name for name in calls if judged.may("operate", name)] == ["subs/list", "kick"]

"""Tenants' names: what clients say comes back as it was said, and what two tenants say never meets (S23)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.core.tenants import (
    check_own,
    inside,
    is_own,
    is_tenant,
    name_inside,
    name_outside,
    outside,
    tenant_of,
    tenant_of_name,
)
from triode_broker.core.topic_tree import TopicTree
from triode_protocol.topics import BadTopic, check_filter, check_topic, covers, matches, overlap

TENANTS = ["", "a", "ab", "t", "dead", "a.b", "a-b", "_"]
tenants = st.sampled_from(TENANTS)
levels = st.sampled_from(["a", "ab", "t", "$t", "$a", ":", "a:b", "$", "$dead", "$sys", "dead", "é"])
said = st.lists(levels, min_size=1, max_size=4).map("/".join)


def is_said(text: str) -> bool:
    """Whether a client may say it."""
    try:
        check_own(text)
        check_filter(text)
    except BadTopic:
        return False
    return True


def all_of(values: list[int], *topic: str) -> tuple[int, ...]:
    """What the tree gathers."""
    return tuple(values)


topics = said.filter(is_said)
filters = st.tuples(
    st.lists(levels | st.just("+"), min_size=1, max_size=4).map("/".join), st.sampled_from(["", "/#", "/+"])
).map("".join).filter(is_said) | st.sampled_from(["#", "+", "+/#", "$dead/#", "$dead/+"])
names = st.sampled_from(["a", "ab", "a:b", ":", "t", "dead", "billing"])


@given(tenants, topics | filters)
def test_what_is_said_comes_back(tenant: str, own: str) -> None:
    """S23"""
    known = inside(tenant, own)
    assert (outside(known), tenant_of(known)) == (own, tenant)
    assert is_own(known) == (own[0] == "$")


@given(tenants, names)
def test_a_name_comes_back(tenant: str, own: str) -> None:
    """S23"""
    known = name_inside(tenant, own)
    assert (name_outside(known), tenant_of_name(known)) == (own, tenant)


@given(tenants, tenants, filters | topics, topics)
def test_filter_matches_inside_what_it_matches_outside_and_only_in_its_tenant(
    mine: str, other: str, filter: str, topic: str
) -> None:
    """S23: in the reference as in the tree."""
    wanted, given = inside(mine, filter), inside(other, topic)
    is_match = mine == other and matches(filter, topic)
    assert matches(wanted, given) == is_match
    tree: TopicTree[int, tuple[int, ...]] = TopicTree(all_of, 100)
    tree.add(wanted, 1)
    assert tree.match(given) == ((1,) if is_match else ())


@given(tenants, tenants, filters | topics, filters | topics)
def test_filters_of_two_tenants_neither_overlap_nor_cover(mine: str, other: str, one: str, two: str) -> None:
    """S23"""
    left, right = inside(mine, one), inside(other, two)
    if mine != other:
        assert not overlap(left, right)
        assert not covers(left, right)
        assert left != right
    else:
        assert overlap(left, right) == overlap(one, two)
        assert not covers(left, right) or covers(one, two)


@given(tenants, tenants, names, names)
def test_names_of_two_tenants_differ(mine: str, other: str, one: str, two: str) -> None:
    """S23"""
    assert (name_inside(mine, one) == name_inside(other, two)) == ((mine, one) == (other, two))


@given(st.lists(levels, min_size=1, max_size=3).map("/".join), tenants.filter(bool), said)
def test_what_a_client_may_say_is_no_name_of_another_tenant(text: str, tenant: str, own: str) -> None:
    """S23: nothing said by a client of the tenant "" is anything of a tenant."""
    if is_said(text):
        assert tenant_of(inside("", text)) == ""
        assert text != inside(tenant, own)


@pytest.mark.parametrize(
    "text",
    ["$t:b", "$t:b/#", "$t:b/+", "$dead:b/x", "$dead:b/#", "$t", "$t/x", "$t/#", "$:", "$:b/x", "$t:", "$t:/x"],
)
def test_names_of_the_inside_are_refused_at_the_door(text: str) -> None:
    """S23"""
    check_filter(text)
    with pytest.raises(BadTopic, match=r"first level with \$"):
        check_own(text)


@pytest.mark.parametrize("text", ["", "a", "a:b", "a/$t:b", "$dead/a:b", "$dead/#", "$sys/$t", "t:a/b", "#"])
def test_other_names_are_no_matter_of_the_door(text: str) -> None:
    """What is no topic at all is refused by the grammar."""
    check_own(text)


@pytest.mark.parametrize("tenant", ["", "acme", "A.b_c-9", "x" * 64])
def test_tenant_may_be_called_that(tenant: str) -> None:
    """Letters of ASCII, digits, dot, underscore, dash: at most 64."""
    assert is_tenant(tenant)


@pytest.mark.parametrize("tenant", ["a/b", "a:b", "a+", "#", "+", "$", "é", "x" * 65, "a b", "a\n", "\0", "ａ"])
def test_tenant_may_not_be_called_that(tenant: str) -> None:
    """S23: `a/b` would be topics `b/…` of the tenant `a`."""
    assert not is_tenant(tenant)


@pytest.mark.parametrize("text", ["$", "$t:", "$t:a", "$t:a/", "$dead:", "$:/", "", "/"])
def test_what_is_no_topic_inside_harms_nobody(text: str) -> None:
    """Another node may say anything: it is no topic, or somebody's."""
    outside(text)
    tenant_of(text)
    name_outside(text)
    tenant_of_name(text)


def test_topics_of_a_tenant_are_longer_inside_only() -> None:
    """The limits hold for what clients say."""
    own = "/".join(["x"] * 8)
    check_topic(own)
    with pytest.raises(BadTopic, match="more than 8"):
        check_topic(inside("acme", own))
    check_topic(outside(inside("acme", own)))

"""S12: what somebody is called never gives more than the rule that names it."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from triode_broker.core.placeholders import check_rule, expand_allow, expand_deny, placeholder_in, values
from triode_broker.core.rights import BadRules, Rights
from triode_protocol.topics import BadTopic, check_filter, check_topic, matches

#: Values as they come from outside: many with letters that mean something in a filter.
hostile = st.one_of(
    st.text("ab/+#$ é\u0301\u200b\ud800\x00{}", max_size=6),
    st.sampled_from(["", "+", "#", "$dead", "a/b", "{user}"]),
)
level = st.sampled_from(["a", "b", "+", "{user}", "{claims.team}"])
templates = st.builds(
    lambda front, last: "/".join([*front, last]), st.lists(level, max_size=3), level | st.just("#")
)
names = st.sampled_from(["a", "b", "$dead", "secret", "x"])


def is_topic(name: str) -> bool:
    try:
        check_topic(name, 16, 1024)
    except BadTopic:
        return False
    return True


def literally(template: str, known: dict[str, str], topic: str) -> bool:
    """Whether a rule means a topic: level by level, and a value is its letters and nothing else."""
    wanted, given = template.split("/"), topic.split("/")
    for place, one in enumerate(wanted):
        if one == "#":
            return place > 0 or given[0][0] != "$"
        if place == len(given):
            return False
        if one == "+":
            if place == 0 and given[0][0] == "$":
                return False
        elif given[place] != (known[one[1:-1]] if one[0] == "{" else one):
            return False
    return len(wanted) == len(given)


@given(templates, hostile, hostile, st.lists(names, min_size=1, max_size=4))
@example("{user}/#", "$dead", "", ["$dead", "x"])
@example("a/{user}/x", "+", "", ["a", "b", "x"])
@example("a/{user}", "#", "", ["a", "b", "x"])
def test_allow_rule_gives_no_more_than_its_letters(template: str, user: str, team: str, fixed: list[str]) -> None:
    """S12: what a rule allows with a value in it, it would allow if the value were read letter by letter."""
    known = {"user": user, "claims.team": team}
    for topic in {"/".join(fixed), "/".join([user, *fixed]), "/".join([*fixed, user]), "/".join([user, team])}:
        if not is_topic(topic):
            continue  # nobody can ask for it
        for filter in expand_allow([template], known):
            check_filter(filter, 16, 1024)
            if matches(filter, topic):
                assert literally(template, known, topic)
                assert topic[0] != "$"


@given(templates, hostile, hostile, st.lists(names, min_size=1, max_size=4))
@example("{user}/x", "$dead/y", "", ["$dead", "y", "x"])
@example("a/{user}/x", "b/x", "", ["a", "b", "x", "x"])
def test_deny_rule_takes_no_less_than_its_letters(template: str, user: str, team: str, fixed: list[str]) -> None:
    """S12: what a rule denies when the value is put in as text, it denies, whatever the value is."""
    known = {"user": user, "claims.team": team}
    filters = expand_deny([template], known)
    naive = template.replace("{user}", user).replace("{claims.team}", team)
    for topic in ("/".join(fixed), naive):
        if is_topic(topic) and (literally(template, known, topic) or topic == naive):
            assert any(matches(filter, topic) for filter in filters), (filters, topic)


@pytest.mark.parametrize(
    ("rule", "user", "allowed", "denied"),
    [
        ("rooms/{user}/#", "ann", ("rooms/ann/#",), ("rooms/ann/#",)),
        ("rooms/{user}/#", "+", (), ("rooms/+/#",)),
        ("rooms/{user}/x", "#", (), ("rooms/#",)),
        ("rooms/{user}/x", "", (), ("rooms/+/x",)),
        ("rooms/{user}/x", "a/b", (), ("rooms/#",)),
        ("rooms/{user}/x", unicodedata.normalize("NFD", "é"), (), ("rooms/+/x",)),
        ("rooms/{user}/x", "a\x00", (), ("rooms/+/x",)),
        ("rooms/{user}/x", "a" * 1_025, (), ("rooms/+/x",)),
        ("rooms/{user}/x", "$dead", ("rooms/$dead/x",), ("rooms/$dead/x",)),
        ("rooms/{user}/x", "{tenant}", ("rooms/{tenant}/x",), ("rooms/{tenant}/x",)),
        ("{user}/x", "$dead", (), ("$dead/x",)),
        ("{user}/x", "$dead/y", (), ("#", "$dead/#")),
        ("{user}/x", "a/y", (), ("#",)),
        ("{user}/x", "/y", (), ("#",)),
        ("$dead/{user}", "billing", ("$dead/billing",), ("$dead/billing",)),
        ("{tenant}/{user}", "ann", ("acme/ann",), ("acme/ann",)),
        ("{claims.team}/{claims.none}", "ann", (), ("red/+",)),
        ("{claims.level}/a", "ann", ("7/a",), ("7/a",)),
        ("{claims.is_admin}/a", "ann", (), ("+/a",)),
        ("plain/+", "ann", ("plain/+",), ("plain/+",)),
    ],
)
def test_value_is_one_level_or_allows_nothing_and_denies_more(
    rule: str, user: str, allowed: tuple[str, ...], denied: tuple[str, ...]
) -> None:
    """S12"""
    known = values(user, "acme", {"team": "red", "level": 7, "is_admin": True, "roles": ["a"]})
    check_rule(rule)
    assert expand_allow([rule], known) == allowed
    assert expand_deny([rule], known) == denied


def test_claim_is_not_taken_for_who_somebody_is() -> None:
    """S12: a claim that is called user is `claims.user`."""
    known = values("ann", "", {"user": "bob", "tenant": "acme"})
    assert expand_allow(["{user}", "{claims.user}", "{tenant}"], known) == ("ann", "bob")


@pytest.mark.parametrize(
    "rule", ["a/{user}/#", "{tenant}", "{claims.https:example.com}/+", "a/b", "$dead/{user}", "#"]
)
def test_rule_may_have_placeholders_as_levels(rule: str) -> None:
    check_rule(rule)


@pytest.mark.parametrize(
    "rule",
    ["a/{usr}", "a/{}", "a/x{user}", "a/{user}x", "a/{user", "a/user}", "a/{claims.}", "a/{claims}", "a/{User}"],
)
def test_unknown_placeholder_is_refused(rule: str) -> None:
    """S12, S14: a typing error does not become a level that nobody has."""
    with pytest.raises(BadRules, match="no placeholder"):
        check_rule(rule)


@pytest.mark.parametrize("rule", ["", "a//b", "a/#/b", "a+", "/".join("a" * 17), "{user}/#/x"])
def test_rule_that_is_no_filter_is_refused(rule: str) -> None:
    """S14"""
    with pytest.raises(BadRules, match="not a filter"):
        check_rule(rule)


def test_placeholder_is_found_wherever_it_stands() -> None:
    """S14: where none is filled in, none is taken for letters."""
    found = {rule: placeholder_in(rule) for rule in ("a/{user}/#", "a-{tenant}", "{claims.org}", "a/{x}", "a/#")}
    assert list(found.values()) == ["{user}", "{tenant}", "{claims.org}", None, None]


def test_expanded_rules_are_judged_as_literals() -> None:
    """S12: a user called + sees its own rooms, which are none, and not everybody's."""
    known = values("+", "")
    rights = Rights({"subscribe": expand_allow(["rooms/{user}/#", "hall"], known)})
    assert rights.verdict("subscribe", "rooms/ann/chat") == "none"
    assert rights.verdict("subscribe", "hall") == "all"

"""Policies: the first matching rule holds, else the defaults."""

import pytest
from triode_broker.config import TopicRule
from triode_broker.core.policy import DEFAULT_RULE, Policies
from triode_protocol.topics import BadTopic


def test_first_matching_rule_holds() -> None:
    narrow, wide = TopicRule(filter="a/b", retention_messages=1), TopicRule(filter="a/#", retention_messages=2)
    policies = Policies([narrow, wide])
    assert policies.of("a/b") is narrow
    assert policies.of("a/c") is wide
    assert Policies([wide, narrow]).of("a/b") is wide


def test_topic_without_a_rule_has_the_defaults() -> None:
    assert Policies([TopicRule(filter="a")]).of("b") is DEFAULT_RULE
    rule = DEFAULT_RULE
    assert (rule.retention_messages, rule.retention_seconds, rule.retention_bytes) == (1_000, 300, 1_048_576)


def test_wildcard_rule_does_not_reach_reserved_topics() -> None:
    """SPEC 6.4."""
    assert Policies([TopicRule(filter="#", retention_messages=5)]).of("$sys/x") is DEFAULT_RULE


def test_rule_with_a_bad_filter_is_refused() -> None:
    """S14: at the start, not at the first publish."""
    with pytest.raises(BadTopic, match="empty level"):
        Policies([TopicRule(filter="a//b")])


def test_rule_may_be_as_deep_as_any_topic() -> None:
    """SPEC 6.1: topics may be configured up to 16 levels."""
    filter = "/".join("a" * 15) + "/#"
    assert (
        Policies([TopicRule(filter=filter, retention_messages=3)]).of("/".join("a" * 16)).retention_messages == 3
    )

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


DISK = TopicRule(filter="jobs/#", storage="disk")


@pytest.mark.parametrize(
    ("filter", "storages"),
    [
        ("jobs/#", {"disk"}),
        ("jobs/+/urgent", {"disk"}),
        ("#", {"disk", "memory"}),
        ("+/x", {"disk", "memory"}),
        ("other/#", {"memory"}),
        ("jobs", {"disk"}),
    ],
)
def test_filter_has_the_storage_classes_of_the_topics_it_can_match(filter: str, storages: set[str]) -> None:
    assert Policies([DISK]).storages(filter) == storages


def test_earlier_rule_takes_topics_from_a_later_one() -> None:
    policies = Policies([TopicRule(filter="jobs/tmp/#"), DISK])
    assert policies.storages("jobs/#") == {"disk", "memory"}
    assert policies.storages("jobs/tmp/+") == {"memory"}
    assert policies.storages("jobs/new/#") == {"disk"}


def test_rule_retains_what_its_storage_class_does_unless_it_says_otherwise() -> None:
    rule = TopicRule(storage="disk", retention_seconds=5)
    assert (rule.retention_messages, rule.retention_seconds, rule.retention_bytes) == (1_000_000, 5, 1_073_741_824)
    assert TopicRule(retention_messages=0).retention_messages == 0

"""Policies: which rule holds for a topic. The first matching `[[topics]]` rule does, else the defaults.

A rule also says where its topics are stored, and so which shards a filter covers. Rules hold for all tenants: they
match what clients say.
"""

from collections.abc import Sequence

from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, check_filter, covers, matches, overlap

from triode_broker.config import TopicRule
from triode_broker.core.tenants import outside

#: For a topic that no rule matches: 1,000 messages, 300 s, 1 MiB.
DEFAULT_RULE = TopicRule()


class Policies:
    """The configured rules, in order. Raises BadTopic for a rule whose filter breaks the grammar."""

    __slots__ = ("_at_first", "_rules")

    def __init__(self, rules: Sequence[TopicRule]) -> None:
        for rule in rules:
            check_filter(rule.filter, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        self._rules = self._at_first = tuple(rules)

    def put(self, rules: Sequence[TopicRule]) -> None:
        """Others from now on, checked, that keep every topic where it is (`rereading`).

        What a filter covers is said by the rules of the start for good: a subscription ends where it began.
        """
        self._rules = tuple(rules)

    def dedupe_window_ms(self) -> int:
        """The shortest deduplication window of any rule that has one: what may be announced to all (G2)."""
        windows = [rule.dedupe_seconds for rule in (*self._rules, DEFAULT_RULE) if rule.dedupe_seconds]
        return min(windows) * 1000

    def storages(self, filter: str) -> set[str]:
        """The storage classes of the topics that a checked filter can match; "jobs/#" may well have one only."""
        found: set[str] = set()
        filter = outside(filter)
        for rule in self._at_first:
            if overlap(rule.filter, filter):
                found.add(rule.storage)
            if covers(rule.filter, filter):
                return found
        return found | {DEFAULT_RULE.storage}

    def of(self, topic: str, default: TopicRule = DEFAULT_RULE) -> TopicRule:
        """The rule for a checked topic."""
        topic = outside(topic)
        return next((rule for rule in self._rules if matches(rule.filter, topic)), default)

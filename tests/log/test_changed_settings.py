"""A log in memory whose bounds and rules are other ones from now on; the disk's: tests/admin/test_reloading.py."""

from msgspec.structs import replace
from triode_broker.config import Limits, TopicRule
from triode_broker.config.effects import alive, follow
from triode_broker.core.record import Record
from triode_broker.log.memory import MemoryLog

RULE = TopicRule()
BY_KEY = TopicRule(compact=True)


def filled(limits: Limits, rule: TopicRule = RULE) -> MemoryLog:
    log = MemoryLog("m0-life", limits)
    for pos in range(1, 101):
        log.append(record(pos), rule)
    return log


def record(pos: int) -> Record:
    made = Record("t", pos, pos, pos, b"x" * 1_000)
    made.key = str(pos)
    return made


def test_a_log_that_may_hold_less_makes_room_with_the_next_message() -> None:
    limits = alive(Limits())
    log = filled(limits)
    before = log.size
    follow(limits, replace(limits, max_shard_bytes=20_000, recent_bytes=100))
    log.limits_changed()
    assert log.size == before
    log.append(record(101), RULE)
    assert log.size <= 20_000
    follow(limits, Limits())
    log.limits_changed()
    for pos in range(102, 200):
        log.append(record(pos), RULE)
    assert log.histories["t"].newest_pos() == 199
    assert log.size > 90_000


def test_a_topic_follows_another_rule_at_once() -> None:
    log = filled(Limits())
    log.follow_rule("t", TopicRule(retention_messages=7), 100)
    assert len(log.histories["t"].records) == 7
    log.follow_rule("t", TopicRule(retention_messages=9), 100)
    log.append(record(101), RULE)
    assert len(log.histories["t"].records) == 8
    log.follow_rule("unknown", RULE, 100)
    assert list(log.histories) == ["t"]


def test_a_compacted_topic_keeps_looking_at_every_message() -> None:
    log = filled(Limits(), BY_KEY)
    log.follow_rule("t", TopicRule(compact=True, retention_messages=5), 100)
    assert len([one for one in log.histories["t"].records if one.is_retained]) == 5
    log.append(record(101), BY_KEY)
    assert len([one for one in log.histories["t"].records if one.is_retained]) == 5

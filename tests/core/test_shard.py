"""Shards number messages: pos in the log, offset in the topic, never one twice (G3, I3, I7; SPEC 2.1-2.3, 2.7)."""

import json
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from triode_broker.config import Limits, TopicRule
from triode_broker.core.policy import DEFAULT_RULE
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard, Topic, Topics, shard_index
from triode_broker.log.memory import MemoryLog
from triode_protocol.packets import Publish

from tests.core.desk import Desk


def make_shard(log: MemoryLog | None = None) -> Shard:
    return Shard(log or MemoryLog("m0-life", Limits()), 10_000)


def make_topic(shard: Shard, name: str = "a", rule: TopicRule = DEFAULT_RULE) -> Topic:
    return Topic(name, rule, shard, shard.offset_before_first())


def a_publish(data: bytes = b"1", ttl_ms: int = 0) -> Publish:
    return Publish("a", Raw(data), ttl_ms=ttl_ms)


def test_shard_of_a_topic_is_fixed_for_ever() -> None:
    """Hash version 1: changing it would move every durable topic."""
    assert shard_index("rooms/42/chat", 8) == crc32(b"rooms/42/chat") % 8 == 4
    assert shard_index("r\u00e4ume", 8) == crc32("r\u00e4ume".encode()) % 8
    assert {shard_index(f"t/{number}", 4) for number in range(50)} == {0, 1, 2, 3}


def test_pos_rises_over_topics_and_offset_inside_each() -> None:
    shard = make_shard()
    one, other = make_topic(shard, "one"), make_topic(shard, "other")
    records = [shard.accept(topic, a_publish(), "", 5) for topic in (one, other, one, one, other)]
    assert [record.pos for record in records] == [1, 2, 3, 4, 5]
    assert [record.offset for record in records] == [1, 1, 2, 3, 2]


def test_message_is_encoded_once_with_its_facts() -> None:
    """SPEC 4.3.1; S16: place, time and user are the server's."""
    shard = make_shard()
    packet = Publish("a", Raw(b'{"x": 1.0}'), id=7, message_id="m", key="k", headers={"h": "v"})
    record = shard.accept(make_topic(shard), packet, "ann", 1_234)
    assert record.payload == (
        b'{"type":"message","topic":"a","offset":1,"log":"m0-life","pos":1,"ts":1234,"user":"ann",'
        b'"data":{"x": 1.0},"key":"k","headers":{"h":"v"},"message_id":"m"}'
    )


def test_absent_fields_of_a_message_are_left_out() -> None:
    """SPEC 1.4."""
    shard = make_shard()
    record = shard.accept(make_topic(shard), Publish("a", b64=Raw(b'"AA=="')), "", 1)
    assert list(json.loads(record.payload)) == ["type", "topic", "offset", "log", "pos", "ts", "b64"]


def test_ts_never_goes_back() -> None:
    """SPEC 2.7: whatever the wall clock does."""
    shard = make_shard()
    topic = make_topic(shard)
    assert [shard.accept(topic, a_publish(), "", now_ms).ts for now_ms in (100, 90, 101)] == [100, 100, 101]


def test_clock_of_a_log_never_goes_back() -> None:
    """A record that has expired for one reader has expired for the next."""
    shard = make_shard()
    assert [shard.clock(now_ms) for now_ms in (100, 90, 101)] == [100, 100, 101]
    assert shard.accept(make_topic(shard), a_publish(), "", 90).ts == 101


def test_time_to_live_is_the_shorter_of_rule_and_message() -> None:
    """SPEC 3.4.9."""
    shard = make_shard()
    plain, brief = make_topic(shard), make_topic(shard, rule=TopicRule(ttl_seconds=2))
    expiries = [
        shard.accept(topic, a_publish(ttl_ms=ttl_ms), "", 1_000).expires_ms
        for topic, ttl_ms in ((plain, 0), (plain, 500), (brief, 0), (brief, 500), (brief, 9_000))
    ]
    assert expiries == [0, 1_500, 3_000, 1_500, 3_000]


def test_topic_that_was_forgotten_goes_on_with_offset_pos() -> None:
    """SPEC 2.3, I3: a number is never used again."""
    shard = make_shard()
    topics = Topics(1)
    for name in ("a", "b", "a", "b"):
        topic = topics.by_name.get(name) or make_topic(shard, name)
        topics.add(topic)
        shard.accept(topic, a_publish(), "", 1)
    assert [topic.offset for topic in topics.by_name.values()] == [4]
    assert shard.has_forgotten


def test_shard_on_a_log_with_messages_uses_no_number_again() -> None:
    """SPEC 2.3: what offsets a topic had before is not known to a new shard object."""
    log = MemoryLog("m0-life", Limits())
    log.append(Record("a", 41, 7, 1, b"x"), DEFAULT_RULE)
    shard = make_shard(log)
    record = shard.accept(make_topic(shard), a_publish(), "", 1)
    assert (record.pos, record.offset) == (42, 42)


def test_topics_stay_under_their_bound() -> None:
    """S8."""
    shard, topics = make_shard(), Topics(3)
    for number in range(10):
        topics.add(make_topic(shard, f"t/{number}"))
        assert len(topics.by_name) <= 3


def test_topic_in_use_outlives_a_flood() -> None:
    """It may go once, when the hand has passed all and found all in use."""
    shard, topics = make_shard(), Topics(10)
    opened = 0
    for number in range(500):
        if "busy" not in topics.by_name:
            topics.add(make_topic(shard, "busy"))
            opened += 1
        topics.add(make_topic(shard, f"t/{number}"))
        for topic in list(topics.by_name.values())[-1], topics.by_name.get("busy"):
            if topic is not None:
                shard.accept(topic, a_publish(), "", 1)
    assert opened <= 2


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e/1", "e/2"]), max_size=60), st.integers(1, 3))
def test_no_number_is_given_twice_under_a_flood(topics: list[str], shards: int) -> None:
    """I3, I4, I7; SPEC 2.2, 2.3: offset ≤ pos, both only rise."""
    desk = Desk(limits=Limits(max_shard_topics=1), shards=shards)
    last: dict[str, int] = {}
    for topic in topics:
        answer = desk.publish(topic)
        log, pos, offset = answer["log"], answer["pos"], answer["offset"]
        assert pos == last.get(log, 0) + 1
        assert last.get(topic, 0) < offset <= pos
        assert offset in (last.get(topic, 0) + 1, pos)
        last[log], last[topic] = pos, offset

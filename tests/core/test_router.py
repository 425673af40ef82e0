"""The router: one place per message, one encoding for everybody, one copy of a publish that came twice."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.outbox import Outbox

from tests.core.desk import Desk, Line, Packet
from tests.core.far import Far


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


# Fan-out


def test_everybody_gets_the_same_bytes() -> None:
    """SPEC 4.3.2: encoded once, the very object."""
    desk = Desk()
    lines = [desk.connect() for _ in range(3)]
    for line, filter in zip(lines, ("a/b", "a/+", "#"), strict=True):
        line.subscribe(1, filter)
    desk.publish("a/b", {"x": 1})
    first, *others = [line.outbox.items[0] for line in lines]
    assert all(other is first for other in others)


def test_message_is_framed_once_however_many_get_it() -> None:
    framed: list[bytes] = []

    def frame(payload: bytes) -> bytes:
        framed.append(payload)
        return b"frame:" + payload

    desk = Desk(frame=frame)
    lines = [desk.connect_quietly() for _ in range(5)]
    lines += [desk.connect_quietly(capabilities=["batch"]) for _ in range(5)]
    for line in lines:
        line.send({"type": "subscribe", "sub": 1, "filter": "a"})
        line.take_items()
    framed.clear()
    publisher = desk.connect_quietly()
    publisher.send({"type": "publish", "topic": "a", "data": 1})
    assert len([payload for payload in framed if b'"message"' in payload]) == 1
    plain, batch = lines[0].outbox.items[0], lines[5].outbox.items[0]
    assert plain == b"frame:" + batch, "a client with batch gets the bare payload, for an array (SPEC 1.5)"
    assert all(line.outbox.items[0] is plain for line in lines[:5])


def test_connection_gets_a_message_once_however_many_subscriptions_match() -> None:
    """SPEC 4.3.2."""
    desk = Desk()
    line = desk.connect()
    for sub, filter in enumerate(("a", "a", "+", "#"), start=1):
        line.subscribe(sub, filter)
    desk.publish("a")
    assert types(line.drain()) == ["message"]
    assert desk.router.delivered == 1


def test_topic_nobody_listens_to_is_stored() -> None:
    desk = Desk()
    assert desk.publish("a")["pos"] == 1
    assert desk.router.delivered == 0


def test_unsubscribing_one_of_two_keeps_the_other() -> None:
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    line.subscribe(2, "+")
    line.ask({"type": "unsubscribe", "sub": 1})
    desk.publish("a")
    assert types(line.drain()) == ["message"]


def test_outbox_is_marked_dirty_once_until_it_is_written() -> None:
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    desk.dirty.clear()
    desk.publish("a")
    desk.publish("a")
    assert desk.dirty.count(line.outbox) == 1


def test_blocked_outbox_is_not_marked_dirty() -> None:
    """The edge writes it when the socket takes more."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    desk.dirty.clear()
    line.outbox.is_blocked = True
    desk.publish("a")
    assert line.outbox not in desk.dirty
    assert types(line.drain()) == ["message"]


def test_reserved_topics_are_not_matched_by_wildcards() -> None:
    """SPEC 6.4, 6.5: clients may subscribe there."""
    desk = Desk()
    line = desk.connect()
    assert line.subscribe(1, "$sys/#")[0]["type"] == "subscribed"
    desk.publish("sys/a")
    assert line.drain() == []


# Places


def test_published_says_the_place_and_the_level() -> None:
    """SPEC 4.5.1, G1."""
    desk = Desk(shards=3)
    answers = [desk.publish(topic) for topic in ("a", "b", "a")]
    assert [answer["level"] for answer in answers] == ["memory"] * 3
    assert answers[0]["log"] == answers[2]["log"]
    assert [answer["offset"] for answer in answers] == [1, 1, 2]


def test_topics_are_spread_over_shards_and_stay_there() -> None:
    """SPEC 2.1."""
    desk = Desk(shards=4)
    logs = {topic: desk.publish(topic)["log"] for topic in map("t/{}".format, range(40))}
    assert set(logs.values()) == {log.name for log in desk.logs}
    assert all(desk.publish(topic)["log"] == log for topic, log in logs.items())


def test_heads_are_of_logs_that_have_a_message() -> None:
    desk = Desk(shards=3)
    assert desk.router.heads() == {}
    answer = desk.publish("a")
    assert desk.router.heads() == {answer["log"]: 1}
    assert len(desk.router.shards) == 3


def test_exact_filter_covers_one_shard_and_a_wildcard_all() -> None:
    """SPEC 2.5."""
    desk = Desk(shards=3)
    assert len(desk.router.covered("a/b")) == 1
    assert desk.router.covered("a/#") == desk.router.covered("+") == desk.router.shards


# Publishes that come twice


def again(line: Line, **fields: Any) -> Packet:
    return line.ask_one({"type": "publish", "id": 3, "topic": "a", "data": 1, "message_id": "m1", **fields})


def test_same_message_id_is_stored_and_delivered_once() -> None:
    """SPEC 3.4.5, 4.5.2, G2, I9."""
    desk = Desk()
    listener, line = desk.connect(), desk.connect()
    listener.subscribe(1, "a")
    first = again(line)
    assert "duplicate" not in first
    assert again(line) == first | {"duplicate": True}
    assert again(desk.connect()) == first | {"duplicate": True}, "anonymous clients are one identity"
    assert types(listener.drain()) == ["message"]
    assert (desk.logs[0].head(), desk.router.statistics.duplicates) == (1, 1 + 1)


def test_duplicate_without_id_is_not_answered() -> None:
    """SPEC 3.4.4."""
    desk = Desk()
    line = desk.connect()
    publish: Packet = {"type": "publish", "topic": "a", "data": 1, "message_id": "m"}
    assert line.ask(publish, publish) == []
    assert desk.logs[0].head() == 1


@pytest.mark.parametrize(
    "changed", [{"data": 2}, {"data": 1.0}, {"key": "k"}, {"headers": {"h": "v"}}, {"ttl_ms": 5}, {"data": "1"}]
)
def test_same_message_id_with_other_content_is_a_conflict(changed: Packet) -> None:
    """SPEC 3.4.6."""
    line = Desk().connect()
    again(line)
    error = again(line, **changed)
    assert (error["name"], error["field"], error["id"], error["retry"]) == ("conflict", "message_id", 3, "never")


def test_data_and_base64_of_the_same_text_are_different_contents() -> None:
    """SPEC 3.4.6."""
    line = Desk().connect()
    packet: Packet = {"type": "publish", "id": 3, "topic": "a", "message_id": "m1"}
    assert line.ask_one(packet | {"data": "AAAA"})["type"] == "published"
    assert line.ask_one(packet | {"b64": "AAAA"})["name"] == "conflict"


def test_order_of_headers_is_no_content() -> None:
    line = Desk().connect()
    again(line, headers={"a": "1", "b": "2"})
    assert again(line, headers={"b": "2", "a": "1"})["duplicate"]


def test_same_message_id_on_another_topic_is_another_message() -> None:
    """G2: per tenant, identity and topic."""
    line = Desk().connect()
    again(line)
    assert "duplicate" not in again(line, topic="b")


def test_window_ends() -> None:
    """SPEC 3.4.7."""
    desk = Desk()
    line = desk.connect()
    again(line)
    desk.now_ms += 299_999
    assert again(line)["duplicate"]
    desk.now_ms += 1
    assert again(line)["pos"] == 2
    assert again(line)["duplicate"], "a new window has begun"


def test_window_is_the_topics_own() -> None:
    """SPEC 3.4.7."""
    desk = Desk(TopicRule(filter="a", dedupe_seconds=1))
    line = desk.connect()
    again(line)
    desk.now_ms += 1_000
    assert "duplicate" not in again(line)
    assert desk.router.dedupe_window_ms == 1_000, "announced is what holds everywhere"


def test_topic_without_a_window_stores_every_copy() -> None:
    line = Desk(TopicRule(filter="a", dedupe_seconds=0)).connect()
    assert [again(line)["pos"] for _ in range(3)] == [1, 2, 3]


def test_window_ends_earlier_when_the_memory_for_ids_is_full() -> None:
    """SPEC 3.4.7, I13."""
    line = Desk(limits=Limits(max_dedupe_bytes=1_000)).connect()
    assert [again(line, message_id=f"m{number}")["pos"] for number in range(3)] == [1, 2, 3]
    assert again(line, message_id="m2")["duplicate"]
    assert again(line, message_id="m0")["pos"] == 4


def test_refused_publish_does_not_use_up_its_message_id() -> None:
    """G2: an error means not stored."""
    line = Desk().connect()
    assert again(line, key="k" * 256)["type"] == "error"
    assert "duplicate" not in again(line)


def test_ids_whose_window_is_over_are_dropped_in_time() -> None:
    """I13."""
    desk = Desk(TopicRule(dedupe_seconds=2))
    again(desk.connect())
    (shard,) = desk.router.shards
    desk.router.trim(desk.now_ms + 1_999)
    assert len(shard.ids) == 1
    desk.router.trim(desk.now_ms + 2_000)
    assert len(shard.ids) == 0


def test_trim_lets_retention_follow() -> None:
    desk = Desk(TopicRule(retention_seconds=1), limits=Limits(recent_seconds=1))
    desk.publish("a")
    desk.router.trim(desk.now_ms + 1_001)
    line = desk.connect()
    assert line.ask_one({"type": "history", "id": 2, "topic": "a"})["messages"] == []


def test_trim_leaves_the_log_of_another_node_to_its_owner() -> None:
    desk = Desk(TopicRule(retention_seconds=1), limits=Limits(recent_seconds=1))
    Far(desk).write("a", 1)
    desk.router.trim(desk.now_ms + 1_001)
    (history,) = desk.connect().ask({"type": "history", "id": 2, "topic": "a"})
    assert [message["data"] for message in history["messages"]] == [1]


def test_trim_moves_the_clock_of_a_log_which_then_never_goes_back() -> None:
    """SPEC 2.7: a jump of the wall clock is not undone."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    desk.router.trim(desk.now_ms + 60_000)
    desk.publish("a")
    assert line.drain()[0]["ts"] == desk.now_ms + 60_000


def test_frame_of_an_outbox_is_its_own() -> None:
    """Outboxes of two edges (TLS and not, say) may frame differently."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    other = desk.connect()
    other.outbox.frame = b"2:".__add__
    other.send({"type": "subscribe", "sub": 1, "filter": "a"})
    other.take_items()
    desk.publish("a")
    assert other.outbox.items == [b"2:" + line.outbox.items[0]]
    assert isinstance(other.outbox, Outbox)

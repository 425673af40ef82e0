"""What a publish must satisfy: one content, base64 that is base64, bounds; each refusal names its field."""

import json
from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule

from tests.core.desk import Desk, Packet


def publish(desk: Desk, **fields: Any) -> Packet:
    """Publish on topic a exactly these fields."""
    line = desk.connect()
    return line.ask_one({"type": "publish", "id": 3, "topic": "a", **fields})


def refusal(answer: Packet) -> tuple[str, str]:
    assert answer["type"] == "error"
    assert answer["id"] == 3
    return answer["name"], answer["field"]


@pytest.mark.parametrize("data", [None, False, 0, "", [], {}, "text", {"a": [1, 2, {"b": None}]}])
def test_any_json_is_data(data: Any) -> None:
    """SPEC 1.9, 3.4.2: null is data too."""
    assert publish(Desk(), data=data)["type"] == "published"


@pytest.mark.parametrize("fields", [{}, {"key": "k"}])
def test_publish_without_content_is_malformed(fields: Packet) -> None:
    """SPEC 3.4.2."""
    assert refusal(publish(Desk(), **fields)) == ("malformed", "data")


def test_publish_with_two_contents_is_malformed() -> None:
    """SPEC 3.4.2."""
    assert refusal(publish(Desk(), data=1, b64="AA==")) == ("malformed", "b64")


@pytest.mark.parametrize("text", ["", "AA==", "AAA=", "AAAA", "+/+/"])
def test_base64_is_accepted(text: str) -> None:
    """SPEC 3.4.3."""
    assert publish(Desk(), b64=text)["type"] == "published"


@pytest.mark.parametrize(
    "value",
    ["A", "AA", "AAA", "AA=", "A===", "-_-_", "AA==AA==", "AA\n==", " AAAA", "\u00e4AAA", 7, None, ["AA=="]],
)
def test_what_is_not_base64_is_malformed(value: Any) -> None:
    """SPEC 3.4.3: padding is needed, nothing is skipped."""
    assert refusal(publish(Desk(), b64=value)) == ("malformed", "b64")


def test_base64_may_be_written_with_escapes() -> None:
    """It reaches subscribers as it came (SPEC 3.4.3)."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    desk_line = desk.connect()
    desk_line.send_text(r'{"type":"publish","id":1,"topic":"a","b64":"\u0041A=="}')
    assert desk_line.drain()[0]["type"] == "published"
    (item,) = line.outbox.items
    assert rb'"b64":"\u0041A=="' in item


@pytest.mark.parametrize("field", ["data", "b64"])
def test_payload_over_the_bound_of_its_topic_is_too_large(field: str) -> None:
    """SPEC 3.4.10: other topics are not concerned."""
    desk = Desk(TopicRule(filter="a", max_payload_bytes=10))
    assert publish(desk, **{field: "AAAAAAAA"})["type"] == "published"
    assert refusal(publish(desk, **{field: "AAAAAAAAAAAA"})) == ("too_large", field)
    assert desk.publish("b", "x" * 1_000)["type"] == "published"


def test_payload_counts_bytes_not_characters() -> None:
    desk = Desk(TopicRule(max_payload_bytes=10))
    line = desk.connect()
    line.send_text('{"type":"publish","id":3,"topic":"a","data":"\u00e4\u00e4\u00e4\u00e4\u00e4"}')
    assert refusal(line.drain()[0]) == ("too_large", "data")


def test_reserved_field_is_unsupported() -> None:
    """SPEC 7.3."""
    assert refusal(publish(Desk(), data=1, reply_to="a")) == ("unsupported", "reply_to")


@pytest.mark.parametrize("at_ms", [0, -1, 1.5, "1", 2**53, None])
def test_time_of_delivery_is_a_positive_integer(at_ms: Any) -> None:
    """SPEC 3.4, 1.9."""
    assert refusal(publish(Desk(), data=1, deliver_at_ms=at_ms)) == ("malformed", "deliver_at_ms")


# Compacted topics

COMPACTED = TopicRule(filter="a", compact=True)


def test_key_without_content_deletes_it_on_a_compacted_topic() -> None:
    """SPEC 3.4: it is a message like others, without `data` and `b64`."""
    desk = Desk(COMPACTED)
    line = desk.connect()
    line.subscribe(1, "a")
    assert publish(desk, key="k", data=None)["pos"] == 1, "null is data"
    assert publish(desk, key="k", headers={"why": "gone"})["pos"] == 2
    value, tombstone = line.drain()
    assert value["data"] is None
    assert (tombstone["key"], tombstone["headers"]) == ("k", {"why": "gone"})
    assert {"data", "b64"}.isdisjoint(tombstone)


@pytest.mark.parametrize("fields", [{"data": 1}, {"b64": "AA=="}, {}])
def test_message_without_key_is_malformed_on_a_compacted_topic(fields: Packet) -> None:
    """SPEC 3.4: each would delete the one before, and none could be deleted."""
    assert refusal(publish(Desk(COMPACTED), **fields)) == ("malformed", "key")
    assert publish(Desk(COMPACTED), **fields, key="k")["type"] == "published"


def test_two_contents_are_malformed_on_a_compacted_topic_too() -> None:
    """SPEC 3.4.2."""
    assert refusal(publish(Desk(COMPACTED), data=1, b64="AA==", key="k")) == ("malformed", "b64")


def test_deleting_is_within_any_bound_of_the_payload() -> None:
    """SPEC 3.4.10."""
    desk = Desk(TopicRule(compact=True, max_payload_bytes=1))
    assert publish(desk, key="k")["type"] == "published"
    assert refusal(publish(desk, key="k", data=11)) == ("too_large", "data")


@pytest.mark.parametrize(("field", "limit"), [("message_id", 64), ("key", 255)])
@pytest.mark.parametrize("character", ["x", "\u00e4", "\U0001f600"])
def test_names_are_bounded_in_bytes(field: str, limit: int, character: str) -> None:
    """SPEC 3.4.8."""
    fitting = character * (limit // len(character.encode()))
    desk = Desk()
    assert publish(desk, data=1, **{field: fitting})["type"] == "published"
    assert refusal(publish(desk, data=1, **{field: fitting + character})) == ("malformed", field)


def test_headers_are_bounded_in_number() -> None:
    """SPEC 3.4.8."""
    desk = Desk(limits=Limits(max_message_headers=2))
    assert publish(desk, data=1, headers={"a": "1", "b": "2"})["type"] == "published"
    assert refusal(publish(desk, data=1, headers={"a": "1", "b": "2", "c": "3"})) == ("too_large", "headers")


def test_headers_are_bounded_in_bytes() -> None:
    """SPEC 3.4.8: names and values together, in UTF-8."""
    desk = Desk(limits=Limits(max_message_header_bytes=6))
    assert publish(desk, data=1, headers={"abc": "\u00e41"})["type"] == "published"
    assert refusal(publish(desk, data=1, headers={"abc": "\u00e412"})) == ("too_large", "headers")


@pytest.mark.parametrize("headers", [{"a": 1}, {"a": None}, [], "x", None])
def test_headers_are_strings(headers: Any) -> None:
    """SPEC 3.4, S26."""
    assert refusal(publish(Desk(), data=1, headers=headers)) == ("malformed", "headers")


@pytest.mark.parametrize("ttl_ms", [0, -1, 1.5, "1", 2**53, None])
def test_time_to_live_is_a_positive_integer(ttl_ms: Any) -> None:
    """SPEC 3.4, 1.9."""
    assert refusal(publish(Desk(), data=1, ttl_ms=ttl_ms)) == ("malformed", "ttl_ms")


@pytest.mark.parametrize("depth", [31, 32])
def test_data_nests_up_to_32_levels(depth: int) -> None:
    """SPEC 1.9, S26."""
    line = Desk().connect()
    line.send_text('{"type":"publish","id":3,"topic":"a","data":' + "[" * depth + "]" * depth + "}")
    assert line.drain()[0]["type"] == "published"


@pytest.mark.parametrize("depth", [33, 1_000, 20_000])
def test_deeper_data_is_malformed_and_hurts_nobody(depth: int) -> None:
    """SPEC 1.9, 8.7, S26."""
    desk = Desk()
    line = desk.connect()
    line.send_text('{"type":"publish","id":3,"topic":"a","data":' + "[" * depth + "]" * depth + "}")
    (answer,) = line.drain()
    assert (answer["name"], answer["id"]) == ("malformed", 3)
    assert publish(desk, data=1)["pos"] == 1, "nothing of it was stored"


def test_refused_publish_is_not_stored() -> None:
    """G2, SPEC 8.2."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "#")
    for fields in ({}, {"data": 1, "key": "k" * 256}, {"data": 1, "reply_to": "b"}):
        publish(desk, **fields)
    assert line.drain() == []
    assert [log.head() for log in desk.logs] == [0]
    assert json.loads(json.dumps(desk.publish("a", 1)))["offset"] == 1

"""SPEC 3.4 and 3.5: publishing, deduplication, bounds, history. Black box."""

from typing import Any

import pytest

from tests.spec.broker import RunningBroker
from tests.spec.conftest import StartBroker


async def test_publish_without_id_is_answered_only_when_it_fails(broker: RunningBroker) -> None:
    """SPEC 3.4.4, 1.13"""
    client = await broker.connect()
    await client.send({"type": "publish", "topic": "a", "data": 1})
    await client.has_nothing_more()
    await client.send({"type": "publish", "topic": "a//b", "data": 1})
    await client.expect("error", name="bad_topic", id=None, sub=None)
    assert (await client.publish("a", 2))["offset"] == 2


@pytest.mark.parametrize(
    ("fields", "name", "field"),
    [
        ({}, "malformed", "data"),
        ({"data": 1, "b64": "AA=="}, "malformed", "b64"),
        ({"b64": "AA"}, "malformed", "b64"),
        ({"b64": "A-_="}, "malformed", "b64"),
        ({"b64": "AA==\n"}, "malformed", "b64"),
        ({"b64": 5}, "malformed", "b64"),
        ({"b64": None}, "malformed", "b64"),
        ({"data": 1, "message_id": "é" * 33}, "malformed", "message_id"),
        ({"data": 1, "key": "k" * 256}, "malformed", "key"),
        ({"data": 1, "headers": {str(n): "" for n in range(17)}}, "too_large", "headers"),
        ({"data": 1, "headers": {"h": "v" * 4096}}, "too_large", "headers"),
        ({"data": 1, "headers": {"h": 1}}, "malformed", "headers"),
        ({"data": 1, "ttl_ms": 0}, "malformed", "ttl_ms"),
        ({"data": 1, "ttl_ms": 1.5}, "malformed", "ttl_ms"),
        ({"data": 1, "topic": 5}, "malformed", "topic"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_publish_that_breaks_a_rule_is_refused_and_not_stored(
    broker: RunningBroker, fields: dict[str, Any], name: str, field: str
) -> None:
    """SPEC 3.4.2, 3.4.3, 3.4.8, 5.1.2, 5.2.1"""
    client = await broker.connect()
    error = await client.request({"type": "publish", "topic": "a", **fields})
    assert (error["type"], error["name"], error["field"]) == ("error", name, field)
    assert (await client.request({"type": "history", "topic": "a"}))["messages"] == []


async def test_largest_fields_are_delivered_as_they_came(broker: RunningBroker) -> None:
    """SPEC 3.4.8"""
    client = await broker.connect()
    await client.subscribe(1, "a")
    fields = {
        "message_id": "é" * 32,
        "key": "k" * 255,
        "headers": {str(n): "v" * 250 for n in range(16)},
        "b64": "//8=",
    }
    await client.send({"type": "publish", "topic": "a", **fields})
    await client.expect("message", **fields)


async def test_repetition_is_not_delivered_again_and_keeps_its_place(broker: RunningBroker) -> None:
    """SPEC 3.4.5, 8.2: also from another connection; a different topic is a different publish."""
    client, other = await broker.connect(), await broker.connect()
    await other.subscribe(1, "#")
    first = await client.publish(
        "a", {"n": 1}, message_id="m", key="k", headers={"x": "1", "y": "2"}, ttl_ms=10_000
    )
    again = await other.publish(
        "a", {"n": 1}, message_id="m", key="k", headers={"y": "2", "x": "1"}, ttl_ms=10_000
    )
    assert again == first | {"id": again["id"], "duplicate": True}
    await other.expect("message", topic="a")
    assert "duplicate" not in await client.publish("b", {"n": 1}, message_id="m")
    await other.expect("message", topic="b")
    await other.has_nothing_more()


@pytest.mark.parametrize(
    "change",
    [{"data": 2}, {"data": "1"}, {"key": "k"}, {"headers": {"h": "v"}}, {"ttl_ms": 5}],
    ids=lambda change: next(iter(change)),
)
async def test_same_id_with_other_content_is_a_conflict(broker: RunningBroker, change: dict[str, Any]) -> None:
    """SPEC 3.4.6"""
    client = await broker.connect()
    packet = {"type": "publish", "topic": "a", "data": 1, "message_id": "m"}
    await client.request(packet)
    error = await client.request(packet | change)
    assert (error["name"], error["field"], error["retry"]) == ("conflict", "message_id", "never")


async def test_b64_and_data_of_the_same_text_are_different_content(broker: RunningBroker) -> None:
    """SPEC 3.4.6"""
    client = await broker.connect()
    await client.request({"type": "publish", "topic": "a", "data": "AA==", "message_id": "m"})
    error = await client.request({"type": "publish", "topic": "a", "b64": "AA==", "message_id": "m"})
    assert error["name"] == "conflict"


async def test_window_without_length_remembers_nothing(start_broker: StartBroker) -> None:
    """SPEC 3.4.7: set by the operator for a topic."""
    broker = await start_broker(topics=[{"filter": "quick", "dedupe_seconds": 0}])
    client = await broker.connect()
    assert [(await client.publish("quick", 1, message_id="m"))["offset"] for _ in range(2)] == [1, 2]
    assert [(await client.publish("slow", 1, message_id="m"))["offset"] for _ in range(2)] == [1, 1]


async def test_window_ends_when_the_memory_for_ids_is_full(start_broker: StartBroker) -> None:
    """SPEC 3.4.7: the oldest go first."""
    broker = await start_broker(limits={"max_dedupe_bytes": 2_000})
    client = await broker.connect()
    for n in range(20):
        await client.publish("a", n, message_id=str(n))
    assert (await client.publish("a", 19, message_id="19"))["offset"] == 20
    assert (await client.publish("a", 0, message_id="0"))["offset"] == 21


async def test_topic_may_bound_the_payload(start_broker: StartBroker) -> None:
    """SPEC 3.4.10: counted as the text it came in."""
    broker = await start_broker(topics=[{"filter": "small/#", "max_payload_bytes": 10}])
    client = await broker.connect()
    assert (await client.publish("small/a", "x" * 8))["type"] == "published"
    error = await client.publish("small/a", "x" * 9)
    assert (error["name"], error["field"]) == ("too_large", "data")
    error = await client.request({"type": "publish", "topic": "small/a", "b64": "A" * 12})
    assert (error["name"], error["field"]) == ("too_large", "b64")
    assert (await client.publish("large", "x" * 9))["type"] == "published"


async def test_topic_may_bound_the_time_to_live(start_broker: StartBroker) -> None:
    """SPEC 3.4.9: the shorter one counts, so nothing here is old enough to expire."""
    broker = await start_broker(topics=[{"ttl_seconds": 3_600}])
    client = await broker.connect()
    await client.publish("a", 1, ttl_ms=2**53 - 1)
    await client.publish("a", 2)
    reply = await client.request({"type": "history", "topic": "a"})
    assert [message["data"] for message in reply["messages"]] == [1, 2]


async def test_more_publishes_than_the_window_are_all_answered(broker: RunningBroker) -> None:
    """SPEC 3.4.12, 8.5: stored, or refused with what to do about it."""
    client = await broker.connect()
    await client.send(*({"type": "publish", "id": n, "topic": "a", "data": n} for n in range(2, 802)))
    answers = [await client.receive() for _ in range(800)]
    assert {answer["id"] for answer in answers} == set(range(2, 802))
    for answer in answers:
        assert answer["type"] == "published" or (answer["name"] == "inflight" and answer["retry_after_ms"] > 0)


def history(**fields: Any) -> dict[str, Any]:
    return {"type": "history", "topic": "a", **fields}


@pytest.mark.parametrize(
    ("packet", "name", "field"),
    [
        (history(topic="a/+"), "bad_topic", "topic"),
        (history(topic="$sys/x"), "bad_topic", "topic"),
        (history(topic="$dead/a//b"), "bad_topic", "topic"),
        (history(last=0), "malformed", "last"),
        (history(limit=0), "malformed", "limit"),
        (history(after={"m": -1}), "malformed", "after"),
        (history(before=5), "malformed", "before"),
    ],
    ids=str,
)
async def test_history_that_breaks_a_rule_is_refused(
    broker: RunningBroker, packet: dict[str, Any], name: str, field: str
) -> None:
    """SPEC 3.5.1, 5.2.1"""
    client = await broker.connect()
    error = await client.request(packet)
    assert (error["type"], error["name"], error["field"]) == ("error", name, field)


@pytest.mark.parametrize(
    "given", [("after", "before"), ("after", "last"), ("before", "last"), ("after", "before", "last")], ids=str
)
async def test_history_takes_one_of_three_ways(broker: RunningBroker, given: tuple[str, ...]) -> None:
    """SPEC 3.5.2"""
    client = await broker.connect()
    fields: dict[str, Any] = {"after": {}, "before": {}, "last": 1}
    error = await client.request(history(**{name: fields[name] for name in given}))
    assert (error["type"], error["name"]) == ("error", "malformed")


async def test_history_without_a_way_is_the_newest_hundred(broker: RunningBroker) -> None:
    """SPEC 3.5.2, 4.7.1"""
    client = await broker.connect()
    await client.send(*({"type": "publish", "topic": "a", "data": n} for n in range(130)))
    reply = await client.request(history())
    assert [message["data"] for message in reply["messages"]] == list(range(30, 130))
    assert reply["complete"]


async def test_history_can_be_read_page_by_page(start_broker: StartBroker) -> None:
    """SPEC 3.5.3, 4.7.2, 4.7.3: the server's limit makes pages smaller, never wrong."""
    broker = await start_broker(limits={"max_history_messages": 7})
    client = await broker.connect()
    for n in range(20):
        await client.publish("a", n)
        await client.publish("b", n)
    after, read, pages = {(await client.subscribe(1, "a"))["after"].popitem()[0]: 0}, [], 0
    while True:
        reply = await client.request(history(after=after, limit=1_000))
        read += [message["data"] for message in reply["messages"]]
        after, pages = reply["after"], pages + 1
        if reply["complete"]:
            break
        assert len(reply["messages"]) == 7
    assert (read, pages) == (list(range(20)), 3)


async def test_history_can_be_read_backwards(broker: RunningBroker) -> None:
    """SPEC 4.7.2"""
    client = await broker.connect()
    for n in range(10):
        await client.publish("a", n)
        await client.publish("b", n)
    page = (await client.request(history(last=3)))["messages"]
    read: list[int] = []
    while page:
        read = [message["data"] for message in page] + read
        page = (await client.request(history(before={page[0]["log"]: page[0]["pos"]}, limit=3)))["messages"]
    assert read == list(range(10))


async def test_history_says_that_retention_has_removed_something(start_broker: StartBroker) -> None:
    """SPEC 4.7.3"""
    broker = await start_broker(limits={"recent_bytes": 0}, topics=[{"retention_messages": 3}])
    client = await broker.connect()
    first = await client.publish("a", 0)
    for n in range(1, 6):
        await client.publish("a", n)
    for after, complete in (({first["log"]: 1}, False), ({first["log"]: 3}, True), ({"m0-other": 5}, False)):
        reply = await client.request(history(after=after))
        assert [message["data"] for message in reply["messages"]] == [3, 4, 5]
        assert reply["complete"] is complete


async def test_history_leaves_out_what_has_expired(broker: RunningBroker) -> None:
    """SPEC 3.4.9, 3.5.1"""
    client = await broker.connect()
    await client.publish("a", "short", ttl_ms=1)
    await client.publish("a", "long", ttl_ms=100_000)
    while True:  # until the millisecond has passed
        reply = await client.request(history())
        data = [message["data"] for message in reply["messages"]]
        if data == ["long"]:
            return
        assert data == ["short", "long"]

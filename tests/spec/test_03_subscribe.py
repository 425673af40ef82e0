"""SPEC 3.1 and 3.2: connecting, and the ways a subscription starts, resumes and ends up too slow. Black box."""

import time
from typing import Any

import pytest
import trio

from tests.spec.broker import RunningBroker
from tests.spec.client import RawClient
from tests.spec.conftest import StartBroker


async def deliveries(client: RawClient) -> list[Any]:
    """The payloads of the deliveries up to `caught_up`."""
    data = []
    while (packet := await client.receive())["type"] == "delivery":
        data.append(packet["message"]["data"])
    assert packet["type"] == "caught_up", packet
    return data


async def test_token_is_accepted_and_not_used(broker: RunningBroker) -> None:
    """SPEC 3.1.6"""
    client = await broker.connect(token="anything at all")
    await client.has_nothing_more()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("capabilities", "batch"),
        ("capabilities", ["x"] * 65),
        ("client", {"name": "n" * 256}),
        ("client", "browser"),
        ("resume", 1),
        ("replaces", 5),
    ],
)
async def test_connect_with_a_field_out_of_bounds_fails(broker: RunningBroker, field: str, value: Any) -> None:
    """SPEC 3.1.2, 5.2.1"""
    client = await broker.open()
    await client.send({"type": "connect", "id": 1, field: value})
    await client.expect("error", id=1, name="malformed", field=field)
    await client.expect("bye", code=4000)
    assert await client.closed() == 4000


async def test_connection_names_cannot_be_guessed_and_do_not_repeat(broker: RunningBroker) -> None:
    """SPEC 4.1.1, S28: 128 bits in a name are at least 22 characters of base64."""
    names = set()
    for _ in range(20):
        client = await broker.open()
        await client.send({"type": "connect"})
        names.add((await client.expect("connected"))["connection"])
    assert len(names) == 20
    assert min(map(len, names)) >= 22


async def test_replaced_connection_gets_nothing_more(broker: RunningBroker) -> None:
    """SPEC 3.1.4"""
    old = await broker.open()
    await old.send({"type": "connect"}, {"type": "subscribe", "sub": 1, "filter": "a"})
    connection = (await old.expect("connected"))["connection"]
    await old.expect("subscribed")
    new = await broker.connect(replaces=connection)
    await new.publish("a", 1)
    assert await old.closed() == 4005
    assert [packet["type"] for packet in old.packets] == ["bye"]


async def test_sub_numbers_may_come_in_any_order_and_once(broker: RunningBroker) -> None:
    """SPEC 3.2.1"""
    client = await broker.connect()
    for sub in (7, 3, 1, 2, 2**53 - 1):
        await client.subscribe(sub, "a")
    for sub in (1, 2, 3, 7, 2**53 - 1):
        error = await client.request({"type": "subscribe", "sub": sub, "filter": "b"})
        assert (error["name"], error["sub"], error["field"]) == ("conflict", sub, "sub")


async def test_refused_subscribe_uses_up_no_number(broker: RunningBroker) -> None:
    """SPEC 3.2.1"""
    client = await broker.connect()
    for bad in ({"filter": "a//b"}, {"filter": "+", "from": {"last": 1}}, {"filter": "a", "group": "g/h"}):
        assert (await client.request({"type": "subscribe", "sub": 1, **bad}))["type"] == "error"
    await client.subscribe(1, "a")


async def test_from_new_begins_with_what_is_published_next(broker: RunningBroker) -> None:
    """SPEC 3.2.3, 4.2.3"""
    client, publisher = await broker.connect(), await broker.connect()
    await publisher.publish("a", "before")
    await client.subscribe(1, "a")
    await publisher.publish("a", "after")
    await client.expect("message", data="after", offset=2)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ({"from": {"last": 0}}, "malformed"),
        ({"from": {"last": 10_001}}, "malformed"),
        ({"from": {"since": -1}}, "malformed"),
        ({"from": {}}, "malformed"),
        ({"from": {"last": 1, "since": 1}}, "malformed"),
        ({"from": {"first": 1}}, "unsupported"),
        ({"from": "yesterday"}, "unsupported"),
        ({"from": None}, "malformed"),
        ({"from": "earliest", "after": {}}, "malformed"),
        ({"from": {"last": 1}, "after": {}}, "malformed"),
        ({"after": None}, "malformed"),
        ({"after": {"LOG": 1}}, "malformed"),
        ({"after": {"m0": -1}}, "malformed"),
        ({"overflow": "drop"}, "unsupported"),
    ],
    ids=str,
)
async def test_start_that_is_none_is_refused(broker: RunningBroker, start: dict[str, Any], name: str) -> None:
    """SPEC 3.2.6, 3.2.8, 1.7"""
    client = await broker.connect()
    error = await client.request({"type": "subscribe", "sub": 1, "filter": "a", **start})
    assert (error["type"], error["name"], error["sub"]) == ("error", name, 1)


async def test_from_more_than_there_is_gives_what_there_is_without_a_gap(start_broker: StartBroker) -> None:
    """SPEC 3.2.4, 3.2.6: what retention removed before was not due."""
    broker = await start_broker(limits={"recent_bytes": 0}, topics=[{"retention_messages": 3}])
    client = await broker.connect()
    for n in range(10):
        await client.publish("a", n)
    await client.subscribe(1, "a", **{"from": "earliest"})
    assert await deliveries(client) == [7, 8, 9]
    await client.subscribe(2, "a", **{"from": {"last": 10_000}})
    assert await deliveries(client) == [7, 8, 9]
    await client.subscribe(3, "#", **{"from": "earliest"})
    assert await deliveries(client) == [7, 8, 9]


@pytest.mark.parametrize("start", [{"from": "earliest"}, {"from": "last"}, {"from": {"last": 5}}, {"after": {}}])
async def test_start_on_a_topic_without_messages(broker: RunningBroker, start: dict[str, Any]) -> None:
    """SPEC 4.2.1, 3.2.9: only the resume cannot prove that nothing is missing."""
    client = await broker.connect()
    subscribed = await client.subscribe(1, "a", **start)
    assert list(subscribed["after"].values()) == [0]
    if "after" in start:
        await client.expect("gap", reason="reset")
    if not subscribed["live"]:
        assert await deliveries(client) == []
    await client.publish("a", 1)
    await client.expect("message", data=1)


async def later_than(moment_ms: int) -> None:
    """Let the clock pass a moment."""
    while time.time_ns() // 1_000_000 <= moment_ms:
        await trio.lowlevel.checkpoint()


async def test_from_a_time_gives_what_is_not_older(broker: RunningBroker) -> None:
    """SPEC 3.2.7"""
    client, publisher = await broker.connect(), await broker.connect()
    await client.subscribe(1, "a")
    times = []
    for n in range(3):
        await publisher.publish("a", n)
        times.append((await client.expect("message"))["ts"])
        await later_than(times[-1])
    for sub, since in enumerate(times, 2):
        await client.subscribe(sub, "a", **{"from": {"since": since}})
        assert await deliveries(client) == list(range(sub - 2, 3))
    await client.subscribe(5, "+", **{"from": {"since": times[2] + 1_000_000}})
    assert await deliveries(client) == []


async def test_from_a_time_that_retention_has_passed_is_a_gap(start_broker: StartBroker) -> None:
    """SPEC 3.2.7"""
    broker = await start_broker(limits={"recent_bytes": 0}, topics=[{"retention_messages": 2}])
    client = await broker.connect()
    for n in range(5):
        await client.publish("a", n)
    await client.subscribe(1, "a", **{"from": {"since": 0}})
    await client.expect("gap", sub=1, reason="retention", topic="a")
    assert await deliveries(client) == [3, 4]


async def test_resume_of_a_wildcard_without_an_entry_for_a_log_is_a_reset(start_broker: StartBroker) -> None:
    """SPEC 3.2.9: never "new"; foreign entries have no effect."""
    broker = await start_broker(memory_shards=4)
    client = await broker.connect()
    for n in range(20):
        await client.publish(f"t/{n}", n)
    whole = (await client.subscribe(1, "#"))["after"]
    assert sum(whole.values()) == 20
    left_out = max(whole, key=lambda log: whole[log])
    part = {log: pos for log, pos in whole.items() if log != left_out}
    subscribed = await client.subscribe(2, "t/+", after={**part, "m9-unknown": 3})
    assert subscribed["after"] == {**part, left_out: 0}
    gap = await client.expect("gap", sub=2, reason="reset", after=subscribed["after"], topic=None)
    assert gap["after"][left_out] == 0
    data = await deliveries(client)
    assert len(data) == whole[left_out]
    assert data == sorted(data)


async def test_resume_behind_retention_of_another_topic_is_no_gap(start_broker: StartBroker) -> None:
    """SPEC 3.2.10, 8.4: only what was due counts."""
    broker = await start_broker(limits={"recent_bytes": 0}, topics=[{"filter": "busy", "retention_messages": 1}])
    client = await broker.connect()
    first = await client.publish("calm", "first")
    for n in range(5):
        await client.publish("busy", n)
    await client.publish("calm", "second")
    after = {first["log"]: first["pos"]}
    await client.subscribe(1, "calm", after=after)
    assert await deliveries(client) == ["second"]
    await client.subscribe(2, "#", after=after)
    await client.expect("gap", sub=2, reason="retention")
    assert await deliveries(client) == [4, "second"]


BIG = "x" * 60_000
ROOM = {"limits": {"max_outbox_bytes": 200_000, "max_shard_bytes": 10**9}}
KEEPS_ALL = [{"retention_messages": 10_000, "retention_bytes": 10**9}]
FLOOD = 150  # times 60 kB: more than the kernel takes for a client that does not read


async def flood(publisher: RawClient) -> None:
    for n in range(FLOOD):
        await publisher.publish("big", [n, BIG])


async def test_slow_subscriber_catches_up_from_the_log(start_broker: StartBroker) -> None:
    """SPEC 3.2.11, 4.4.1, 8.4, 8.6: `replay` is the default; everything comes once, in order."""
    broker = await start_broker(topics=KEEPS_ALL, **ROOM)
    publisher, slow = await broker.connect(), await broker.open(receive_buffer=4_096)
    await slow.send({"type": "connect", "id": 1})
    await slow.expect("connected")
    await slow.subscribe(1, "big")
    await slow.subscribe(2, "calm")
    await flood(publisher)
    await publisher.publish("calm", "still here")
    seen: list[int] = []
    calm: list[str] = []
    states: list[tuple[str, int, str | None]] = []
    while len(seen) < FLOOD or not calm or states[-1][0] != "caught_up":
        packet = await slow.receive()
        message = packet["message"] if packet["type"] == "delivery" else packet
        if packet["type"] in ("message", "delivery") and message["topic"] == "big":
            seen.append(message["data"][0])
        elif packet["type"] in ("message", "delivery"):
            calm.append(message["data"])
        else:
            states.append((packet["type"], packet["sub"], packet.get("reason")))
    assert seen == list(range(FLOOD))
    assert calm == ["still here"]
    assert states[0] == ("catching_up", 1, "slow")
    assert {state[0] for state in states} == {"catching_up", "caught_up"}
    await slow.has_nothing_more()


async def test_slow_subscriber_that_wants_no_replay_gets_a_gap(start_broker: StartBroker) -> None:
    """SPEC 3.2.11, 4.6.1"""
    broker = await start_broker(topics=KEEPS_ALL, **ROOM)
    publisher, slow = await broker.connect(), await broker.open(receive_buffer=4_096)
    await slow.send({"type": "connect", "id": 1})
    await slow.expect("connected")
    await slow.subscribe(1, "big", overflow="gap")
    await flood(publisher)
    seen = []
    while (packet := await slow.receive())["type"] == "message":
        seen.append(packet["data"][0])
    assert seen == list(range(len(seen)))
    assert len(seen) < FLOOD
    assert (packet["type"], packet["sub"], packet["reason"]) == ("catching_up", 1, "slow")
    gap = await slow.expect("gap", sub=1, reason="slow", topic="big")
    await slow.expect("caught_up", sub=1, after=gap["after"])
    assert list(gap["after"].values()) == [FLOOD]
    await publisher.publish("big", "live again")
    await slow.expect("message", data="live again")


async def test_slow_subscriber_that_wants_to_be_disconnected_is(start_broker: StartBroker) -> None:
    """SPEC 3.2.11, 3.8.1: and the others do not notice (8.6)."""
    broker = await start_broker(topics=KEEPS_ALL, **ROOM)
    publisher, slow = await broker.connect(), await broker.open(receive_buffer=4_096)
    fast = await broker.connect()
    await fast.subscribe(1, "big", overflow="disconnect")
    await slow.send({"type": "connect", "id": 1})
    await slow.expect("connected")
    await slow.subscribe(1, "big", overflow="disconnect")
    for n in range(FLOOD):
        await publisher.publish("big", [n, BIG])
        await fast.expect("message")
    assert await slow.closed() == 4104
    *messages, bye = slow.packets
    assert (bye["type"], bye["code"], bye["name"]) == ("bye", 4104, "slow_consumer")
    assert [message["data"][0] for message in messages] == list(range(len(messages)))


async def test_retention_that_overtakes_a_slow_catching_up_is_a_gap(start_broker: StartBroker) -> None:
    """SPEC 4.6.1, 8.4: messages that were due when it started and are gone when it gets there."""
    rules = [{"filter": "big", "retention_messages": 100, "retention_bytes": 10**9}]
    broker = await start_broker(topics=rules, limits={**ROOM["limits"], "recent_bytes": 0})
    publisher, slow = await broker.connect(), await broker.open(receive_buffer=4_096)
    for n in range(100):
        await publisher.publish("big", [n, BIG])
    await slow.send({"type": "connect"}, {"type": "subscribe", "sub": 1, "filter": "big", "from": "earliest"})
    await slow.expect("connected")
    await slow.expect("subscribed", live=False)
    for n in range(100, 300):
        await publisher.publish("big", [n, BIG])
    last, gaps = -1, 0
    while (packet := await slow.receive())["type"] != "caught_up":
        if packet["type"] == "gap":
            assert packet["reason"] == "retention"
            gaps += 1
            last = -1
        else:
            number = packet["message"]["data"][0]
            assert last in (-1, number - 1)
            last = number
    assert last == 299
    assert gaps


async def test_subscriptions_of_a_connection_are_bounded(start_broker: StartBroker) -> None:
    """SPEC 3.2.12: one that ends makes room."""
    broker = await start_broker(limits={"max_subscriptions": 3, "max_wildcard_subscriptions": 2})
    client = await broker.connect()
    await client.subscribe(1, "+")
    await client.subscribe(2, "#")
    assert (await client.request({"type": "subscribe", "sub": 3, "filter": "a/+"}))["name"] == "quota"
    await client.subscribe(3, "a")
    assert (await client.request({"type": "subscribe", "sub": 4, "filter": "b"}))["name"] == "quota"
    await client.request({"type": "unsubscribe", "sub": 1})
    await client.subscribe(4, "a/+")
    await client.publish("a", 1)
    await client.expect("message")
    await client.has_nothing_more()

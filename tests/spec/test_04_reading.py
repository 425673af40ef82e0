"""SPEC 4: rules R1 to R7 lead a client to every message once, whatever happens to its connection. Black box."""

import json
from random import Random
from typing import Any

import pytest
import trio

from tests.spec.broker import RunningBroker
from tests.spec.client import RawClient
from tests.spec.conftest import StartBroker
from tests.spec.reader import Reader


async def attach(broker: RunningBroker, reader: Reader, **connect: Any) -> RawClient:
    """A new connection with all subscriptions asked for again, in one flight."""
    client = await broker.open()
    await client.send({"type": "connect", **connect}, *reader.requests())
    return client


async def settle(client: RawClient, reader: Reader) -> None:
    """Feed the reader everything that the server has to say so far."""
    await client.send({"type": "ping", "id": 77})
    while (packet := await client.receive()) != {"type": "pong", "id": 77}:
        reader.feed(packet)


async def test_messages_are_the_same_bytes_for_everybody(broker: RunningBroker) -> None:
    """SPEC 4.3.2: live, in an array, and inside a delivery."""
    plain, batch, late = (
        await broker.connect(),
        await broker.connect(capabilities=["batch"]),
        await broker.connect(),
    )
    await plain.subscribe(1, "a")
    await batch.subscribe(9, "#")
    await late.publish("a", {"x": [1.50, "é"]}, key="k", headers={"h": "v"}, message_id="m")
    text = await plain.receive_text()
    assert text.startswith('{"type":"message"')
    assert text in await batch.receive_text()
    await late.subscribe(3, "+", **{"from": "earliest"})
    assert f'"message":{text}' in await late.receive_text()


async def test_connection_gets_a_message_once_for_all_its_subscriptions(broker: RunningBroker) -> None:
    """SPEC 4.3.2, 4.3.7"""
    client, reader = await broker.connect(), Reader()
    for sub, filter in enumerate(["a/b", "a/+", "+/b", "#", "a/#", "a/b", "x"], 1):
        reader.add(sub, filter)
    await client.send(*reader.requests())
    await settle(client, reader)
    await client.publish("a/b", 1)
    await client.send({"type": "ping", "id": 1})
    message = await client.expect("message")
    await client.expect("pong")
    reader.feed(message)
    assert [s.data for s in reader.subscriptions.values()] == [[1]] * 6 + [[]]


async def test_one_subscription_catches_up_while_another_is_live(broker: RunningBroker) -> None:
    """SPEC 4.3.3, 4.3.6, 4.3.7: a delivery is its subscription's alone, a message the live ones'."""
    client, reader = await broker.connect(), Reader()
    live = reader.add(1, "a")
    await client.send(*reader.requests())
    await settle(client, reader)
    for n in range(5):
        await client.publish("a", n)
    await settle(client, reader)
    late = reader.add(2, "#", **{"from": "earliest"})
    await client.send({"type": "subscribe", "sub": 2, "filter": "#", "from": "earliest"})
    await client.publish("a", 5)
    await settle(client, reader)
    assert live.data == late.data == list(range(6))


async def test_message_from_a_log_not_in_the_position_is_a_reset(broker: RunningBroker) -> None:
    """SPEC 4.3.10: handed over and reported."""
    reader = Reader()
    subscription = reader.add(1, "a")
    reader.feed({"type": "subscribed", "sub": 1, "after": {"m0-old": 7}, "live": True})
    reader.feed({"type": "message", "topic": "a", "log": "m0-new", "pos": 1, "data": 1})
    assert subscription.data == [1]
    assert [gap["reason"] for gap in subscription.gaps] == ["reset"]


async def test_packet_for_an_unknown_subscription_is_ignored(broker: RunningBroker) -> None:
    """SPEC 4.3.9, 3.3.1, 4.9.1: after `unsubscribed` nothing comes; what was under way before does no harm."""
    client, reader = await broker.connect(), Reader()
    for n in range(10):
        await client.publish("a", n)
    subscription = reader.add(1, "a", **{"from": "earliest"})
    await client.send(*reader.requests(), {"type": "unsubscribe", "sub": 1})
    packets = []
    while (packet := await client.receive())["type"] != "unsubscribed":
        packets.append(packet)
    del reader.subscriptions[1]
    for late in packets:
        reader.feed(late)
    assert subscription.data == []
    await client.has_nothing_more()


async def test_snapshot_that_was_cut_is_asked_for_again(broker: RunningBroker) -> None:
    """SPEC 4.3.11"""
    publisher, reader = await broker.connect(), Reader()
    for topic in "abc":
        await publisher.publish(topic, topic)
    subscription = reader.add(1, "#", **{"from": "last"})
    client = await attach(broker, reader)
    while not subscription.messages:
        reader.feed(await client.receive())
    await client.cut()
    subscription.messages.clear()  # a program that must have all of the snapshot drops the part
    client = await attach(broker, reader)
    await settle(client, reader)
    assert subscription.data == ["a", "b", "c"]
    await client.cut()
    await publisher.publish("a", "d")
    client = await attach(broker, reader)  # now by position: no second snapshot
    await settle(client, reader)
    assert subscription.data == ["a", "b", "c", "d"]


@pytest.mark.parametrize("seed", range(4))
async def test_cuts_at_any_moment_lose_nothing_and_double_nothing(start_broker: StartBroker, seed: int) -> None:
    """SPEC 4.3.5, 4.3.8, 8.4, 3.1.4: exact and wildcard subscriptions over four logs, publishing all the while."""
    random = Random(seed)
    broker = await start_broker(memory_shards=4)
    publisher, reader = await broker.connect(), Reader()
    topics = [f"t/{n}" for n in range(6)]
    for sub, filter in enumerate(["#", "t/+", *topics[:3]], 1):
        reader.add(sub, filter, **{"from": "earliest"})
    published: list[tuple[str, int]] = []
    client, old = await attach(broker, reader), ""
    for _ in range(25):
        for _ in range(random.randrange(12)):
            published.append((random.choice(topics), len(published)))
            await publisher.publish(*published[-1])
        for _ in range(random.randrange(20)):
            with trio.move_on_after(0.001):
                packet = await client.receive()
                old = packet.get("connection", old)
                reader.feed(packet)
        if random.random() < 0.4:
            await client.cut()
            client = await attach(
                broker, reader, replaces=old, resume=True, capabilities=random.choice([[], ["batch"]])
            )
    await settle(client, reader)
    for subscription in reader.subscriptions.values():
        wanted = [n for topic, n in published if subscription.filter in ("#", "t/+", topic)]
        assert sorted(subscription.data) == wanted
        assert not subscription.gaps
        for log in {message["log"] for message in subscription.messages}:
            places = [message["pos"] for message in subscription.messages if message["log"] == log]
            assert places == sorted(places)


async def test_prev_says_that_nothing_lies_between(broker: RunningBroker) -> None:
    """SPEC 4.3.4: hidden by ttl, and so no gap; a sequence that offsets alone could not prove."""
    publisher, client = await broker.connect(), await broker.connect()
    for n in range(9):
        await publisher.publish("a", n, **({} if n % 3 == 0 else {"ttl_ms": 1}))
    while len((await client.request({"type": "history", "topic": "a"}))["messages"]) > 3:
        pass  # until the millisecond has passed
    await client.subscribe(1, "a", **{"from": "earliest"})
    offset, steps = 0, []
    while (packet := await client.receive())["type"] == "delivery":
        steps.append((packet["message"]["offset"], packet.get("prev")))
        assert packet.get("prev", packet["message"]["offset"] - 1) <= offset
        offset = packet["message"]["offset"]
    assert steps == [(1, None), (4, 1), (7, 4)]
    assert packet["type"] == "caught_up"


async def test_bookmark_moves_a_quiet_subscription_past_what_others_publish(start_broker: StartBroker) -> None:
    """SPEC 4.8.1, 4.3.8: with it a resume is no gap, though the log has forgotten what lay between."""
    limits = {"ping_ms": 700, "recent_bytes": 0, "max_shard_bytes": 20_000}
    broker = await start_broker(limits=limits)
    client, reader = await broker.connect(), Reader()
    quiet = reader.add(1, "quiet")
    await client.send(*reader.requests())
    await settle(client, reader)
    before = dict(quiet.position)
    for n in range(60):
        await client.send({"type": "publish", "topic": f"busy/{n}", "data": "x" * 500})
    while quiet.position == before:
        packet = await client.receive()
        assert packet["type"] == "ping"
        reader.feed(packet)
        await client.send({"type": "pong"})
    assert list(quiet.position.values()) == [60]
    await client.cut()
    client = await attach(broker, reader)
    await client.expect("connected")
    await client.expect("subscribed", live=True, after=quiet.position)


async def test_subscribed_is_a_barrier(broker: RunningBroker) -> None:
    """SPEC 4.2.3: whoever publishes after having seen it, from whichever connection, is heard."""
    publisher = await broker.connect()
    for n in range(20):
        client = await broker.connect()
        await client.subscribe(1, f"t/{n}")
        await publisher.send({"type": "publish", "topic": f"t/{n}", "data": n})
        await client.expect("message", data=n)


async def test_subscription_goes_through_the_states_of_the_table(broker: RunningBroker) -> None:
    """SPEC 4.10.1, 4.4.2: asked, catching up, live, ended; messages while catching up are not its own."""
    client, reader = await broker.connect(), Reader()
    await client.publish("a", 1)
    subscription = reader.add(1, "a", **{"from": "earliest"})
    await client.send(*reader.requests())
    reader.feed(await client.expect("subscribed", live=False))
    assert (subscription.is_subscribed, subscription.is_live) == (True, False)
    delivery = await client.expect("delivery")
    reader.feed(delivery["message"])  # somebody else's live message: nothing
    assert subscription.data == []
    reader.feed(delivery)
    reader.feed(await client.expect("caught_up"))
    assert (subscription.data, subscription.is_live) == ([1], True)
    error = await client.request({"type": "subscribe", "sub": 1, "filter": "a"})
    assert (error["name"], error["sub"]) == ("conflict", 1)
    reader.feed(await client.request({"type": "unsubscribe", "sub": 1}))
    assert reader.subscriptions == {}


async def test_gap_and_caught_up_carry_whole_positions(start_broker: StartBroker) -> None:
    """SPEC 4.3.5, 2.5, 4.6.2: all logs of a wildcard, also where only one has a hole."""
    broker = await start_broker(memory_shards=3, limits={"recent_bytes": 0}, topics=[{"retention_messages": 1}])
    client = await broker.connect()
    whole = (await client.subscribe(1, "#"))["after"]
    for n in range(12):
        await client.publish(f"t/{n % 4}", n)
    await client.send({"type": "subscribe", "sub": 2, "filter": "t/+", "after": whole})
    kinds = set()
    while True:
        packet = await client.receive()
        if packet.get("sub") == 2 and "after" in packet:
            kinds.add(packet["type"])
            assert set(packet["after"]) == set(whole)
        if packet["type"] == "caught_up":
            break
    assert kinds == {"subscribed", "gap", "caught_up"}


async def test_server_packets_are_json_objects_with_type_first(broker: RunningBroker) -> None:
    """SPEC 1.4"""
    client = await broker.open()
    await client.send({"type": "connect"}, {"type": "subscribe", "sub": 1, "filter": "a"}, {"type": "nonsense"})
    for _ in range(3):
        text = await client.receive_text()
        assert text.startswith('{"type":"')
        assert isinstance(json.loads(text), dict)

"""SPEC 8: what a client may rely on, as far as one node in memory can be asked. Black box."""

import json
from typing import Any

import trio

from tests.spec.broker import RunningBroker
from tests.spec.client import RawClient
from tests.spec.conftest import StartBroker


async def test_acknowledged_message_is_at_the_place_it_was_given(start_broker: StartBroker) -> None:
    """SPEC 8.1, 4.5.1, G1: I1, I3: acknowledged and unreadable is the empty set, and no place is given twice."""
    broker = await start_broker(memory_shards=4)
    client = await broker.connect()
    places = {}
    for n in range(200):
        answer = await client.publish(f"t/{n % 7}", n)
        assert answer["level"] == "memory"
        places[answer["log"], answer["pos"]] = (f"t/{n % 7}", answer["offset"], n)
    assert len(places) == 200
    read = {}
    for topic in range(7):
        reply = await client.request({"type": "history", "topic": f"t/{topic}", "last": 100})
        for message in reply["messages"]:
            read[message["log"], message["pos"]] = (message["topic"], message["offset"], message["data"])
    assert read == places


async def test_all_subscribers_of_a_topic_see_one_sequence(broker: RunningBroker, nursery: trio.Nursery) -> None:
    """SPEC 8.3, G3: many publishers at once; each one's messages keep their order."""
    watchers = [await broker.connect(), await broker.connect(capabilities=["batch"]), await broker.connect()]
    for sub, watcher in enumerate(watchers, 1):
        await watcher.subscribe(sub, "race" if sub < 3 else "#")

    async def run(name: str) -> None:
        client = await broker.connect()
        for n in range(50):
            await client.publish("race", [name, n])

    async with trio.open_nursery() as publishers:
        for name in "abcd":
            publishers.start_soon(run, name)
    sequences = [[(await watcher.expect("message"))["data"] for _ in range(200)] for watcher in watchers]
    assert sequences[0] == sequences[1] == sequences[2]
    for name in "abcd":
        assert [n for who, n in sequences[0] if who == name] == list(range(50))


async def test_everybody_gets_everything_once(broker: RunningBroker) -> None:
    """SPEC 8.4, G4"""
    watchers = [await broker.connect() for _ in range(10)]
    for watcher in watchers:
        await watcher.subscribe(1, "t/+")
    publisher = await broker.connect()
    await publisher.send(*({"type": "publish", "topic": f"t/{n % 3}", "data": n} for n in range(300)))
    for watcher in watchers:
        assert [(await watcher.expect("message"))["data"] for _ in range(300)] == list(range(300))
        await watcher.has_nothing_more()


async def test_slow_subscriber_does_not_hold_up_the_others(start_broker: StartBroker) -> None:
    """SPEC 8.6, G7: while one reads nothing at all, everybody else hears everything at once."""
    rule = {"retention_messages": 1_000, "retention_bytes": 10**9}
    broker = await start_broker(limits={"max_outbox_bytes": 100_000}, topics=[rule])
    fast, slow = await broker.connect(), await broker.open(receive_buffer=4_096)
    await slow.send({"type": "connect"}, {"type": "subscribe", "sub": 1, "filter": "#"})
    await slow.expect("connected")
    await fast.subscribe(1, "#")
    publisher = await broker.connect()
    for n in range(120):
        await publisher.publish("a", [n, "x" * 60_000])
        assert (await fast.expect("message"))["data"][0] == n


BAD: list[str | bytes] = [
    "",
    "nonsense",
    "[]",
    "[[]]",
    "[" * 100_000,
    '{"type":' * 10_000,
    '{"type":"publish","topic":"' + "a/" * 200 + '","data":1}',
    '{"type":"publish","topic":"\u202e","data":1}',
    '{"type":"subscribe","sub":1,"filter":"#/#/#"}',
    '{"type":"publish","topic":"a","data":' + "[" * 30_000 + "}" * 30_000 + "}",
    '{"type":"history","topic":"a","after":{' + ",".join(f'"m{n}":1' for n in range(1_000)) + "}}",
    '{"type":"ping","id":' + "9" * 60_000 + "}",
    json.dumps({"type": "ping", "x" * 60_000: 1}),
    b"",
    b"\xff" * 1_000,
]


async def test_bad_input_costs_its_sender_an_error_and_nobody_anything_else(broker: RunningBroker) -> None:
    """SPEC 8.7, S1, S26"""
    good, bad = await broker.connect(), await broker.connect()
    await good.subscribe(1, "#")
    for input in BAD:
        await (bad.send_text(input) if isinstance(input, str) else bad.send_binary(input))
        assert (await bad.receive())["type"] == "error", input
        await good.publish("alive", 1)
        await good.expect("message", topic="alive")
    await bad.has_nothing_more()
    await good.has_nothing_more()


async def answers(client: RawClient, count: int) -> list[dict[str, Any]]:
    return [await client.receive() for _ in range(count)]


async def test_client_that_asks_for_too_much_is_read_no_further_and_loses_nothing(
    start_broker: StartBroker,
) -> None:
    """SPEC 8.5, 1.16, G6: replies far over the bound wait for the client; every one comes, in order."""
    broker = await start_broker(limits={"max_outbox_bytes": 50_000})
    client = await broker.connect()
    for n in range(20):
        await client.publish("a", [n, "x" * 20_000])
    requests = [{"type": "history", "id": n, "topic": "a", "last": 20} for n in range(2, 62)]
    got: list[dict[str, Any]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, *requests)
        got += await answers(client, len(requests))
    assert [reply["id"] for reply in got] == list(range(2, 62))
    assert all(len(reply["messages"]) == 20 for reply in got)


async def test_memory_does_not_outlive_the_node_and_nobody_is_told_otherwise(start_broker: StartBroker) -> None:
    """SPEC 8.8, 8.1, 2.1: after a restart the log has another name, and a resume in the old one is a gap."""
    broker = await start_broker()
    client = await broker.connect()
    place = await client.publish("a", 1)
    await client.cut()
    await broker.restart()
    client = await broker.connect()
    assert (await client.request({"type": "history", "topic": "a"}))["messages"] == []
    await client.subscribe(1, "a", after={place["log"]: place["pos"]})
    gap = await client.expect("gap", reason="reset")
    assert place["log"] not in gap["after"]

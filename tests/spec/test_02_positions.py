"""SPEC 2: logs, places and positions as a client sees them. Black box."""

import re
import time

from tests.spec.broker import RunningBroker
from tests.spec.conftest import StartBroker


async def test_logs_have_names_of_the_promised_form_and_no_name_twice(start_broker: StartBroker) -> None:
    """SPEC 2.1, 2.5: eight logs of each of two brokers."""
    names: list[str] = []
    for _ in range(2):
        broker = await start_broker(memory_shards=8)
        client = await broker.connect()
        names += (await client.subscribe(1, "#"))["after"]
    assert len(set(names)) == 16
    assert all(re.fullmatch("[a-z0-9-]{1,32}", name) for name in names)


async def test_position_of_one_topic_has_one_entry(start_broker: StartBroker) -> None:
    """SPEC 2.5: and it is an entry of the position of a wildcard."""
    broker = await start_broker(memory_shards=8)
    client = await broker.connect()
    everything = (await client.subscribe(1, "#"))["after"]
    for sub, topic in enumerate(["a", "b", "c/d", "$sys/x"], 2):
        (log,) = (await client.subscribe(sub, topic))["after"]
        assert log in everything


async def test_pos_rises_over_all_topics_and_offset_counts_in_one(broker: RunningBroker) -> None:
    """SPEC 2.2, 2.3"""
    client = await broker.connect()
    places = [await client.publish(topic, 0) for topic in "abacbaab"]
    assert [place["pos"] for place in places] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [place["offset"] for place in places] == [1, 1, 2, 1, 2, 3, 4, 3]


async def test_forgotten_topic_goes_on_with_offset_equal_to_pos(start_broker: StartBroker) -> None:
    """SPEC 2.3: a flood of topics makes the broker forget some, and never makes it repeat a number."""
    broker = await start_broker(limits={"max_shard_topics": 2})
    client = await broker.connect()
    seen: dict[str, int] = {}
    jumps = 0
    for n in range(60):
        topic = f"t/{(n * n) % 7}"
        place = await client.publish(topic, n)
        assert place["offset"] <= place["pos"]
        assert place["offset"] > seen.get(topic, 0)
        if place["offset"] != seen.get(topic, 0) + 1:
            assert place["offset"] == place["pos"]
            jumps += 1
        seen[topic] = place["offset"]
    assert jumps


async def test_catching_up_goes_in_the_order_of_pos_over_all_topics(broker: RunningBroker) -> None:
    """SPEC 2.4"""
    client = await broker.connect()
    for n in range(50):
        await client.publish(f"t/{n * 7 % 5}", n)
    await client.subscribe(1, "t/#", **{"from": "earliest"})
    deliveries = [await client.expect("delivery") for _ in range(50)]
    assert [delivery["message"]["data"] for delivery in deliveries] == list(range(50))
    assert [delivery["message"]["pos"] for delivery in deliveries] == list(range(1, 51))


async def test_ts_is_the_servers_clock_and_does_not_go_back(broker: RunningBroker) -> None:
    """SPEC 2.7"""
    client = await broker.connect()
    await client.subscribe(1, "a")
    before = time.time_ns() // 1_000_000
    for n in range(20):
        await client.send({"type": "publish", "topic": "a", "data": n})
    times = [(await client.expect("message"))["ts"] for _ in range(20)]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= time.time_ns() // 1_000_000

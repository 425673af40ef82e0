"""SPEC 2.8, 3.2.13, 3.4.13 to 3.4.17, 4.5, 8.10: topics on disk, conflated, delayed, compacted. Black box."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.spec.broker import RunningBroker
from tests.spec.client import RawClient
from tests.spec.conftest import StartBroker

DISK = {"filter": "disk/#", "storage": "disk"}
STATE = {"filter": "state/#", "compact": True}
BIG = "x" * 60_000
FLOOD = 150  # times 60 kB: more than the kernel takes for a client that does not read


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def read_to_the_end(client: RawClient) -> list[dict[str, Any]]:
    """The deliveries up to `caught_up`."""
    deliveries = []
    while (packet := await client.receive())["type"] == "delivery":
        deliveries.append(packet)
    assert packet["type"] == "caught_up", packet
    return deliveries


# Conflation


async def slow_conflating_reader(broker: RunningBroker) -> RawClient:
    """Live on flood/# with overflow `conflate`; reads nothing by itself."""
    slow = await broker.open(receive_buffer=4_096)
    await slow.send({"type": "connect", "id": 1})
    await slow.expect("connected")
    await slow.subscribe(1, "flood/#", overflow="conflate")
    return slow


async def test_slow_subscriber_that_conflates_gets_the_newest_of_each_topic_and_key(
    start_broker: StartBroker,
) -> None:
    """SPEC 3.2.13, 3.2.11, 4.3.4: in the order of pos, and without a gap: what was replaced is not due."""
    broker = await start_broker(limits={"max_outbox_bytes": 200_000})
    publisher, slow = await broker.connect(), await slow_conflating_reader(broker)
    for n in range(FLOOD):
        await publisher.publish("flood/a", [n, BIG], key=f"k{n % 2}")
    await publisher.publish("flood/b", [FLOOD, BIG])
    live: list[int] = []
    while (packet := await slow.receive())["type"] == "message":
        live.append(packet["data"][0])
    assert live == list(range(len(live)))
    assert len(live) < FLOOD - 2
    assert (packet["type"], packet["sub"], packet["reason"]) == ("catching_up", 1, "slow")
    deliveries = await read_to_the_end(slow)
    assert [delivery["message"]["data"][0] for delivery in deliveries] == [FLOOD - 2, FLOOD - 1, FLOOD]
    assert deliveries[0]["prev"] <= live[-1] + 1
    await publisher.publish("flood/a", "live again")
    await slow.expect("message", data="live again")


async def test_conflation_past_its_bound_is_a_gap(start_broker: StartBroker) -> None:
    """SPEC 3.2.13, 4.6.1: too many keys to keep."""
    broker = await start_broker(limits={"max_outbox_bytes": 200_000, "max_conflated_bytes": 200_000})
    publisher, slow = await broker.connect(), await slow_conflating_reader(broker)
    for n in range(FLOOD):
        await publisher.publish("flood/a", [n, BIG], key=str(n))
    while (packet := await slow.receive())["type"] == "message":
        pass
    assert packet["type"] == "catching_up"
    await slow.expect("gap", sub=1, reason="slow")
    rest = [delivery["message"]["data"][0] for delivery in await read_to_the_end(slow)]
    assert rest
    assert rest == list(range(FLOOD - len(rest), FLOOD))


# Delayed messages


async def test_delayed_message_is_published_when_its_time_has_come(broker: RunningBroker) -> None:
    """SPEC 3.4.15, 4.5.3: in order of time, and with the `ts` of that moment."""
    client = await broker.connect()
    await client.subscribe(1, "a")
    due = now_ms() + 400
    for item, at in (("last", due + 1), ("first", due), ("second", due)):
        answer = await client.publish("a", item, deliver_at_ms=at)
        assert {"delayed": True, "level": "memory"}.items() <= answer.items()
        assert not {"log", "pos", "offset"} & answer.keys()
    for offset, item in enumerate(("first", "second", "last"), 1):
        assert (await client.expect("message", data=item, offset=offset))["ts"] >= due


async def test_delayed_message_sent_again_is_stored_once(broker: RunningBroker) -> None:
    """SPEC 3.4.5, 3.4.6, 4.5.3: before it is due and after."""
    client = await broker.connect()
    await client.subscribe(1, "a")
    later = {"deliver_at_ms": now_ms() + 60_000, "message_id": "m"}
    await client.publish("a", 1, **later)
    assert {"delayed": True, "duplicate": True}.items() <= (await client.publish("a", 1, **later)).items()
    assert (await client.publish("a", 1, deliver_at_ms=1, message_id="m"))["name"] == "conflict"
    soon = {"deliver_at_ms": now_ms() + 20, "message_id": "n"}
    await client.publish("a", 2, **soon)
    place = await client.expect("message", data=2)
    answer = await client.publish("a", 2, **soon)
    assert (answer["duplicate"], answer["pos"], answer.get("delayed")) == (True, place["pos"], None)
    await client.has_nothing_more()


async def test_delayed_messages_are_bounded(start_broker: StartBroker) -> None:
    """SPEC 3.4.15: in time and in bytes."""
    broker = await start_broker(limits={"max_delay_seconds": 60, "max_delayed_bytes": 5_000})
    client = await broker.connect()
    error = await client.publish("a", 1, deliver_at_ms=now_ms() + 120_000)
    assert (error["name"], error["field"]) == ("too_large", "deliver_at_ms")
    soon = now_ms() + 30_000
    answers = [await client.publish("a", "x" * 500, deliver_at_ms=soon) for _ in range(10)]
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert answers[0]["type"] == "published"
    assert {(answer["name"], answer["field"]) for answer in refused} == {("quota", "deliver_at_ms")}


# Compaction


async def test_compacted_topic_keeps_the_newest_of_each_key(start_broker: StartBroker) -> None:
    """SPEC 3.4.16, 3.2.5, 4.3.4: over several topics; what was replaced is skipped without a gap."""
    broker = await start_broker(topics=[STATE])
    client = await broker.connect()
    first = await client.publish("state/a", 0, key="k0")
    for n in range(1, 30):
        await client.publish(f"state/{'ab'[n % 2]}", n, key=f"k{n % 6}")
    await client.subscribe(1, "state/+", **{"from": "last"})
    assert [one["message"]["data"] for one in await read_to_the_end(client)] == list(range(24, 30))
    await client.subscribe(2, "state/a", after={first["log"]: first["pos"]})
    deliveries = await read_to_the_end(client)
    assert [one["message"]["data"] for one in deliveries] == [24, 26, 28]
    had = first["offset"]
    for one in deliveries:
        assert one.get("prev", one["message"]["offset"] - 1) <= had
        had = one["message"]["offset"]
    await client.has_nothing_more()


async def test_deleted_key_is_told_to_those_who_were_away(start_broker: StartBroker) -> None:
    """SPEC 3.4.17, 4.3.1: and not shown to those who ask for the state."""
    broker = await start_broker(topics=[STATE])
    client = await broker.connect()
    place = await client.publish("state/a", 1, key="k")
    deletion = await client.request({"type": "publish", "topic": "state/a", "key": "k"})
    assert deletion["type"] == "published"
    await client.subscribe(1, "state/a", after={place["log"]: place["pos"]})
    (one,) = await read_to_the_end(client)
    assert one["message"]["key"] == "k"
    assert not {"data", "b64"} & one["message"].keys()
    await client.subscribe(2, "state/a", **{"from": "last"})
    assert await read_to_the_end(client) == []


@pytest.mark.parametrize("fields", [{"data": 1}, {}, {"data": 1, "key": ""}], ids=str)
async def test_message_of_a_compacted_topic_has_a_key(start_broker: StartBroker, fields: dict[str, Any]) -> None:
    """SPEC 3.4.16"""
    broker = await start_broker(topics=[STATE])
    client = await broker.connect()
    error = await client.request({"type": "publish", "topic": "state/a", **fields})
    assert (error["name"], error["field"]) == ("malformed", "key")


# Topics on disk


@pytest.fixture
async def disk(start_broker: StartBroker, tmp_path: Path) -> RunningBroker:
    """disk/# is on disk, everything else in memory; one log of each kind."""
    return await start_broker(data=str(tmp_path), topics=[DISK, STATE])


async def test_topic_on_disk_goes_on_after_a_restart(disk: RunningBroker) -> None:
    """SPEC 2.8, 4.5.1, 8.10, 8.1: the same log, the same places, and the next numbers."""
    client = await disk.connect()
    places = [await client.publish("disk/a", n) for n in range(5)]
    assert {place["level"] for place in places} == {"disk"}
    assert (await client.publish("memory", 1))["level"] == "memory"
    await client.cut()
    await disk.restart()
    client = await disk.connect()
    reply = await client.request({"type": "history", "topic": "disk/a"})
    read = [(one["log"], one["pos"], one["offset"], one["data"]) for one in reply["messages"]]
    assert read == [(place["log"], place["pos"], place["offset"], n) for n, place in enumerate(places)]
    await client.subscribe(1, "disk/#", after={places[2]["log"]: places[2]["pos"]})
    assert [one["message"]["data"] for one in await read_to_the_end(client)] == [3, 4]
    later = await client.publish("disk/a", 5)
    assert (later["log"], later["offset"]) == (places[0]["log"], 6)
    assert later["pos"] > places[4]["pos"]


async def test_message_on_disk_is_delivered_as_it_is_answered(disk: RunningBroker) -> None:
    """SPEC 3.4.13: and repetitions while it is on its way are answered with it."""
    client = await disk.connect()
    await client.subscribe(1, "disk/a")
    await client.send(
        *({"type": "publish", "id": n, "topic": "disk/a", "data": 1, "message_id": "m"} for n in (11, 12, 13))
    )
    packets = [await client.receive() for _ in range(4)]
    assert sum(packet["type"] == "message" for packet in packets) == 1
    answers = {packet["id"]: packet for packet in packets if packet["type"] == "published"}
    assert set(answers) == {11, 12, 13}
    assert {answer["pos"] for answer in answers.values()} == {answers[11]["pos"]}
    assert [answers[n].get("duplicate", False) for n in (11, 12, 13)] == [False, True, True]
    await client.has_nothing_more()


async def test_ids_of_a_topic_on_disk_are_known_after_a_restart(disk: RunningBroker) -> None:
    """SPEC 3.4.7, 8.2, 8.10"""
    client = await disk.connect()
    first = await client.publish("disk/a", 1, message_id="m", key="k")
    await client.cut()
    await disk.restart()
    client = await disk.connect()
    again = await client.publish("disk/a", 1, message_id="m", key="k")
    assert again == first | {"id": again["id"], "duplicate": True}
    assert (await client.publish("disk/a", 2, message_id="m", key="k"))["name"] == "conflict"


async def test_delayed_message_for_a_topic_on_disk_outlives_the_process(disk: RunningBroker) -> None:
    """SPEC 3.4.15, 4.5.3: its time comes while nobody runs."""
    client = await disk.connect()
    due = now_ms() + 30
    answer = await client.publish("disk/a", "later", deliver_at_ms=due, message_id="m")
    assert {"level": "disk", "delayed": True}.items() <= answer.items()
    await client.cut()
    await disk.restart()
    client = await disk.connect()
    await client.subscribe(1, "disk/a", **{"from": "earliest"})
    packet = await client.receive()
    while packet["type"] == "caught_up":
        packet = await client.receive()
    message = packet.get("message", packet)
    assert (message["data"], message["offset"]) == ("later", 1)
    assert message["ts"] >= due


async def test_publishes_beyond_the_window_are_refused_and_not_stored(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """SPEC 3.4.12, 8.5: those who are answered with `inflight` come to nothing."""
    broker = await start_broker(data=str(tmp_path), topics=[DISK], limits={"max_inflight_publishes": 10})
    client = await broker.connect()
    await client.send(*({"type": "publish", "id": n, "topic": "disk/a", "data": n} for n in range(2, 102)))
    answers = [await client.receive() for _ in range(100)]
    stored = {answer["id"] for answer in answers if answer["type"] == "published"}
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert refused
    assert {answer["name"] for answer in refused} == {"inflight"}
    assert min(answer["retry_after_ms"] for answer in refused) > 0
    reply = await client.request({"type": "history", "topic": "disk/a", "limit": 200})
    assert {message["data"] for message in reply["messages"]} == stored


async def test_disk_that_cannot_keep_up_is_overloaded(start_broker: StartBroker, tmp_path: Path) -> None:
    """SPEC 3.4.14, 5.1.2, 8.5: refused with what to do about it, and surely not stored."""
    limits = {"max_uncommitted_bytes": 100_000, "max_inflight_publishes": 1_000}
    broker = await start_broker(data=str(tmp_path), topics=[DISK], limits=limits)
    client = await broker.connect()
    packets = [{"type": "publish", "id": n, "topic": "disk/a", "data": [n, "x" * 20_000]} for n in range(2, 42)]
    await client.send(*packets)
    answers = [await client.receive() for _ in packets]
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert refused
    assert {(answer["name"], answer["retry"]) for answer in refused} == {("overloaded", "backoff")}
    assert min(answer["retry_after_ms"] for answer in refused) > 0
    reply = await client.request({"type": "history", "topic": "disk/a", "limit": 100})
    stored = {message["data"][0] for message in reply["messages"]}
    assert stored == {answer["id"] for answer in answers if answer["type"] == "published"}


@pytest.mark.parametrize("is_said", [True, False], ids=["said to be restored", "copied"])
async def test_restored_files_are_a_new_life(start_broker: StartBroker, tmp_path: Path, is_said: bool) -> None:
    """SPEC 2.8, 2.1, 3.2.9, 4.6.1: what is in them can be read; a position of the life before is a reset."""
    first = await start_broker(data=str(tmp_path / "data"), topics=[DISK])
    client = await first.connect()
    places = [await client.publish("disk/a", n) for n in range(3)]
    await client.cut()
    await first.stop()
    data = tmp_path / "data" if is_said else shutil.copytree(tmp_path / "data", tmp_path / "copy")
    broker = await start_broker(data=str(data), topics=[DISK], restored=is_said)
    client = await broker.connect()
    subscribed = await client.subscribe(1, "disk/a", after={places[2]["log"]: places[2]["pos"]})
    (log,) = subscribed["after"]
    assert log != places[0]["log"]
    await client.expect("gap", sub=1, reason="reset", topic="disk/a")
    assert [one["message"]["data"] for one in await read_to_the_end(client)] == [0, 1, 2]


async def test_wildcard_covers_logs_of_both_kinds(disk: RunningBroker) -> None:
    """SPEC 2.5, 2.8: and a filter that can match topics of one kind has no entry of the other."""
    client = await disk.connect()
    everything = (await client.subscribe(1, "#"))["after"]
    on_disk = (await client.subscribe(2, "disk/+"))["after"]
    assert len(everything) == 2
    assert len(on_disk) == 1
    assert on_disk.items() <= everything.items()
    await client.publish("disk/a", 1)
    await client.publish("elsewhere", 2)
    assert {(await client.expect("message"))["data"] for _ in range(2)} == {1, 2}

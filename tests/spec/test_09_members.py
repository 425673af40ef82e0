"""SPEC 9.5 to 9.8: groups and keys, gaps, dead letters. Black box."""

from pathlib import Path
from typing import Any

import pytest

from tests.spec.broker import RunningBroker
from tests.spec.client import Packet, RawClient
from tests.spec.conftest import StartBroker
from tests.spec.test_09_acknowledged import LONG_MS, ack, data, deliveries, nack, publish_all


@pytest.fixture
async def disk(start_broker: StartBroker, tmp_path: Path) -> RunningBroker:
    """jobs/#, names and dead letters are on disk; one log of each kind."""
    return await start_broker(data=str(tmp_path), topics=[{"filter": "jobs/#", "storage": "disk"}])


async def group(broker: RunningBroker, size: int, **fields: Any) -> list[RawClient]:
    """Members of the group g on the topic a."""
    members = [await broker.connect() for _ in range(size)]
    for member in members:
        await member.subscribe(1, "a", group="g", **fields)
    return members


async def taken(member: RawClient) -> list[Packet]:
    """The deliveries that it has got by now."""
    await member.request({"type": "ping"})
    got = list(member.packets)
    member.packets.clear()
    assert {packet["type"] for packet in got} <= {"delivery"}
    return got


# Members (9.5)


async def test_each_message_goes_to_one_member_by_free_window(broker: RunningBroker) -> None:
    """SPEC 9.5.1, 9.5.4, 9.4.1: nobody gets more than its window, nobody waits while another has room."""
    members = await group(broker, 3, window=4)
    publisher = await broker.connect()
    await publish_all(publisher, "a", *range(12))
    shares = [await taken(member) for member in members]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert sorted(item for share in shares for item in data(share)) == list(range(12))
    assert {packet["prev"] for share in shares for packet in share} == {0}
    await publish_all(publisher, "a", 12)
    await ack(members[1], shares[1][0])
    assert data(await deliveries(members[1], 1)) == [12]


async def test_who_leaves_leaves_its_messages_to_the_others(broker: RunningBroker) -> None:
    """SPEC 9.5.2: at once; cleanly or not."""
    members = await group(broker, 3)
    publisher = await broker.connect()
    await publish_all(publisher, "a", *range(9))
    shares = [await taken(member) for member in members]
    await members[0].request({"type": "unsubscribe", "sub": 1})
    back = [await taken(member) for member in members[1:]]
    assert sorted(data(back[0]) + data(back[1])) == sorted(data(shares[0]))
    assert {packet["attempt"] for packet in (*back[0], *back[1])} == {1}
    lost = data(shares[1]) + data(back[0])
    await members[1].cut()
    got = await deliveries(members[2], len(lost))
    assert sorted(data(got)) == sorted(lost)
    assert {packet["attempt"] for packet in got} == {2}


async def test_who_joins_gets_a_share(broker: RunningBroker) -> None:
    """SPEC 9.5.2"""
    (first,) = await group(broker, 1, window=2)
    publisher = await broker.connect()
    await publish_all(publisher, "a", *range(4))
    assert data(await taken(first)) == [0, 1]
    second = await broker.connect()
    await second.subscribe(1, "a", group="g", window=2)
    assert data(await deliveries(second, 2)) == [2, 3]


async def test_messages_of_one_key_go_to_one_member_in_order(broker: RunningBroker) -> None:
    """SPEC 9.5.3, G5: as long as one of them is unsettled."""
    members = await group(broker, 3)
    publisher = await broker.connect()
    for n in range(30):
        await publish_all(publisher, "a", n, key=f"k{n % 5}")
    shares = [await taken(member) for member in members]
    assert sorted(item for share in shares for item in data(share)) == list(range(30))
    for key in range(5):
        holders = [share for share in shares if any(item % 5 == key for item in data(share))]
        assert len(holders) == 1
        assert [item for item in data(holders[0]) if item % 5 == key] == list(range(key, 30, 5))


async def test_failed_message_of_a_key_takes_those_behind_it_along(broker: RunningBroker) -> None:
    """SPEC 9.5.3, G5: all come again in order, and only the failed one has another attempt."""
    members = await group(broker, 2)
    publisher = await broker.connect()
    await publish_all(publisher, "a", *range(4), key="k")
    shares = [await taken(member) for member in members]
    holder, got = next((member, share) for member, share in zip(members, shares, strict=True) if share)
    await ack(holder, got[0])
    assert (await holder.request(nack(got[1])))["type"] == "acked"
    again = await taken(members[0]) + await taken(members[1])
    assert [(packet["message"]["data"], packet["attempt"]) for packet in again] == [(1, 2), (2, 1), (3, 1)]


async def test_messages_of_a_key_wait_for_a_failed_one(broker: RunningBroker) -> None:
    """SPEC 9.5.3: a message whose time has not come holds up its key, and nothing else."""
    (member,) = await group(broker, 1)
    publisher = await broker.connect()
    await publish_all(publisher, "a", 0, key="k")
    (first,) = await deliveries(member, 1)
    await member.request(nack(first, delay_ms=LONG_MS))
    await publish_all(publisher, "a", 1, key="k")
    await publish_all(publisher, "a", 2, key="other")
    await publish_all(publisher, "a", 3)
    assert data(await deliveries(member, 2)) == [2, 3]
    await member.has_nothing_more()


async def test_member_that_does_not_read_holds_up_nobody(start_broker: StartBroker) -> None:
    """SPEC 9.1.2, 9.5.1, 8.6: its connection is full, the server waits with its share; others get theirs."""
    broker = await start_broker(limits={"max_outbox_bytes": 200_000})
    slow, quick, publisher = (
        await broker.open(receive_buffer=4_096),
        await broker.connect(),
        await broker.connect(),
    )
    await slow.send(
        {"type": "connect"}, {"type": "subscribe", "sub": 1, "filter": "a", "group": "g", "window": 200}
    )
    await slow.expect("connected")
    await slow.expect("subscribed")
    await quick.subscribe(1, "a", group="g", window=1)
    seen: list[int] = []
    for n in range(150):
        await publisher.publish("a", [n, "x" * 60_000])
        for packet in await taken(quick):
            await ack(quick, packet)
            seen.append(packet["message"]["data"][0])
    assert len(seen) > 20
    while len(seen) < 150:
        packet = await slow.expect("delivery", attempt=1)
        seen.append(packet["message"]["data"][0])
    assert sorted(seen) == list(range(150))
    await slow.has_nothing_more()


# Gaps (9.6)


async def test_gap_is_repeated_until_something_behind_it_is_acknowledged(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """SPEC 9.6.1, 9.6.2, 4.6.1: over connections, and over a restart."""
    topics = [{"filter": "a", "storage": "disk", "retention_messages": 2}]
    broker = await start_broker(data=str(tmp_path), topics=topics)
    client = await broker.connect()
    await client.subscribe(1, "a", durable="d")
    await publish_all(client, "a", 0)
    await ack(client, *await deliveries(client, 1))
    await client.request({"type": "unsubscribe", "sub": 1})
    await publish_all(client, "a", *range(1, 200))
    await client.subscribe(2, "a", durable="d")
    await client.expect("gap", sub=2, reason="retention", topic="a")
    assert data(await deliveries(client, 2, sub=2))[-1] == 199
    await client.cut()
    await broker.restart()
    client = await broker.connect()
    await client.subscribe(1, "a", durable="d")
    gap = await client.expect("gap", sub=1, reason="retention")
    got = await deliveries(client, 2)
    assert list(gap["after"].values()) == [1]
    await ack(client, got[0])
    await client.send({"type": "subscribe", "sub": 2, "filter": "a", "durable": "d"})
    await client.expect("unsubscribed", sub=1)
    await client.expect("subscribed", sub=2)
    assert data(await deliveries(client, 1, sub=2)) == [199]
    await client.has_nothing_more()


async def test_new_life_of_a_log_is_a_gap(start_broker: StartBroker, tmp_path: Path) -> None:
    """SPEC 9.6.1, 2.8: restored files; everything that is held comes again."""
    topics = [{"filter": "a", "storage": "disk"}]
    first = await start_broker(data=str(tmp_path), topics=topics)
    client = await first.connect()
    await client.subscribe(1, "a", durable="d")
    await publish_all(client, "a", 0, 1)
    await ack(client, *await deliveries(client, 2))
    await client.cut()
    await first.stop()
    broker = await start_broker(data=str(tmp_path), topics=topics, restored=True)
    client = await broker.connect()
    await client.subscribe(1, "a", durable="d")
    await client.expect("gap", sub=1, reason="reset")


async def test_log_in_memory_begins_anew_under_a_durable_name(disk: RunningBroker) -> None:
    """SPEC 9.6.1, 2.8, 8.4: the name outlives the node, what it was fed from does not; the disk's goes on."""
    client = await disk.connect()
    await client.subscribe(1, "#", durable="d")
    await publish_all(client, "jobs/a", "on disk")
    await publish_all(client, "elsewhere", "in memory")
    await deliveries(client, 2)
    await client.cut()
    await disk.restart()
    client = await disk.connect()
    await client.subscribe(1, "#", durable="d")
    gap = await client.expect("gap", sub=1, reason="reset", topic=None)
    assert len(gap["after"]) == 2
    assert data(await deliveries(client, 1)) == ["on disk"]
    await client.has_nothing_more()


# Dead letters (9.8)


async def test_message_that_fails_too_often_becomes_a_dead_letter(disk: RunningBroker) -> None:
    """SPEC 9.4.5, 9.8.1, 9.8.2: the others go on."""
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d", max_attempts=2)
    await client.subscribe(2, "$dead/d")
    fields = {"key": "k", "headers": {"h": "v"}, "message_id": "m"}
    source = await client.publish("jobs/a", {"poison": True}, **fields)
    await publish_all(client, "jobs/a", "fine")
    got = await deliveries(client, 2)
    await ack(client, got[1])
    await client.send(nack(got[0]))
    (second,) = await deliveries(client, 1)
    assert second["attempt"] == 2
    await client.send(nack(second))
    letter = await client.expect("message", topic="$dead/d", data={"poison": True})
    headers = dict(letter["headers"])
    assert int(headers.pop("triode-dead-at")) > 0
    assert headers == {
        "h": "v",
        "triode-dead-reason": "max_attempts",
        "triode-dead-topic": "jobs/a",
        "triode-dead-key": "k",
        "triode-dead-log": source["log"],
        "triode-dead-pos": str(source["pos"]),
        "triode-dead-offset": str(source["offset"]),
        "triode-dead-attempts": "2",
    }
    assert letter["key"] == f"{source['log']}.{source['pos']}"
    await client.has_nothing_more()


async def test_rejected_message_is_a_dead_letter_at_once_and_for_good(disk: RunningBroker) -> None:
    """SPEC 9.3.1, 9.8.1, 9.8.3: after a restart the letter is there and the message does not come again."""
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d")
    await publish_all(client, "jobs/a", "bad")
    (got,) = await deliveries(client, 1)
    assert (await client.request(nack(got, reject=True)))["type"] == "acked"
    await client.cut()
    await disk.restart()
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d")
    assert len((await client.request({"type": "history", "topic": "$dead/d"}))["messages"]) == 1
    await client.subscribe(2, "$dead/d", **{"from": "last"})
    (letter,) = await deliveries(client, 1, sub=2)
    assert letter["message"]["headers"]["triode-dead-reason"] == "rejected"
    assert letter["message"]["headers"]["triode-dead-attempts"] == "1"
    assert letter["message"]["data"] == "bad"
    await client.expect("caught_up", sub=2)
    await client.has_nothing_more()


async def test_group_has_dead_letters_too(broker: RunningBroker) -> None:
    """SPEC 9.8.1: as safe as the group itself; the time that nobody answers in counts as failures."""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", max_attempts=2, ack_wait_ms=20)
    await client.subscribe(2, "$dead/#")
    await publish_all(client, "a", "poison")
    assert [packet["attempt"] for packet in await deliveries(client, 2)] == [1, 2]
    letter = await client.expect("message", topic="$dead/g", data="poison")
    assert "triode-dead-key" not in letter["headers"]


async def test_clients_do_not_write_dead_letters(disk: RunningBroker) -> None:
    """SPEC 9.8.3, 6.5"""
    client = await disk.connect()
    error = await client.publish("$dead/d", 1, key="k")
    assert (error["name"], error["field"]) == ("bad_topic", "topic")

"""SPEC 9.1 to 9.4: asking for an acknowledged subscription, settling, delivery again. Black box."""

from pathlib import Path
from typing import Any

import pytest

from tests.spec.broker import RunningBroker
from tests.spec.client import Packet, RawClient
from tests.spec.conftest import StartBroker

LONG_MS = 3_600_000


@pytest.fixture
async def disk(start_broker: StartBroker, tmp_path: Path) -> RunningBroker:
    """jobs/# is on disk, and so are the names; one log of each kind."""
    return await start_broker(data=str(tmp_path), topics=[{"filter": "jobs/#", "storage": "disk"}])


async def deliveries(client: RawClient, count: int, sub: int = 1) -> list[Packet]:
    """The next packets, which are so many deliveries."""
    return [await client.expect("delivery", sub=sub) for _ in range(count)]


def data(packets: list[Packet]) -> list[Any]:
    return [packet["message"]["data"] for packet in packets]


def place(packet: Packet) -> dict[str, Any]:
    """What an ack says of a delivery."""
    return {"sub": packet["sub"], "log": packet["message"]["log"], "pos": packet["message"]["pos"]}


async def ack(client: RawClient, *packets: Packet) -> None:
    for packet in packets:
        assert (await client.request({"type": "ack", **place(packet)}))["type"] == "acked"


def nack(packet: Packet, **fields: Any) -> Packet:
    return {"type": "nack", **place(packet), "attempt": packet["attempt"], **fields}


async def publish_all(client: RawClient, topic: str, *items: Any, **fields: Any) -> None:
    for item in items:
        assert (await client.publish(topic, item, **fields))["type"] == "published"


async def refused(client: RawClient, **fields: Any) -> tuple[str, str | None]:
    """Name and field of the error that answers a subscribe."""
    packet = {"type": "subscribe", "sub": 1, "filter": "jobs/#", **fields}
    error = await client.request(packet)
    assert error["type"] == "error", error
    assert error["sub"] == packet["sub"]
    return error["name"], error.get("field")


# Asking for one (9.1)


@pytest.mark.parametrize("name", ["a/b", "+", "#", "a+", "$sys", "", "é" * 33, "x" * 65, "a\u0000", 5, None])
@pytest.mark.parametrize("field", ["durable", "group"])
async def test_name_that_is_none_is_refused(disk: RunningBroker, field: str, name: Any) -> None:
    """SPEC 9.1.1"""
    client = await disk.connect()
    assert await refused(client, **{field: name}) == ("malformed", field)


@pytest.mark.parametrize("name", ["x" * 64, "é" * 32, "worker-1", "Büro 7"])
async def test_name_of_64_bytes_is_one(disk: RunningBroker, name: str) -> None:
    """SPEC 9.1.1"""
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable=name)
    await client.subscribe(2, "jobs/#", group=f"g{name[:30]}")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"durable": "d", "group": "g"}, "group"),
        ({"shared": True}, "shared"),
        ({"group": "g", "shared": True}, "shared"),
        ({"window": 5}, "window"),
        ({"ack_wait_ms": 5}, "ack_wait_ms"),
        ({"max_attempts": 5}, "max_attempts"),
        ({"durable": "d", "overflow": "gap"}, "overflow"),
        ({"group": "g", "overflow": "conflate"}, "overflow"),
        ({"group": "g", "window": 1_025}, "window"),
        ({"group": "g", "window": 0}, "window"),
        ({"group": "g", "ack_wait_ms": 43_200_001}, "ack_wait_ms"),
        ({"group": "g", "max_attempts": 1_001}, "max_attempts"),
    ],
    ids=str,
)
async def test_fields_that_do_not_go_together_are_refused(
    disk: RunningBroker, fields: dict[str, Any], field: str
) -> None:
    """SPEC 9.1.2, 9.1.5"""
    client = await disk.connect()
    assert await refused(client, **fields) == ("malformed", field)


async def test_presence_is_not_offered_to_acknowledged_subscriptions_either(disk: RunningBroker) -> None:
    """SPEC 9.1.2"""
    client = await disk.connect()
    assert await refused(client, durable="d", presence="watch") == ("malformed", "presence")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ({}, [3]),
        ({"from": "new"}, [3]),
        ({"from": "earliest"}, [0, 1, 2, 3]),
        ({"from": {"since": 0}}, [0, 1, 2, 3]),
    ],
    ids=str,
)
async def test_start_counts_when_the_name_is_new(
    disk: RunningBroker, start: dict[str, Any], expected: list[int]
) -> None:
    """SPEC 9.1.3, 9.4.1: new messages come as deliveries, too."""
    client = await disk.connect()
    await publish_all(client, "jobs/a", 0, 1, 2)
    await client.subscribe(1, "jobs/#", durable="d", **start)
    await publish_all(client, "jobs/a", 3)
    assert data(await deliveries(client, len(expected))) == expected
    await client.has_nothing_more()


async def test_start_at_a_position(disk: RunningBroker) -> None:
    """SPEC 9.1.3, 9.1.6"""
    client = await disk.connect()
    first = await client.publish("jobs/a", 0)
    await publish_all(client, "jobs/a", 1, 2)
    subscribed = await client.subscribe(1, "jobs/#", durable="d", after={first["log"]: first["pos"]})
    assert (subscribed["live"], subscribed["after"]) == (True, {first["log"]: first["pos"]})
    assert data(await deliveries(client, 2)) == [1, 2]


async def test_snapshot_is_no_start(disk: RunningBroker) -> None:
    """SPEC 9.1.3"""
    client = await disk.connect()
    assert await refused(client, durable="d", **{"from": "last"}) == ("unsupported", "from")


async def test_who_joins_says_the_same_or_is_refused(disk: RunningBroker) -> None:
    """SPEC 9.1.4, 9.1.1: durable subscriptions and groups share one set of names."""
    client, other = await disk.connect(), await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d", shared=True)
    await client.subscribe(2, "jobs/#", group="g")
    for fields, field in (
        ({"durable": "d", "shared": True, "filter": "jobs/a"}, "durable"),
        ({"durable": "d"}, "durable"),
        ({"group": "d"}, "group"),
        ({"durable": "g", "shared": True}, "durable"),
        ({"group": "g", "filter": "jobs/+"}, "group"),
    ):
        assert await refused(other, **fields) == ("conflict", field)
    await publish_all(client, "jobs/a", 1)
    await other.subscribe(1, "jobs/#", durable="d", shared=True, **{"from": "earliest"})
    await other.has_nothing_more()


async def test_after_is_what_is_settled(disk: RunningBroker) -> None:
    """SPEC 9.1.6, 9.2.1: everything up to there, and behind it some may be."""
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d", shared=True)
    await publish_all(client, "jobs/a", 0, 1, 2, 3)
    got = await deliveries(client, 4)
    await ack(client, got[0], got[2])
    subscribed = await client.subscribe(2, "jobs/#", durable="d", shared=True)
    assert subscribed["after"] == {got[0]["message"]["log"]: got[0]["message"]["pos"]}
    assert subscribed["live"]


async def test_exclusive_name_is_taken_over(disk: RunningBroker) -> None:
    """SPEC 9.1.7, 9.4.3: what was acknowledged does not come again."""
    old, new = await disk.connect(), await disk.connect()
    await old.subscribe(1, "jobs/#", durable="d")
    await publish_all(old, "jobs/a", 0, 1, 2)
    got = await deliveries(old, 3)
    await ack(old, got[0])
    await new.subscribe(7, "jobs/#", durable="d")
    await old.expect("unsubscribed", sub=1, name="conflict", retry="never")
    again = await deliveries(new, 2, sub=7)
    assert [(packet["message"]["data"], packet["attempt"]) for packet in again] == [(1, 2), (2, 2)]
    await publish_all(old, "jobs/a", 3)
    assert data(await deliveries(new, 1, sub=7)) == [3]
    await old.has_nothing_more()


async def test_node_without_a_disk_has_groups_only(broker: RunningBroker) -> None:
    """SPEC 9.1.8, 7.2, 7.3"""
    client = await broker.connect()
    assert await refused(client, durable="d") == ("unsupported", "durable")
    await client.subscribe(1, "jobs/#", group="g")
    await publish_all(client, "jobs/a", 1)
    await ack(client, *await deliveries(client, 1))


async def test_names_and_members_are_bounded(start_broker: StartBroker) -> None:
    """SPEC 9.1.8"""
    broker = await start_broker(limits={"max_consumers": 1, "max_consumer_members": 2})
    client = await broker.connect()
    await client.subscribe(1, "a", group="g")
    assert (await refused(client, sub=2, group="h"))[0] == "quota"
    await client.subscribe(2, "a", group="g")
    assert (await refused(client, sub=3, filter="a", group="g"))[0] == "quota"
    for sub in (1, 2):
        await client.request({"type": "unsubscribe", "sub": sub})
    await client.subscribe(3, "a", group="h")


async def test_group_ends_with_its_last_member(broker: RunningBroker) -> None:
    """SPEC 9.1.9: a new one of the name begins anew, with another filter if it likes."""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g")
    await publish_all(client, "a", 0)
    await deliveries(client, 1)
    await client.request({"type": "unsubscribe", "sub": 1})
    await client.subscribe(2, "b", group="g")
    await publish_all(client, "a", 1)
    await client.has_nothing_more()


# ack (9.2)


async def test_ack_of_one_of_several_and_up_to(disk: RunningBroker) -> None:
    """SPEC 9.2.1, 9.2.4, 9.4.8: what is settled stays settled, also after a restart."""
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d")
    await publish_all(client, "jobs/a", *range(8))
    got = await deliveries(client, 8)
    log, pos = got[0]["message"]["log"], [packet["message"]["pos"] for packet in got]
    for fields in ({"pos": pos[7]}, {"pos": [pos[5], pos[4]]}, {"upto": pos[2]}):
        answer = await client.request({"type": "ack", "sub": 1, "log": log, **fields})
        assert set(answer) == {"type", "id"}
        assert answer["type"] == "acked"
    await client.cut()
    await disk.restart()
    client = await disk.connect()
    subscribed = await client.subscribe(1, "jobs/#", durable="d")
    assert subscribed["after"] == {log: pos[2]}
    assert data(await deliveries(client, 2)) == [3, 6]
    await client.has_nothing_more()


@pytest.mark.parametrize(
    "fields",
    [{}, {"pos": 1, "upto": 1}, {"pos": []}, {"pos": [0]}, {"pos": list(range(1, 1_026))}, {"upto": 0}],
    ids=lambda fields: str(fields)[:30],
)
async def test_ack_says_one_thing(broker: RunningBroker, fields: dict[str, Any]) -> None:
    """SPEC 9.2.1"""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g")
    error = await client.request({"type": "ack", "sub": 1, "log": "m0-x", **fields})
    assert (error["name"], error["sub"]) == ("malformed", 1)


async def test_ack_of_what_was_never_delivered_here_is_a_conflict(broker: RunningBroker) -> None:
    """SPEC 9.2.2: and nothing of it is done."""
    one, other = await broker.connect(), await broker.connect()
    await one.subscribe(1, "a", group="g")
    await publish_all(one, "a", 0)
    (got,) = await deliveries(one, 1)
    await other.subscribe(1, "a", group="g")
    answer = await other.request({"type": "ack", **place(got)})
    assert (answer["name"], answer["sub"]) == ("conflict", 1)
    ahead = {**place(got), "pos": got["message"]["pos"] + 1}
    assert (await one.request({"type": "ack", **ahead}))["name"] == "conflict"
    await one.cut()
    (again,) = await deliveries(other, 1)
    assert (again["message"], again["attempt"]) == (got["message"], 2)


async def test_late_ack_counts(broker: RunningBroker) -> None:
    """SPEC 9.2.2, 9.2.3, 9.4.6: the message has gone to another member meanwhile; now both are done with it."""
    slow, quick = await broker.connect(), await broker.connect()
    await slow.subscribe(1, "a", group="g")
    await publish_all(slow, "a", 0)
    (first,) = await deliveries(slow, 1)
    await quick.subscribe(1, "a", group="g", window=1)
    assert (await slow.request(nack(first)))["type"] == "acked"
    holder = quick if quick.packets or not slow.packets else slow
    (second,) = await deliveries(holder, 1)
    assert second["attempt"] == 2
    await ack(slow, first)
    await ack(holder, second)
    await ack(slow, first)
    await holder.has_nothing_more()


async def test_ack_of_an_earlier_life_changes_nothing(broker: RunningBroker) -> None:
    """SPEC 9.2.3"""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g")
    answer = await client.request({"type": "ack", "sub": 1, "log": "m0-earlier", "pos": 1})
    assert answer["type"] == "acked"


async def test_ack_without_id_is_answered_only_when_it_fails(broker: RunningBroker) -> None:
    """SPEC 9.2.4"""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g")
    await publish_all(client, "a", 0)
    (got,) = await deliveries(client, 1)
    await client.send({"type": "ack", **place(got)})
    await client.has_nothing_more()
    await client.send({"type": "ack", **place(got), "pos": 99})
    await client.expect("error", name="conflict", sub=1, id=None)


@pytest.mark.parametrize(
    "packet",
    [
        {"type": "ack", "pos": 1},
        {"type": "nack", "pos": 1, "attempt": 1},
        {"type": "extend", "pos": 1, "attempt": 1, "ms": 5},
    ],
    ids=lambda packet: str(packet["type"]),
)
async def test_answers_need_an_acknowledged_subscription(broker: RunningBroker, packet: Packet) -> None:
    """SPEC 9.2.5, 9.3.4, 5.2.1: one that is not acknowledged has nothing to settle."""
    client = await broker.connect()
    place = await client.publish("a", 1)
    await client.subscribe(2, "a", **{"from": "earliest"})
    await client.expect("delivery")
    await client.expect("caught_up")
    for sub in (1, 2):
        error = await client.request({**packet, "sub": sub, "log": place["log"]})
        assert (error["name"], error["sub"]) == ("no_such_subscription", sub)


# nack and extend (9.3)


async def test_nack_brings_it_again(broker: RunningBroker) -> None:
    """SPEC 9.3.1, 9.4.2, 9.4.3: before what is new."""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", window=2)
    await publish_all(client, "a", 0, 1, 2)
    got = await deliveries(client, 2)
    await client.send(nack(got[0]))
    (again,) = await deliveries(client, 1)
    assert (again["message"]["data"], again["attempt"]) == (0, 2)
    await ack(client, again, got[1])
    assert data(await deliveries(client, 1)) == [2]


async def test_nack_with_a_delay_lets_others_go_first(broker: RunningBroker) -> None:
    """SPEC 9.3.1"""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", window=1)
    await publish_all(client, "a", 0, 1)
    (first,) = await deliveries(client, 1)
    assert (await client.request(nack(first, delay_ms=50)))["type"] == "acked"
    (second,) = await deliveries(client, 1)
    assert second["message"]["data"] == 1
    await ack(client, second)
    (again,) = await deliveries(client, 1)
    assert (again["message"]["data"], again["attempt"]) == (0, 2)


async def test_extend_gives_more_time(broker: RunningBroker) -> None:
    """SPEC 9.3.2: the one that was given more has not come again when the other one has."""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", ack_wait_ms=LONG_MS)
    await publish_all(client, "a", 0, 1)
    got = await deliveries(client, 2)
    for packet, times in ((got[0], (10_000, LONG_MS)), (got[1], (10_000, 20))):
        for ms in times:
            longer = {"type": "extend", **place(packet), "attempt": 1, "ms": ms}
            assert (await client.request(longer))["type"] == "acked"
    (again,) = await deliveries(client, 1)
    assert (again["message"]["data"], again["attempt"]) == (1, 2)


async def test_extend_can_also_give_less_time(broker: RunningBroker) -> None:
    """SPEC 9.3.2"""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", ack_wait_ms=LONG_MS)
    await publish_all(client, "a", 0)
    (got,) = await deliveries(client, 1)
    await client.send({"type": "extend", **place(got), "attempt": 1, "ms": 20})
    (again,) = await deliveries(client, 1)
    assert again["attempt"] == 2


async def test_only_the_delivery_in_force_can_be_given_back_or_extended(broker: RunningBroker) -> None:
    """SPEC 9.3.3: not an earlier attempt, not by somebody else, not what is settled."""
    client, other = await broker.connect(), await broker.connect()
    await client.subscribe(1, "a", group="g")
    await publish_all(client, "a", 0)
    (first,) = await deliveries(client, 1)
    await client.send(nack(first))
    (second,) = await deliveries(client, 1)
    await other.subscribe(1, "a", group="g")
    for who, packet in ((client, first), (other, second), (client, second | {"attempt": 3})):
        extend = {"type": "extend", **place(packet), "attempt": packet["attempt"], "ms": 5}
        for answer in (nack(packet), nack(packet, reject=True), extend):
            assert (await who.request(answer))["name"] == "conflict"
    await ack(client, second)
    assert (await client.request(nack(second)))["name"] == "conflict"
    await client.has_nothing_more()


@pytest.mark.parametrize(
    "packet", [{"type": "nack", "delay_ms": 43_200_001}, {"type": "extend", "ms": 43_200_001}]
)
async def test_times_are_bounded(broker: RunningBroker, packet: Packet) -> None:
    """SPEC 9.3.3"""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g")
    await publish_all(client, "a", 0)
    (got,) = await deliveries(client, 1)
    error = await client.request({**packet, **place(got), "attempt": 1})
    assert (error["name"], error["field"]) == ("malformed", "delay_ms" if packet["type"] == "nack" else "ms")


# Deliveries (9.4)


async def test_no_more_than_the_window_is_unsettled(broker: RunningBroker) -> None:
    """SPEC 9.4.1, 9.1.5: 64 unless given."""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", window=3)
    await client.subscribe(2, "a", group="h")
    await client.send(*({"type": "publish", "topic": "a", "data": n} for n in range(100)))
    await client.request({"type": "ping"})
    got = {sub: [packet for packet in client.packets if packet["sub"] == sub] for sub in (1, 2)}
    assert (data(got[1]), data(got[2])) == ([0, 1, 2], list(range(64)))
    client.packets.clear()
    await ack(client, got[1][1])
    assert data(await deliveries(client, 1)) == [3]
    await client.has_nothing_more()


async def test_unsettled_delivery_comes_again_after_ack_wait(broker: RunningBroker) -> None:
    """SPEC 9.4.3, 9.4.2, 8.9"""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", ack_wait_ms=20)
    await publish_all(client, "a", 0)
    got = await deliveries(client, 3)
    assert [packet["attempt"] for packet in got] == [1, 2, 3]
    assert {packet["message"]["pos"] for packet in got} == {1}


async def test_lost_connection_counts(disk: RunningBroker) -> None:
    """SPEC 9.4.3, 9.7.2, 8.9: the next one gets it as the next attempt."""
    old, new = await disk.connect(), await disk.connect()
    await old.subscribe(1, "jobs/#", durable="d", shared=True)
    await publish_all(old, "jobs/a", 0)
    await deliveries(old, 1)
    await new.subscribe(1, "jobs/#", durable="d", shared=True)
    await old.cut()
    (got,) = await deliveries(new, 1)
    assert got["attempt"] == 2


async def goodbye(broker: RunningBroker, client: RawClient, connection: str, way: str) -> None:
    """Give back cleanly."""
    if way == "unsubscribe":
        await client.request({"type": "unsubscribe", "sub": 1})
    elif way == "disconnect":
        await client.send({"type": "disconnect"})
        assert await client.closed() == 1000
    elif way == "replaces":
        await broker.connect(replaces=connection)
        assert await client.closed() == 4005
    else:
        await broker.restart()
        assert await client.closed() == 4100


@pytest.mark.parametrize("way", ["unsubscribe", "disconnect", "replaces", "restart"])
async def test_clean_give_back_does_not_count(disk: RunningBroker, way: str) -> None:
    """SPEC 9.4.4, 9.4.8"""
    old = await disk.open()
    await old.send({"type": "connect"})
    connection = (await old.expect("connected"))["connection"]
    await old.subscribe(1, "jobs/#", durable="d")
    await publish_all(old, "jobs/a", 0, 1)
    (first, _) = await deliveries(old, 2)
    await old.send(nack(first))
    await deliveries(old, 1)
    await goodbye(disk, old, connection, way)
    new = await disk.connect()
    await new.subscribe(1, "jobs/#", durable="d")
    got = await deliveries(new, 2)
    assert [(packet["message"]["data"], packet["attempt"]) for packet in got] == [(0, 2), (1, 1)]


async def test_expired_message_is_passed_over(broker: RunningBroker) -> None:
    """SPEC 9.4.7: it is settled with what lies around it."""
    client = await broker.connect()
    await client.subscribe(1, "a", group="g", window=1)
    await publish_all(client, "a", 0)
    await publish_all(client, "a", 1, ttl_ms=1)
    await publish_all(client, "a", 2)
    (first,) = await deliveries(client, 1)
    while len((await client.request({"type": "history", "topic": "a"}))["messages"]) == 3:
        pass
    await ack(client, first)
    (last,) = await deliveries(client, 1)
    assert last["message"]["data"] == 2
    await ack(client, last)
    subscribed = await client.subscribe(2, "a", group="g")
    assert list(subscribed["after"].values()) == [3]


async def test_what_was_unsettled_comes_again_after_a_restart(disk: RunningBroker) -> None:
    """SPEC 9.4.8, 8.9, 8.10: and what was published meanwhile comes behind it."""
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d")
    await publish_all(client, "jobs/a", *range(5))
    got = await deliveries(client, 5)
    await ack(client, got[1], got[3])
    await client.request({"type": "unsubscribe", "sub": 1})
    await publish_all(client, "jobs/b", 5)
    await client.cut()
    await disk.restart()
    client = await disk.connect()
    await client.subscribe(1, "jobs/#", durable="d")
    assert data(await deliveries(client, 4)) == [0, 2, 4, 5]

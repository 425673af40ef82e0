"""SPEC 10: who is on a topic, and what is published for the lost; over real sockets."""

from typing import Any

from tests.spec.broker import RunningBroker
from tests.spec.client import Packet, RawClient
from tests.spec.conftest import StartBroker


async def enter(client: RawClient, state: Any, sub: int = 1, topic: str = "room") -> str:
    """Be seen; the member's id."""
    await client.subscribe(sub, topic, presence={"state": state})
    joined = await client.expect("joined", topic=topic, sub=sub)
    assert joined["member"]["state"] == state
    return str(joined["member"]["id"])


async def own(client: RawClient, sub: int) -> Packet:
    """Skip to where a subscription is told which member it is."""
    while True:
        packet = await client.receive()
        if packet["type"] == "joined" and packet.get("sub") == sub:
            return packet


async def who(client: RawClient, topic: str = "room") -> list[Any]:
    answer = await client.request({"type": "presence", "topic": topic})
    assert answer["complete"] is True
    return [member["state"] for member in answer["members"]]


async def refused(client: RawClient, packet: Packet) -> tuple[str, str | None]:
    error = await client.request(packet)
    assert error["type"] == "error"
    return error["name"], error.get("field")


async def test_nobody_who_is_gone_is_listed(start_broker: StartBroker) -> None:
    """SPEC 10.11, 10.5, 10.2: twenty lines are cut; a watcher is told of each, once, and the list is empty."""
    broker = await start_broker(limits={"presence_debounce_ms": 20})
    watcher = await broker.connect()
    await watcher.subscribe(1, "#", presence="watch")
    members = [await broker.connect() for _ in range(20)]
    for number, member in enumerate(members):
        await member.subscribe(1, "room", presence={"state": number})
    for member in members:
        await member.cut()
    came = [await watcher.expect("joined") for _ in members]
    went = [await watcher.expect("left") for _ in members]
    assert [packet["member"]["state"] for packet in came] == list(range(20))
    assert sorted(packet["member"]["state"] for packet in went) == list(range(20))
    assert len({packet["member"]["id"] for packet in came}) == 20
    assert await who(watcher) == []
    await watcher.has_nothing_more()


async def test_close_with_1000_is_a_goodbye(start_broker: StartBroker) -> None:
    """SPEC 10.5, 10.8: no hold, no will."""
    broker = await start_broker(limits={"presence_debounce_ms": 60_000})
    watcher = await broker.connect()
    await watcher.subscribe(1, "#", presence="watch")
    client = await broker.connect(will={"topic": "status", "data": "lost"})
    await enter(client, 1)
    await client.close(1000)
    await watcher.expect("joined")
    await watcher.expect("left")
    await watcher.has_nothing_more()


async def test_presence_is_asked_for_within_bounds(start_broker: StartBroker) -> None:
    """SPEC 10.1, 10.3, 10.4"""
    limits = {"max_presence_members": 1, "max_presence_state_bytes": 10}
    client = await (await start_broker(limits=limits)).connect()
    subscribe: Packet = {"type": "subscribe", "sub": 1, "filter": "room"}
    state = {"presence": {"state": "123456789"}}
    assert await refused(client, subscribe | state) == ("too_large", "state")
    assert await refused(client, subscribe | {"presence": {"state": [1]}, "filter": "a/#"}) == (
        "unsupported",
        "presence",
    )
    assert await refused(client, subscribe | {"filter": "$dead/x", "presence": "watch"}) == ("bad_topic", "filter")
    assert await refused(client, {"type": "presence", "topic": "a/#"}) == ("bad_topic", "topic")
    await enter(client, "12345678")
    other = {"sub": 2, "presence": {"state": 2}}
    assert await refused(client, subscribe | other) == ("quota", "presence")


async def test_state_nests_as_deep_as_data_may(broker: RunningBroker) -> None:
    """SPEC 10.1, 1.9"""
    client = await broker.connect()
    deep: Any = 1
    for _ in range(33):
        deep = [deep]
    subscribe: Packet = {"type": "subscribe", "sub": 1, "filter": "room", "presence": {"state": deep}}
    error = await client.request(subscribe)
    assert (error["name"], error["field"], error["sub"]) == ("malformed", "state", 1)
    await enter(client, deep[0])
    dialled = await broker.open()
    await dialled.send({"type": "connect", "will": {"topic": "a", "data": deep}})
    await dialled.expect("error", name="malformed", field="data")


async def test_list_and_changes_together_have_no_hole(broker: RunningBroker) -> None:
    """SPEC 10.4, 10.2: whoever comes or goes while it is asked for."""
    watcher, busy = await broker.connect(), await broker.connect()
    present: dict[str, Any] = {}
    ids: list[str] = []
    for sub in range(1, 60):
        await busy.send(
            {"type": "subscribe", "id": sub, "sub": sub, "filter": "room", "presence": {"state": sub}},
        )
        joined = await own(busy, sub)
        if sub % 3:
            ids.append(joined["member"]["id"])
        else:
            await busy.send({"type": "unsubscribe", "sub": sub})
        if sub == 20:
            await watcher.send(
                {"type": "subscribe", "sub": 1, "filter": "room", "presence": "watch"},
                {"type": "presence", "id": 2, "topic": "room"},
            )
    await busy.request({"type": "ping"})
    await watcher.request({"type": "ping"})
    for packet in watcher.packets:
        if packet["type"] == "presence":
            present = {member["id"]: member for member in packet["members"]}
        elif packet["type"] == "joined":
            present[packet["member"]["id"]] = packet["member"]
        elif packet["type"] == "left":
            present.pop(packet["member"]["id"], None)
    assert sorted(present) == sorted(ids)


async def test_will_waits_for_a_client_that_may_come_back(broker: RunningBroker) -> None:
    """SPEC 10.7, 10.9: the one that does not come back has its will published, the other has not."""
    watcher = await broker.connect()
    await watcher.subscribe(1, "status/#")
    lines = {}
    for name in ("ann", "bob"):
        line = lines[name] = await broker.open()
        will = {"topic": f"status/{name}", "b64": "AAEC", "delay_ms": 300}
        await line.send({"type": "connect", "will": will})
    connections = {name: (await line.expect("connected"))["connection"] for name, line in lines.items()}
    await lines["ann"].cut()
    await broker.connect(replaces=connections["ann"])
    await lines["bob"].cut()
    await watcher.expect("message", topic="status/bob", b64="AAEC")
    await watcher.has_nothing_more()


async def test_server_that_ends_publishes_no_wills(start_broker: StartBroker) -> None:
    """SPEC 10.8, 10.10: it is not the client that was lost."""
    broker = await start_broker()
    watcher = await broker.connect()
    await watcher.subscribe(1, "status/#")
    await broker.connect(will={"topic": "status/ann", "data": "lost"})
    await broker.stop()
    assert await watcher.closed() == 4100
    assert [packet["type"] for packet in watcher.packets] == ["bye"]

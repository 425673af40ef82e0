"""SPEC 11.1-11.5: who a client is, for how long, and what it may do; over real sockets, with real tokens."""

from pathlib import Path
from typing import Any

import pytest

from tests.spec import guarded
from tests.spec.broker import RunningBroker
from tests.spec.client import Packet, RawClient
from tests.spec.conftest import StartBroker
from tests.spec.guarded import token


@pytest.fixture
async def broker(start_broker: StartBroker, tmp_path: Path) -> RunningBroker:
    return await start_broker(**guarded.settings(tmp_path))


async def refusal(broker: RunningBroker, **fields: Any) -> tuple[Packet, int]:
    """What comes of a connect that is refused: the error, and the code of the close."""
    client = await broker.open()
    await client.send({"type": "connect", "id": 5, **fields})
    error = await client.expect("error", id=5)
    await client.expect("bye")
    return error, await client.closed()


async def rest(client: RawClient) -> tuple[list[Packet], int]:
    """What comes until the close, and its code."""
    code = await client.closed()
    return list(client.packets), code


# Who


async def test_user_of_a_message_is_the_credentials(broker: RunningBroker) -> None:
    """SPEC 11.1.1, 11.1.2, 3.1.6, S16: in `connect` or in the header, trimmed; the packet's counts."""
    alice = await broker.connect(token=token("alice"))
    await alice.subscribe(1, "rooms/1")
    await alice.send({"type": "publish", "topic": "rooms/1", "data": 1})
    await alice.expect("message", user="alice")
    for said, user in (({}, "bob"), ({"token": f" {token('carol')}\r\n"}, "carol")):
        other = await broker.open(headers=[(b"Authorization", b"Bearer " + token("bob").encode())])
        await other.send({"type": "connect", **said}, {"type": "publish", "topic": "rooms/1", "data": 1})
        await other.expect("connected")
        await alice.expect("message", user=user)


async def test_credentials_that_are_not_accepted(broker: RunningBroker) -> None:
    """SPEC 11.1.4, 3.1.2: the error says so much and no more."""
    for bad, name, code in (
        ({}, "unauthorized", 4001),
        ({"token": "rubbish"}, "unauthorized", 4001),
        ({"token": token("alice")[:-6] + "xxxxxx"}, "unauthorized", 4001),
        ({"token": token("alice", -3_600)}, "token_expired", 4201),
    ):
        error, closed = await refusal(broker, **bad)
        assert (error["name"], error["retry"], closed) == (name, "reauth", code)


async def test_nothing_behind_a_refused_connect_is_served(broker: RunningBroker) -> None:
    """SPEC 11.1.4."""
    reader = await broker.connect(token=token("alice"))
    await reader.subscribe(1, "rooms/#")
    stranger = await broker.open()
    await stranger.send({"type": "connect"}, {"type": "publish", "id": 2, "topic": "rooms/1", "data": 1})
    packets, code = await rest(stranger)
    assert ([packet["type"] for packet in packets], code) == (["error", "bye"], 4001)
    await reader.has_nothing_more()


async def test_who_takes_anothers_place_is_of_the_same_identity(broker: RunningBroker) -> None:
    """SPEC 11.1.2, 3.1.4, S28: knowing its name is not enough."""
    first = await broker.open()
    await first.send({"type": "connect", "token": token("alice")})
    name = (await first.expect("connected"))["connection"]
    for user in ("mallory", "alice"):
        await first.has_nothing_more()
        await broker.connect(token=token(user), replaces=name)
    assert (await rest(first))[1] == 4005


async def test_what_is_behind_a_connect_that_takes_long_waits(start_broker: StartBroker, tmp_path: Path) -> None:
    """SPEC 11.1.3: nobody answers at that address, and the endpoint's own time is up before the connection's."""
    settings = guarded.settings(tmp_path, callout_url="http://127.0.0.1:9/", callout_timeout_ms=500)
    broker = await start_broker(**settings)
    client = await broker.open()
    await client.send({"type": "connect", "id": 1, "token": "an opaque one"}, {"type": "ping", "id": 2})
    packets, code = await rest(client)
    assert [packet["type"] for packet in packets] == ["error", "bye"]
    assert (packets[0]["name"], packets[0]["retry"], code) == ("unavailable", "backoff", 4102)
    assert packets[1]["reconnect_after_ms"] > 0


# Until when


async def test_s19_connection_ends_with_its_credential_and_goes_on_with_another(broker: RunningBroker) -> None:
    """SPEC 11.2.1-11.2.3, 11.3.1, 11.3.5, 4.11.2, G10."""
    alice, bob = [await broker.open() for _ in range(2)]
    for client in (alice, bob):
        await client.send({"type": "connect", "token": token("alice", 1.5)})
        connected = await client.expect("connected")
        assert 0 < connected["expires_in_ms"] <= 1_500
        assert "auth" in connected["capabilities"]
    await bob.expect("notice")
    fresh = token("alice", 600)
    authorized = await bob.ask({"type": "auth", "id": 4, "token": fresh})
    assert (authorized["type"], authorized["id"]) == ("authorized", 4)
    assert authorized["expires_in_ms"] > 500_000
    packets, code = await rest(alice)
    assert [(packet["type"], packet.get("code")) for packet in packets] == [("notice", None), ("bye", 4201)]
    assert 0 < packets[0]["expires_in_ms"] <= 750
    assert code == 4201
    await bob.has_nothing_more()


async def test_refused_credential_changes_nothing(broker: RunningBroker) -> None:
    """SPEC 11.3.2, 11.3.3, 11.3.4: another user's is refused like a bad one."""
    client = await broker.connect(token=token("alice"))
    for bad, name in (
        ("rubbish", "unauthorized"),
        (token("alice", -3_600), "token_expired"),
        (token("mallory"), "unauthorized"),
        (token("alice", tenant="acme"), "unauthorized"),
    ):
        assert (await client.ask({"type": "auth", "id": 4, "token": bad}))["name"] == name
    await client.subscribe(1, "own/alice/1")
    await client.has_nothing_more()


async def test_without_credentials_there_is_no_auth(start_broker: StartBroker) -> None:
    """SPEC 11.3.1, 7.3."""
    client = await (await start_broker()).connect(token="whatever")
    error = await client.ask({"type": "auth", "id": 2, "token": "t"})
    assert (error["name"], error["field"]) == ("unsupported", "type")


# What


FORBIDDEN: list[tuple[Packet, str]] = [
    ({"type": "publish", "topic": "own/bob/1", "data": 1}, "topic"),
    ({"type": "publish", "topic": "elsewhere", "data": 1}, "topic"),
    ({"type": "subscribe", "sub": 1, "filter": "own/bob/#"}, "filter"),
    ({"type": "subscribe", "sub": 1, "filter": "rooms/closed/1"}, "filter"),
    ({"type": "subscribe", "sub": 1, "filter": "$dead/billing"}, "filter"),
    ({"type": "subscribe", "sub": 1, "filter": "own/alice/1", "from": "earliest"}, "from"),
    ({"type": "subscribe", "sub": 1, "filter": "own/alice/1", "presence": "watch"}, "presence"),
    ({"type": "subscribe", "sub": 1, "filter": "own/alice/1", "group": "g"}, "filter"),
    ({"type": "subscribe", "sub": 1, "filter": "rooms/#", "group": "g"}, "filter"),
    ({"type": "history", "topic": "own/alice/1"}, "topic"),
    ({"type": "history", "topic": "$dead/alice"}, "topic"),
    ({"type": "presence", "topic": "own/alice/1"}, "topic"),
]


async def test_what_is_not_allowed_is_forbidden(broker: RunningBroker) -> None:
    """SPEC 11.4.1, 11.4.3, 5.2.1."""
    client = await broker.connect(token=token("alice"))
    for packet, field in FORBIDDEN:
        error = await client.ask({"id": 7, **packet})
        assert (error["name"], error["id"], error["retry"]) == ("forbidden", 7, "never"), packet
        assert error["field"] == field, packet
        assert error.get("sub", 0) == packet.get("sub", 0)
    await client.subscribe(1, "own/alice/#")
    await client.subscribe(2, "$dead/alice")


async def test_filter_that_is_allowed_in_part_brings_that_part(broker: RunningBroker) -> None:
    """SPEC 11.4.2, 4.2.5, S11: live and from the past, and nothing says that there is more."""
    client, writer = await broker.connect(token=token("alice")), await broker.connect(token=token("bob"))
    subscribed = await client.subscribe(1, "rooms/#")
    assert subscribed["filtered"] is True
    for topic in ("rooms/closed/1", "rooms/open"):
        assert (await writer.publish(topic, topic))["type"] == "published"
    await client.expect("message", data="rooms/open")
    await client.has_nothing_more()
    await client.subscribe(2, "rooms/#", **{"from": "earliest"})
    delivery = await client.expect("delivery", sub=2)
    assert delivery["message"]["data"] == "rooms/open"
    await client.expect("caught_up", sub=2)


async def test_wills_are_judged_as_publishes(broker: RunningBroker) -> None:
    """SPEC 11.1.4, 11.4.1, 11.4.5, S29-30."""
    will = {"topic": "own/bob/gone", "data": 1}
    error, code = await refusal(broker, token=token("alice"), will=will)
    assert (error["name"], error["field"], code) == ("forbidden", "topic", 4001)
    bob = await broker.connect(token=token("bob"))
    await bob.subscribe(1, "own/bob/#")
    lost = await broker.connect(token=token("bob"), will=will)
    await lost.cut()
    await bob.expect("message", user="bob", topic="own/bob/gone")


# When that changes


async def test_subscriptions_are_judged_one_by_one_when_rights_change(broker: RunningBroker) -> None:
    """SPEC 11.5.1-11.5.3, 11.4.4: by the rights that the token itself brings."""
    wide = {"subscribe": ["a/#", "b"], "consume": ["a/#"]}
    client = await broker.connect(token=token("alice", permissions=wide))
    writer = await broker.connect(token=token("bob", permissions={"publish": ["#"]}))
    for sub, filter in ((1, "a/+"), (2, "b"), (3, "rooms/1")):
        await client.subscribe(sub, filter)
    await client.subscribe(4, "a/1", group="g")
    narrow = token("alice", permissions={"subscribe": ["a/1"]})
    await client.send({"type": "auth", "id": 9, "token": narrow})
    await client.expect("authorized", id=9)
    told = [await client.receive() for _ in range(3)]
    assert {packet["sub"]: packet.get("name", packet.get("reason")) for packet in told} == {
        1: "permission",
        2: "forbidden",
        4: "forbidden",
    }
    for topic in ("a/1", "a/2", "b", "rooms/1"):
        assert (await writer.publish(topic, topic))["type"] == "published"
    for topic in ("a/1", "rooms/1"):
        await client.expect("message", data=topic)
    await client.has_nothing_more()

"""Tail: clients and topics that an operator follows, at the socket of a node; bounds, ends, and what is hidden."""

import json
import time
import zlib
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
import triode
from triode_broker.admin import tail
from triode_broker.admin.listener import BadCall
from triode_broker.admin.spoken import HIDDEN, MAX_SHOWN_BYTES, packets, payload_of
from triode_broker.admin.tail import Spec, Tap, spec_of

from tests.admin.running import PATIENCE_SECONDS, Running, running
from tests.admin.test_figures_elsewhere import pair
from tests.http.asking import asking, error_of


async def events(node: Running, tap: str, count: int) -> list[dict[str, Any]]:
    """So many, or more."""
    found: list[dict[str, Any]] = []
    with trio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            answer = await node.ask("tail.read", tap=tap, wait_ms=1_000)
            assert answer["unanswered"] == []
            assert answer["lost"] == 0
            found += answer["events"]
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [
        f"{one['event']} {one['packet'].get('type', '?')}" if "packet" in one else one["event"] for one in found
    ]


async def test_what_a_connection_says_and_is_told_is_followed_without_payloads(tmp_path: Path) -> None:
    async with running(tmp_path) as node, triode.connect(node.url) as client:
        (connection,) = (await node.ask("connections"))["connections"]
        tap = (await node.ask("tail.open", connection=connection["connection"]))["tap"]
        async with client.subscribe("rooms/#") as rooms:
            await client.publish("rooms/1", "our secret", headers={"trace": "our secret"})
            await anext(rooms)
        found = await events(node, tap, 8)
        assert kinds(found)[:3] == ["connected", "says subscribe", "told subscribed"]
        assert {"says publish", "told published", "told message", "says unsubscribe"} <= set(kinds(found))
        (said,) = [one["packet"] for one in found if one.get("packet", {}).get("type") == "publish"]
        assert (said["topic"], said["data_bytes"]) == ("rooms/1", len('"our secret"'))
        assert {one["connection"] for one in found} == {connection["connection"]}
        assert "our secret" not in json.dumps(found)
        await node.ask("tail.close", tap=tap)
        assert "begin anew" in await node.refused("tail.read", tap=tap)


async def test_clients_of_a_user_are_followed_from_their_connect_to_their_end(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        tap = (await node.ask("tail.open", topic="a/+", payloads=True))["tap"]
        everybody = (await node.ask("tail.open", user="operator"))["tap"]
        async with triode.connect(node.url) as client:
            await client.publish("a/1", {"x": 1})
            await client.publish("b/1", 2)
        (message,) = await events(node, tap, 1)
        assert (message["event"], message["topic"], message["data"]) == ("message", "a/1", {"x": 1})
        found = await events(node, everybody, 2)
        assert {one["user"] for one in found} == {"operator"}  # nobody is asked here who they are, but who taps is
        assert [facts["topic"] for facts in node.log.told("tail_begun") if "topic" in facts] == ["a/+"]


async def test_a_client_that_comes_and_goes_is_told_of(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        async with triode.connect(node.url):
            (one,) = (await node.ask("connections"))["connections"]
            tap = (await node.ask("tail.open", connection=one["connection"]))["tap"]
        found = await events(node, tap, 2)
        assert kinds(found)[-1] == "disconnected"
        assert found[-1]["code"] in (1000, 1001)


async def test_a_client_of_another_node_is_followed_as_well(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        async with triode.connect(two.url) as client:
            with trio.fail_after(PATIENCE_SECONDS):
                while not (listed := (await one.ask("connections"))["connections"]):  # until the nodes are linked
                    await trio.lowlevel.checkpoint()
            tap = (await one.ask("tail.open", connection=listed[0]["connection"]))["tap"]
            await client.publish("a", 1)
            found = await events(one, tap, 3)
        assert {one["node"] for one in found} == {"n2"}
        assert kinds(found)[:2] == ["connected", "says publish"]
        found = await events(one, tap, 1)  # each is told once
        assert "connected" not in kinds(found)
        await one.ask("tail.close", tap=tap)
        with trio.fail_after(PATIENCE_SECONDS):
            while not two.log.told("tail_ended"):
                await trio.lowlevel.checkpoint()


async def test_it_needs_the_right_and_keeps_a_tenants_operator_in_the_tenant(tmp_path: Path) -> None:
    """S13, S23."""
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    rows = [
        {"role": "look", "operate": ["tail/#"]},
        {"role": "user", "subscribe": ["#"], "operate": ["connections"]},
    ]
    tokens = [{"algorithm": "HS256", "key_file": str(key), "tenant_claim": "tenant", "roles_claim": "roles"}]
    async with running(tmp_path / "data", tokens=tokens, permissions=rows) as node:

        def token(role: str, tenant: str) -> str:
            claims = {"sub": role, "tenant": tenant, "roles": [role], "exp": int(time.time()) + 600}
            return jwt.encode(claims, b"k" * 32, "HS256")

        async with (
            asking(node, token("look", "acme")) as acme,
            asking(node, token("look", "other")) as other,
            asking(node, token("user", "acme")) as user,
        ):
            assert (await user.post("/v1/tail", json={"user": "user"})).status_code == 403
            body = {"user": "user", "tenant": "other"}
            assert error_of(await acme.post("/v1/tail", json=body))["field"] == "tenant"
            begun = await acme.post("/v1/tail", json={"topic": "#"})
            assert begun.status_code == 200, begun.text
            path = f"/v1/tail/{begun.json()['tap']}"
            assert (await other.get(path)).status_code == 404
            assert (await other.delete(path)).status_code == 404
            assert (await acme.get(path, params={"wait_ms": 0})).json()["events"] == []
            assert (await acme.delete(path)).json() == {"closed": begun.json()["tap"]}


async def test_clients_without_a_name_are_followed_as_the_user_that_is_empty(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        tap = (await node.ask("tail.open", user=""))["tap"]
        tapped = (await node.ask("tail.open", topic="a/+"))["tap"]  # a session, too, of `operator`
        async with triode.connect(node.url) as client:
            await client.publish("a/1", 1)
        found = await events(node, tap, 4)
        assert kinds(found)[0] == "connected"
        assert {one["user"] for one in found} == {""}
        await node.ask("tail.close", tap=tapped)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "follow what?"),
        ({"user": "a", "topic": "b"}, "follow what?"),
        ({"user": "x" * 2_000}, "user: a text"),
        ({"topic": 3}, "topic is a filter"),
        ({"topic": "x" * 2_000}, "topic is a filter"),
        ({"topic": "a/#/b"}, "#"),
        ({"connection": "c-1", "payloads": "yes"}, "payloads: true or false"),
    ],
)
async def test_what_cannot_be_followed_is_refused(tmp_path: Path, parameters: dict[str, Any], words: str) -> None:
    async with running(tmp_path) as node:
        assert words in await node.refused("tail.open", **parameters)
        assert (await node.ask("figures"))["nodes"]["n1"]["gauges"]["sessions"] == 0


async def test_only_so_many_follow_at_a_time_and_who_stops_asking_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as node:
        for _ in range(tail.MAX_TAPS):
            tap = (await node.ask("tail.open", user="ada"))["tap"]
        assert "follow something here" in await node.refused("tail.open", user="ada")
        await node.ask("tail.close", tap=tap)
        monkeypatch.setattr(tail, "IDLE_MS", 20)
        tap = (await node.ask("tail.open", topic="a"))["tap"]
        with trio.fail_after(PATIENCE_SECONDS):
            while not node.log.told("tail_ended") or node.log.told("tail_ended")[-1]["tap"] != tap:
                await node.ask("figures")
        assert (await node.ask("figures"))["nodes"]["n1"]["gauges"]["sessions"] == 0


def test_a_tap_is_bounded_and_what_it_drops_is_counted() -> None:
    """S18: whoever is followed cannot fill the memory of a node."""
    tap = Tap("n1", spec_of({"user": "ada"}), lambda: 0)
    for number in range(tail.MAX_EVENTS + 10):
        tap.add(event="x", number=number)
    first = tap.take(0)
    assert first["lost"] == 10
    assert first["events"][0]["number"] == 10
    rest = tap.take(first["upto"])
    assert rest["lost"] == 10
    for _ in range(10):
        tap.add(event="x", text="y" * 200_000)
    assert tap.lost > 10
    assert len(tap.take(tap.take(0)["upto"])["events"]) <= 2  # an answer is bounded, too


def test_nobody_follows_more_than_they_name() -> None:
    assert spec_of({"user": "ada"}).whom.tenant == ""
    assert spec_of({"user": "ada", "tenant": "acme"}).whom.tenant == "acme"
    assert spec_of({"connection": "c-1"}).whom.tenant is None
    assert isinstance(spec_of({"topic": "a"}), Spec)
    with pytest.raises(BadCall):
        spec_of({"tenant": "acme"})


def test_credentials_are_hidden_and_payloads_unless_they_are_asked_for() -> None:
    """S10."""
    text = json.dumps(
        [
            {"type": "connect", "token": "canary", "will": {"topic": "a", "data": "canary"}},
            {"type": "auth", "token": "canary"},
            {"type": "history", "messages": [{"data": "canary", "headers": {"a": "canary"}}]},
        ]
    )
    shown = list(packets(text, with_payloads=False))
    assert "canary" not in json.dumps(shown)
    assert shown[0] == {"type": "connect", "token": HIDDEN, "will": {"topic": "a", "data_bytes": 8}}
    asked = json.dumps(list(packets(text, with_payloads=True)))
    assert asked.count("canary") == 3


@pytest.mark.parametrize("text", ["{", "[" * 5_000, "\ud800", "3", b"\xff", '{"x":' * 900 + "1" + "}" * 900])
def test_what_is_no_packet_is_told_by_its_size(text: str | bytes) -> None:
    (shown,) = packets(text, with_payloads=True)
    assert shown == {"bytes": len(text), "is_malformed": True}


def test_a_packet_that_is_too_long_is_told_by_its_size() -> None:
    (shown,) = packets('"' + "x" * MAX_SHOWN_BYTES + '"', with_payloads=True)
    assert shown == {"bytes": MAX_SHOWN_BYTES + 2, "is_cut": True}


def test_frames_and_events_have_their_packets_inside() -> None:
    packet = b'{"type":"pong"}'
    small = bytes([0x81, len(packet)]) + packet
    large = bytes([0x81, 126]) + (300).to_bytes(2, "big") + b"x" * 300
    squeezer = zlib.compressobj(wbits=-15)
    squeezed = (squeezer.compress(packet) + squeezer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    assert payload_of(small) == packet
    assert payload_of(large) == b"x" * 300
    assert payload_of(bytes([0xC1, len(squeezed)]) + squeezed) == packet
    assert payload_of(b"\xc1\x03abc") is None
    assert payload_of(b"id: 1\ndata: " + packet + b"\n\n") == packet
    assert payload_of(b": nothing\n\n") is None

"""S19, G10: a credential that was withdrawn ends its connections within five seconds and opens no new one.

S29: who may withdraw is who holds the administration socket, and nobody else.
"""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from triode_broker import revoking
from triode_broker.admin.clients import Clients
from triode_broker.admin.everywhere import Alone, Everywhere
from triode_broker.admin.subscribed import Subscribed
from triode_broker.core.outbox import Outbox
from triode_broker.log.disk import StoreError

from tests.admin.running import PATIENCE_SECONDS, hear
from tests.auth.making import Lines
from tests.core.gatekeeper import Guarded
from tests.security.withdrawing import Door, door, settings, token
from tests.spec.client import RawClient


async def ended(client: RawClient, code: int, name: str) -> None:
    """The broker says bye and closes, within the five seconds of G10."""
    with trio.fail_after(5):
        assert await client.closed() == code
    assert client.packets[-1]["type"] == "bye"
    assert (client.packets[-1]["code"], client.packets[-1]["name"]) == (code, name)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Door]:
    """A broker and its operator."""
    async with door(tmp_path) as made:
        yield made


async def test_by_user_what_was_issued_until_now_is_withdrawn(here: Door) -> None:
    """SPEC 11.6.1, 11.6.2; S19"""
    now = int(time.time())
    old, new = token("ada", issued=now - 60), token("ada", issued=now + 30)  # within the leeway
    first, _ = await here.enter(old)
    second, _ = await here.enter(old)
    newer, _ = await here.enter(new)
    bob, _ = await here.enter(token("bob"))
    answer = await here.running.ask("revoke", user="ada")
    assert (answer["closed"], answer["kept"], answer["unanswered"]) == (2, {"n1": "disk"}, [])
    for client in (first, second):
        await ended(client, 4002, "revoked")
    await here.is_shut(old)
    for client in (newer, bob):
        await client.has_nothing_more()
    await here.enter(new)
    await here.enter(token("ada", issued=now - 60, tenant="acme"))  # another one of that name
    answer = await here.running.ask("revoke", user="ada", also_new=True)
    assert answer["closed"] == 2
    await here.is_shut(new)


async def test_by_token_only_that_one_is_withdrawn(here: Door) -> None:
    """SPEC 11.6.1, 11.6.2; S19"""
    lost, kept = token("ada", jti="t1"), token("ada", jti="t2")
    client, _ = await here.enter(lost)
    other, _ = await here.enter(kept)
    assert (await here.running.ask("revoke", token="t1"))["closed"] == 1
    await ended(client, 4002, "revoked")
    await here.is_shut(lost)
    await other.has_nothing_more()
    await here.enter(kept)


async def test_by_key_it_is_withdrawn_for_ever(here: Door) -> None:
    """SPEC 11.6.1, 11.6.2; S19"""
    client, _ = await here.enter(here.key())
    answer = await here.running.ask("revoke", key=here.key_name)
    assert answer["revoked"]["until_ms"] == 0
    await ended(client, 4002, "revoked")
    await here.is_shut(here.key())
    await here.running.ask("unrevoke", key=here.key_name)
    await here.enter(here.key())


async def test_by_connection_its_credential_is_withdrawn(here: Door) -> None:
    """SPEC 11.6.1, 11.6.2; S19"""
    lost = token("ada", jti="t1")
    client, connection = await here.enter(lost)
    unnamed, other = await here.enter(token("bob"))
    service, third = await here.enter(here.key())
    kinds = {}
    for id in (connection, other, third):
        revoked = (await here.running.ask("revoke", connection=id))["revoked"]
        kinds[revoked["kind"]] = revoked["value"]
    assert kinds == {"token": "t1", "user": "bob", "key": here.key_name}
    for one in (client, unnamed, service):
        await ended(one, 4002, "revoked")
    await here.is_shut(lost)
    assert "there is no connection" in await here.running.refused("revoke", connection=connection)


async def test_who_is_anonymous_cannot_be_revoked_but_kicked(tmp_path: Path) -> None:
    auth = {**settings(tmp_path)["auth"], "anonymous": True}
    async with door(tmp_path, permissions=[{"role": "anonymous", "subscribe": ["#"]}], auth=auth) as here:
        client, connection = await here.enter("")
        assert "without a credential" in await here.running.refused("revoke", connection=connection)
        assert (await here.running.ask("kick", connection=connection))["closed"] == 1
        await ended(client, 4006, "kicked")


async def test_a_withdrawn_token_renews_nothing(here: Door) -> None:
    """S19: `auth` is a way in, too. The token that the connection came with is as good as before."""
    client, _ = await here.enter(token("ada", jti="t1"))
    await here.running.ask("revoke", token="t2")
    await client.send({"type": "auth", "id": 2, "token": token("ada", jti="t2")})
    await client.expect("error", id=2, name="revoked")
    await client.has_nothing_more()


async def test_rights_that_ended_publish_no_will_and_give_deliveries_back(here: Door) -> None:
    """SPEC 10.8, 9.4.4, 11.6.2, 11.6.3; S13, S19"""
    watcher, _ = await here.enter(token("bob"))
    await watcher.subscribe(1, "status/#")
    will = {"topic": "status/ada", "data": "lost"}
    ada, _ = await here.enter(token("ada", jti="t1"), will=will)
    eve, _ = await here.enter(token("eve"), will={"topic": "status/eve", "data": "lost"})
    await ada.subscribe(1, "jobs/#", group="work")
    await watcher.publish("jobs/1", 1)
    delivery = await ada.expect("delivery")
    assert delivery["attempt"] == 1
    await eve.subscribe(1, "jobs/#", group="work")
    await here.running.ask("revoke", token="t1")
    await ended(ada, 4002, "revoked")
    assert (await eve.expect("delivery"))["attempt"] == 1
    await here.running.ask("kick", user="eve")  # who is only sent away is lost as anybody
    await ended(eve, 4006, "kicked")
    assert (await watcher.expect("message"))["topic"] == "status/eve"
    await watcher.has_nothing_more()


async def test_one_who_reads_nothing_is_dropped(here: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """G10, S19: not until its outbox has drained; 3 s after its goodbye at the latest, here sooner."""
    monkeypatch.setattr(revoking, "DROP_MS", 50)
    slow = await RawClient.open(here.nursery, here.running.url, receive_buffer=4_096)
    here.clients.append(slow)
    await slow.ask({"type": "connect", "id": 1, "token": token("ada")})
    await slow.subscribe(1, "news/#", overflow="gap")
    bob, _ = await here.enter(token("bob"))
    while not any(one.is_blocked for one in outboxes(here)):
        await bob.publish("news/1", "x" * 60_000)
    assert (await here.running.ask("revoke", user="ada", also_new=True))["closed"] == 1
    with trio.fail_after(PATIENCE_SECONDS):
        while here.running.broker.edge.statistics().connections > 1:
            await trio.lowlevel.checkpoint()
    await bob.has_nothing_more()


def outboxes(here: Door) -> list[Outbox]:
    """Of all clients."""
    return [session._outbox for session in here.running.broker.node.sessions.values()]


async def test_it_is_over_when_its_time_is(here: Door) -> None:
    client, _ = await here.enter(token("ada"))
    answer = await here.running.ask("revoke", user="ada", also_new=True, seconds=0.3)
    assert answer["revoked"]["until_ms"] - answer["revoked"]["at_ms"] == 300
    await ended(client, 4002, "revoked")
    with trio.fail_after(PATIENCE_SECONDS):
        while (await here.knock(token("ada")))[1]["type"] != "connected":
            pass
    assert (await here.running.ask("revocations"))["revocations"] == []


async def test_without_saying_so_it_lasts_as_long_as_any_token_can(here: Door) -> None:
    """A token issued now, by a clock that is ahead, taken by one that is behind."""
    answer = await here.running.ask("revoke", user="ada")
    day, leeway = 86_400, 60
    assert answer["revoked"]["until_ms"] - answer["revoked"]["at_ms"] == (day + 2 * leeway) * 1000


async def test_it_lasts_as_long_as_a_token_can_by_the_settings_in_force(here: Door) -> None:
    """S19: after SIGHUP tokens may be good for longer, and what refuses them is no shorter."""
    reloading = here.running.broker.reloading
    auth = replace(reloading.config.auth, max_token_seconds=10 * 86_400, notice_seconds=5)
    for _ in range(2):
        reloading.reload(replace(reloading.config, auth=auth))
        (*_, line) = here.running.log.told("settings_reloaded")
        assert line["need_a_restart"] == []
    answer = await here.running.ask("revoke", user="ada")
    assert answer["revoked"]["until_ms"] - answer["revoked"]["at_ms"] == (10 * 86_400 + 120) * 1000


async def test_a_certificate_may_be_good_for_years_and_so_is_what_refuses_it() -> None:
    """S19: of a connection that came in with one."""
    guarded = Guarded()
    desk, node = guarded.desk, guarded.desk.node
    guarded.gate.know("t", "svc", method="certificate")
    line = guarded.enter("t")
    bouncer = revoking.Revoking(node, lambda: None, lambda: desk.now_ms, Lines())
    calls = Everywhere(Clients(node, bouncer, lambda: desk.now_ms, lambda: 60), Subscribed(node), Alone()).calls()
    answer: Any = await calls["revoke"]({"connection": line.session.connection_id})
    assert (answer["revoked"]["value"], answer["revoked"]["until_ms"]) == ("svc", 0)
    assert line.closed_with == 4002


async def test_it_outlives_the_process(tmp_path: Path) -> None:
    """S19; kill -9 is tests/cli/test_clients.py's."""
    lost = token("ada", jti="t1")
    async with door(tmp_path) as here:
        await here.running.ask("revoke", token="t1")
        await here.running.ask("revoke", user="bob", tenant="acme", also_new=True)
        before = await here.running.ask("revocations")
    assert (tmp_path / "data" / "revocations").stat().st_mode & 0o777 == 0o600
    async with door(tmp_path) as here:
        assert await here.running.ask("revocations") == before
        await here.is_shut(lost)
        await here.running.ask("unrevoke", token="t1")
    async with door(tmp_path) as here:
        await here.enter(lost)
        assert len((await here.running.ask("revocations"))["revocations"]) == 1


@pytest.mark.parametrize("cut", [b"", b"{", b'{"format":1,"count":0,"sha256":""}\n'])
async def test_a_file_that_cannot_be_believed_is_not_started_with(cut: bytes, tmp_path: Path) -> None:
    """S14: an empty one would let everybody in again."""
    async with door(tmp_path) as here:
        await here.running.ask("revoke", token="t1")
    (tmp_path / "data" / "revocations").write_bytes(cut)
    with pytest.raises(StoreError, match=r"revocations is .*revoke again whom it had refused"):
        async with door(tmp_path):
            pass


async def test_without_a_disk_the_answer_says_so(tmp_path: Path) -> None:
    async with door(tmp_path, admin_socket=str(tmp_path / "admin.sock"), data="", topics=[]) as here:
        answer = await hear(tmp_path, b'{"call":"revoke","token":"t1"}')
        assert answer["ok"]["kept"] == {"n1": "memory"}
        await here.is_shut(token("ada", jti="t1"))
    assert not (tmp_path / "data").exists()


async def test_a_disk_that_takes_nothing_is_told_and_it_holds_nevertheless(here: Door, tmp_path: Path) -> None:
    lost = token("ada", jti="t1")
    client, _ = await here.enter(lost)
    (tmp_path / "data" / "revocations.new").mkdir()
    answer = await here.running.ask("revoke", token="t1")
    assert answer["kept"] == {"n1": "failed"}
    await ended(client, 4002, "revoked")
    await here.is_shut(lost)
    assert "revocations are not kept" in str(here.running.broker.health()["degraded"])
    assert here.running.log.told("revocations_not_kept")
    (tmp_path / "data" / "revocations.new").rmdir()
    assert (await here.running.ask("revoke", token="t2"))["kept"] == {"n1": "disk"}
    assert here.running.broker.health()["degraded"] == []


async def test_who_is_kicked_may_come_again(here: Door) -> None:
    """SPEC 11.6.3"""
    credential = token("ada", tenant="acme")
    for whom in ({"user": "ada", "tenant": "acme"}, {"tenant": "acme"}, {"address": "127.0.0.1"}):
        client, _ = await here.enter(credential)
        assert (await here.running.ask("kick", **whom))["closed"] == 1
        await ended(client, 4006, "kicked")
    client, connection = await here.enter(credential)
    assert (await here.running.ask("kick", user="ada"))["closed"] == 0
    assert (await here.running.ask("kick", connection=connection, come_back=True))["closed"] == 1
    await ended(client, 4107, "sent_away")
    await here.enter(credential)


async def test_an_operator_sees_who_is_connected(here: Door) -> None:
    ada, first = await here.enter(token("ada", jti="t1", tenant="acme"))
    await ada.subscribe(1, "news/#")
    _, second = await here.enter(here.key())
    listed = await here.running.ask("connections")
    assert (listed["more"], listed["unanswered"]) == (False, [])
    by_id = {one["connection"]: one for one in listed["connections"]}
    assert list(by_id) == sorted([first, second])
    shown = by_id[first]
    assert {name: shown[name] for name in ("user", "tenant", "token", "key", "method", "node", "address")} == {
        "user": "ada", "tenant": "acme", "token": "t1", "key": "", "method": "token", "node": "n1",
        "address": "127.0.0.1",
    }  # fmt: skip
    assert shown["subscriptions"] == 1
    assert shown["issued_ms"] // 1000 <= shown["since_ms"] // 1000 < shown["expires_ms"] // 1000
    assert (by_id[second]["method"], by_id[second]["key"]) == ("key", here.key_name)
    for whom in ({"user": "billing"}, {"key": here.key_name}, {"connection": second}):
        found = (await here.running.ask("connections", **whom))["connections"]
        assert [one["connection"] for one in found] == [second]
    assert (await here.running.ask("connections", user="ada"))["connections"] == []
    page = await here.running.ask("connections", limit=1)
    assert (page["more"], page["connections"]) == (True, [by_id[min(by_id)]])
    rest = await here.running.ask("connections", limit=1, after=min(by_id))
    assert (rest["more"], rest["connections"]) == (False, [by_id[max(by_id)]])


@pytest.mark.parametrize(
    ("call", "parameters", "words"),
    [
        ("kick", {}, "kick whom?"),
        ("kick", {"user": ""}, "user: a text of 1 to 1024"),
        ("kick", {"user": "a", "come_back": 1}, "come_back: true or false"),
        ("revoke", {}, "revoke what?"),
        ("revoke", {"user": "a", "key": "b"}, "revoke what?"),
        ("revoke", {"connection": "c", "user": "a"}, "a connection says itself"),
        ("revoke", {"token": 7}, "token: a text"),
        ("revoke", {"token": "a", "tenant": "b"}, "tenant goes with a user"),
        ("revoke", {"token": "a", "also_new": True}, "also_new is of a user"),
        ("revoke", {"token": "a", "seconds": -1}, "seconds: a number"),
        ("revoke", {"token": "a", "seconds": True}, "seconds: a number"),
        ("revoke", {"token": "a", "seconds": "1h"}, "seconds: a number"),
        ("unrevoke", {"user": "a", "tenant": "b"}, "user a of tenant b is not revoked"),
        ("connections", {"limit": 0}, "limit is from 1 to 1000"),
        ("connections", {"after": 1}, "after is the id"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence(
    call: str, parameters: dict[str, object], words: str, here: Door
) -> None:
    assert words in await here.running.refused(call, **parameters)


async def test_there_is_a_bound_and_the_operator_hears_of_it(tmp_path: Path) -> None:
    async with door(tmp_path, limits={"max_revocations": 1}) as here:
        await here.running.ask("revoke", token="t1")
        assert "limits.max_revocations allows no more" in await here.running.refused("revoke", token="t2")
        await here.running.ask("revoke", token="t1")


async def test_nothing_of_it_can_be_reached_by_those_who_reach_the_port(here: Door) -> None:
    """S29: not as a packet, not by HTTP, with whatever rights; the socket is the owner's (0600)."""
    calls = ("kick", "revoke", "unrevoke", "revocations", "connections", "drain", "cluster", "subs.delete")
    client, connection = await here.enter(token("ada"))
    for call in calls:
        for packet in ({"type": call, "id": 5, "user": "ada"}, {"call": call, "connection": connection}):
            await client.send(packet)
            assert (await client.expect("error"))["name"] in ("unsupported", "malformed")
    host, port = here.running.url.removeprefix("http://").split(":")
    for call in calls:
        for method in ("GET", "POST"):
            for path in (f"/{call}", f"/admin/{call}", f"/admin?call={call}"):
                stream = await trio.open_tcp_stream(host, int(port))
                async with stream:
                    body = json.dumps({"call": call, "user": "ada"})
                    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
                    await stream.send_all((head + body).encode())
                    assert (await stream.receive_some()).split(b" ")[1] in (b"404", b"405", b"400")
    await client.has_nothing_more()
    assert not here.running.log.told("admin_call")
    mode = (Path(here.running.broker.config.data) / "admin.sock").stat().st_mode
    assert mode & 0o777 == 0o600

"""S13: HTTP is no side door. What a credential may not by a WebSocket it may not here, nor when that changes."""

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from triode_broker.config import Permission

from tests.admin.running import running
from tests.http.asking import LINES, asking, error_of
from tests.security.test_permission import RULES, until
from tests.security.withdrawing import EVERYTHING, Door, door, token

#: Asks about a topic: "" where that was served, or the name of the error.
Way = Callable[[httpx.AsyncClient, str], Awaitable[str]]


def said(answer: httpx.Response) -> str:
    """What an answer came to."""
    assert (answer.status_code < 300) is ("error" not in answer.json())
    return "" if answer.status_code < 300 else str(error_of(answer)["name"])


def said_of_one(results: list[Any]) -> str:
    """The same of a batch or stream of one."""
    (only,) = results
    return str(only["error"]["name"]) if "error" in only else ""


async def publish(client: httpx.AsyncClient, topic: str) -> str:
    return said(await client.post("/v1/publish", json={"topic": topic, "data": "by http"}))


async def publish_traced(client: httpx.AsyncClient, topic: str) -> str:
    return said(await client.post("/v1/publish", json={"topic": topic, "data": "by http", "trace": True}))


async def batch(client: httpx.AsyncClient, topic: str) -> str:
    answer = await client.post("/v1/publish/batch", json={"messages": [{"topic": topic, "data": "by http"}]})
    return said_of_one(answer.json()["results"]) if answer.status_code in (200, 207) else said(answer)


async def stream(client: httpx.AsyncClient, topic: str) -> str:
    line = json.dumps({"topic": topic, "data": "by http"})
    answer = await client.post("/v1/publish/stream", content=line, headers=LINES)
    if answer.status_code != 200:
        return said(answer)
    return said_of_one([json.loads(line) for line in answer.text.splitlines()])


async def history(client: httpx.AsyncClient, topic: str) -> str:
    answer = await client.get("/v1/history", params={"topic": topic})
    if answer.status_code == 200:
        assert all(message["topic"] == topic for message in answer.json()["messages"])
    return said(answer)


async def presence(client: httpx.AsyncClient, topic: str) -> str:
    return said(await client.get("/v1/presence", params={"topic": topic}))


WAYS: tuple[Way, ...] = (publish, publish_traced, batch, stream, history, presence)


async def held(here: Door, topic: str) -> int:
    """Messages of a topic, as somebody sees who may see all."""
    async with asking(here.running, token("eve", roles=["boss"])) as boss:
        answer = await boss.get("/v1/history", params={"topic": topic})
        return len(answer.json()["messages"])


async def test_rights_are_those_of_every_client(tmp_path: Path) -> None:
    """S11, S13: allowed, and denied with nothing done; in this order, over one connection."""
    async with door(tmp_path, permissions=RULES) as here, asking(here.running, token("ann")) as ann:
        for way in WAYS:
            assert await way(ann, "hall/a") == "", way
            assert await way(ann, "users/ann/notes") == "", way
            assert await way(ann, "users/bob/notes") == "forbidden", way
            assert await way(ann, "hall/b") == "", way
        assert await history(ann, "hall/closed/1") == "forbidden"
        assert await held(here, "users/bob/notes") == 0
        assert await held(here, "users/ann/notes") == 4


async def test_rights_that_are_taken_meanwhile_are_gone(tmp_path: Path) -> None:
    """G10, S13: on the connection that had them."""
    async with door(tmp_path, permissions=RULES) as here, asking(here.running, token("ann")) as ann:
        for way in WAYS:
            assert await way(ann, "hall/a") == "", way
        broker = here.running.broker
        rules = msgspec.convert([{"publish": ["users/{user}/#"]}], tuple[Permission, ...])
        (session,) = broker.node.sessions.values()
        before = session.identity
        await _rule(here, rules)
        await until(lambda: session.identity is not before)
        for way in WAYS:
            assert await way(ann, "hall/a") == "forbidden", way
        assert await publish(ann, "users/ann/notes") == ""


async def _rule(here: Door, rules: tuple[Permission, ...]) -> None:
    broker = here.running.broker
    broker.reloading.reload(msgspec.structs.replace(broker.config, permissions=rules))


async def test_credential_that_was_withdrawn_is_refused_at_once(tmp_path: Path) -> None:
    """S19: on the connection that had it, and on others."""
    async with door(tmp_path) as here:
        old = token("ada", issued=int(time.time()) - 60)
        async with asking(here.running, old) as ada, asking(here.running, token("bob")) as bob:
            for client in (ada, bob):
                assert await publish(client, "a") == ""
            answer = await here.running.ask("revoke", user="ada")
            assert answer["closed"] == 1
            for way in WAYS:
                answer = await ada.get("/v1/history", params={"topic": "a"})
                assert (answer.status_code, error_of(answer)["name"]) == (403, "revoked")
                assert await way(ada, "a") == "revoked", way
                assert await way(bob, "a") == "", way
            assert all(one.identity.user == "bob" for one in here.running.broker.node.sessions.values())


async def test_credential_that_is_over_is_refused(tmp_path: Path) -> None:
    """S19: before its connection, and in the middle of it."""
    async with door(tmp_path) as here:
        now = int(time.time())
        async with asking(here.running, token("ada", issued=now - 700, exp=now - 600)) as late:
            for way in WAYS:
                assert await way(late, "a") == "token_expired", way
            answer = await late.get("/v1/presence", params={"topic": "a"})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        async with asking(here.running, token("ada")) as ada:
            assert await publish(ada, "a") == ""
            node = here.running.broker.node
            (session,) = node.sessions.values()
            node.timers.hear(session.identity.expires_ms)  # the time has come
            node.calendar._look(session.identity.expires_ms)
            here.running.broker.edge.flush()
            assert not node.sessions
            assert await publish(ada, "a") == ""  # by the clock of the gate it is still good, on another one
            assert session not in node.sessions.values()


@pytest.mark.parametrize("sent", ["", "rubbish", "a.b.c"])
async def test_stranger_is_told_that_a_credential_is_needed(tmp_path: Path, sent: str) -> None:
    """S15: and before a byte of a body is read."""
    async with door(tmp_path) as here, asking(here.running, sent) as stranger:
        for way in WAYS:
            assert await way(stranger, "a") == "unauthorized", way
        answer = await stranger.post("/v1/publish", json={"rubbish": 1})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert not here.running.broker.node.sessions


async def test_other_words_in_authorization_are_no_credential(tmp_path: Path) -> None:
    """S10: what cannot be read is refused, not passed over, and never repeated."""
    async with door(tmp_path) as here, asking(here.running) as client:
        words = {"Bearer a b": 400, "Bearer": 400, "Basic QTpC": 401, "Bearer secret-canary": 401}
        for header, status in words.items():
            answer = await client.get("/v1/history?topic=a", headers={"Authorization": header})
            assert answer.status_code == status, header
            assert "canary" not in answer.text
        answer = await client.get("/v1/history", params={"topic": "a", "token": token("ada")})
        assert error_of(answer)["field"] == "token"  # query_token is off
        assert "canary" not in str(here.running.log.events)


async def test_one_connection_may_carry_the_requests_of_many(tmp_path: Path) -> None:
    """A proxy sends them over whatever connection is free; each is judged by its own credential."""
    async with door(tmp_path, permissions=RULES) as here, asking(here.running) as proxy:
        for _ in range(2):
            for user in ("ann", "bob", "cleo"):
                proxy.headers["Authorization"] = f"Bearer {token(user)}"
                assert await publish(proxy, f"users/{user}/notes") == ""
                assert await publish(proxy, "users/dora/notes") == "forbidden"
        users = {session.identity.user for session in here.running.broker.node.sessions.values()}
        assert users == {"ann", "bob", "cleo"}
        for number in range(20):
            proxy.headers["Authorization"] = f"Bearer {token(f'u{number}')}"
            assert await publish(proxy, "hall/a") == ""
        assert len(here.running.broker.node.sessions) == 8
        del proxy.headers["Authorization"]
        assert await publish(proxy, "hall/a") == "unauthorized"


async def test_tenants_do_not_meet(tmp_path: Path) -> None:
    """S23: the same topics, another world."""
    async with door(tmp_path) as here:
        ours, theirs = token("ann", tenant="acme"), token("ann", tenant="other")
        async with asking(here.running, ours) as ann, asking(here.running, theirs) as stranger:
            for way in (publish, batch, stream):
                assert await way(ann, "room") == ""
            got = (await ann.get("/v1/history", params={"topic": "room"})).json()
            assert len(got["messages"]) == 3
            other = (await stranger.get("/v1/history", params={"topic": "room"})).json()
            assert other["messages"] == []
            fields = {"topic": "room", "data": 1, "message_id": "m"}
            for client in (ann, stranger):
                assert "duplicate" not in (await client.post("/v1/publish", json=fields)).json()


async def test_quotas_are_those_of_every_client(tmp_path: Path) -> None:
    """S8: a flood of requests is told to come back; no new connection begins anew what a user may."""
    rates = {"publishes_per_second": 2, "user_publishes_per_second": 1, "requests_per_second": 1}
    limits = {"max_subscriptions": 2}  # so many requests may come at once
    async with door(tmp_path, quotas=[{"method": "token", **rates}], limits=limits) as here:
        async with asking(here.running, token("ann")) as ann:
            answers = [await ann.post("/v1/publish", json={"topic": "a", "data": 1}) for _ in range(10)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert 1 <= len(refused) < 10
            error = error_of(refused[0])
            assert (error["name"], error["retry"]) == ("rate_limited", "backoff")
            assert int(refused[0].headers["retry-after"]) * 1000 >= error["retry_after_ms"] > 0
            many = await ann.post("/v1/publish/batch", json={"messages": [{"topic": "a", "data": 1}] * 20})
            assert many.status_code == 207
            asked = [await ann.get("/v1/history", params={"topic": "a"}) for _ in range(6)]
            assert 429 in {answer.status_code for answer in asked}
        statuses = []
        for _ in range(15):
            async with asking(here.running, token("ann")) as again:
                statuses.append((await again.post("/v1/publish", json={"topic": "a", "data": 1})).status_code)
        assert 429 in statuses


async def test_user_with_too_many_connections_gets_no_other(tmp_path: Path) -> None:
    """S8"""
    quotas = [{"method": "token", "user_max_connections": 2}]
    async with (
        door(tmp_path, quotas=quotas) as here,
        asking(here.running, token("ann")) as one,
        asking(here.running, token("ann")) as two,
        asking(here.running, token("ann")) as three,
    ):
        for client in (one, two):
            assert await publish(client, "a") == ""
        answer = await three.post("/v1/publish", json={"topic": "a", "data": 1})
        assert (answer.status_code, error_of(answer)["name"]) == (429, "quota")
        assert int(answer.headers["retry-after"]) >= 1
        assert await publish(one, "a") == ""


async def test_server_says_who_has_published_and_where(tmp_path: Path) -> None:
    """S16: nothing that a client says is taken for it."""
    async with door(tmp_path, permissions=[EVERYTHING]) as here, asking(here.running, token("ann")) as ann:
        for field in ("user", "ts", "log", "pos", "offset", "tenant"):
            answer = await ann.post("/v1/publish", json={"topic": "a", "data": 1, field: 1})
            assert error_of(answer)["field"] == field
        assert await publish(ann, "a") == ""
        (message,) = (await ann.get("/v1/history", params={"topic": "a"})).json()["messages"]
        assert message["user"] == "ann"


async def test_anonymous_has_the_rights_of_the_anonymous(tmp_path: Path) -> None:
    """SPEC 11.1.2: without a credential, where such are let in."""
    rules = [{"role": "anonymous", "publish": ["a"]}]
    given = {"auth": {"anonymous": True}, "permissions": rules}
    async with running(tmp_path / "data", **given) as found, asking(found) as anyone:
        assert await publish(anyone, "a") == ""
        assert await publish(anyone, "b") == "forbidden"
        (session,) = found.broker.node.sessions.values()
        assert (session.identity.method, session.address) == ("anonymous", "127.0.0.1")


async def test_s9_page_of_another_site_does_not_ask_by_an_image_or_a_frame(tmp_path: Path) -> None:
    """Such a request says no `Origin`; it would join a topic, though its page could not read the answer."""
    async with running(tmp_path / "data") as found:
        for site, status in (("cross-site", 403), ("same-site", 403), ("none", 200), ("same-origin", 200)):
            async with asking(found, Sec_Fetch_Site=site) as client:
                for target in ("/v1/history?topic=a", "/v1/presence?topic=a"):
                    assert (await client.get(target)).status_code == status, site
                joining = client.stream("GET", "/v1/events", params={"topic": "a", "presence": '{"state":1}'})
                async with joining as answer:
                    assert answer.status_code == status, site
        listed = {"origins": ["https://app.example"]}
    page = {"Sec_Fetch_Site": "cross-site", "Origin": "https://app.example"}
    async with running(tmp_path / "other", **listed) as found, asking(found, "", **page) as client:
        assert await history(client, "a") == ""


async def test_s23_operator_of_a_tenant_is_not_told_how_many_topics_others_have(tmp_path: Path) -> None:
    """What it lists is its own, and so is the number beside it."""
    rules = [EVERYTHING, {"role": "operator", "operate": ["#"]}]
    async with door(tmp_path, permissions=rules) as here:
        for tenant, count in (("acme", 1), ("other", 3)):
            async with asking(here.running, token("ann", tenant=tenant)) as ann:
                for number in range(count):
                    assert await publish(ann, f"t/{number}") == ""
        async with asking(here.running, token("op", tenant="acme", roles=["operator"])) as client:
            answer = (await client.get("/v1/topics")).json()
            assert (len(answer["topics"]), answer["known"]) == (1, 1)
        async with asking(here.running, token("op", roles=["operator"])) as client:
            assert (await client.get("/v1/topics")).json()["known"] == 4

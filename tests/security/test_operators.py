"""S29: operating over HTTP. Who may not: without the right, of another tenant, revoked meanwhile, by a page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import triode
from triode_broker.auth.operators import MAX_WRONG
from triode_broker.http import operators
from triode_broker.http.examples import EXAMPLES
from triode_broker.http.operations import Operation

from tests.admin.running import PATIENCE_SECONDS, Running, running
from tests.http.asking import asking, error_of
from tests.security.withdrawing import EVERYTHING, Door, door, token
from tests.spec.client import RawClient

SECRET = "the-secret-of-those-who-operate-it"
RULES = [
    EVERYTHING,
    {"role": "operator", "operate": ["#"]},
    {"role": "viewer", "operate": ["connections", "subs/#"], "deny_operate": ["subs/delete"]},
]


def bearer(user: str, *roles: str, **claims: Any) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token(user, roles=list(roles), **claims)}"}


async def ask(client: httpx.AsyncClient, row: Operation, headers: dict[str, str]) -> httpx.Response:
    """An operation with all that it needs."""
    shown = EXAMPLES.get((row.method, row.path), {})
    path = row.path.format(id="c-1", name="billing", tap="t-1")
    body = {"json": shown.get("body", {})} if row.takes_body else {}
    return await client.request(row.method, path, params=shown.get("query"), headers=headers, **body)


@asynccontextmanager
async def guarded(folder: Path, **more: Any) -> AsyncIterator[tuple[Door, httpx.AsyncClient]]:
    """A broker that wants tokens, with roles for operators, and a client of it."""
    async with door(folder, permissions=RULES, **more) as here, asking(here.running) as client:
        yield here, client


def secret_file(folder: Path) -> dict[str, str]:
    """Settings of the listener for operators."""
    file = folder / "operators"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return {"listen": "127.0.0.1:0", "token_file": str(file)}


@asynccontextmanager
async def operated(folder: Path, **more: Any) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """An open broker with a listener for operators, and a client of that which shows nothing yet."""
    async with running(folder / "data", admin=secret_file(folder), **more) as node:
        assert node.broker.operating is not None
        (url,) = node.broker.operating.urls
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as client:
            yield node, client


SHOWN = {"Authorization": f"Bearer {SECRET}"}


# Rights


async def test_nothing_is_operated_without_a_credential_or_without_the_right(tmp_path: Path) -> None:
    """S13, S29: every operation, and nothing was done."""
    async with guarded(tmp_path) as (here, client):
        _, connection = await here.enter(token("ada"))
        for row in operators.OPERATIONS:
            assert (await ask(client, row, {})).status_code == 401, row.path
            refused = await ask(client, row, bearer("ada"))
            assert (refused.status_code, error_of(refused)["name"]) == (403, "forbidden"), row.path
        listed = await client.get("/v1/connections", headers=bearer("op", "operator"))
        assert connection in {one["connection"] for one in listed.json()["connections"]}
        assert {facts["call"] for facts in here.running.log.told("admin_call")} == {"connections"}


async def test_the_right_goes_by_the_names_of_calls(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, client):
        viewer = bearer("vera", "viewer")
        for method, path, status in (
            ("GET", "/v1/connections", 200),
            ("GET", "/v1/durable", 200),
            ("GET", "/v1/durable/billing", 404),
            ("DELETE", "/v1/durable/billing", 403),
            ("DELETE", "/v1/connections/c-1", 403),
            ("GET", "/v1/subscriptions", 403),
            ("GET", "/v1/figures", 403),
        ):
            assert (await client.request(method, path, headers=viewer)).status_code == status, path


async def test_operator_who_is_revoked_meanwhile_operates_nothing_more(tmp_path: Path) -> None:
    """S19: over the connection that it has, too."""
    async with guarded(tmp_path) as (here, client):
        mallory = bearer("mallory", "operator")
        assert (await client.get("/v1/connections", headers=mallory)).status_code == 200
        await here.running.ask("revoke", user="mallory")
        refused = await client.post("/v1/kick", headers=mallory, json={"user": "ada"})
        assert (refused.status_code, error_of(refused)["name"]) == (403, "revoked")


async def test_what_changes_something_stands_in_the_log_with_who_and_from_where(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (here, client):
        await here.enter(token("ada"))
        done = await client.post("/v1/kick", headers=bearer("op", "operator"), json={"user": "ada"})
        assert done.json() == {"closed": 1, "unanswered": []}
        ((level, facts),) = [
            (level, facts) for level, event, facts in here.running.log.events if event == "admin_call"
        ]
        assert (level, facts["call"], facts["user"], facts["by"]) == ("info", "kick", "op", "http")
        assert (facts["address"], facts["method"]) == ("127.0.0.1", "token")
        assert '"user":"ada"' in facts["parameters"]


async def test_operator_has_a_rate_as_everybody_has(tmp_path: Path) -> None:
    """S8"""
    quotas = [{"requests_per_second": 1}]
    async with guarded(tmp_path, quotas=quotas, limits={"max_subscriptions": 3}) as (_, client):
        headers = bearer("op", "operator")
        answers = [await client.get("/v1/connections", headers=headers) for _ in range(8)]
        assert {one.status_code for one in answers} == {200, 429}
        assert all("retry-after" in one.headers for one in answers if one.status_code == 429)


# Tenants


#: What an operator of acme does to others: method, path, body, status. `{theirs}` is a connection of globex.
TRESPASSES: tuple[tuple[str, str, Any, int], ...] = (
    ("DELETE", "/v1/connections/{theirs}", None, 404),
    ("POST", "/v1/kick", {"user": "hidden-user"}, 200),
    ("POST", "/v1/kick", {"tenant": "globex"}, 403),
    ("POST", "/v1/kick", {}, 400),
    ("POST", "/v1/revocations", {"token": "t"}, 403),
    ("POST", "/v1/revocations", {"key": "k"}, 403),
    ("POST", "/v1/revocations", {"connection": "theirs"}, 403),
    ("POST", "/v1/revocations", {"user": "hidden-user", "tenant": "globex"}, 403),
    ("POST", "/v1/revocations", {"user": "hidden-user"}, 200),
    ("DELETE", "/v1/durable/name-of-hidden-user", None, 404),
    ("DELETE", "/v1/durable/name-of-hidden-user?tenant=globex", None, 403),
    ("POST", "/v1/durable/name-of-hidden-user/rewind", {"to": "new"}, 404),
    ("POST", "/v1/drain", {}, 403),
    ("POST", "/v1/reload", {}, 403),
    ("PUT", "/v1/log-level", {"level": "debug"}, 403),
    ("DELETE", "/v1/durable/name-of-ada", None, 200),
)


async def test_operator_of_a_tenant_reaches_that_tenant_alone(tmp_path: Path) -> None:
    """S23: neither what others do nor what they are called is told, and nothing of theirs is touched."""
    async with guarded(tmp_path, topics=[{"filter": "jobs/#", "storage": "disk"}]) as (here, client):
        for tenant, user in (("acme", "ada"), ("globex", "hidden-user")):
            shown = token(user, tenant=tenant)
            async with (
                triode.connect(here.running.url, token=shown) as worker,
                worker.consume("jobs/#", durable=f"name-of-{user}"),
            ):
                pass
        _, own = await here.enter(token("ada", tenant="acme"))
        other, theirs = await here.enter(token("hidden-user", tenant="globex"))
        assert (await other.ask({"type": "publish", "id": 3, "topic": "hidden-user/a", "data": 1}))[
            "type"
        ] == "published"
        subscribed = await other.ask({"type": "subscribe", "id": 2, "sub": 1, "filter": "hidden-user/#"})
        assert subscribed["type"] == "subscribed"
        headers = bearer("op", "operator", tenant="acme")
        await client.post("/v1/revocations", headers=bearer("root", "operator"), json={"user": "hidden-user2"})
        seen = []
        for row in operators.OPERATIONS:
            if row.method == "GET":
                answer = await ask(client, row, headers)
                seen.append((row.path, answer.status_code))
                assert "hidden-user" not in answer.text, row.path
                assert theirs not in answer.text, row.path
        assert dict(seen)["/v1/connections"] == dict(seen)["/v1/subscriptions"] == dict(seen)["/v1/topics"] == 200
        assert [path for path, status in seen if status == 403] == [
            *("/v1/slow", "/v1/figures", "/v1/cluster", "/v1/log-level"),
        ]
        listed = (await client.get("/v1/connections", headers=headers)).json()["connections"]
        assert {one["tenant"] for one in listed} == {"acme"}
        assert own in {one["connection"] for one in listed}
        for method, path, body, status in TRESPASSES:
            if isinstance(body, dict) and "connection" in body:
                body = {"connection": theirs}
            answer = await client.request(method, path.format(theirs=theirs), headers=headers, json=body)
            assert answer.status_code == status, (method, path, body, answer.text)
        pong = await other.ask({"type": "ping", "id": 9})
        assert pong["type"] == "pong"
        names = (await client.get("/v1/durable", headers=bearer("root", "operator"))).json()["names"]
        assert [one["name"] for one in names] == ["name-of-hidden-user"]


# An open broker


async def test_open_broker_is_operated_from_its_machine_and_by_no_page_of_another_site(tmp_path: Path) -> None:
    """S9, S29: DNS rebinding, cross-site requests, proxies; whoever may not has changed nothing."""
    async with running(tmp_path) as node, asking(node) as client:
        port = node.url.rpartition(":")[2]
        for headers in (
            {},
            {"Origin": node.url},
            {"Sec-Fetch-Site": "same-origin"},
            {"Host": f"localhost:{port}"},
        ):
            assert (await client.get("/v1/connections", headers=headers)).status_code == 200, headers
        strangers: list[dict[str, str]] = [
            {"Host": "evil.example"},
            {"Host": f"evil.example:{port}"},
            {"Host": f"127.0.0.1.evil.example:{port}"},
            {"Origin": "https://evil.example"},
            {"Origin": "http://localhost:9"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"Forwarded": "for=127.0.0.1"},
            {"Via": "1.1 proxy"},
            {"X-Real-IP": "127.0.0.1"},
        ]
        for headers in strangers:
            looked = await client.get("/v1/connections", headers=headers)
            changed = await client.post("/v1/drain", headers=headers, json={})
            assert (looked.status_code, changed.status_code) == (403, 403), headers
        simple = await client.post("/v1/drain", headers={"Content-Type": "text/plain"}, content=b"{}")
        assert simple.status_code == 415
        assert not node.broker.draining.is_begun


@pytest.mark.parametrize(
    "passed_on", [{"trusted_proxies": ["10.0.0.0/8"]}, {"advertise": "ws://broker.example/ws"}], ids=str
)
async def test_open_broker_that_others_reach_is_not_operated_by_http(tmp_path: Path, passed_on: Any) -> None:
    async with running(tmp_path, **passed_on) as node, asking(node) as client:
        assert (await client.get("/v1/connections")).status_code == 403


# The listener for operators


async def test_listener_for_operators_takes_its_secret_and_no_other_credential(tmp_path: Path) -> None:
    async with operated(tmp_path) as (node, client), asking(node) as outside:
        for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": f"Basic {SECRET}"}):
            for path in ("/v1/connections", "/v1/history?topic=a", "/metrics"):
                assert (await client.get(path, headers=headers)).status_code == 401, (headers, path)
            ticket = await client.post("/v1/console/token", headers=headers, json={})
            assert ticket.status_code == 401
        for path in ("/v1/connections", "/v1/figures", "/metrics", "/console", "/console/main.js"):
            assert (await client.get(path, headers=SHOWN)).status_code == 200, path
        assert (await outside.get("/console")).status_code == 404
        assert (await outside.post("/v1/console/token", headers=SHOWN, json={})).status_code == 404


async def test_wrong_secrets_are_slowed_down_and_told_of(tmp_path: Path) -> None:
    async with operated(tmp_path) as (node, client):
        found = []
        for number in range(MAX_WRONG + 1):
            answer = await client.get("/v1/connections", headers={"Authorization": f"Bearer guess-{number}"})
            found.append(answer.status_code)
        assert found == [401] * MAX_WRONG + [429]
        late = await client.get("/v1/connections", headers=SHOWN)
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) >= 1
        assert len(node.log.told("credential_refused")) >= MAX_WRONG


async def test_websocket_of_operators_is_entered_by_a_ticket_and_by_nothing_else(tmp_path: Path) -> None:
    async with operated(tmp_path) as (node, client), trio.open_nursery() as nursery:
        url = str(client.base_url).rstrip("/")
        ticket = (await client.post("/v1/console/token", headers=SHOWN, json={"tenant": "acme"})).json()["token"]
        for wrong in ("", SECRET, ticket + "x"):
            line = await RawClient.open(nursery, url)
            answer = await line.ask({"type": "connect", "id": 1, "token": wrong})
            assert (answer["type"], answer["name"]) == ("error", "unauthorized")
            await line.cut()
        line = await RawClient.open(nursery, url)
        assert (await line.ask({"type": "connect", "id": 1, "token": ticket}))["type"] == "connected"
        await line.ask({"type": "subscribe", "id": 2, "sub": 1, "filter": "#"})
        async with triode.connect(node.url) as other:  # of the tenant "": not of acme
            await other.publish("a", 1)
        heard = [await line.ask({"type": "publish", "id": 3, "topic": "b", "data": 2}), await line.receive()]
        assert [one["topic"] for one in heard if one["type"] == "message"] == ["b"]
        await line.cut()
        refused = await client.get("/v1/connections", headers={"Authorization": f"Bearer {ticket}"})
        assert refused.status_code == 401
        nursery.cancel_scope.cancel()


async def test_console_may_be_framed_by_nobody_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with operated(tmp_path) as (_, client):
        for path in ("/console", "/console/", "/console/main.js", "/triode.js"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert (await client.get("/console/../server.py")).status_code == 404
        assert (await client.get("/console/%2e%2e%2fpages.py")).status_code == 404


async def test_s10_secrets_stand_in_no_answer_and_no_line_of_the_log(tmp_path: Path) -> None:
    async with operated(tmp_path, log_level="debug") as (node, client):
        guess = "canary-of-a-wrong-secret"
        answers = [
            await client.get(path, headers={"Authorization": f"Bearer {shown}"})
            for shown in (SECRET, guess)
            for path in ("/v1/connections", "/v1/figures", "/healthz", "/metrics", "/nowhere")
        ]
        ticket = await client.post("/v1/console/token", headers=SHOWN, json={})
        told = "\n".join([*(one.text + str(one.headers) for one in answers), str(node.log.events)])
        for canary in (SECRET, guess, ticket.json()["token"]):
            assert canary not in told


async def test_s10_whole_credential_in_place_of_its_id_is_refused_and_not_logged(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (here, client):
        headers = bearer("op", "operator")
        for name, credential in (("token", token("ada")), ("key", here.key())):
            refused = await client.post("/v1/revocations", headers=headers, json={name: credential})
            assert (refused.status_code, error_of(refused)["field"]) == (400, name)
            assert credential not in refused.text + str(here.running.log.events)


async def test_drain_of_the_clients_leaves_operators_in(tmp_path: Path) -> None:
    async with operated(tmp_path) as (node, client), triode.connect(node.url), triode.connect(node.url):
        drained = await client.post("/v1/drain", headers=SHOWN, json={"seconds": 3600})
        assert drained.json()["connections"] >= 2
        seen = (await client.get("/v1/figures", headers=SHOWN)).json()
        assert seen["nodes"]["n1"]["gauges"]["draining"] == 1

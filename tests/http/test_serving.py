"""What all operations have in common: paths, methods, types, pages, order on a connection, bounds, and ends."""

import json
from pathlib import Path

import pytest
import trio
import trio.testing
from triode_broker.http import api
from triode_broker.http.operations import Table

from tests.admin.running import running
from tests.http.asking import asking, error_of, served
from tests.spec.client import RawClient

PUBLISH = {"topic": "a", "data": 1}


async def test_paths_methods_and_types_are_checked(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, client):
        answer = await client.get("/v1/nothing")
        assert (answer.status_code, error_of(answer)["name"]) == (404, "not_found")
        answer = await client.get("/v1/publish")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        answer = await client.post(
            "/v1/publish", content=json.dumps(PUBLISH), headers={"Content-Type": "text/plain"}
        )
        assert (answer.status_code, answer.headers["accept"]) == (415, "application/json")
        answer = await client.post("/v1/publish", content=json.dumps(PUBLISH))
        assert answer.status_code == 415
        kind = {"Content-Type": 'Application/JSON; charset="utf-8"'}
        answer = await client.post("/v1/publish", content=json.dumps(PUBLISH), headers=kind)
        assert answer.status_code == 200
        answer = await client.head("/v1/history", params={"topic": "a"})
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 100
        answer = await client.get("/v1/durable/%ff")
        assert answer.status_code == 400


QUERIES = [
    ("", "malformed", "topic"),
    ("topic=a&topic=b", "malformed", "topic"),
    ("topic=a&more=1", "unsupported", "more"),
    ("topic=a&limit=x", "malformed", "limit"),
    ("topic=a&limit=0", "malformed", "limit"),
    ("topic=a&limit=1.5", "malformed", "limit"),
    ("topic=a&before=rubbish", "malformed", "before"),
    ("topic=a&after=m0-abc.1&before=m0-abc.2", "malformed", "after"),
    ("topic=%ff", "malformed", ""),
    ("topic", "malformed", ""),
    ("&".join(f"a{number}=1" for number in range(100)), "malformed", ""),
    ("topic=a/%23", "bad_topic", "topic"),
]


async def test_query_is_checked_and_what_is_wrong_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, client):
        for query, name, field in QUERIES:
            answer = await client.get(f"/v1/history?{query}")
            error = error_of(answer)
            assert (answer.status_code, error["name"], error.get("field", "")) == (400, name, field), error


async def test_history_comes_in_pages(tmp_path: Path) -> None:
    """SPEC 3.5: the newest first, then what is before."""
    async with served(tmp_path) as (_, client):
        for number in range(5):
            await client.post("/v1/publish", json={"topic": "a", "data": number})
        page = (await client.get("/v1/history", params={"topic": "a", "last": 2})).json()
        assert [message["data"] for message in page["messages"]] == [3, 4]
        (log,) = page["after"]
        before = f"{log}.{page['messages'][0]['pos']}"
        page = (await client.get("/v1/history", params={"topic": "a", "before": before, "limit": 2})).json()
        assert [message["data"] for message in page["messages"]] == [1, 2]
        page = (await client.get("/v1/history", params={"topic": "a", "after": f"{log}.2", "limit": 2})).json()
        assert [message["data"] for message in page["messages"]] == [2, 3]
        assert page["messages"][0]["type"] == "message"


async def test_members_are_told(tmp_path: Path, nursery: trio.Nursery) -> None:
    """SPEC 10.4"""
    async with served(tmp_path) as (found, client):
        member = await RawClient.open(nursery, found.url)
        await member.ask({"type": "connect", "id": 1})
        await member.subscribe(1, "room/a", presence={"state": {"name": "Ann"}})
        page = (await client.get("/v1/presence", params={"topic": "room/a"})).json()
        assert page["complete"]
        assert page["topic"] == "room/a"
        assert [one["state"] for one in page["members"]] == [{"name": "Ann"}]
        await member.cut()


async def test_connection_has_one_session_for_all_its_requests(tmp_path: Path) -> None:
    """It counts as one, as long as it is there."""
    async with running(tmp_path) as found:
        sessions = found.broker.node.sessions
        async with asking(found) as client:
            for _ in range(3):
                assert (await client.post("/v1/publish", json=PUBLISH)).status_code == 200
            assert len(sessions) == 1
            (listed,) = (await found.ask("connections"))["connections"]
            assert listed["method"] == "open"
            await found.ask("kick", connection=listed["connection"])
            assert not sessions
            assert (await client.post("/v1/publish", json=PUBLISH)).status_code == 200  # over another one
            assert len(sessions) == 1
        with trio.fail_after(30):
            while sessions:
                await trio.lowlevel.checkpoint()


PAGE = {"Origin": "https://app.example"}


async def test_listed_page_of_another_site_may_ask_and_read(tmp_path: Path) -> None:
    """S9: and a browser is told so before it sends what needs asking for."""
    async with served(tmp_path, origins=["https://app.example"]) as (_, client):
        wants = {
            **PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        answer = await client.options("/v1/publish", headers=wants)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "POST" in answer.headers["access-control-allow-methods"]
        for name in ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"):
            assert name in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        answer = await client.post("/v1/publish", json=PUBLISH, headers=PAGE)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["vary"] == "Origin"
        answer = await client.post("/v1/publish", json={}, headers=PAGE)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (400, "https://app.example")
        answer = await client.options("/v1/nothing", headers=wants)
        assert answer.status_code == 404
        for other in ("https://evil.example", "null", "http://app.example"):
            answer = await client.post("/v1/publish", json=PUBLISH, headers={"Origin": other})
            assert (answer.status_code, error_of(answer)["name"]) == (403, "forbidden")
            assert "access-control-allow-origin" not in answer.headers
        answer = await client.post("/v1/publish", json=PUBLISH)
        assert "access-control-allow-origin" not in answer.headers


async def test_more_requests_than_may_are_told_to_come_back(tmp_path: Path) -> None:
    """S6: those in progress are bounded, and nobody waits in a queue."""
    async with served(tmp_path, limits={"max_http_requests": 2}) as (found, client):
        held = []
        for _ in range(2):
            stream = await trio.open_tcp_stream(client.base_url.host, client.base_url.port or 0)
            held.append(stream)
            head = b"POST /v1/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            await stream.send_all(head + b"Content-Length: 9\r\n\r\n")
        with trio.fail_after(30):
            while found.broker.serving.in_progress < 2:
                await trio.lowlevel.checkpoint()
        answer = await client.post("/v1/publish", json=PUBLISH)
        error = error_of(answer)
        assert (answer.status_code, error["name"], error["retry"]) == (503, "overloaded", "backoff")
        assert answer.headers["retry-after"] == "1"
        assert error["retry_after_ms"] == 1_000
        for stream in held:
            await stream.aclose()
        with trio.fail_after(30):
            while found.broker.serving.in_progress:
                await trio.lowlevel.checkpoint()
        assert (await client.post("/v1/publish", json=PUBLISH)).status_code == 200
        assert found.broker.serving.refused == 1


async def test_drained_node_answers_what_it_was_asked(tmp_path: Path) -> None:
    """G12"""
    async with running(tmp_path, limits={"drain_alone_ms": 100}) as found, asking(found) as client:
        assert (await client.post("/v1/publish", json=PUBLISH)).headers["connection"] == "keep-alive"
        found.broker.draining.begin(5)
        answer = await client.post("/v1/publish", json=PUBLISH)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_bug_in_an_operation_is_one_answer_and_one_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1"""
    async with served(tmp_path) as (found, client):
        monkeypatch.setattr(found.broker.node.presence, "ask", None)
        answer = await client.get("/v1/presence", params={"topic": "a"})
        assert (answer.status_code, error_of(answer)["name"]) == (500, "internal")
        (told,) = found.log.told("request_failed")
        assert told["request"] == answer.headers["x-request-id"]
        assert told["operation"] == "GET /v1/presence"
        assert (await client.post("/v1/publish", json=PUBLISH)).status_code == 200


@pytest.mark.parametrize(("said", "is_taken"), [("order-7", True), ("a" * 65, False), ("a b", False), ("", False)])
async def test_request_keeps_its_id_where_it_can_stand_in_a_log(said: str, is_taken: bool, tmp_path: Path) -> None:
    """S27"""
    async with running(tmp_path) as found, asking(found, X_Request_Id=said) as client:
        answer = await client.get("/v1/nothing")
        told = answer.headers["x-request-id"]
        assert (told == said) is is_taken
        assert 0 < len(told) <= 64


def test_every_operation_stands_once_in_the_table() -> None:
    table = Table(api.OPERATIONS)
    for operation in table.operations:
        path = operation.path.replace("{", "x{")
        segments = ["a%2Fb" if part.startswith("x{") else part for part in path.split("/")]
        found, parameters = table.find(operation.method, "/".join(segments))
        assert found is operation
        assert set(parameters.values()) <= {"a/b"}
        assert len(parameters) == operation.path.count("{")
    names = [(operation.method, operation.path) for operation in table.operations]
    assert len(names) == len(set(names))
    assert all(operation.path.startswith(api.BELOW) for operation in table.operations)

"""Operating over HTTP, as an operator of a broker with something in it: answers, pages, and what is not there."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio
import triode
from triode_broker.http import operators
from triode_broker.http.examples import EXAMPLES

from tests.admin.running import ON_DISK, PATIENCE_SECONDS, Running
from tests.http.asking import error_of, served

PLACE = "eu%2Fjobs%201"  # a name with a slash


async def fill(node: Running) -> None:
    """A name with a dead letter and a slash, and a topic."""
    async with (
        triode.connect(node.url) as client,
        client.consume("jobs/#", durable="billing", window=3) as jobs,
    ):
        for number in range(3):
            await client.publish("jobs/a", number)
        with trio.fail_after(PATIENCE_SECONDS):
            for _ in range(3):
                await (await anext(jobs)).reject()


async def all_pages(client: httpx.AsyncClient, path: str, place: Any, rows: str, **query: Any) -> list[Any]:
    """Each page's rows."""
    found: list[Any] = []
    page: dict[str, Any] = {"more": True}
    while page["more"]:
        page = (await client.get(path, params={"limit": 2, **query})).json()
        found += page[rows]
        query["after"] = place(found[-1])
    return found


async def test_answers_are_what_their_records_say_and_nothing_else(tmp_path: Path) -> None:
    async with served(tmp_path, topics=[ON_DISK]) as (node, client), triode.connect(node.url) as other:
        await fill(node)
        async with other.subscribe("rooms/#"), other.consume("rooms/1", group="g"):
            for row in operators.OPERATIONS:
                if row.method != "GET" or row.path in ("/v1/cluster", "/v1/log-level", "/v1/tail/{tap}"):
                    continue
                shown = EXAMPLES.get((row.method, row.path), {})
                answer = await client.get(row.path.format(name="billing"), params=shown.get("query"))
                assert answer.status_code == 200, (row.path, answer.text)
                data = answer.json()
                assert msgspec.to_builtins(msgspec.convert(data, row.answer)) == data, row.path


async def test_lists_come_in_pages(tmp_path: Path) -> None:
    async with (
        served(tmp_path, topics=[ON_DISK]) as (node, client),
        triode.connect(node.url) as one,
        triode.connect(node.url) as two,
        one.subscribe("a"),
        one.subscribe("b"),
        two.subscribe("c"),
    ):
        await fill(node)
        connections = await all_pages(client, "/v1/connections", lambda one: one["connection"], "connections")
        assert len({one["connection"] for one in connections}) == len(connections) == 3  # this client's, too
        subs = await all_pages(
            client, "/v1/subscriptions", lambda one: f"{one['connection']}/{one['sub']}", "subscriptions"
        )
        assert sorted(one["filter"] for one in subs) == ["a", "b", "c"]
        letters = await all_pages(client, "/v1/dead-letters/billing", lambda one: one["pos"], "letters")
        assert [one["data"] for one in letters] == [0, 1, 2]


async def test_some_letters_are_published_again_and_others_dropped(tmp_path: Path) -> None:
    async with served(tmp_path, topics=[ON_DISK]) as (node, client):
        await fill(node)
        letters = (await client.get("/v1/dead-letters/billing")).json()["letters"]
        first, second, third = (one["pos"] for one in letters)
        done = await client.post("/v1/dead-letters/billing/retry", json={"positions": [first]})
        assert (done.status_code, done.json()["count"]) == (200, 1)
        done = await client.delete("/v1/dead-letters/billing", params={"positions": [second, third]})
        assert (done.status_code, done.json()["count"]) == (200, 2)
        assert (await client.get("/v1/dead-letters/billing")).json()["letters"] == []
        gone = await client.delete("/v1/dead-letters/billing", params={"positions": [third]})
        assert (gone.status_code, error_of(gone)["name"]) == (404, "not_found")


#: Method, path, body → status and, where one is wrong, field.
IMPOSSIBLE: tuple[tuple[str, str, Any, int, str | None], ...] = (
    ("GET", "/v1/durable/nobody", None, 404, None),
    ("GET", f"/v1/durable/{PLACE}", None, 404, None),
    ("GET", "/v1/durable/%ff", None, 400, None),
    ("DELETE", "/v1/connections/c-nobody", None, 404, None),
    ("DELETE", "/v1/revocations?user=nobody", None, 404, None),
    ("DELETE", "/v1/revocations", None, 400, None),
    ("POST", "/v1/revocations", {"connection": "c-nobody"}, 404, None),
    ("POST", "/v1/revocations", {"user": "ada", "token": "t"}, 400, None),
    ("POST", "/v1/kick", {"come_back": True}, 400, None),
    ("POST", "/v1/kick", {"whom": "ada"}, 400, "whom"),
    ("GET", "/v1/connections?limit=0", None, 400, "limit"),
    ("GET", "/v1/connections?limit=1001", None, 400, "limit"),
    ("GET", "/v1/connections?who=ada", None, 400, "who"),
    ("GET", "/v1/subscriptions?topic=a/%23", None, 400, None),
    ("GET", "/v1/topics?tenant=a/b", None, 400, "tenant"),
    ("POST", "/v1/drain", {"seconds": -1}, 400, "seconds"),
    ("PUT", "/v1/log-level", {"level": "loud"}, 400, "level"),
    ("PATCH", "/v1/kick", {}, 405, None),
    ("POST", "/v1/console/token", {}, 404, None),
)


async def test_what_cannot_be_done_is_told_with_its_status(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, client):
        for method, path, body, status, field in IMPOSSIBLE:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == status, (method, path, answer.text)
            error = error_of(answer)
            assert error["message"]
            assert field is None or error["field"] == field, (method, path, error)
        assert not node.broker.draining.is_begun


async def test_kicked_and_revoked_clients_are_counted(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, client), triode.connect(node.url) as other:
        async with other.subscribe("a"):
            (sub,) = (await client.get("/v1/subscriptions")).json()["subscriptions"]
            done = await client.post("/v1/kick", json={"connection": sub["connection"], "come_back": True})
            assert done.json() == {"closed": 1, "unanswered": []}
        revoked = (await client.post("/v1/revocations", json={"user": "mallory", "seconds": 60})).json()
        assert (revoked["revoked"]["value"], revoked["closed"], revoked["kept"]) == ("mallory", 0, {"n1": "disk"})
        lifted = await client.delete("/v1/revocations", params={"user": "mallory"})
        assert lifted.json()["unrevoked"]["value"] == "mallory"

"""Open subscriptions of all kinds, through the socket: which, whose, how they are, page by page."""

from pathlib import Path
from typing import Any

import pytest
import triode

from tests.admin.running import Running, running


async def listed(node: Running, **parameters: Any) -> list[dict[str, Any]]:
    """All of one answer that has no more."""
    answer = await node.ask("subscriptions", **parameters)
    assert (answer["more"], answer["unanswered"]) == (False, [])
    return list(answer["subscriptions"])


async def test_every_kind_is_listed_with_who_has_it_and_how_it_is(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as node,
        triode.connect(node.url) as client,
        client.subscribe("rooms/+"),
        client.consume("jobs/#", durable="w", window=3),
        client.consume("rooms/1", group="g"),
    ):
        found = {one["kind"]: one for one in await listed(node)}
        assert found.keys() == {"plain", "durable", "group"}
        (connection,) = {one["connection"] for one in found.values()}
        assert found["plain"] == {
            "connection": connection,
            "node": "n1",
            "user": "",
            "tenant": "",
            "sub": found["plain"]["sub"],
            "kind": "plain",
            "name": "",
            "filter": "rooms/+",
            "state": "live",
            "overflow": "replay",
            "window": 0,
            "in_flight": 0,
            "outbox_bytes": 0,
        }
        assert (found["durable"]["name"], found["durable"]["window"]) == ("w", 3)
        for wanted, kinds in (
            ({"topic": "rooms/1"}, ["group", "plain"]),
            ({"filter": "rooms/+"}, ["plain"]),
            ({"kind": "durable"}, ["durable"]),
            ({"name": "g"}, ["group"]),
            ({"connection": connection}, ["durable", "group", "plain"]),
            ({"connection": "c-nobody"}, []),
            ({"user": "ann"}, []),
            ({"tenant": "acme"}, []),
        ):
            assert sorted(one["kind"] for one in await listed(node, **wanted)) == kinds


async def test_pages_have_each_of_them_once(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as node,
        triode.connect(node.url) as one,
        triode.connect(node.url) as other,
        one.subscribe("a"),
        one.subscribe("b"),
        other.subscribe("c"),
        other.subscribe("d"),
    ):
        found: list[tuple[str, int]] = []
        after, more = "", True
        while more:
            page = await node.ask("subscriptions", limit=3, after=after)
            more = page["more"]
            found += [(sub["connection"], sub["sub"]) for sub in page["subscriptions"]]
            after = f"{found[-1][0]}/{found[-1][1]}"
        assert len(found) == 4
        assert found == sorted(set(found))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"limit": 0}, {"limit": "9"}, {"kind": "x"}, {"topic": "a/#"}, {"filter": "a/#/b"}, {"name": 7}),
        *({"after": "c-1"}, {"after": "/3"}, {"after": "c/x"}, {"user": ""}),
    ],
    ids=str,
)
async def test_what_cannot_be_asked_is_told(wrong: dict[str, Any], tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        assert await node.refused("subscriptions", **wrong)
        assert not node.log.told("admin_call_failed")

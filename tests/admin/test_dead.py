"""Dead letters through the socket: look, retry, drop; in one file, in two, in memory (SPEC 9.8)."""

from pathlib import Path
from typing import Any

import pytest
import trio
import triode
from triode_broker.admin import dead

from tests.admin.running import ON_DISK, PATIENCE_SECONDS, Running, running

COMPACTED = {"filter": "state/#", "storage": "disk", "compact": True}


async def bury(node: Running, filter: str, *, count: int = 1, **terms: Any) -> None:
    """Reject so many messages of the filter, from its beginning."""
    async with triode.connect(node.url) as client:
        terms = terms or {"durable": "worker"}
        async with client.consume(filter, from_="earliest", window=count, **terms) as jobs:
            with trio.fail_after(PATIENCE_SECONDS):
                for _ in range(count):
                    await (await anext(jobs)).reject()


async def publish(node: Running, topic: str, *data: Any, **fields: Any) -> None:
    async with triode.connect(node.url) as client:
        for one in data:
            await client.publish(topic, one, **fields)


async def stored(node: Running, topic: str) -> list[triode.Message]:
    """All that a topic holds."""
    async with triode.connect(node.url) as client:
        return list((await client.history(topic, last=1000, limit=1000)).messages)


async def letters(node: Running, name: str = "worker") -> list[dict[str, Any]]:
    return list((await node.ask("dead.list", name=name))["letters"])


async def test_a_letter_says_where_it_came_from_and_why(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", {"n": 1}, key="k", headers={"h": "v"})
        await bury(node, "jobs/#")
        (letter,) = await letters(node)
        (source,) = await stored(node, "jobs/a")
        assert (letter["log"], letter["source_pos"]) == (source.log, source.pos)
        assert (letter["reason"], letter["attempts"], letter["topic"]) == ("rejected", 1, "jobs/a")
        assert (letter["data"], letter["key"], letter["headers"]) == ({"n": 1}, "k", {"h": "v"})
        assert await node.names("dead.list") == [{"name": "worker", "tenant": "", "count": 1}]


async def test_letters_come_page_by_page(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", 1, 2, 3)
        await bury(node, "jobs/#", count=3)
        first = await node.ask("dead.list", name="worker", limit=2)
        rest = await node.ask("dead.list", name="worker", limit=2, after=first["letters"][-1]["pos"])
        assert (first["more"], rest["more"]) == (True, False)
        assert [one["data"] for one in [*first["letters"], *rest["letters"]]] == [1, 2, 3]
        assert await node.refused("dead.list", name="worker", after=-1) == "after is the position of a letter"


async def test_retry_publishes_to_the_source_and_takes_the_letter_away(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", {"n": 1}, b"\x00\xff", key="k", headers={"h": "v"})
        await bury(node, "jobs/#", count=2)
        assert await node.ask("dead.retry", name="worker") == {
            "count": 2,
            "refused": [],
            "stopped": "",
            "home": "n1",
        }
        _, _, first, second = await stored(node, "jobs/a")
        assert (first.data, first.key, first.headers) == ({"n": 1}, "k", {"h": "v"})
        assert second.data == b"\x00\xff"
        assert await letters(node) == []
        assert await node.names("dead.list") == []
    async with running(tmp_path) as node:
        assert await letters(node) == []
        assert len(await stored(node, "jobs/a")) == 4


async def test_letter_of_a_deletion_deletes_again(tmp_path: Path) -> None:
    async with running(tmp_path, topics=[COMPACTED]) as node:
        async with triode.connect(node.url) as client:
            await client.publish("state/a", 1, key="k")
            await client.delete_key("state/a", "k")
        await bury(node, "state/#")
        (letter,) = await letters(node)
        assert letter["deletes"] is True
        assert "data" not in letter
        await publish(node, "state/a", 2, key="k")
        assert (await node.ask("dead.retry", name="worker"))["count"] == 1
        assert all(one.deletes_key for one in await stored(node, "state/a"))


async def test_more_letters_than_go_at_once_keep_their_order(tmp_path: Path) -> None:
    count = 3 * dead.MAX_AT_ONCE + 5
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", *range(count))
        await bury(node, "jobs/#", count=count)
        listed = await node.ask("dead.list", name="worker", limit=100)
        assert (len(listed["letters"]), listed["more"]) == (100, True)
        assert [one["count"] for one in await node.names("dead.list")] == [count]
        assert (await node.ask("dead.retry", name="worker"))["count"] == count
        assert [one.data for one in await stored(node, "jobs/a")][count:] == list(range(count))
        assert await letters(node) == []


async def test_only_the_chosen_ones(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", 1, 2, 3)
        await bury(node, "jobs/#", count=3)
        first, second, third = [one["pos"] for one in await letters(node)]
        assert (await node.ask("dead.drop", name="worker", positions=[third, first]))["count"] == 2
        assert [one["pos"] for one in await letters(node)] == [second]
        for gone in (first, 0, -1, 2**53, second - 1):
            why = await node.refused("dead.retry", name="worker", positions=[second, gone])
            assert why == f"worker has no dead letter at position {gone}"
        assert [one["pos"] for one in await letters(node)] == [second]
        assert len(await stored(node, "jobs/a")) == 3
        assert (await node.ask("dead.drop", name="worker"))["count"] == 1
        assert (await node.ask("dead.drop", name="worker"))["count"] == 0


async def test_letters_of_a_group_whose_topics_are_in_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as node, triode.connect(node.url) as client:
        async with client.consume("live/#", group="team") as jobs, client.subscribe("$dead/team") as buried:
            await client.publish("live/a", 7)
            with trio.fail_after(PATIENCE_SECONDS):
                await (await anext(jobs)).reject()
                await anext(buried)
        assert await node.names("dead.list") == [{"name": "team", "tenant": "", "count": 1}]
        assert (await node.ask("dead.retry", name="team"))["count"] == 1
        assert [one.data for one in await stored(node, "live/a")] == [7, 7]
        assert await letters(node, "team") == []


async def test_retry_between_two_files_drops_what_was_stored(tmp_path: Path) -> None:
    async with running(tmp_path, durable_shards=2) as node:
        for number in range(12):
            await publish(node, f"jobs/{number}", number)
        await bury(node, "jobs/#", count=12)
        router = node.broker.router
        homes = {router.shard_of(f"jobs/{number}") is router.home_of("worker") for number in range(12)}
        assert homes == {True, False}
        assert (await node.ask("dead.retry", name="worker"))["count"] == 12
        assert await letters(node) == []
        assert [len(await stored(node, f"jobs/{number}")) for number in range(12)] == [2] * 12


async def test_a_letter_that_its_topic_refuses_stays_and_the_others_go(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", "x" * 500, 1)
        await bury(node, "jobs/#", count=2)
    async with running(tmp_path, topics=[{**ON_DISK, "max_payload_bytes": 100}]) as node:
        (pos, _) = [one["pos"] for one in await letters(node)]
        done = await node.ask("dead.retry", name="worker")
        assert (done["count"], done["stopped"]) == (1, "")
        assert [(one["pos"], "100 bytes" in one["message"]) for one in done["refused"]] == [(pos, True)]
        assert [one["pos"] for one in await letters(node)] == [pos]


async def test_a_store_that_takes_nothing_stops_it_and_no_letter_is_lost(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", *range(100))
        await bury(node, "jobs/#", count=100)
        (store,) = node.broker.stores
        store._state = "full"
        done = await node.ask("dead.retry", name="worker")
        assert (done["count"], done["refused"], done["stopped"]) == (0, [], "the disk is full")
        store._state = "ok"
        assert (await node.ask("dead.list", name="worker", limit=200))["more"] is False
        assert len((await node.ask("dead.list", name="worker", limit=200))["letters"]) == 100


@pytest.mark.parametrize(
    ("call", "parameters", "words"),
    [
        ("dead.list", {"name": 7}, "which name?"),
        ("dead.list", {"name": "w", "limit": 0}, "limit is from 1 to 10000"),
        ("dead.list", {"name": "w", "limit": True}, "limit is from 1 to 10000"),
        ("dead.retry", {}, "which name?"),
        ("dead.drop", {"name": "w", "positions": "all"}, "Expected `array`"),
    ],
    ids=str,
)
async def test_wrong_parameters_get_a_sentence(
    call: str, parameters: dict[str, Any], words: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as node:
        assert words in await node.refused(call, **parameters)


async def test_letters_that_are_many_and_large_are_not_all_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "MAX_LISTED_BYTES", 20_000)
    monkeypatch.setattr(dead, "PAGE_BYTES", 5_000)
    monkeypatch.setattr(dead, "MAX_COUNTED", 25)
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", *["x" * 1_000] * 30)
        await bury(node, "jobs/#", count=30)
        listed = await node.ask("dead.list", name="worker")
        assert listed["more"] is True
        assert 10 <= len(listed["letters"]) <= 20
        assert await node.names("dead.list") == [{"name": "worker", "tenant": "", "count": 25}]

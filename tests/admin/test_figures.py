"""Figures, the busiest topics and the slowest connections, as operators ask for them at the socket of a node."""

import os
from pathlib import Path

import pytest
import triode
from triode_broker.figures import open_descriptors

from tests.admin.running import running


async def test_figures_count_what_was_done(tmp_path: Path) -> None:
    async with running(tmp_path) as node, triode.connect(node.url) as client:
        async with client.subscribe("news/#") as news:
            for number in range(3):
                await client.publish("news/one", number)
                await anext(news)
            await client.publish("jobs/one", "x")
            answer = await node.ask("figures")
        assert answer["unanswered"] == []
        own = answer["nodes"][answer["asked"]]
    assert own["counters"]["published"] == 4
    assert own["counters"]["fanned_out"] == 3
    assert own["gauges"]["sessions"] == 1
    assert own["gauges"]["live_subscriptions"] == 1
    assert own["gauges"]["ready"] == 1
    (listener,) = own["listeners"]
    assert (listener["listener"], listener["connections"], listener["upgraded"]) == ("clients", 1, 1)
    assert sum(listener["published"]["counts"]) == 3
    assert sum(listener["fanned_out"]["counts"]) == 3
    (engine,) = own["engines"]
    assert (engine["engine"], engine["state"], engine["committed_messages"]) == ("d0", "ok", 1)
    assert sum(engine["answered"]["counts"]) == 1
    assert sum(engine["commit"]["counts"]) == engine["commits"] >= 1
    heads = {one["shard"]: one["head"] for one in own["shards"]}
    assert heads["d0"] == 1
    assert sum(heads.values()) == 4
    assert len(own["bounds_us"]) + 1 == len(listener["turns"]["counts"])


async def test_topics_are_listed_by_what_was_published(tmp_path: Path) -> None:
    async with running(tmp_path) as node, triode.connect(node.url) as client, client.subscribe("busy/#"):
        for topic, count in {"busy/a": 3, "busy/b": 2, "quiet": 1, "jobs/x": 1}.items():
            for _ in range(count):
                await client.publish(topic, "1")
        two = await node.ask("topics", limit=2)
        prefixed = await node.ask("topics", prefix="j")
        others = await node.ask("topics", tenant="acme")
    assert [(one["topic"], one["published"]) for one in two["topics"]] == [("busy/a", 3), ("busy/b", 2)]
    assert (two["topics"][0]["subscribers"], two["topics"][0]["retained"]) == (1, 3)
    assert two["topics"][0]["retained_bytes"] > 0
    (job,) = prefixed["topics"]
    assert (job["topic"], job["shard"], job["retained"]) == ("jobs/x", "d0", 1)
    assert job["retained_bytes"] > 0
    assert others["topics"] == []


@pytest.mark.parametrize("call", ["topics", "slow"])
async def test_a_limit_that_is_none_is_told(call: str, tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        for limit in (0, 1001, "5", True, None):
            assert "limit" in await node.refused(call, limit=limit)
        if call == "topics":
            for prefix in (7, None, "x" * 1_025):
                assert "prefix is a text of at most 1024" in await node.refused(call, prefix=prefix)


async def test_nobody_is_slow_while_nothing_waits(tmp_path: Path) -> None:
    async with running(tmp_path) as node, triode.connect(node.url):
        assert await node.ask("slow") == {"connections": [], "unanswered": []}


def test_open_descriptors_are_counted() -> None:
    before = open_descriptors()
    more = [os.dup(0) for _ in range(10)]
    try:
        assert (before > 0, open_descriptors() - before) == (True, 10)
    finally:
        for one in more:
            os.close(one)

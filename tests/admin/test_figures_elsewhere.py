"""Figures of a whole cluster through one of its nodes; and of the processes of one host on one page."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import triode
from triode_broker.admin.everywhere import PATIENCE_SECONDS as ASKED_SECONDS
from triode_broker.admin.figures import Watching, WatchingAll
from triode_broker.http.metrics_page import page

from tests.admin.running import PATIENCE_SECONDS, Running, running


@asynccontextmanager
async def pair(directory: Path) -> AsyncIterator[tuple[Running, Running]]:
    """Two nodes that have found each other."""
    common = {"topics": [], "cluster": "c", "cluster_listen": "127.0.0.1:0", "durable": ["n1"]}
    async with running(directory / "1", node="n1", **common) as one:
        assert one.broker.joining is not None
        seed = one.broker.joining.cluster.identity.cluster_advertise
        async with running(directory / "2", node="n2", seeds=[seed], **common) as two:
            with trio.fail_after(PATIENCE_SECONDS):
                while not (await one.ask("cluster"))["agreed"] or one.broker._unready() or two.broker._unready():
                    await trio.lowlevel.checkpoint()
            yield one, two


async def test_figures_of_all_nodes_come_from_any_with_links_and_shards(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two), triode.connect(two.url) as client:
        for number in range(8):
            await client.publish(f"topic/{number}", number)
        answer = await one.ask("figures")
        assert answer["nodes"].keys() == {"n1", "n2"}
        assert answer["unanswered"] == []
        nodes = answer["nodes"]
        assert sum(node["counters"]["published"] for node in nodes.values()) == 8
        for name, other in (("n1", "n2"), ("n2", "n1")):
            for link in nodes[name]["links"]:
                assert link["peer"] == other
                assert min(link["sent_bytes"], link["received_bytes"], link["sent_messages"]) > 0
        owners = {one["shard"]: one["owner"] for one in nodes["n1"]["shards"]}
        assert owners == {one["shard"]: one["owner"] for one in nodes["n2"]["shards"]}
        forwarded = [sum(shard["forwarded"]["counts"]) for shard in nodes["n2"]["shards"] if not shard["here"]]
        assert sum(forwarded) == nodes["n1"]["counters"]["published"]
        topics = await one.ask("topics", limit=20)
        assert {(one["topic"], one["owner"]) for one in topics["topics"]} >= {
            (f"topic/{number}", owners[shard]) for number, shard in placed(topics)
        }
        assert len(topics["topics"]) == 8


def placed(topics: Mapping[str, Any]) -> list[tuple[int, str]]:
    return [(int(one["topic"].rpartition("/")[2]), one["shard"]) for one in topics["topics"]]


class Others:
    """Other nodes, that say what is written here."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = dict(answers)

    async def ask_all(
        self, method: str, parameters: Mapping[str, Any], seconds: float = ASKED_SECONDS
    ) -> tuple[dict[str, Any], list[str]]:
        assert method == "admin.figures"
        return self._answers, ["n9"]


async def test_page_is_of_all_processes_of_a_host_and_of_no_other(tmp_path: Path) -> None:
    """They share a port: whichever is asked tells of all, apart by `node`."""
    async with running(tmp_path) as node:
        broker = node.broker
        own = broker.figures.report()
        others = Others({"n1-1": {**own, "node": "n1-1"}, "n2": {**own, "node": "n2"}})
        watching = Watching(
            "n1", broker.router, broker.figures.report, broker.figures.slowest, lambda topic: (0, 0)
        )
        answer: Any = await WatchingAll(watching, others, {"n1-1", "n1-2"}, page).metrics({})
    assert 'triode_ready{node="n1"} 1.0' in answer["text"]
    assert 'triode_ready{node="n1-1"} 1.0' in answer["text"]
    assert "n2" not in answer["text"]

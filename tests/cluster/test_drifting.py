"""Nodes that read their settings again: what the others are told of it, and seeds that come and go (S14)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from triode_broker.cluster.drifting import CONFIGURATION
from triode_broker.cluster.frames import Call
from triode_broker.config import TopicRule
from triode_broker.config.effects import put

from tests.admin.running import PATIENCE_SECONDS, Running
from tests.cluster.test_status import cluster_of, is_whole, node, peer_url, view

OTHER_RULES = (TopicRule("jobs/#", "disk", ttl_seconds=9),)


def read(broker: Running, changes: dict[str, Any]) -> None:
    """From here on these are in its file, besides what it was started with."""
    config = put(broker.broker.config, changes)
    broker.broker.reloading.reread = lambda: config


async def until(fact: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not fact():
            await trio.testing.wait_all_tasks_blocked(0.001)


async def test_settings_that_differ_are_told_at_once_and_said_once(tmp_path: Path) -> None:
    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1) as n2:
        whole = await view(n1, is_whole(2))
        assert len({one["digest"] for one in whole["nodes"]}) == 1
        links = set(cluster_of(n1).links.links)
        read(n1, {"topics": OTHER_RULES, "limits.max_history_messages": 3})
        read(n2, {})
        answer = await n1.ask("reload", cluster=True)
        assert {name: one["changed"] for name, one in answer["nodes"].items()} == {
            "n1": ["limits.max_history_messages", "topics"],
            "n2": [],
        }
        assert answer["nodes"]["n1"]["digest"] != answer["nodes"]["n2"]["digest"]
        await until(lambda: cluster_of(n2).degraded())
        assert cluster_of(n2).degraded() == ["node n1 has other settings: topics"]
        assert cluster_of(n1).degraded() == ["node n2 has other settings: topics"]
        for broker, other in ((n1, "n2"), (n2, "n1")):
            assert broker.log.told("settings_differ") == [{"node": other, "settings": ["limits", "topics"]}]
        differing = await view(n1, lambda found: found["degraded"])
        assert len({one["digest"] for one in differing["nodes"]}) == 2
        assert {tuple(link["drift"]) for one in differing["nodes"] for link in one["links"]} == {
            ("limits", "topics")
        }
        read(n2, {"topics": OTHER_RULES, "limits.max_history_messages": 3})
        assert (await n2.ask("reload"))["nodes"]["n2"]["reloaded"]
        await until(lambda: not cluster_of(n1).degraded())
        assert not cluster_of(n2).degraded()
        assert set(cluster_of(n1).links.links) == links  # no link was closed for any of it


async def test_a_node_that_says_what_cannot_be_so_loses_its_link_alone(tmp_path: Path) -> None:
    """S1, S2: bounded like the hello."""
    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1) as n2:
        await view(n1, is_whole(2))
        link = cluster_of(n2).asking_links()[0]
        for params in (b"[]", b'{"a":5}', b'{"%s":"x"}' % (b"a" * 65)):
            await until(lambda: cluster_of(n2).asking_links())
            link = cluster_of(n2).asking_links()[0]
            link.put(Call(0, CONFIGURATION, params))
            await link.over.wait()
        await view(n1, is_whole(2))


async def test_seeds_come_and_go_and_links_stay(tmp_path: Path) -> None:
    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2") as n2:
        seed = peer_url(n1)
        read(n2, {"seeds": (seed,)})
        answer = (await n2.ask("reload"))["nodes"]["n2"]
        assert (answer["changed"], answer["need_a_restart"]) == (["seeds"], [])
        await until(lambda: cluster_of(n1).links.links and cluster_of(n2).links.links)
        (address,) = [one for one in cluster_of(n2).links.addresses if one.url == seed]
        assert address.is_seed
        links = set(cluster_of(n2).links.links)
        read(n2, {"seeds": ()})
        assert (await n2.ask("reload"))["nodes"]["n2"]["changed"] == ["seeds"]
        assert not any(one.is_seed for one in cluster_of(n2).links.addresses)
        assert links <= set(cluster_of(n2).links.links)
        assert cluster_of(n2).ownership.silent_seeds == {}
        absent = "ws://127.0.0.1:1"
        read(n2, {"seeds": (absent,)})
        await n2.ask("reload")
        assert list(cluster_of(n2).ownership.silent_seeds) == [absent]
        read(n2, {"seeds": ()})
        await n2.ask("reload")
        await until(lambda: absent not in {one.url for one in cluster_of(n2).links.addresses})

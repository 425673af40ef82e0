"""What `triode cluster` is told: each node's own view, and what follows from all. Real brokers, in one process."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import triode
from triode_broker.cluster import status
from triode_broker.cluster.addresses import parse_peer_url
from triode_broker.cluster.cluster import Cluster
from triode_broker.cluster.dialling import UNREACHABLE, Address
from triode_broker.cluster.hello import NAME_TAKEN, OTHER_SHARDS, WRONG_SECRET
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from tests.admin.running import ON_DISK, PATIENCE_SECONDS, Running, running
from tests.cluster.town import Citizen, Town


@asynccontextmanager
async def node(folder: Path, name: str, *seeds: Running, **settings: Any) -> AsyncIterator[Running]:
    """One of a cluster."""
    given = {"node": name, "cluster_listen": "127.0.0.1:0", "durable": ("n1",), **settings}
    urls = tuple(peer_url(seed) for seed in seeds)
    async with running(folder / name, **given, seeds=urls, topics=[ON_DISK]) as broker:
        yield broker


def cluster_of(broker: Running) -> Cluster:
    assert broker.broker.joining is not None
    return broker.broker.joining.cluster


def peer_url(broker: Running) -> str:
    (event,) = broker.log.told("peer_listening")
    return f"ws://127.0.0.1:{re.findall('[0-9]+', str(event['address']))[-1]}"


async def view(broker: Running, fact: Callable[[Any], object]) -> Any:
    """Its view of all, as soon as that is so."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            found = await broker.ask("cluster")
            if fact(found):
                return found


def is_whole(count: int) -> Callable[[Any], object]:
    def fact(found: Any) -> bool:
        is_even = found["agreed"] and not found["degraded"] and not found["missing"]
        rtts = [link["rtt_ms"] for one in found["nodes"] for link in one["links"]]
        owners = [shard["owners"] for shard in found["shards"]]
        is_linked = len(rtts) == 2 * count * (count - 1)
        return bool(is_linked and is_even and None not in rtts and all(owners))

    return fact


async def test_a_whole_cluster_is_told_by_each_of_its_nodes(tmp_path: Path) -> None:
    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1) as n2:
        for asked in (n1, n2):
            found = await view(asked, is_whole(2))
            assert (found["asked"], found["cluster"]) == (asked.broker.config.node, "triode")
            assert [one["node"] for one in found["nodes"]] == ["n1", "n2"]
            names = [f"m{number}" for number in range(8)] + ["d0"]
            assert {one["shard"]: one["owners"] for one in found["shards"]} == {name: ["n1"] for name in names}
            assert {tuple(one["lag"].items()) for one in found["shards"]} == {(("n2", 0),)}
            for one, other in zip(found["nodes"], reversed(found["nodes"]), strict=True):
                facts = {(link["direction"], link["node"], link["protocol"]) for link in one["links"]}
                assert facts == {("out", other["node"], 1), ("in", other["node"], 1)}
                assert {tuple(link["drift"]) for link in one["links"]} == {()}
                assert {link["incarnation"] for link in one["links"]} == {other["incarnation"]}
                assert all(link["rtt_ms"] >= 0 and link["outbox_bytes"] >= 0 for link in one["links"])
        assert found["nodes"][1]["addresses"][0] | {"url": ""} == {
            "url": "", "state": "linked", "node": "n1", "seed": True,
        }  # fmt: skip


async def test_it_counts_clients_filters_names_and_what_was_written(tmp_path: Path) -> None:
    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1) as n2:
        await view(n2, is_whole(2))
        async with (
            triode.connect(n2.url) as client,
            client.subscribe("rooms/#") as messages,
            client.consume("jobs/#", durable="worker"),
        ):
            places = [await client.publish("rooms/a", number) for number in range(3)]
            await anext(messages)
            found = await view(n1, is_whole(2))
            here, there = found["nodes"]
            assert (here["sessions"], there["sessions"]) == (
                0,
                1,
            )  # the worker visits its home: no client of that node
            assert (here["interest"], there["interest"]["filters"]) == ({"filters": 1, "waiting": 0}, 1)
            assert here["consumers"] == 1
            (written,) = [one for one in found["shards"] if one["log"] == places[0].log]
            assert written["head"] == 3
            assert written["lag"] == {"n2": 0}
            (seen,) = [one for one in there["shards"] if one["log"] == places[0].log]
            assert (seen["here"], seen["reached"], seen["live"], seen["owner"]) == (False, True, True, "n1")


async def test_what_differs_and_is_not_refused_is_drift(tmp_path: Path) -> None:
    limits = {"peer_ping_ms": 500}
    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1, limits=limits) as n2:
        found = await view(n2, is_whole(2))
        assert [link["drift"] for one in found["nodes"] for link in one["links"]] == [["limits"]] * 4


async def test_a_node_that_is_gone_is_missing_and_the_others_are_degraded(tmp_path: Path) -> None:
    async with node(tmp_path, "n1") as n1:
        async with node(tmp_path, "n2", n1):
            await view(n1, is_whole(2))
        found = await view(n1, lambda found: found["missing"])
        assert (found["missing"], [one["node"] for one in found["nodes"]]) == (["n2"], ["n1"])
        (said,) = found["degraded"]["n1"]
        assert said.startswith("node n2 unreachable for ")


async def test_a_node_that_does_not_answer_is_missing_too(tmp_path: Path) -> None:
    async def refuse(parameters: Mapping[str, Any]) -> object:
        raise Refused(ErrorName.OVERLOADED, "later")

    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1) as n2:
        await view(n1, is_whole(2))
        cluster_of(n2).calls.methods[status.METHOD] = refuse
        found = await n1.ask("cluster")
        assert (found["missing"], [one["node"] for one in found["nodes"]]) == (["n2"], ["n1"])
        (failed,) = n1.log.told("peer_call_failed")
        assert (failed["node"], failed["method"]) == ("n2", "cluster.status")


async def test_tables_that_differ_are_no_agreement_and_each_view_is_shown(tmp_path: Path) -> None:
    """A newer node may say more of itself."""

    async def tell(parameters: Mapping[str, Any]) -> object:
        own = status.own_view(cluster_of(n2))
        for shard in own["shards"]:
            shard |= {"owner": "n2", "here": True}
        return own | {"table": "another", "degraded": ["shard m0: no owner"], "weather": "fine"}

    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1) as n2:
        await view(n1, is_whole(2))
        cluster_of(n2).calls.methods[status.METHOD] = tell
        found = await n1.ask("cluster")
        assert (found["agreed"], found["missing"]) == (False, [])
        assert found["degraded"] == {"n2": ["shard m0: no owner"]}
        assert {tuple(one["owners"]) for one in found["shards"]} == {("n1", "n2")}


async def test_a_node_without_a_cluster_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        refused = await broker.refused("cluster")
    assert refused == "this node is in no cluster: --cluster-listen or --seed puts it into one"


async def test_a_store_that_fails_is_known_to_all_and_can_still_be_read(tmp_path: Path) -> None:
    async with node(tmp_path, "n1") as n1, node(tmp_path, "n2", n1) as n2:
        await view(n2, is_whole(2))
        async with triode.connect(n2.url, publish_expiry_seconds=0.1) as client, client.subscribe("#") as messages:
            await client.publish("jobs/a", 0)
            assert (await anext(messages)).data == 0
            n1.broker.stores[0]._state = "failed"
            said = {name: ["shard d0: its store failed on n1"] for name in ("n1", "n2")}
            await view(n2, lambda found: found["agreed"] and found["degraded"] == said)
            with pytest.raises(triode.Refused) as refused:
                await client.publish("jobs/a", 1)
            assert refused.value.name == "unavailable"
            assert [one.data for one in (await client.history("jobs/a", last=10)).messages] == [0]
            await client.publish("rooms/a", 2)
            assert (await anext(messages)).data == 2
        async with triode.connect(n1.url, publish_expiry_seconds=0.1) as client:
            with pytest.raises(triode.Refused, match="the store has failed: restart the node"):
                await client.publish("jobs/a", 3)


async def test_a_seed_that_names_no_port_is_known_when_it_answers(tmp_path: Path) -> None:
    async with running(tmp_path, node="n1", cluster_listen="127.0.0.1:0", seeds=("ws://127.0.0.9",)) as n1:
        assert cluster_of(n1).ownership.seeds == ("ws://127.0.0.9:7401",)


# Who cannot join


def refused_by(citizen: Citizen, reason: str, url: str = "ws://n9:7401") -> None:
    """What came of dialling its seed."""
    with_state = Address(parse_peer_url(url), is_seed=True, state=reason, useful_at=0)
    citizen.cluster.links.addresses[:] = [with_state]


@pytest.mark.parametrize("reason", [WRONG_SECRET, OTHER_SHARDS, NAME_TAKEN])
def test_a_node_that_its_seed_refuses_serves_nothing_and_is_not_ready(reason: str) -> None:
    """G8: it does not acknowledge into a log that nobody else knows."""
    town = Town(1)
    citizen = Citizen("n2", town)
    refused_by(citizen, reason)
    town.citizens.append(citizen)
    town.wait(20_000)
    assert citizen.owned() == []
    said = f"no link with seed ws://n9:7401: {reason}"
    assert status.unready(citizen.cluster) == [said, "no owner is known of m0, m1"]
    assert said in citizen.cluster.degraded()
    refused_by(citizen, UNREACHABLE)
    town.wait(4_000)
    assert (citizen.owned(), status.unready(citizen.cluster)) == (["m0", "m1"], [])


@pytest.mark.parametrize("is_other_twin", [True, False])
def test_who_was_in_goes_on_when_refused_but_not_beside_a_node_of_its_name(is_other_twin: bool) -> None:
    """It may be the other one whose settings are wrong."""
    town = Town(2)
    one, other = town.citizens
    town.cut(one, other)
    refused_by(other, NAME_TAKEN if is_other_twin else WRONG_SECRET)
    town.wait(20_000)
    assert other.owned() == ([] if is_other_twin else ["m0", "m1"])
    assert bool(status.unready(other.cluster)) == is_other_twin


def test_a_seed_that_refuses_is_told_of_while_there_are_links_and_the_node_is_ready() -> None:
    town = Town(2)
    other = town.citizens[1]
    refused_by(other, WRONG_SECRET)
    town.wait(4_000)
    assert other.cluster.degraded() == ["no link with seed ws://n9:7401: wrong_secret"]
    assert status.unready(other.cluster) == []


def test_a_sleeper_is_not_ready_until_it_knows_what_it_owns() -> None:
    town = Town(2)
    one, other = town.citizens
    town.cut(one, other)
    one.steady_ms += 6_000
    one.cluster.tick()
    assert status.unready(one.cluster) == ["suspended after a pause: m0, m1"]
    town.wait(11_000)
    assert status.unready(one.cluster) == []


# What follows from views


def one_view(name: str, *shards: dict[str, Any], table: str = "same", **facts: Any) -> dict[str, Any]:
    return {"node": name, "table": table, "degraded": [], "shards": list(shards), **facts}


def seen(shard: str = "m0", *, here: bool = False, head: int = 0, **facts: Any) -> dict[str, Any]:
    return {"shard": shard, "here": here, "head": head, "log": "m0-1", "epoch": 1, "reached": True, **facts}


def test_lag_is_what_others_have_not_got_yet() -> None:
    views = [
        one_view("n1", seen(here=True, head=10)),
        one_view("n2", seen(head=7)),
        one_view("n3", seen(head=12)),  # asked a moment later
        one_view("n4", seen(head=10, reached=False)),
    ]
    (shard,) = status._shards(views)
    assert shard["lag"] == {"n2": 3, "n3": 0, "n4": None}
    assert (shard["shard"], shard["owners"], shard["epoch"], shard["head"]) == ("m0", ["n1"], 1, 10)


def test_two_owners_are_both_shown_and_none_is_nobody() -> None:
    both = [one_view("n1", seen(here=True, head=3)), one_view("n2", seen(here=True, head=4))]
    assert status._shards(both)[0]["owners"] == ["n1", "n2"]
    (nobody,) = status._shards([one_view("n1", seen(head=3)), one_view("n2", seen())])
    assert (nobody["owners"], nobody["lag"], nobody["log"]) == ([], {}, "")

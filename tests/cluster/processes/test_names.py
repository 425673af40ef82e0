"""Durable subscriptions, groups and dead letters of a cluster, from any of its nodes (SPEC 9.9).

Real processes; the nodes are killed with kill -9, and the operator's commands are run as commands.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import trio
import triode
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.core.shard import shard_index

from tests.cli.programs import Ended, run
from tests.cluster.processes.nodes import CONFIG, NodeProcess, RealCluster, cluster_of
from tests.cluster.processes.quick import Quick

PATIENCE_SECONDS = 90.0
NODES = ("n1", "n2", "n3")


def at_home(node: str, of: str = "name") -> str:
    """A name, or a topic's end, that belongs to a shard of this node: shard i is on disk at node i."""
    return next(name for name in (f"{of}{number}" for number in range(99)) if NODES[shard_index(name, 3)] == node)


def topic_at(node: str) -> str:
    """A topic on this node's disk."""
    topics = (f"durable/{number}" for number in range(99))
    return next(topic for topic in topics if NODES[shard_index(topic, 3)] == node)


@asynccontextmanager
async def connected(cluster: RealCluster, *names: str) -> AsyncIterator[list[triode.Client]]:
    """A client at each of these nodes."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(triode.connect(cluster.node(name).url)) for name in names]


async def publish(cluster: RealCluster, topic: str, *data: object) -> None:
    """Through the first node that lives."""
    node = next(node for node in cluster.nodes if node.is_running)
    async with triode.connect(node.url) as client:
        for one in data:
            await client.publish(topic, one)


async def take(deliveries: triode.Deliveries, count: int) -> list[triode.Delivery]:
    """The next so many; gaps are passed over."""
    found: list[triode.Delivery] = []
    with trio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            item = await anext(deliveries)
            if isinstance(item, triode.Delivery):
                found.append(item)
    return found


def data(deliveries: list[triode.Delivery]) -> list[Any]:
    """What they carry."""
    return [one.data for one in deliveries]


async def ask(node: NodeProcess, *arguments: str) -> Ended:
    """An operator's command at one node."""
    return await run(*arguments, "--data", str(node.directory / node.name))


async def ask_json(node: NodeProcess, *arguments: str) -> Any:
    """What it prints as JSON."""
    ended = await ask(node, *arguments, "--json")
    assert ended.code == ExitCode.OK, ended
    return json.loads(ended.output)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RealCluster]:
    async with cluster_of(3, tmp_path, config=f"{CONFIG}[limits]\ndrain_window_ms = 200\n") as found:
        yield found


async def test_a_name_goes_on_at_whatever_node_its_client_comes_to(cluster: RealCluster) -> None:
    """SPEC 9.9.1."""
    await publish(cluster, topic_at("n2"), *range(12))
    for home in NODES:
        for turn, node in enumerate(NODES):
            async with (
                connected(cluster, node) as (client,),
                client.consume("durable/#", durable=at_home(home), from_="earliest", window=6) as jobs,
            ):
                four = await take(jobs, 4)
                assert data(four) == list(range(4 * turn, 4 * turn + 4))
                for one in four:
                    await one.ack()


async def test_members_on_all_nodes_share(cluster: RealCluster) -> None:
    """SPEC 9.5.1, 9.9.1."""
    async with connected(cluster, *NODES) as clients, AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(client.consume("durable/#", group="team", window=3))
            for client in clients
        ]
        await publish(cluster, topic_at("n1"), *range(9))
        had = [data(await take(member, 3)) for member in members]
        assert sorted(chain.from_iterable(had)) == list(range(9))


async def test_what_a_lost_node_held_goes_to_others(cluster: RealCluster) -> None:
    """SPEC 9.4.3: kill -9 of a node that is not the home."""
    async with connected(cluster, "n1", "n2") as (near, other), AsyncExitStack() as stack:
        wish: dict[str, Any] = {"durable": at_home("n1"), "shared": True, "window": 4}
        first = await stack.enter_async_context(near.consume(topic_at("n2"), **wish))
        async with triode.connect(cluster.node("n3").url) as far:
            lost = await stack.enter_async_context(far.consume(topic_at("n2"), **wish))
            await publish(cluster, topic_at("n2"), *range(8))
            kept = await take(first, 4)
            had = await take(lost, 4)
            assert sorted(data(kept) + data(had)) == list(range(8))
            await cluster.node("n3").kill()
            second = await stack.enter_async_context(other.consume(topic_at("n2"), **wish))
            again = await take(second, 4)
            assert sorted(data(again)) == sorted(data(had))
            assert {one.attempt for one in again} == {2}


async def test_a_home_that_was_killed_has_forgotten_nothing(cluster: RealCluster) -> None:
    """SPEC 9.9.2, 9.9.3: its clients come back by themselves."""
    home = cluster.node("n3")
    name, topic = at_home("n3"), topic_at("n1")
    async with (
        connected(cluster, "n2") as (client,),
        client.consume(topic, durable=name, window=3, from_="earliest") as jobs,
    ):
        await publish(cluster, topic, *range(6))
        one, two, three = await take(jobs, 3)
        await one.ack()
        await three.ack()
        await home.kill()
        await publish(cluster, topic, 6)
        with pytest.raises(triode.TriodeError):
            await two.ack()
        other = await Quick.open(cluster.node("n1").url)
        asked = await other.send({"type": "subscribe", "sub": 1, "filter": topic, "durable": name})
        answer = await other.until("subscribed", "error", id=asked)
        assert answer.get("name") in ("unavailable", "timeout"), answer  # no other node takes the name over
        other.cut()
        await home.start()
        again = []
        for _ in range(5):
            (delivery,) = await take(jobs, 1)
            again.append(delivery)
            await delivery.ack()
        assert sorted(data(again)) == [1, 3, 4, 5, 6]


async def test_nodes_that_end_in_good_order_give_back_cleanly(cluster: RealCluster) -> None:
    """SPEC 9.4.4: the client's node, then the home."""
    name, topic = at_home("n3"), topic_at("n1")
    await publish(cluster, topic, 0)
    leaving = await Quick.open(cluster.node("n2").url)
    await leaving.send({"type": "subscribe", "sub": 1, "filter": topic, "durable": name, "from": "earliest"})
    assert (await leaving.until("delivery"))["attempt"] == 1
    await cluster.node("n2").end()
    leaving.cut()
    async with connected(cluster, "n1") as (client,), client.consume(topic, durable=name) as jobs:
        (again,) = await take(jobs, 1)
        assert again.attempt == 1
        await cluster.node("n3").end()
        await cluster.node("n3").start()
        (again,) = await take(jobs, 1)
        assert again.attempt == 1


async def test_an_operator_may_ask_any_node(cluster: RealCluster) -> None:
    """SPEC 9.8.3; decision 0006."""
    name, topic = at_home("n2"), topic_at("n3")
    async with connected(cluster, "n1") as (client,):
        async with client.consume(topic, durable=name, max_attempts=1) as jobs:
            await publish(cluster, topic, "a", "b", "c")
            for one in await take(jobs, 3):
                await one.reject()
            for node in cluster.nodes:
                (shown,) = await ask_json(node, "subs", "list")
                assert (shown["name"], shown["home"], shown["dead_letters"]) == (name, "n2", 3)
                listed = {"name": name, "tenant": "", "count": 3, "home": "n2"}
                assert await ask_json(node, "dead", "list") == [listed]
                letters = (await ask_json(node, "dead", "list", name))["letters"]
                assert [letter["data"] for letter in letters] == ["a", "b", "c"]
                assert (await ask_json(node, "subs", "show", name))["home"] == "n2"
            done = await ask(cluster.node("n1"), "dead", "retry", name, "--pos", str(letters[1]["pos"]))
            assert (done.code, done.output) == (ExitCode.OK, "1 dead letter published again\n")
            (again,) = await take(jobs, 1)
            assert again.data == "b"
            done = await ask(cluster.node("n3"), "dead", "drop", name, "--all")
            assert done.output == "2 dead letters dropped\n"
            assert (await ask(cluster.node("n1"), "dead", "drop", name, "--pos", "4711")).code == ExitCode.REFUSED
            await again.ack()
        assert (await ask(cluster.node("n3"), "subs", "rewind", name, "--to", "new")).code == ExitCode.OK
    await cluster.node("n2").kill()
    ended = await ask(cluster.node("n1"), "subs", "list")
    assert ended.code == ExitCode.TIMEOUT
    assert "no answer from n2" in ended.errors
    ended = await ask(cluster.node("n1"), "subs", "show", name)
    assert (ended.code, "n2" in ended.errors) == (ExitCode.REFUSED, True)
    await cluster.node("n2").start()
    await cluster.whole()
    ended = await ask(cluster.node("n3"), "subs", "delete", name)
    assert (ended.code, ended.output) == (ExitCode.OK, f"{name} is deleted\n")
    assert await ask_json(cluster.node("n1"), "subs", "list") == []

"""Webhooks of real nodes: one that is killed in the midst of a request, and a cluster that loses a node."""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
import triode
from triode_broker.core.shard import shard_index

from tests.auth.endpoint import reply
from tests.cluster.processes.nodes import RealCluster, cluster_of
from tests.webhooks.sink import Sink, row

NO_CONTENT = reply(b"", "204 No Content")


def toml(rows: list[dict[str, Any]]) -> str:
    """As a file has them."""
    lines = ["[limits]", "vacated_after_ms = 100", "[[topics]]", 'filter = "jobs/#"', 'storage = "disk"']
    for one in rows:
        lines += ["[[webhooks]]", *(f"{name} = {json.dumps(value)}" for name, value in one.items())]
    return "\n".join(lines) + "\n"


def ended(sink: Sink, kind: str, beginning: str) -> bool:
    """Whether all that began has ended."""
    return bool(sink.of(beginning)) and len({one["id"] for one in sink.of(kind)}) >= len(
        {one["id"] for one in sink.of(beginning)}
    )


async def test_a_kill_between_delivery_and_answer_is_told_again_with_the_same_ids(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """kill -9: what was asked and not answered; and the end of clients that nobody could tell of."""
    is_back: list[bool] = []
    sink = await Sink(lambda _: NO_CONTENT if is_back else None).start(nursery)
    config = toml([row(sink, tmp_path)])
    async with cluster_of(1, tmp_path, durable=["n1"], config=config) as cluster:
        node = cluster.node("n1")
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(triode.connect(node.url))
            await stack.enter_async_context(client.subscribe("rooms/1", presence={"state": 1}))
            await sink.until(lambda: bool(sink.requests))
            assert (await client.publish("jobs/1", 1)).level == "disk"  # so are the events, which were before it
            await node.kill()
            first = sink.requests[0].json["events"]
            is_back.append(True)
        await node.start()
        await node.started()
        await sink.until(lambda: ended(sink, "client.disconnected", "client.connected"))
        await sink.until(lambda: bool(sink.of("member.left")))
        assert {event["id"] for event in first} <= {event["id"] for event in sink.taken}
        (gone,) = sink.of("client.disconnected")
        (left,) = sink.of("member.left")
        assert gone["reason"] == left["reason"] == "node_lost"
        assert left["member"] == sink.of("member.joined")[0]["member"]


async def test_the_end_of_a_nodes_clients_is_told_once_by_the_others(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """One of three dies: its client, its member, and the topic that only it had: each end has one id."""
    sink = await Sink().start(nursery)
    config = toml([row(sink, tmp_path)])
    async with cluster_of(3, tmp_path, durable=["n1"], config=config) as cluster, AsyncExitStack() as stack:
        for index, node in enumerate(cluster.nodes):
            client = await stack.enter_async_context(triode.connect(node.url))
            await stack.enter_async_context(client.subscribe(f"rooms/{index}", presence={"state": index}))
        topic = await _owned_elsewhere(cluster, "n3")
        await stack.enter_async_context(client.subscribe(topic))
        for kind, count in (("client.connected", 3), ("member.joined", 3), ("topic.occupied", 4)):
            await sink.until(lambda kind=kind, count=count: len(sink.of(kind)) >= count)  # type: ignore[misc]  # bound now
        await cluster.node("n3").kill()
        await sink.until(lambda: bool(sink.of("client.disconnected")) and bool(sink.of("member.left")))
        await sink.until(lambda: topic in {one["topic"] for one in sink.of("topic.vacated")})
        (joined,) = (one for one in sink.of("member.joined") if one["topic"] == "rooms/2")
        assert {one["member"] for one in sink.of("member.left")} == {joined["member"]}
        assert {one["reason"] for one in sink.of("client.disconnected")} == {"node_lost"}
        for kind in ("client.disconnected", "member.left"):
            assert len({one["id"] for one in sink.of(kind)}) == 1
        assert not {one["topic"] for one in sink.of("topic.vacated")} & {"rooms/0", "rooms/1"}


async def _owned_elsewhere(cluster: RealCluster, node: str) -> str:
    """A topic whose owner is another node: it goes on to say who is there."""
    owners = await cluster.owners()
    names = (f"halls/{number}" for number in range(100))
    return next(name for name in names if owners[f"m{shard_index(name, 8)}"] != node)

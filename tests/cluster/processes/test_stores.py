"""Durable shards of real nodes: the holder alone serves its file, and nobody ever takes its place (G1, G8)."""

import shutil
from pathlib import Path

import pytest
import trio

from tests.cluster.processes.nodes import RealCluster, cluster_of
from tests.cluster.processes.quick import Quick
from tests.history.events import Packet

PATIENCE_SECONDS = 60.0


async def publish(client: Quick, topic: str, number: int) -> Packet:
    """Its answer."""
    asked = await client.send({"type": "publish", "topic": topic, "data": number})
    return await client.until("published", "error", id=asked)


async def topics_by_shard(client: Quick) -> dict[str, str]:
    """A durable topic for each shard."""
    found: dict[str, str] = {}
    for number in range(40):
        answer = await publish(client, f"durable/{number}", 0)
        assert answer["type"] == "published", answer
        found.setdefault(answer["log"].partition("-")[0], f"durable/{number}")
    return found


async def numbers(client: Quick, upto: int) -> list[int]:
    """What is delivered, until this number; a gap is -1."""
    got: list[int] = []
    while not got or got[-1] != upto:
        packet = await client.until("message", "delivery", "gap")
        got.append(-1 if packet["type"] == "gap" else packet.get("message", packet)["data"])
    return got


def files(directory: Path, shard: str) -> list[Path]:
    """Those of a durable shard under a node's data directory."""
    return [path for path in directory.rglob("*") if path.is_file() and shard in path.name]


@pytest.mark.timeout(150)
async def test_while_a_holder_is_away_its_topics_wait_and_the_others_go_on(tmp_path: Path) -> None:
    """G8: `unavailable` and no take-over; back, its subscribers go on without loss."""
    with trio.fail_after(PATIENCE_SECONDS * 2):
        async with cluster_of(3, tmp_path) as cluster:
            n1, _, n3 = cluster.nodes
            client = await Quick.open(n1.url)
            listener = await Quick.open(cluster.node("n2").url)
            topics = await topics_by_shard(client)
            before = {shard: log for shard, log in (await heads(cluster)).items() if shard[0] == "d"}
            asked = await listener.send({"type": "subscribe", "sub": 1, "filter": topics["d2"]})
            await listener.until("subscribed", id=asked)
            for number in (1, 2, 3):
                assert (await publish(client, topics["d2"], number))["level"] == "disk"

            await n3.kill()
            await cluster.complains("n1", "shard d2: holder n3 away")
            refused = await publish(client, topics["d2"], 99)
            assert (refused["type"], refused["name"]) == ("error", "unavailable")
            for shard in ("d0", "d1"):
                assert (await publish(client, topics[shard], 4))["level"] == "disk"

            await n3.start()
            await cluster.whole()
            assert (await publish(client, topics["d2"], 4))["level"] == "disk"
            got = await numbers(listener, 4)
            assert [number for number in got if number != -1] == [1, 2, 3, 4]
            assert {shard: log for shard, log in (await heads(cluster)).items() if shard[0] == "d"} == before
            for quick in (client, listener):
                quick.cut()


async def heads(cluster: RealCluster) -> dict[str, str]:
    """The log of each shard."""
    return {shard["shard"]: shard["log"] for shard in (await cluster.nodes[0].view())["shards"]}


@pytest.mark.timeout(150)
async def test_missing_file_is_made_only_when_all_others_have_said_that_they_know_none(tmp_path: Path) -> None:
    """A holder without its file waits while another one of the list is away; --create-store does not wait."""
    async with cluster_of(2, tmp_path, durable=("n1", "n2"), starts=False) as cluster:
        n1, n2 = cluster.nodes
        await n1.start()
        await cluster.complains(
            "n1", "shard d0: no file here, waiting for the word of n2", "shard d1: holder n2 away"
        )
        assert files(tmp_path / "n1", "d0") == []
        client = await Quick.open(n1.url)
        refused = await topic_of(client, "unavailable")
        assert refused
        await n2.start()
        await cluster.whole()
        assert files(tmp_path / "n1", "d0")
        assert n1.times("store_made", shard="d0")
        client.cut()

        for node in (n1, n2):
            await node.end()
        shutil.rmtree(tmp_path / "n1")
        await n1.start("--create-store")
        await cluster.complains("n1", "shard d1: holder n2 away")
        assert files(tmp_path / "n1", "d0")


async def topic_of(client: Quick, error: str) -> str:
    """A durable topic whose publishes are refused like this."""
    for number in range(40):
        answer = await publish(client, f"durable/{number}", 0)
        if answer["type"] == "error" and answer["name"] == error:
            return f"durable/{number}"
    return ""


@pytest.mark.timeout(150)
async def test_lost_file_is_not_made_anew_while_the_cluster_remembers_its_log(tmp_path: Path) -> None:
    """Somebody deleted it: the holder says so and serves nothing in its place."""
    async with cluster_of(2, tmp_path) as cluster:
        n1, _ = cluster.nodes
        await n1.kill()
        shutil.rmtree(tmp_path / "n1")
        await n1.start()
        await cluster.complains("n1", "shard d0: no file here, but the cluster knows its log d0-")
        assert files(tmp_path / "n1", "d0") == []
        await n1.kill()
        await n1.start("--create-store")
        await n1.started()
        await cluster.whole()
        assert files(tmp_path / "n1", "d0")


@pytest.mark.timeout(150)
async def test_two_announcers_of_one_file_both_refuse(tmp_path: Path) -> None:
    """The holder's data directory was copied, and served by another node as well: health says so on all."""
    async with cluster_of(3, tmp_path, durable=("n1", "n2", "n3")) as cluster:
        n1, n2, n3 = cluster.nodes
        for node in (n1, n3):
            await node.end()
        for path in files(tmp_path / "n1", "d0"):
            copy = tmp_path / "n3" / path.relative_to(tmp_path / "n1")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        n3.flags[n3.flags.index("--durable") + 1] = "n3,n2,n1"
        await n1.start()
        await n3.start()
        await cluster.complains("n1", "shard d0: announced by")
        await cluster.complains("n3", "shard d0: announced by")
        await cluster.complains("n2", "shard d0: announced by")
        for node in (n1, n3, n2):
            client = await Quick.open(node.url)
            assert await topic_of(client, "unavailable")
            client.cut()

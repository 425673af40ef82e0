"""The client and a cluster of real nodes: it knows all three addresses, and survives kill -9 of the one it is at.

Whatever node dies, nothing is asked of the program: no new client, no new subscription, no publish again.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import trio
import triode
from attrs import define, field

from tests.cluster.processes.nodes import NodeProcess, RealCluster, cluster_of, until
from tests.cluster.processes.test_names import at_home, topic_at

PATIENCE_SECONDS = 60
NODES = ("n1", "n2", "n3")
DURABLE = [topic_at(node) for node in NODES]
MEMORY = [f"memory/{number}" for number in range(6)]


@define
class AtAny:
    """A client of all nodes, and the one it is at."""

    client: triode.Client
    nodes: list[str] = field(factory=list)  # it was connected to, the last one last

    @classmethod
    @asynccontextmanager
    async def of(cls, urls: list[str], **options: Any) -> AsyncIterator[Self]:
        """Connected."""
        at = cls(triode.connect(urls, **options))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at._watch, at.client.events())
            async with at.client:
                await until(lambda: bool(at.nodes), "a node")
                yield at

    async def _watch(self, events: triode.Events) -> None:
        async for event in events:
            if isinstance(event, triode.StateChanged) and event.node:
                self.nodes.append(event.node)

    async def moved(self, count: int) -> None:
        """It has gone on somewhere else."""
        await until(lambda: len(self.nodes) > count, "another node")
        assert self.nodes[-1] != self.nodes[-2]


@define
class Traffic:
    """What goes on in all topics meanwhile."""

    acked: dict[str, dict[int, triode.Published]] = field(factory=dict)
    seen: dict[str, list[triode.Message]] = field(factory=dict)
    is_over: bool = False

    async def publish(self, client: triode.Client, topic: str) -> None:
        """One number after the other, each acknowledged."""
        number = 0
        done = self.acked[topic] = {}
        while not self.is_over:
            try:
                done[number] = await client.publish(topic, number)
            except (triode.OutcomeUnknown, triode.PublishRefused):  # said so: no promise
                assert topic in MEMORY
            number += 1

    async def listen(self, messages: triode.Messages) -> None:
        """All that comes."""
        async for item in messages.events():
            if isinstance(item, triode.Message):
                self.seen.setdefault(item.topic, []).append(item)

    def missing(self, topic: str) -> set[int]:
        """Acknowledged, and not here."""
        return self.acked[topic].keys() - {message.data for message in self.seen.get(topic, ())}

    def owed(self, position: triode.Position) -> bool:
        """Whether something is missing that is on disk, or in a log that no gap has taken away."""
        lacks = [(topic, number) for topic in self.acked for number in self.missing(topic)]
        return any(topic in DURABLE or self.acked[topic][number].log in position for topic, number in lacks)

    def progress(self) -> Callable[[], bool]:
        """Whether something more was acknowledged, and has come, in every topic."""
        then = {topic: max(self.acked.get(topic, ()), default=-1) for topic in (*DURABLE, *MEMORY)}

        def is_made() -> bool:
            return all(
                any(message.data > number for message in self.seen.get(topic, ())[-1:])
                and max(self.acked.get(topic, ()), default=-1) > number
                for topic, number in then.items()
            )

        return is_made


async def killed(cluster: RealCluster, name: str) -> NodeProcess:
    """kill -9."""
    node = cluster.node(name)
    node.flags += ["--listen", node.url.removeprefix("http://")]  # its address in the next life
    await node.kill()
    return node


async def test_subscriber_and_publisher_survive_the_node_they_are_at(tmp_path: Path) -> None:
    """G1, G3, G4, SPEC 5.3.6: what was acknowledged on disk comes, what was in memory does or a gap tells."""
    async with cluster_of(3, tmp_path) as cluster:
        urls = [node.url for node in cluster.nodes]
        traffic = Traffic()
        async with (
            AtAny.of(urls) as near,
            AtAny.of(urls, publish_expiry_seconds=PATIENCE_SECONDS) as far,
            near.client.subscribe("durable/#") as on_disk,
            near.client.subscribe("memory/#") as in_memory,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(traffic.listen, on_disk)
            nursery.start_soon(traffic.listen, in_memory)
            async with trio.open_nursery() as publishing:
                for topic in (*DURABLE, *MEMORY):
                    publishing.start_soon(traffic.publish, far.client, topic)
                await until(traffic.progress(), "the first messages")
                for at in (near, far):
                    moves = len(at.nodes)
                    victim = await killed(cluster, at.nodes[-1])
                    await at.moved(moves)
                    await victim.start()
                    await until(traffic.progress(), "messages in all topics", cluster.said)
                traffic.is_over = True
            await until(
                lambda: not traffic.owed(in_memory.position),
                "what was acknowledged and still exists",
                cluster.said,
            )
            nursery.cancel_scope.cancel()
    for topic, messages in traffic.seen.items():
        places = [(message.log, message.pos) for message in messages]
        assert len(set(places)) == len(places), f"twice in {topic}"
        if topic in DURABLE:
            numbers = [message.data for message in messages]
            assert numbers == sorted(set(numbers))
    reasons = {gap.reason for gap in on_disk.gaps}
    assert reasons <= {"partition"}  # told while a disk is away; what is on it came all the same
    is_whole = not any(map(traffic.missing, MEMORY))
    assert is_whole or "reset" in {gap.reason for gap in in_memory.gaps}


async def test_consumer_goes_on_elsewhere_and_when_its_home_is_back(tmp_path: Path) -> None:
    """G5, SPEC 5.3.6, 9.9: first the client's node dies, its home alive, then the home."""
    async with cluster_of(3, tmp_path) as cluster, AtAny.of([node.url for node in cluster.nodes]) as worker:
        entry = worker.nodes[-1]
        home, third = (name for name in NODES if name != entry)
        topic = topic_at(third)
        done: list[int] = []
        async with (
            worker.client.consume(topic, durable=at_home(home), window=3) as jobs,
            triode.connect(cluster.node(third).url) as client,
        ):

            async def work(first: int) -> None:
                for number in range(first, first + 10):
                    await client.publish(topic, number)
                with trio.fail_after(PATIENCE_SECONDS):
                    async for job in jobs:
                        try:
                            await job.ack()
                        except triode.TriodeError:
                            continue  # it comes again
                        done.append(job.data)
                        if job.data == first + 9:
                            return

            await work(0)
            node = await killed(cluster, entry)
            await work(10)
            assert worker.nodes[-1] != entry
            await node.start()
            await node.started()
            node = await killed(cluster, home)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, 20)
                await node.start()
        assert sorted(set(done)) == list(range(30))
        assert len(done) == 30

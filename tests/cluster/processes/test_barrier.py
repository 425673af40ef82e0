"""`subscribed` is a barrier over the whole cluster: what is published anywhere after it arrives, or a gap does.

Real nodes, over real sockets; the publish leaves for another node the instant `subscribed` has come.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import permutations
from pathlib import Path

import pytest
import trio
from attrs import define

from tests.cluster.processes.nodes import RealCluster, cluster_of, until
from tests.cluster.processes.quick import Quick
from tests.history.events import Packet

TIMES = 4_000  # ten thousand in the simulator (tests/sim/test_barrier.py); by hand here as well
AT_ONCE = 20
TIMES_WHILE_MOVING = 400  # before the owner dies, and again after somebody else has claimed its shards
#: On the busiest machine.
PATIENCE_SECONDS = 90.0
Run = Callable[["Runner"], Awaitable[None]]


@define(eq=False)
class Runner:
    """A client of all nodes at once, that subscribes at one and publishes at another."""

    name: str
    clients: Sequence[Quick]
    done: int = 0
    told: int = 0  # of a gap, or that a shard is unavailable
    refused: int = 0
    doing: str = ""

    def wishes(self) -> Iterator[tuple[Quick, Quick, str, str]]:
        """Subscriber, publisher, filter, topic: no two alike, exact and wildcard in turn."""
        number = 0
        while True:
            for here, there in permutations(self.clients, 2):
                number += 1
                topic = f"barrier/{self.name}/{number}"
                filters = topic, f"+/{self.name}/{number}", f"{topic}/#"
                yield here, there, filters[number % 3], topic

    async def once(self, here: Quick, there: Quick, filter: str, topic: str) -> None:
        """Subscribe, publish elsewhere at once, and see it come. Raises AssertionError."""
        sub = here.last_id + 1
        self.doing = f"{filter} at {here.node}, published at {there.node}"
        asked = await here.send({"type": "subscribe", "sub": sub, "filter": filter})
        answer = await here.until("subscribed", "error", id=asked)
        assert answer["type"] == "subscribed", answer
        published = await there.send({"type": "publish", "topic": topic, "data": 1})
        result = await there.until("published", "error", id=published)
        if result["type"] == "published":
            await self._expect(here, sub, topic, answer)
        else:
            assert result["name"] in ("unavailable", "timeout"), result
            self.refused += 1
        await here.send({"type": "unsubscribe", "sub": sub})
        self.done += 1

    async def _expect(self, here: Quick, sub: int, topic: str, answer: Packet) -> None:
        """The message, or a gap; what was unavailable may come without, or with the gap later."""
        while True:
            packet = await here.receive()
            if packet["type"] in ("message", "delivery"):
                message = packet.get("message", packet)
                if message["topic"] == topic:
                    return
            elif packet["type"] == "gap" and packet["sub"] == sub:
                self.told += 1
                return


@asynccontextmanager
async def runners(cluster: RealCluster, count: int, nodes: Sequence[str]) -> AsyncIterator[list[Runner]]:
    """So many, connected."""
    everybody = []
    try:
        for number in range(count):
            clients = [await Quick.open(cluster.node(name).url, name) for name in nodes]
            everybody.append(Runner(f"r{number}", clients))
        yield everybody
    finally:
        for runner in everybody:
            for client in runner.clients:
                client.cut()


async def together(everybody: Sequence[Runner], run: Run) -> None:
    """All at once; who waits for ever is named."""
    with trio.move_on_after(PATIENCE_SECONDS) as scope:
        async with trio.open_nursery() as nursery:
            for runner in everybody:
                nursery.start_soon(run, runner)
    assert not scope.cancelled_caught, [(runner.name, runner.doing) for runner in everybody]


@pytest.mark.timeout(150)
async def test_what_is_published_at_another_node_behind_subscribed_is_never_missed(tmp_path: Path) -> None:
    """10,000 times over changing nodes, topics and filters (G3, G4)."""

    async def run(runner: Runner) -> None:
        for wish in runner.wishes():
            await runner.once(*wish)
            if runner.done == TIMES // AT_ONCE:
                return

    async with cluster_of(3, tmp_path) as cluster, runners(cluster, AT_ONCE, ["n1", "n2", "n3"]) as everybody:
        await together(everybody, run)
        assert sum(runner.done for runner in everybody) == TIMES
        assert not sum(runner.told + runner.refused for runner in everybody)


@pytest.mark.timeout(150)
async def test_while_an_owner_moves_the_message_comes_or_a_gap_does(tmp_path: Path) -> None:
    """kill -9 of the owner in the middle: nobody waits for what will not come (G4, G8)."""
    async with cluster_of(3, tmp_path) as cluster, runners(cluster, AT_ONCE, ["n1", "n2"]) as everybody:
        n1, n2, n3 = cluster.nodes
        moved: list[int] = []  # how many were done when its shards had been claimed

        def done() -> int:
            return sum(runner.done for runner in everybody)

        async def run(runner: Runner) -> None:
            for wish in runner.wishes():
                await runner.once(*wish)
                if moved and done() >= moved[0] + TIMES_WHILE_MOVING:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(together, everybody, run)
            await until(lambda: done() >= TIMES_WHILE_MOVING, "the first half")
            orphans = [
                shard for shard, owner in (await cluster.owners()).items() if owner == "n3" and shard[0] == "m"
            ]
            killed = trio.current_time()
            await n3.kill()
            for shard in orphans:
                await until(
                    lambda shard=shard: bool(  # type: ignore[misc]  # bound now
                        n1.times("shard_claimed", killed, shard=shard)
                        or n2.times("shard_claimed", killed, shard=shard)
                    ),
                    f"a claim of {shard}",
                    cluster.said,
                )
            moved.append(done())
        assert orphans
        assert sum(runner.told + runner.refused for runner in everybody)

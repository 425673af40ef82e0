"""`subscribed` is a barrier: what is published on any node from that instant on is delivered (SPEC 4.2).

Two connections on two nodes, with no way between them but the cluster's: one subscribes, and in the very moment in
which it is told so the other one publishes. Exact topics and wildcards, in all shards, wherever their owners are.
"""

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio

from tests.history.events import Packet, Recorder, Rules
from tests.sim.line import Line
from tests.sim.network import Network
from tests.sim.node import Shape, SimNode, World
from tests.sim.scheduling import passes, run

ROUNDS = 10_000
MANY = 1_000_000  # until they are stopped
#: At a time: a connection has at most 200 subscriptions, half of them with wildcards.
AT_ONCE = 60
PATIENCE_SECONDS = 30.0
READY_SECONDS = 5.0


class Voice:
    """A connection: what comes is shown to `listen`."""

    def __init__(self, world: World, node: SimNode, who: str, listen: Callable[[Packet], None]) -> None:
        assert node.running is not None
        self._listen = listen
        post = world.network.post
        self.line = Line(who, 1, node.running, self, world.recorder, post, Random(1), (0.0, 0.0), float("inf"))
        self.line.send({"type": "connect"})

    def got(self, t: int, packet: Packet) -> None:
        """From the line."""
        self._listen(packet)

    def lost(self, t: int) -> None:
        """From the line."""
        raise AssertionError("nobody ends these connections")


class Rounds:
    """Subscribe here, publish there, and wait for it here."""

    def __init__(
        self, world: World, here: SimNode, there: SimNode, count: int = MANY, pause_seconds: float = 0.0
    ) -> None:
        self._world = world
        self._count = count
        self._pause_seconds = pause_seconds
        self._random = Random(2)
        self._begun = 0
        self._sent: dict[int, int] = {}  # rounds by the ids of their publishes
        self.waiting: dict[int, str] = {}  # subscriptions that are to get a message, with what they want
        self.done = 0
        self.refused: list[Packet] = []
        self.odd: list[Packet] = []  # gaps, and subscriptions that were not told of all shards
        self._ears = Voice(world, here, "ears", self._heard)
        self._mouth = Voice(world, there, "mouth", self._answered)
        for _ in range(AT_ONCE):
            self._begin()

    @property
    def is_over(self) -> bool:
        """Whether every round is."""
        return self.done == self._begun and self._begun >= self._count

    def stop(self) -> None:
        """No more."""
        self._count = self._begun

    def _begin(self) -> None:
        if self._begun < self._count:
            self._begun += 1
            number = self._begun
            self.waiting[number] = f"r{number}/+" if number % 3 == 0 else f"r{number}/x"
            self._ears.line.send({"type": "subscribe", "sub": number, "filter": self.waiting[number]})

    def _heard(self, packet: Packet) -> None:
        if packet["type"] == "subscribed":
            if packet.get("unavailable") or not packet["live"]:
                self.odd.append(packet)
            self._publish(packet["sub"])
        elif packet["type"] == "message" and packet["data"] in self.waiting:
            self._end(packet["data"])
        elif packet["type"] == "delivery" and packet["sub"] in self.waiting:
            self._end(packet["sub"])
        elif packet["type"] == "gap" and packet["sub"] in self.waiting:
            self.odd.append(packet)
            self._end(packet["sub"])  # it may be what is missing
        elif packet["type"] == "error":
            self.odd.append(packet)

    def _publish(self, number: int) -> None:
        if number in self.waiting:
            topic = self.waiting[number].replace("+", "x")
            self._sent[self._mouth.line.last_id + 1] = number
            self._mouth.line.send({"type": "publish", "topic": topic, "data": number, "message_id": f"{number}"})

    def _answered(self, packet: Packet) -> None:
        number = self._sent.pop(packet.get("id", 0), 0)
        if packet["type"] == "error":
            self.refused.append(packet)
            self._world.network.post.later(0.05, lambda: self._publish(number))

    def _end(self, number: int) -> None:
        del self.waiting[number]
        self._ears.line.send({"type": "unsubscribe", "sub": number})
        self.done += 1
        self._world.network.post.later(self._random.uniform(0, self._pause_seconds), self._begin)


def play(seed: int, then: Callable[[World, list[SimNode]], Awaitable[None]]) -> None:
    """Three nodes that have met."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            recorder = Recorder(Rules(), lambda: int(trio.current_time() * 1000))
            shape = Shape(["n1", "n2", "n3"], memory_shards=12)
            world = World(shape, Network(Random(seed)), recorder, Random(seed), nursery)
            nursery.start_soon(world.network.post.run)
            nodes = [SimNode(name, world, {}) for name in shape.names]
            for node in nodes:
                node.start()
            await passes(READY_SECONDS)
            await then(world, nodes)
            assert not world.failures, world.failures[0]
            nursery.cancel_scope.cancel()

    run(seed, main)


def owned(node: SimNode) -> list[str]:
    """The shards that it owns."""
    assert node.running is not None
    return [shard.name for shard in node.running.router.shards if shard.is_here]


async def until(rounds: Rounds) -> None:
    """Every round is over; whatever is missing after long is missing."""
    for _ in range(int(PATIENCE_SECONDS * 10)):
        if rounds.is_over:
            return
        await passes(0.1)
    raise AssertionError(f"{rounds.done} were delivered; missing: {list(rounds.waiting.items())[:5]}")


@pytest.mark.timeout(200)
def test_publish_on_another_node_the_instant_subscribed_arrives_is_delivered() -> None:
    """10,000 times, none missing."""

    async def then(world: World, nodes: list[SimNode]) -> None:
        rounds = Rounds(world, nodes[0], nodes[1], ROUNDS)
        await until(rounds)
        assert not rounds.odd, rounds.odd[0]
        assert not rounds.refused, rounds.refused[0]

    play(1, then)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("seed", range(1, 4))
def test_barrier_holds_while_shards_go_from_node_to_node(seed: int) -> None:
    """Handed over by a drain: none is missing, and nobody is told of a gap."""

    async def then(world: World, nodes: list[SimNode]) -> None:
        rounds = Rounds(world, nodes[0], nodes[1], pause_seconds=0.5)
        await passes(Random(seed).uniform(0.1, 1))
        assert owned(nodes[2])
        await nodes[2].drain(Random(seed))
        nodes[2].start()
        await passes(READY_SECONDS)
        rounds.stop()
        await until(rounds)
        assert not owned(nodes[2])
        assert rounds.done > 1_000
        assert not [one for one in rounds.odd if one["type"] != "subscribed"], rounds.odd

    play(seed, then)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("seed", range(1, 4))
def test_barrier_holds_while_an_owner_dies_and_comes_back(seed: int) -> None:
    """None is missing but where a gap was told."""

    async def then(world: World, nodes: list[SimNode]) -> None:
        rounds = Rounds(world, nodes[0], nodes[1], pause_seconds=0.5)
        await passes(Random(seed).uniform(0.1, 1))
        assert owned(nodes[2])
        nodes[2].kill()
        await passes(Random(seed).uniform(0.1, READY_SECONDS))
        nodes[2].start()
        await passes(READY_SECONDS)
        rounds.stop()
        await until(rounds)
        assert rounds.done > 1_000
        assert rounds.odd

    play(seed, then)

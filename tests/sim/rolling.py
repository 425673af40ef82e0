"""A rolling restart of three nodes under load, each in good order: clients are to notice nothing but reconnecting.

Beside what every run keeps, this one adds: no gap, no log that ends, no subscription without a shard, and no
publish that waits for much longer than a second. Some runs have long ways between nodes, so that much happens
while a shard is on its way.
"""

from functools import partial

import trio
from triode_broker.config import Limits, TopicRule

from tests.history.checker import Violation, check
from tests.history.events import Event, Packet
from tests.sim.clients import Publisher, Subscriber
from tests.sim.node import Shape
from tests.sim.plants import planted
from tests.sim.scenario import LIVE, MANY, WEEK, Outcome, Plan, Simulation
from tests.sim.scheduling import passes, run

#: From the first sending of a publish to its acknowledgement: a hand-over's second, and what a new try takes.
MAX_WAIT_MS = 2_500
READY_SECONDS = 20.0


def play(plan: Plan) -> Outcome:
    """Run it, and judge it."""
    with planted(plan.plant):
        return run(plan.seed, partial(_play, plan))


async def _play(plan: Plan) -> Outcome:
    async with trio.open_nursery() as nursery:
        simulation = Rolling(plan, nursery, None)
        await simulation.play()
        nursery.cancel_scope.cancel()
    events = simulation.world.recorder.events
    bugs = [Violation("S1", text, ()) for text in simulation.world.failures]
    found = [*bugs, *simulation.stuck, *check(events), *noticed(events, simulation.world.shape.memory_shards)]
    return Outcome(plan, events, found, trio.current_time())


class Rolling(Simulation):
    """Three nodes, no faults."""

    def _shape(self) -> Shape:
        rules = [TopicRule(retention_seconds=WEEK, dedupe_seconds=WEEK)]
        limits = Limits(max_shard_topics=self.random.choice((4, 1_000)))
        return Shape(["n1", "n2", "n3"], self.random.choice((1, 2, 5)), [], rules, limits)

    def _cast(self) -> None:
        random = self.random
        topics = [*LIVE, *MANY]
        for number in range(1, 4):
            publisher = Publisher(self._client(f"p{number}"), topics, random.uniform(0.02, 0.1), self._published)
            self.publishers.append(publisher)
        wishes: list[list[Packet]] = [
            [{"filter": "#", "from": "earliest"}],
            [{"filter": "#"}],
            [{"filter": "live/+"}, {"filter": "live/a"}, {"filter": "many/#", "from": "earliest"}],
            [{"filter": topic} for topic in LIVE],
        ]
        for number, wish in enumerate(wishes, 1):
            self.subscribers.append(Subscriber(self._client(f"s{number}"), wish))
            self.heads.filters |= dict.fromkeys(one["filter"] for one in wish)

    async def _suffer(self) -> None:
        """One node after the other, each as soon as the one before is ready."""
        delay = self.random.choice(((0.0002, 0.002), (0.01, 0.05)))
        for one in self.nodes:
            for other in self.nodes:
                self.world.network.way(one.name, other.name).delay = delay
        await passes(4)
        await self._ready()
        begun = len(self.world.recorder.events)
        for node in self.nodes:
            await node.drain(self.random)
            await passes(self.random.uniform(0.05, 1))
            node.start()
            await self._ready()
            await passes(self.random.uniform(0.5, 1.5))
        self.world.recorder.note("heal", "network", begun=begun)

    async def _ready(self) -> None:
        for _ in range(int(READY_SECONDS / 0.1)):
            if all(node.is_whole for node in self.nodes):
                return
            await passes(0.1)
        self.stuck.append(Violation("I14", "the cluster is not ready", ()))


def noticed(events: list[Event], shards: int) -> list[Violation]:
    """What clients should not have been told of."""
    begun = next(event.about["begun"] for event in events if event.op == "heal")
    logs: dict[str, None] = {}
    sent: dict[tuple[str, str], int] = {}
    asked: dict[tuple[str, int, int], str] = {}
    found = []
    for event in events:
        packet, who = event.packet, event.who
        if event.op == "sent" and "message_id" in packet:
            sent.setdefault((who, packet["message_id"]), event.ms)
            asked[who, event.line, packet["id"]] = packet["message_id"]
        if event.op != "got" or event.t <= begun:
            continue
        if packet["type"] == "gap" or packet.get("unavailable"):
            found.append(Violation("R1", f"{who} is told {packet}", (event.t,)))
        if packet["type"] == "published":
            logs[packet["log"]] = None
            name = asked.get((who, event.line, packet["id"]), "")
            waited = event.ms - sent.get((who, name), event.ms)
            if waited > MAX_WAIT_MS:
                found.append(Violation("R2", f"{who} waited {waited} ms for its publish", (event.t,)))
    if len(logs) > shards:
        found.append(Violation("R3", f"{shards} shards had the logs {list(logs)}", ()))
    return found

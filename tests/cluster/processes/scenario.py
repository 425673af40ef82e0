"""One run of a real cluster under a fault: clients at all nodes, a fault, its healing, and the checker's verdict.

Knows no fault itself. Ends as the simulator's runs do: publishers go on for a while, everybody is to have had
everything, and every node is asked for all there is.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGSTOP

import trio
from attrs import define, field
from triode_protocol.topics import matches

from tests.cluster.processes.clients import RemoteClient
from tests.cluster.processes.nodes import NodeProcess, RealCluster, cluster_of, until
from tests.cluster.processes.ways import passes
from tests.history.checker import Violation, check, explain
from tests.history.events import Event, Packet, Recorder, Rules, write
from tests.sim.clients import Heads, Ledger, Publisher, Subscriber, Worker
from tests.sim.network import Post

RULES = Rules(durable=["durable/#"], bounded=["brief/#"])
LIVE = [f"live/{number}" for number in range(12)]
DURABLE = [f"durable/{number}" for number in range(6)]
#: After the last fault everybody has everything in this time (I14).
CATCH_UP_SECONDS = 30.0
#: How long publishers go on after it: longer than the time by which they have to succeed again.
GO_ON_SECONDS = 6.0
WARM_SECONDS = 1.5
LOOK_SECONDS = 0.1


@define(eq=False)
class Run:
    """What a fault has to do with."""

    cluster: RealCluster
    recorder: Recorder
    figures: dict[str, float] = field(factory=dict)

    def note(self, what: str, **about: object) -> float:
        """A fault begins. Returns the moment."""
        self.recorder.note("fault", "network", about={"what": what, **about})
        return trio.current_time()

    async def kill(self, node: NodeProcess) -> float:
        """kill -9. Returns the moment."""
        self.recorder.note("kill", node.name)
        killed = trio.current_time()
        await node.kill()
        return killed

    def stop(self, node: NodeProcess) -> float:
        """SIGSTOP. Returns the moment."""
        self.recorder.note("stop", node.name)
        node.signal(SIGSTOP)
        return trio.current_time()

    def go_on(self, node: NodeProcess) -> None:
        """SIGCONT."""
        node.signal(SIGCONT)
        self.recorder.note("continue", node.name)

    async def owner(self) -> NodeProcess:
        """A node that owns a shard in memory: on a busy machine the first to start may own all."""
        return self.cluster.node((await self.cluster.owners())["m0"])

    async def claimed(self, since: float, by: list[NodeProcess]) -> float:
        """Seconds until one of these nodes has claimed a shard."""

        def found() -> list[float]:
            return [at for node in by for at in node.times("shard_claimed", since)]

        await until(lambda: bool(found()), "a claim", self.cluster.said)
        return min(found()) - since

    def others(self, node: NodeProcess) -> list[NodeProcess]:
        """All but this one."""
        return [one for one in self.cluster.nodes if one is not node]


Fault = Callable[[Run], Awaitable[None]]


@define
class Outcome:
    """What a run came to."""

    name: str
    events: list[Event]
    violations: list[Violation]
    figures: dict[str, float]
    said: str

    def explain(self) -> str:
        """For people."""
        return f"{self.name}: {explain(self.violations, self.events)}\n{self.said}"


async def play(fault: Fault, directory: Path, seed: int = 1) -> Outcome:
    """Run it, and judge it. The history is left in the directory."""
    name = getattr(fault, "__name__", "fault")
    async with cluster_of(3, directory) as cluster, trio.open_nursery() as nursery:
        scene = _Scene(cluster, Random(seed), nursery)
        try:
            await scene.play(fault)
        finally:
            write(scene.recorder.events, directory / "history.jsonl")
        said = cluster.said()
        nursery.cancel_scope.cancel()
    events = scene.recorder.events
    return Outcome(name, events, [*scene.stuck, *check(events)], scene.run.figures, said)


class _Scene:
    def __init__(self, cluster: RealCluster, random: Random, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.nursery = nursery
        self.random = random
        self.recorder = Recorder(RULES, lambda: int(trio.current_time() * 1000))
        self.run = Run(cluster, self.recorder)
        self.post = Post()
        self.heads = Heads()
        self.ledgers = {"audit": Ledger(), "jobs": Ledger()}
        self.stuck: list[Violation] = []
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        self.workers: list[Worker] = []
        self.clients: list[RemoteClient] = []
        self._cast()

    def _cast(self) -> None:
        topics = [*LIVE, *DURABLE, "brief/x"]
        for number, node in enumerate(self.cluster.nodes, 1):
            client = self._client(f"p{number}", node)
            self.publishers.append(Publisher(client, topics, 0.1, self._published))
            client = self._client(f"s{number}", node)
            exact: list[Packet] = [{"filter": topic} for topic in self.random.sample(LIVE, 2)]
            self._subscribe(client, [{"filter": "live/#"}, {"filter": "durable/#", "from": "earliest"}, *exact])
        self._subscribe(self._client("roamer"), [{"filter": "#", "from": "earliest"}, {"filter": "brief/#"}])
        self.workers.append(Worker(self._client("audit-1"), "audit", self.ledgers["audit"], is_shared=False))
        for number in (1, 2):
            client = self._client(f"jobs-{number}")
            self.workers.append(Worker(client, "jobs", self.ledgers["jobs"], is_shared=True))
        for client in self.clients:
            if not isinstance(client.role, Publisher):
                client.start(0)
        for publisher in self.publishers:
            publisher.start(0.5)

    def _client(self, who: str, *places: NodeProcess) -> RemoteClient:
        nodes = list(places) or self.random.sample(self.cluster.nodes, len(self.cluster.nodes))
        dice = Random(self.random.getrandbits(64))
        client = RemoteClient(
            who, [], self.recorder, self.post, dice, places=nodes, nursery=self.nursery, is_steady=bool(places)
        )
        self.clients.append(client)
        return client

    def _subscribe(self, client: RemoteClient, wishes: list[Packet]) -> None:
        self.subscribers.append(Subscriber(client, wishes))
        self.heads.filters |= dict.fromkeys(wish["filter"] for wish in wishes)

    def _published(self, topic: str, answer: Packet) -> None:
        for filter in self.heads.filters:
            if matches(filter, topic):
                self.heads.take(filter, answer["log"], answer["pos"])
        if topic in DURABLE:
            for ledger in self.ledgers.values():
                ledger.published((answer["log"], answer["pos"]))

    async def play(self, fault: Fault) -> None:
        """All of it."""
        self.nursery.start_soon(self.post.run)
        await passes(WARM_SECONDS)
        await fault(self.run)
        self.recorder.note("heal", "network")
        healed = trio.current_time()
        await self.cluster.whole()
        self.run.figures["whole again"] = trio.current_time() - healed
        await passes(healed + GO_ON_SECONDS - trio.current_time())
        for publisher in self.publishers:
            publisher.is_ending = True
        for worker in self.workers:
            worker.is_ending = True
        await self._until(self._missing, "everybody caught up")
        await self._read_back()

    def _missing(self) -> str:
        for number, publisher in enumerate(self.publishers, 1):
            if publisher.pending:
                return f"p{number} has no answer to {publisher.pending[0]}"
        for subscriber in self.subscribers:
            if missing := subscriber.missing(self.heads.of):
                return missing
        for name, ledger in self.ledgers.items():
            if ledger.open:
                return f"{name} has not settled {len(ledger.open)}, the first at {min(ledger.open)}"
        return ""

    async def _until(self, missing: Callable[[], str], what: str) -> None:
        with trio.move_on_after(CATCH_UP_SECONDS) as scope:
            while missing():
                await passes(LOOK_SECONDS)
        if scope.cancelled_caught:
            text = f"{what} took more than {CATCH_UP_SECONDS} s: {missing()}"
            self.stuck.append(Violation("I14", text, (len(self.recorder.events),)))

    async def _read_back(self) -> None:
        """From every node, everything."""
        readers: list[Subscriber] = []
        for node in self.cluster.nodes:
            who = f"final-{node.name}"
            self.recorder.note("final", who)
            client = self._client(who, node)
            readers.append(Subscriber(client, [{"filter": one, "from": "earliest"} for one in ("#", "$dead/+")]))
            client.start(0)
        await self._until(
            lambda: next((text for reader in readers if (text := reader.missing({}))), ""), "the last reading"
        )

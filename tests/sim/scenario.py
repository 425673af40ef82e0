"""One simulated run: a seed decides nodes, load and faults; then everything heals, and the history is judged.

Ends in three steps: the last fault heals; publishers go on, and then everybody has to have had everything (I14);
every node is asked for all there is, and all have to say the same.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import msgspec
import trio
from attrs import define, frozen
from triode_broker.config import Limits, TopicRule
from triode_protocol.topics import matches

from tests.history.checker import Violation, check, explain
from tests.history.events import Event, Packet, Recorder, Rules
from tests.sim.clients import Client, Heads, Ledger, Publisher, Subscriber, Worker
from tests.sim.disk import KeptDisk
from tests.sim.faults import ALONE, TOGETHER, Faults
from tests.sim.network import Network
from tests.sim.node import Shape, SimNode, World
from tests.sim.plants import planted
from tests.sim.presence import Member
from tests.sim.scheduling import passes, run

#: After the last fault: publishes succeed, and everybody has everything (I14).
PUBLISH_SECONDS = 5.0
CATCH_UP_SECONDS = 30.0
#: How long publishers go on after it.
GO_ON_SECONDS = 6.5
LOOK_SECONDS = 0.25
WEEK = 604_800
LIVE, DURABLE, BRIEF = (
    ["live/a", "live/b", "live/c/d", "live/e"],
    ["durable/a", "durable/b/c", "durable/d"],
    ["brief/x"],
)
MANY = [f"many/{number}" for number in range(14)]
RULES = Rules(durable=["durable/#"], bounded=["brief/#"])


@frozen
class Plan:
    """What a run does; everything follows from the seed, but for the bug."""

    seed: int
    plant: str = ""
    is_alone: bool = False  # one node, whatever the seed says
    fault: str = ""  # this one alone, again and again, on three nodes


@define
class Outcome:
    """What a run came to."""

    plan: Plan
    events: list[Event]
    violations: list[Violation]
    virtual_seconds: float

    @property
    def digest(self) -> str:
        """Of the whole history."""
        return hashlib.sha256(b"\n".join(msgspec.json.encode(event) for event in self.events)).hexdigest()

    def explain(self) -> str:
        """For people, with the command that does it again."""
        return again(self.plan) + "\n" + explain(self.violations, self.events)


def again(plan: Plan) -> str:
    """The command that replays a run."""
    words = [f"--seed {plan.seed}"]
    words += [f"--plant {plan.plant}"] if plan.plant else []
    words += ["--alone"] if plan.is_alone else []
    words += [f"--fault {plan.fault}"] if plan.fault else []
    return "again: python -m tests.sim.run " + " ".join(words)


def play(plan: Plan, trace: Callable[[str], None] | None = None) -> Outcome:
    """Run it, and judge it."""
    with planted(plan.plant):
        return run(plan.seed, partial(_play, plan, trace))


async def _play(plan: Plan, trace: Callable[[str], None] | None) -> Outcome:
    async with trio.open_nursery() as nursery:
        simulation = Simulation(plan, nursery, trace)
        await simulation.play()
        nursery.cancel_scope.cancel()
    events = simulation.world.recorder.events
    bugs = [Violation("S1", text, ()) for text in simulation.world.failures]
    violations = [*bugs, *simulation.stuck, *check(events)]
    return Outcome(plan, events, violations, trio.current_time())


class Simulation:
    """All that takes part in one run."""

    def __init__(self, plan: Plan, nursery: trio.Nursery, trace: Callable[[str], None] | None) -> None:
        random = self.random = Random(plan.seed)
        self.stuck: list[Violation] = []
        self.plan = plan
        shape = self._shape()
        recorder = Recorder(RULES, lambda: int(trio.current_time() * 1000))
        network = Network(Random(random.getrandbits(64)))
        self.world = World(shape, network, recorder, Random(random.getrandbits(64)), nursery)
        if trace is not None:
            self.world.trace = trace
            recorder.watch(lambda event: trace(f"{event.ms / 1000:9.3f} {msgspec.json.encode(event).decode()}"))
        self.nodes = [self._node(name) for name in shape.names]
        self.heads = Heads()
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        self.workers: list[Worker] = []
        self.members: list[Member] = []
        self.ledgers: dict[str, Ledger] = {}
        self.clients: list[Client] = []
        self._cast()

    def _shape(self) -> Shape:
        random = self.random
        count = 3 if self.plan.fault else random.choice((1, 2, 2, 2, 3, 3, 3, 4))
        count = 1 if self.plan.is_alone else count
        names = [f"n{number}" for number in range(1, count + 1)]
        durable = random.sample(names, random.randint(1, count))
        rules = [
            TopicRule(filter="brief/#", retention_messages=5, retention_seconds=WEEK, dedupe_seconds=WEEK),
            TopicRule(filter="durable/#", storage="disk", retention_seconds=WEEK, dedupe_seconds=WEEK),
            TopicRule(
                retention_seconds=WEEK, dedupe_seconds=WEEK
            ),  # clocks are set: what is not brief stays in spite of that
        ]
        limits = Limits(
            max_outbox_bytes=random.choice((4_096, 32_768, 1_048_576)), max_shard_topics=random.choice((4, 1_000))
        )
        return Shape(names, random.choice((1, 2, 4)), durable, rules, limits)

    def _node(self, name: str) -> SimNode:
        holders = self.world.shape.durable
        disks: dict[str, KeptDisk | None] = {
            f"d{number}": None for number, holder in enumerate(holders) if holder == name
        }
        return SimNode(name, self.world, disks, self.random.randrange(10**9), self.random.randrange(-50, 50))

    # Who takes part

    def _cast(self) -> None:
        random = self.random
        topics = [*LIVE, *DURABLE, *BRIEF, *MANY]
        for number in range(1, random.randint(2, 3) + 1):
            publisher = Publisher(self._client(f"p{number}"), topics, random.uniform(0.15, 0.8), self._published)
            self.publishers.append(publisher)
        everything: Packet = {"filter": "#", "from": "earliest"}
        wishes = [
            [{"filter": random.choice(LIVE)}, {"filter": "durable/#", "from": "earliest"}],
            [everything],
            [{"filter": "#"}],
            [{"filter": "live/+", "overflow": "gap"}, {"filter": "live/a"}, {"filter": "many/#"}],
            [{"filter": "durable/+", "from": "earliest"}, {"filter": random.choice(LIVE), "from": "earliest"}],
            [{"filter": "brief/#"}, {"filter": random.choice(DURABLE), "from": "last"}],
        ]
        for name, members in (("audit", 1), ("jobs", 2)):
            ledger = self.ledgers[name] = Ledger()
            for number in range(1, members + 1):
                client = self._client(f"{name}-{number}")
                self.workers.append(Worker(client, name, ledger, is_shared=members > 1))
        for number in range(1, random.choice((0, 2, 3)) + 1):
            self.members.append(Member(self._client(f"m{number}", may_be_slow=True)))
        for number, wish in enumerate(random.sample(wishes, random.randint(2, 4)), 1):
            self.subscribers.append(Subscriber(self._client(f"s{number}", may_be_slow=True), wish))
            self.heads.filters |= dict.fromkeys(one["filter"] for one in wish)

    def _client(self, who: str, *, may_be_slow: bool = False) -> Client:
        nodes = self.nodes[:]
        self.random.shuffle(nodes)
        client = Client(
            who, nodes, self.world.recorder, self.world.network.post, Random(self.random.getrandbits(64))
        )
        if may_be_slow and self.random.random() < 0.2:
            client.bytes_per_second = 20_000
        if may_be_slow and self.random.random() < 0.3:
            client.restless = 2.0
        self.clients.append(client)
        return client

    def _published(self, topic: str, answer: Packet) -> None:
        for filter in self.heads.filters:
            if matches(filter, topic):
                self.heads.take(filter, answer["log"], answer["pos"])
        if topic in DURABLE:
            for ledger in self.ledgers.values():
                ledger.published((answer["log"], answer["pos"]))

    # What happens

    async def play(self) -> None:
        """All of it."""
        world, random = self.world, self.random
        world.nursery.start_soon(world.network.post.run)
        for node in self.nodes:
            world.network.post.later(random.uniform(0, 0.5), node.start)
        for publisher in self.publishers:
            publisher.start(random.uniform(0, 2))
        for client in self.clients:
            if not isinstance(client.role, Publisher):
                client.start(random.uniform(0, 4))
        await passes(random.uniform(1, 4))
        await self._suffer()
        await self._go_on()
        await self._until(self._missing, "everybody caught up", CATCH_UP_SECONDS - GO_ON_SECONDS)
        for client in self.clients:
            client.restless = 0.0
        await self._until(self._unmet, "the members of a room", CATCH_UP_SECONDS - GO_ON_SECONDS, "I11")
        await passes(1)
        await self._read_back()

    async def _suffer(self) -> None:
        """Faults, some at a time, then none."""
        random = self.random
        kinds = [self.plan.fault] if self.plan.fault else list(ALONE if len(self.nodes) == 1 else ALONE | TOGETHER)
        async with trio.open_nursery() as nursery:
            faults = Faults(
                self.nodes, self.world.network, self.world.recorder, Random(random.getrandbits(64)), nursery
            )
            nursery.start_soon(trio.sleep_forever)
            for _ in range(random.choice((1, 1, 2, 3, 4))):
                faults.begin(random.choice(kinds))
                await passes(random.choice((random.uniform(0, 1), random.uniform(1, 8))))
            await passes(random.uniform(0, 6))
            faults.heal()

    async def _go_on(self) -> None:
        await passes(GO_ON_SECONDS)
        for publisher in self.publishers:
            publisher.is_ending = True
        for worker in self.workers:
            worker.is_ending = True

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

    def _unmet(self) -> str:
        """I11: every member has every member on its list, once, and nobody else."""
        names = sorted(member.name for member in self.members)
        return next(
            (f"{one.name} sees {one.present} of {names}" for one in self.members if one.present != names), ""
        )

    async def _until(self, missing: Callable[[], str], what: str, seconds: float, invariant: str = "I14") -> None:
        for _ in range(int(seconds / LOOK_SECONDS)):
            if not missing():
                return
            await passes(LOOK_SECONDS)
        self.stuck.append(
            Violation(
                invariant, f"{what} took more than {seconds} s: {missing()}", (len(self.world.recorder.events),)
            )
        )

    async def _read_back(self) -> None:
        """From every node, everything."""
        readers: list[Subscriber] = []
        for node in self.nodes:
            who = f"final-{node.name}"
            self.world.recorder.note("final", who)
            client = Client(who, [node], self.world.recorder, self.world.network.post, Random(1), is_steady=True)
            readers.append(
                Subscriber(client, [{"filter": filter, "from": "earliest"} for filter in ("#", "$dead/+")])
            )
            client.start(0)

        def missing() -> str:
            return next((text for reader in readers if (text := reader.missing({}))), "")

        await self._until(missing, "the last reading", CATCH_UP_SECONDS)


def failures(outcomes: Sequence[Outcome]) -> str:
    """What went wrong, for an assertion."""
    return "\n\n".join(outcome.explain() for outcome in outcomes if outcome.violations)

"""One crash run: a seed decides who publishes and listens what, and when the broker is killed.

Ends with a drain in which nobody dies, one more kill, and a reading of everything. The surprising decision: a
"random moment" is the n-th event of a life, n by the seed, and never a time: so a busy machine makes a run slower
and not different.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Literal

import trio
from attrs import define, frozen

from tests.crash.broker import Bell, BrokerProcess, Stuck
from tests.crash.clients import Client, Publisher, Role, Scene, Subscriber, Worker
from tests.history.checker import Violation, check, explain
from tests.history.events import Event, Packet, Recorder, Rules, write
from tests.history.streams import Stream

#: After the last fault everybody is caught up in this time (I14), on the busiest machine.
DRAIN_SECONDS = 30
PLANTED_DRAIN_SECONDS = 3  # with a planted bug it may never come
EXPIRING = ["durable/fading", "durable/state"]
RULES = Rules(["durable/#"], bounded=["durable/short"], expiring=EXPIRING, compacted=["durable/state"])
LAZY = "s4"  # a client that stays away for two lives of three
IN_MEMORY = Rules(bounded=["durable/short"], expiring=EXPIRING)
CONFIG = """\
listen = "127.0.0.1:0"
memory_shards = 2
durable_shards = {shards}
[limits]
max_outbox_bytes = {outbox}
max_packet_bytes = 8_192
[[topics]]
filter = "durable/short"
storage = "{storage}"
retention_messages = 10
[[topics]]
filter = "durable/state"
storage = "{storage}"
compact = true
[[topics]]
filter = "durable/#"
storage = "{storage}"
"""


@frozen
class Plan:
    """What a run does. `points`: where the broker kills itself, `NAME:PASSAGE`, one life each, in turn."""

    seed: int
    lives: int
    points: Sequence[str] = ()
    plant: str = ""
    most_a_life: int = 120
    storage: Literal["disk", "memory"] = "disk"


@define
class Outcome:
    """What a run came to."""

    plan: Plan
    events: list[Event]
    violations: list[Violation]
    kills: int
    reached: list[str]
    said: list[str]
    history: Path

    def explain(self) -> str:
        """For people, with the command that does it again."""
        return "\n".join(
            [
                again(self.plan),
                f"history: {self.history}",
                explain(self.violations, self.events),
                "the broker said:",
                *self.said[-20:],
            ]
        )


def again(plan: Plan) -> str:
    """The command that replays a run."""
    words = [f"--seed {plan.seed}", f"--lives {plan.lives}", f"--most {plan.most_a_life}"]
    words += [f"--point {point}" for point in plan.points]
    words += [f"--plant {plan.plant}"] if plan.plant else []
    words += ["--memory"] if plan.storage == "memory" else []
    return "again: python -m tests.crash.run " + " ".join(words)


async def play(plan: Plan, directory: Path) -> Outcome:
    """Run it, and judge it. The history is left in `directory` too."""
    run = _Run(plan, directory)
    events, history = run.recorder.events, directory / "history.jsonl"
    try:
        await run.play()
    except* Stuck as errors:
        run.stuck += [Violation("I14", str(error), (len(events),)) for error in errors.exceptions]
    finally:
        write(events, history)
    kills = sum(event.op == "kill" for event in events)
    violations = [*run.stuck, *check(events)]
    if plan.storage == "disk":
        violations += _changed_logs(run.streams())
    return Outcome(plan, events, violations, kills, run.broker.reached, list(run.broker.said), history)


def _changed_logs(streams: Iterator[Stream]) -> Iterator[Violation]:
    """A kill is no reason for a durable log to begin a new life, even if that were reported."""
    first: dict[str, tuple[str, int]] = {}  # by topic
    for stream in streams:
        for step in stream.steps:
            if (one := step.message) is None or not one.topic.startswith("durable/"):
                continue
            log, t = first.setdefault(one.topic, (one.log, one.t))
            if log != one.log:
                yield Violation("G1", f"log {log} of {one.topic} became {one.log}", (t, one.t))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Run:
    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        self.bell = Bell()
        rules = RULES if plan.storage == "disk" else IN_MEMORY
        self.recorder = Recorder(rules, lambda: int(trio.current_time() * 1000), self.bell.ring)
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "triode.toml"
        outbox = self.random.choice((8_192, 65_536, 1_048_576))
        config.write_text(CONFIG.format(outbox=outbox, storage=plan.storage, shards=self.random.choice((1, 1, 2))))
        flags = ("--data", str(directory / "data")) if plan.storage == "disk" else ()
        frames = 20 if plan.points else self.random.choice((20, 100, 0))
        self.broker = BrokerProcess(self.recorder, self.bell, config, flags, plan.plant, frames if flags else 0)
        self.scene = Scene(self.recorder, self.broker, _now_ms, plan.most_a_life, plan.storage == "disk")
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        self.clients: list[Client] = []
        self.stuck: list[Violation] = []
        self._cast()

    def streams(self) -> Iterator[Stream]:
        """All unacknowledged subscriptions."""
        return (stream for subscriber in self.subscribers for stream, _ in subscriber.streams.values())

    def _cast(self) -> None:
        for number in range(1, 4):
            publisher = Publisher(f"p{number}", self.scene, self._dice())
            self.publishers.append(publisher)
            self._add(f"p{number}", publisher)
        everything: Packet = {"filter": "#", "from": "earliest"}
        new: Packet = {"filter": "durable/a"}
        self._subscriber("watch", {"filter": "durable/#", "from": "earliest"}, is_steady=True)
        self._subscriber("s1", everything, new)
        self._subscriber("s2", {"filter": "durable/+", "overflow": "gap"}, {"filter": "live/x"})
        self._subscriber("s3", {"filter": "durable/short"}, {"filter": "durable/fading", "from": "last"})
        self._subscriber(LAZY, {"filter": "durable/#", "from": "earliest"}, {"filter": "durable/short"})
        for name, members in (("audit", 1), ("jobs", 3)) if self.plan.storage == "disk" else ():
            for number in range(1, members + 1):
                worker = Worker(name, self.scene, self._dice(), is_shared=members > 1)
                self._add(f"{name}-{number}", worker)

    def _subscriber(self, who: str, *wishes: Packet, is_steady: bool = False) -> None:
        subscriber = Subscriber(who, self.scene, self._dice(), list(wishes), is_steady=is_steady)
        self.subscribers.append(subscriber)
        self._add(who, subscriber)

    def _add(self, who: str, role: Role) -> None:
        self.clients.append(Client(who, self.scene, role, is_lazy=who == LAZY))

    def _dice(self) -> Random:
        return Random(self.random.getrandbits(64))

    async def play(self) -> None:
        """All lives, the drain, and the reading."""
        async with trio.open_nursery() as nursery:
            for client in self.clients:
                nursery.start_soon(client.run)
            points = [*self.plan.points]
            for _ in range(self.plan.lives):
                await self._life(nursery, points.pop(0) if points else "")
            await self._start(nursery, "")
            self.scene.is_draining = True
            self.scene.drain.set()
            await self._until(self._is_drained, "everything delivered and acknowledged")
            self.broker.kill()
            await self.broker.ended()
            await self._start(nursery, "")
            await self._until(self._is_drained, "everybody back after the last kill")
            await self._read_back(nursery)
            nursery.cancel_scope.cancel()

    async def _start(self, nursery: trio.Nursery, point: str) -> None:
        self.scene.published = 0
        self.scene.most_a_life = self.plan.most_a_life * (3 if point else 1)
        await nursery.start(self.broker.run, point)

    async def _life(self, nursery: trio.Nursery, point: str) -> None:
        """From start to kill. One that is to kill itself and does not come there is killed in the end."""
        most = 3_000 if point else int(math.exp(self.random.uniform(math.log(3), math.log(1_500))))
        await self._start(nursery, point)
        await self._until(lambda: bool(self.broker.url) or not self.broker.is_running, "the broker's start")
        last = len(self.recorder.events) + most

        def is_time() -> bool:
            return len(self.recorder.events) >= last or not self.broker.is_running or self._is_idle()

        await self._until(is_time, "the moment of the kill")
        if self.broker.is_running:
            self.broker.kill()
        await self.broker.ended()

    def _is_idle(self) -> bool:
        """Nothing more is going to happen in this life."""
        if self.scene.published < self.scene.most_a_life or not all(one.is_done for one in self.publishers):
            return False
        return not any(one.missing for one in self.subscribers if one.who != LAZY)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it; what does not come in time is a violation, and the run goes on to see what that did."""
        seconds = PLANTED_DRAIN_SECONDS if self.plan.plant else DRAIN_SECONDS
        with trio.move_on_after(seconds) as scope:
            while not condition():
                await self.bell.wait()
        if scope.cancelled_caught:
            text = f"{what} took more than {seconds} s: {self._missing()}"
            self.stuck.append(Violation("I14", text, (len(self.recorder.events),)))

    def _is_drained(self) -> bool:
        """Everybody has had everything that was acknowledged."""
        return bool(self.broker.url) and not self._missing()

    def _missing(self) -> str:
        """What somebody still has to get, the first of it."""
        for number, publisher in enumerate(self.publishers, 1):
            if not publisher.is_done:
                return f"p{number} has no answer to some"
        for subscriber in self.subscribers:
            if missing := subscriber.missing:
                return missing
        for name, ledger in self.scene.ledgers.items():
            if ledger.open:
                return f"{name} has not settled {len(ledger.open)}, the first at {min(ledger.open)}"
        return f"nobody has seen {min(self.scene.delayed)}" if self.scene.delayed else ""

    async def _read_back(self, nursery: trio.Nursery) -> None:
        self.recorder.note("final", "final")
        wishes = [{"filter": filter, "from": "earliest"} for filter in ("durable/#", "live/#", "$dead/+")]
        reader = Subscriber("final", self.scene, self._dice(), list(wishes), is_steady=True)
        nursery.start_soon(Client("final", self.scene, reader).run)
        await self._until(lambda: not reader.missing, "the last reading")

"""A node of the simulator: the real core, cluster and logs of one broker, with lines where the edge would be.

Each start is a `Running` with memory of its own; what outlives it are the disks and the name. Composed here as
`server.py` composes it, over clocks, randomness, network and disks that are injected.
"""

from collections.abc import Callable
from random import Random

import trio
from attrs import define, field
from triode_broker.config import Limits, TopicRule
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog

from tests.history.events import Recorder
from tests.log.slow_disk import Disk
from tests.sim.disk import SimDisk
from tests.sim.line import Line
from tests.sim.network import Network
from tests.sim.scheduling import Machine, passes

#: The wall clock when a run begins.
BEGIN_MS = 1_700_000_000_000
TRIM_SECONDS = 1.0
#: Between two pings of the server to its clients, which say how far everything is.
KEEPALIVE_SECONDS = 1.3
_LOG_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@define
class Shape:
    """What all nodes of a run have in common."""

    names: list[str]
    memory_shards: int = 2
    durable: list[str] = field(factory=list)  # the holder of each durable shard
    rules: list[TopicRule] = field(factory=list)
    limits: Limits = field(factory=Limits)


@define(eq=False)
class World:
    """What surrounds the nodes of a run."""

    shape: Shape
    network: Network
    recorder: Recorder
    random: Random
    nursery: trio.Nursery
    trace: Callable[[str], None] = lambda text: None


class Running:
    """One life of a node, from its start to its end."""

    def __init__(self, world: World, place: "SimNode") -> None:
        self.world = world
        self.place = place
        self.machine = Machine()
        self.is_over = False
        self.dirty: list[Outbox] = []
        self.lines: list[Line] = []
        self.scope = trio.CancelScope()
        self._random = Random(world.random.getrandbits(64))
        self._sooner = trio.Event()
        shape = world.shape
        self.disks = [self._open(shard, disk) for shard, disk in place.disks.items()]
        names = [self._new_name(f"m{number}") for number in range(shape.memory_shards)]
        limits = shape.limits
        shards = [Shard(MemoryLog(name, limits), limits.max_dedupe_bytes) for name in names]
        self.router = Router(shards, Policies(shape.rules), limits, self.disks)
        self.node = Node(place.name, self.router, limits, self._random_id, self.steady_ms)
        self.node.timers.wake = self.router.delayed.sooner = self._wake

    def _open(self, shard: str, disk: Disk | None) -> SimDisk:
        disk = disk or Disk(self._new_name(shard))
        self.place.disks[shard] = disk
        return SimDisk(disk, self.world.shape.limits, self.world.network.post, self._random, self._told)

    def _told(self, call: Callable[[], None]) -> None:
        self.machine.call(lambda: self._turn(call))

    def _turn(self, call: Callable[[], None]) -> None:
        if not self.is_over:
            call()
            self.flush()

    def _new_name(self, shard: str) -> str:
        return f"{shard}-" + "".join(self._random.choice(_LOG_ALPHABET) for _ in range(16))

    def _random_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _wake(self) -> None:
        self._sooner.set()

    def steady_ms(self) -> int:
        """Goes on while the machine is stopped."""
        return self.place.origin_ms + int(trio.current_time() * 1000)

    def now_ms(self) -> int:
        """May be set."""
        return BEGIN_MS + int(trio.current_time() * 1000) + self.place.offset_ms

    def flush(self) -> None:
        """The end of a turn: what waits for connections goes on its way."""
        dirty = self.dirty
        while dirty:
            waiting = dirty[:]
            dirty.clear()
            for outbox in waiting:
                outbox.connection.pump()

    async def run(self) -> None:
        """Until the scope is cancelled."""
        with self.scope:
            await self.machine.run(self._run)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._trim)
            nursery.start_soon(self._keep_alive)

    async def _keep_time(self) -> None:
        while True:
            self._sooner = trio.Event()
            waits = [TRIM_SECONDS * 1000.0]
            if (due := self.node.timers.next_due_ms) is not None:
                waits.append(due - self.steady_ms())
            if (due := self.router.next_due_ms) is not None:
                waits.append(due - self.now_ms())
            with trio.move_on_after(max(min(waits), 5) / 1000):
                await self._sooner.wait()
            self.node.timers.tick(self.now_ms())
            self.router.tick(self.now_ms())
            self.flush()

    async def _trim(self) -> None:
        while True:
            await passes(TRIM_SECONDS)
            self.router.trim(self.now_ms())
            self.flush()

    async def _keep_alive(self) -> None:
        while True:
            await passes(KEEPALIVE_SECONDS)
            for line in self.lines[:]:
                line.keepalive()
            self.flush()

    def die(self, *, is_told: bool) -> None:
        """kill -9: nothing more is said, written or done; `is_told`: the others' kernels hear of it."""
        self.is_over = True
        for disk in self.disks:
            disk.pull()
        for line in self.lines:
            line.is_attached = False
            if is_told:
                line.vanish()
        self.world.network.lose(self.place.name, is_told=is_told)
        self.machine.forget()
        self.scope.cancel()
        if self.machine.is_stopped:
            self.machine.go_on()


@define(eq=False)
class SimNode:
    """A name and its disks, over all its lives."""

    name: str
    world: World
    disks: dict[str, Disk | None]  # of the durable shards it holds
    origin_ms: int = 0  # of its steady clock
    offset_ms: int = 0  # of its wall clock
    running: Running | None = None
    lives: int = 0

    def start(self) -> None:
        """A new life."""
        if self.running is None:
            self.lives += 1
            self.world.recorder.note("start", self.name, life=self.lives)
            self.world.network.reboot(self.name)
            self.running = Running(self.world, self)
            self.world.nursery.start_soon(self.running.run)

    def kill(self, *, is_told: bool = True) -> None:
        """The end of a life, in the middle of whatever it does."""
        if (running := self.running) is not None:
            self.world.recorder.note("kill", self.name)
            self.running = None
            running.die(is_told=is_told)

    def stop(self) -> None:
        """SIGSTOP."""
        if (running := self.running) is not None and not running.machine.is_stopped:
            self.world.recorder.note("stop", self.name)
            running.machine.stop()

    def go_on(self) -> None:
        """SIGCONT."""
        if (running := self.running) is not None and running.machine.is_stopped:
            self.world.recorder.note("continue", self.name)
            running.machine.go_on()

    @property
    def is_up(self) -> bool:
        """Whether clients can connect: the kernel of a stopped one still takes connections."""
        return self.running is not None

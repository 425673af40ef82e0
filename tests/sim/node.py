"""A node of the simulator: the real core, cluster and logs of one broker, with lines where the edge would be.

Each start is a `Running` with memory of its own; what outlives it are the disks and the name. Composed here as
`server.py` composes it, over clocks, randomness, network and disks that are injected.
"""

import traceback
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import trio
from attrs import define, field
from triode_broker.cluster.cluster import Cluster
from triode_broker.cluster.frames import Deliver, Ping, Pong
from triode_broker.cluster.outside import Outside
from triode_broker.config import Config, Limits, TopicRule
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog
from triode_protocol.errors import CloseCode

from tests.history.events import Recorder
from tests.sim.disk import KeptDisk, SimDisk
from tests.sim.line import Line
from tests.sim.network import Network, SimListener
from tests.sim.scheduling import Machine, passes

#: The wall clock when a run begins.
BEGIN_MS = 1_700_000_000_000
TRIM_SECONDS = 1.0
#: Between two pings of the server to its clients, which say how far everything is.
KEEPALIVE_SECONDS = 1.3
PEER_PORT = 7401
#: Of a drain: how long it waits for hand-overs, and how often it looks.
HAND_OVER_SECONDS = 30.0
LOOK_SECONDS = 0.05
_LOG_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@define
class Shape:
    """What all nodes of a run have in common."""

    names: list[str]
    memory_shards: int = 2
    durable: list[str] = field(factory=list)  # the holder of each durable shard
    rules: list[TopicRule] = field(factory=list)
    limits: Limits = field(factory=Limits)

    def config(self, name: str) -> Config:
        """Of one node."""
        return Config(
            node=name,
            cluster_listen=f"{name}:{PEER_PORT}",
            cluster_advertise=f"ws://{name}:{PEER_PORT}",
            seeds=tuple(f"ws://{other}:{PEER_PORT}" for other in self.names if other != name),
            data="simulated" if self.durable else "",
            durable=tuple(self.durable),
            memory_shards=self.memory_shards,
            limits=self.limits,
            topics=tuple(self.rules),
        )


@define(eq=False)
class World:
    """What surrounds the nodes of a run."""

    shape: Shape
    network: Network
    recorder: Recorder
    random: Random
    nursery: trio.Nursery
    trace: Callable[[str], None] | None = None
    failures: list[str] = field(factory=list)  # what nodes logged as bugs


class NodeLog:
    """What a node logs: shown in a trace; a bug that was caught at a barrier is kept."""

    def __init__(self, world: World, node: str) -> None:
        self._world = world
        self._node = node

    def exception(self, event: str, **facts: object) -> None:
        """A bug."""
        self._world.failures.append(f"{self._node} {event} {facts}\n{traceback.format_exc()}")
        self.debug(event, **facts)

    def debug(self, event: str, **facts: object) -> None:
        """Anything else."""
        if self._world.trace is not None:
            self._world.trace(f"{trio.current_time():9.3f} {self._node} logs {event} {facts}")

    info = warning = error = debug


class Running:
    """One life of a node, from its start to its end."""

    def __init__(self, world: World, place: "SimNode") -> None:
        self.world = world
        self.place = place
        self.machine = Machine()
        self.is_over = self.is_draining = False
        self.holes = 0.0  # how many of the frames with messages that come are lost
        self.dirty: list[Outbox] = []
        self.lines: list[Line] = []
        self.scope = trio.CancelScope()
        self._random = Random(world.random.getrandbits(64))
        self._sooner = trio.Event()
        shape = world.shape
        opened = {shard: self._open(shard, disk) for shard, disk in place.disks.items()}
        self.disks = list(opened.values())
        limits = shape.limits
        shards = [
            Shard(self._new_log(f"m{number}"), limits.max_dedupe_bytes) for number in range(shape.memory_shards)
        ]
        durable = [opened.get(f"d{number}") for number in range(len(shape.durable))]
        self.router = Router(shards, Policies(shape.rules), limits, durable)
        self.node = Node(place.name, self.router, limits, self._random_id, self.steady_ms)
        self.node.timers.wake = self.router.delayed.sooner = self._wake
        self.cluster = self._join({shard: (disk.epoch, disk.name) for shard, disk in opened.items()})

    def _join(self, durable: dict[str, tuple[int, str]]) -> Cluster | None:
        """Take part in a cluster, where there is one."""
        if len(self.world.shape.names) == 1:
            return None
        outside = Outside(
            new_log=self._new_log,
            log_named=lambda name: MemoryLog(name, self.world.shape.limits),
            flush=self.flush,
            now_ms=self.now_ms,
            steady_ms=self.steady_ms,
            random_bytes=self._random.randbytes,
            random_float=self._random.random,
            log=NodeLog(self.world, self.place.name),
            secret=b"known to all of them",
            connect=partial(self.world.network.connect, self.place.name),
        )
        cluster = Cluster(self.world.shape.config(self.place.name), self.node, outside, durable)
        self._watch_frames(cluster)
        return cluster

    def _watch_frames(self, cluster: Any) -> None:
        """Show what comes, and lose some of it while `holes` says so."""
        received, name, trace = cluster.received, self.place.name, self.world.trace

        def watched(link: Any, frames: list[Any]) -> None:
            if self.holes:
                frames = [one for one in frames if type(one) is not Deliver or self._random.random() > self.holes]
            for frame in frames if trace is not None else ():
                if type(frame) not in (Ping, Pong) and trace is not None:
                    role = "answers" if link.is_dialler else "asks"
                    trace(f"{trio.current_time():9.3f} {link.peer.node} {role} {name}: {str(frame)[:400]}")
            received(link, frames)

        cluster.received = watched

    def _open(self, shard: str, disk: KeptDisk | None) -> SimDisk:
        disk = disk or KeptDisk(self._new_name(shard))
        self.place.disks[shard] = disk
        disk.openings += 1
        return SimDisk(disk, self.world.shape.limits, self.world.network.post, self._random, self._told)

    def _new_log(self, shard: str) -> MemoryLog:
        return MemoryLog(self._new_name(shard), self.world.shape.limits)

    def _told(self, call: Callable[[], None]) -> None:
        self.machine.call(lambda: self.turn(call))

    def turn(self, call: Callable[[], None]) -> None:
        """From outside, with what follows."""
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

    def awake(self) -> None:
        """A turn begins: the machine may have been stopped."""
        if self.cluster is not None:
            self.cluster.check_awake()

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
            if self.cluster is not None:
                listener = SimListener(self.world.network, self.place.name, self.place.name, PEER_PORT)
                nursery.start_soon(self.cluster.run, [listener])

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
            self.awake()
            self.node.timers.tick(self.now_ms())
            self.router.tick(self.now_ms())
            self.flush()

    async def _trim(self) -> None:
        while True:
            await passes(TRIM_SECONDS)
            self.awake()
            self.router.trim(self.now_ms())
            self.flush()

    async def _keep_alive(self) -> None:
        while True:
            await passes(KEEPALIVE_SECONDS)
            self.awake()
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
    disks: dict[str, KeptDisk | None]  # of the durable shards it holds
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

    async def drain(self, random: Random) -> None:
        """SIGTERM: no new clients, what is owned is handed over, the clients are sent away, and it ends."""
        running = self.running
        if running is None or (cluster := running.cluster) is None:
            return
        self.world.recorder.note("fault", self.name, what="drain")
        running.is_draining = True
        running.machine.call(lambda: running.turn(cluster.leave))
        for _ in range(int(HAND_OVER_SECONDS / LOOK_SECONDS)):
            if cluster.giving.is_done or running.is_over:
                break
            await passes(LOOK_SECONDS)
        for line in running.lines[:]:
            await passes(random.uniform(0, 0.3))
            running.machine.call(partial(running.turn, partial(line.close, CloseCode.DRAINING)))
        await passes(random.uniform(0.3, 1))
        if self.running is running:
            self.kill()

    @property
    def is_whole(self) -> bool:
        """Whether it knows who owns what, as its readiness says."""
        return self.running is not None and not (self.running.cluster and self.running.cluster.ownerless())

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
        return self.running is not None and not self.running.is_draining

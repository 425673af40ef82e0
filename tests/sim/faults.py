"""The faults of a simulated run: what befalls nodes, ways and clocks, at moments that the seed decides.

Each fault begins, lasts, and ends by itself; `heal` ends whatever is left. Only what a network and machines can do
is done here; bugs are planted elsewhere (`plants`).
"""

from collections.abc import Awaitable, Callable
from random import Random

import trio
from attrs import define

from tests.history.events import Recorder
from tests.sim.network import Network, Way
from tests.sim.node import SimNode
from tests.sim.scheduling import passes

HOUR_MS = 3_600_000


@define(eq=False)
class Faults:
    """Does them, one task each."""

    nodes: list[SimNode]
    network: Network
    recorder: Recorder
    random: Random
    nursery: trio.Nursery

    def begin(self, name: str) -> None:
        """Start one of `ALONE` or `TOGETHER`."""
        self.nursery.start_soon((ALONE | TOGETHER)[name], self)

    def heal(self) -> None:
        """Everything that was broken works again, from now on."""
        self.nursery.cancel_scope.cancel()
        self.network.heal([node.name for node in self.nodes])
        for node in self.nodes:
            if node.running is not None:
                node.running.holes = 0.0
            node.go_on()
            if node.running is not None and node.running.is_draining:
                node.kill()
            node.start()
        self.recorder.note("heal", "network")

    def note(self, what: str, **about: object) -> None:
        """For the history."""
        self.recorder.note("fault", "network", about={"what": what, **about})

    def one(self) -> SimNode:
        """Any node."""
        return self.random.choice(self.nodes)

    def pair(self) -> tuple[str, str]:
        """Two nodes."""
        one, other = self.random.sample(self.nodes, 2)
        return one.name, other.name


async def _kill(faults: Faults) -> None:
    """kill -9, or the power of that machine alone; it starts again a little or a lot later."""
    node, random = faults.one(), faults.random
    if node.running is not None and node.running.disks and random.random() < 0.7:
        disk = random.choice(node.running.disks)
        disk.is_written = trio.Event()
        with trio.move_on_after(2):  # the best moment: something is on its way to the disk
            await disk.is_written.wait()
            await passes(random.uniform(0.0005, 0.005))
    node.kill(is_told=random.random() < 0.8)
    await passes(random.choice((random.uniform(0.05, 1), random.uniform(1, 12))))
    node.start()


async def _stop(faults: Faults) -> None:
    """SIGSTOP for less, or for more, than it takes to be found dead."""
    node, random = faults.one(), faults.random
    node.stop()
    await passes(random.choice((random.uniform(0.1, 3), random.uniform(4, 14))))
    node.go_on()


async def _clock(faults: Faults) -> None:
    """Somebody sets the wall clock of a node."""
    node = faults.one()
    node.offset_ms += faults.random.choice((-1, 1)) * faults.random.choice((300, 20_000, HOUR_MS))
    faults.note("clock", node=node.name, offset_ms=node.offset_ms)


async def _disk(faults: Faults) -> None:
    """The disks of a node are slow."""
    node = faults.one()
    if node.running is not None:
        for disk in node.running.disks:
            disk.slowness = 0.3
        faults.note("slow disks", node=node.name)


async def _cut(faults: Faults) -> None:
    """The connections between two nodes break, and both are told."""
    one, other = faults.pair()
    faults.note("cut", pair=[one, other])
    faults.network.cut(one, other)


async def _split(faults: Faults) -> None:
    """Two sides, and nothing passes."""
    random = faults.random
    names = [node.name for node in faults.nodes]
    random.shuffle(names)
    cut = random.randrange(1, len(names))
    sides = names[:cut], names[cut:]
    faults.note("split", sides=[*sides])
    faults.network.split(*sides)
    await passes(random.choice((random.uniform(0.2, 3), random.uniform(4, 15))))
    _open_all(faults, *sides)


def _open_all(faults: Faults, *sides: list[str]) -> None:
    for one in sides:
        for other in sides:
            for source in one:
                for target in other if one is not other else ():
                    faults.network.unblock(source, target)
    faults.note("joined", sides=[*sides])


async def _half(faults: Faults) -> None:
    """Two nodes do not reach each other; others reach both."""
    one, other = faults.pair()
    faults.note("half", pair=[one, other])
    faults.network.split([one], [other])
    await passes(faults.random.uniform(0.5, 14))
    _open_all(faults, [one], [other])


async def _one_way(faults: Faults) -> None:
    """What one node sends another one does not arrive; the other way it does."""
    one, other = faults.pair()
    faults.note("one way", pair=[one, other])
    faults.network.block(one, other)
    await passes(faults.random.uniform(0.5, 14))
    faults.network.unblock(one, other)
    faults.note("both ways", pair=[one, other])


async def _flap(faults: Faults) -> None:
    """A way between two nodes that comes and goes."""
    one, other = faults.pair()
    for _ in range(faults.random.randrange(2, 7)):
        faults.note("flap", pair=[one, other])
        faults.network.split([one], [other])
        if faults.random.random() < 0.5:
            faults.network.cut(one, other)
        await passes(faults.random.uniform(0.1, 1.5))
        _open_all(faults, [one], [other])
        await passes(faults.random.uniform(0.1, 1.5))


async def _slow(faults: Faults) -> None:
    """A way that takes long, or carries little."""
    one, other = faults.pair()
    faults.note("slow", pair=[one, other])
    way = faults.network.way(one, other)
    if faults.random.random() < 0.5:
        way.delay = (0.05, 0.8)
    else:
        way.bytes_per_second = 8_000
    await passes(faults.random.uniform(1, 8))
    way.delay, way.bytes_per_second = Way().delay, float("inf")


async def _late(faults: Faults) -> None:
    """One end is told that its connection is gone, and makes a new one; what the old one carries arrives later."""
    one, other = faults.pair()
    held = faults.network.between(one, other)
    faults.note("late", pair=[one, other])
    for connection in held:
        connection.hold(towards=other)
    await passes(faults.random.uniform(0, 2))
    for connection in held:
        for end in connection.ends:
            if end.owner == one:
                end.break_()
    await passes(faults.random.uniform(0.05, 3))
    for connection in held:
        connection.release()
    faults.note("late frames come", pair=[one, other])


async def _half_open(faults: Faults) -> None:
    """One end is told that its connection is gone; the other one never is."""
    one, other = faults.pair()
    faults.note("half open", pair=[one, other])
    for connection in faults.network.between(one, other):
        connection.hold(towards=one)
        connection.hold(towards=other)
        for end in connection.ends:
            if end.owner == one:
                end.break_()


async def _mute(faults: Faults) -> None:
    """A node hears another one and is not heard by it; then it dies, and what it said last is lost."""
    node, (one, other) = faults.one(), faults.pair()
    other = next(name for name in (one, other) if name != node.name)
    faults.note("mute", pair=[node.name, other])
    faults.network.block(node.name, other)
    await passes(faults.random.uniform(0.1, 1.2))
    faults.network.cut(node.name, other)
    node.kill()
    faults.network.unblock(node.name, other)
    await passes(faults.random.uniform(0.05, 8))
    node.start()


async def _hole(faults: Faults) -> None:
    """Frames of streams are lost between the link and the node: no network does that, a bug might."""
    node = faults.one()
    if (running := node.running) is not None:
        faults.note("holes", node=node.name)
        running.holes = 0.3
        await passes(faults.random.uniform(0.5, 4))
        running.holes = 0.0
        faults.note("no holes", node=node.name)


async def _rolling(faults: Faults) -> None:
    """One node after the other is ended and started again."""
    for node in faults.nodes:
        node.kill()
        await passes(faults.random.uniform(0.05, 1))
        node.start()
        await passes(faults.random.uniform(0.5, 3))


async def _drain(faults: Faults) -> None:
    """A node is taken out of service in good order, and comes back."""
    node, random = faults.one(), faults.random
    await node.drain(random)
    await passes(random.uniform(0.05, 3))
    node.start()


Fault = Callable[[Faults], Awaitable[None]]
#: What may happen where there is one node.
ALONE: dict[str, Fault] = {"kill": _kill, "stop": _stop, "clock": _clock, "disk": _disk}
#: What needs two.
TOGETHER: dict[str, Fault] = {
    "cut": _cut,
    "split": _split,
    "half": _half,
    "one_way": _one_way,
    "flap": _flap,
    "slow": _slow,
    "late": _late,
    "half_open": _half_open,
    "mute": _mute,
    "hole": _hole,
    "rolling": _rolling,
    "drain": _drain,
}

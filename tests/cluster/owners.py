"""A small world of nodes that have nothing but Table, Membership and Ownership, for the model test of ownership.

Messages take random times, in order on each link; cuts hold or break links; nodes are killed, restarted, put to
sleep. Everything comes from one seed. The world checks while it runs what must never happen; what must hold when
all is quiet again is checked by the test.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

import attrs
from triode_broker.cluster.actions import Actions
from triode_broker.cluster.frames import Entry, Heard
from triode_broker.cluster.membership import SILENT_MS, Membership
from triode_broker.cluster.ownership import Ownership
from triode_broker.cluster.table import Table

MEMORY_SHARDS = 8
TICK_MS = 500


@attrs.define(eq=False)
class Process:
    """One life of a node: it is what Ownership's actions act on."""

    world: "World"
    node: str
    incarnation: str
    links: list["Link"] = attrs.field(factory=list)
    logs: dict[str, str] = attrs.field(factory=dict)  # unsealed, of memory shards
    told: dict[str, Entry] = attrs.field(factory=dict)
    is_running: bool = True
    asleep_until: int = 0
    membership: Membership = attrs.field(init=False)
    ownership: Ownership = attrs.field(init=False)

    def start(self, kind: type[Ownership], durable: dict[str, tuple[int, str]]) -> None:
        """Build its parts."""
        actions: Actions = self
        self.membership = Membership(self.node, self.incarnation, lambda: self.world.now)
        self.ownership = kind(
            Table(MEMORY_SHARDS, self.world.holders),
            self.membership,
            actions,
            lambda: self.world.now,
            durable=durable,
            seeds=[node for node in self.world.nodes if node != self.node],
        )
        self.say()

    def say(self) -> None:
        """Have the world note this life's own entries."""
        for entry in self.ownership.table.entries():
            if (entry.node, entry.incarnation) == (self.node, self.membership.incarnation):
                self.world.note(self, entry)

    # Actions

    def own(self, shard: str, epoch: int) -> str:
        """A new log."""
        assert shard not in self.logs
        self.logs[shard] = f"{shard}-{self.world.number():06}"
        return self.logs[shard]

    def seal(self, shard: str) -> None:
        """The log is closed for good."""
        self.world.sealed[self.logs.pop(shard)] = self.node

    def announce(self, entries: list[Entry]) -> None:
        """To all."""
        self.say()
        for link in self.links:
            link.send(self, ("table", entries))

    def changed(self, entry: Entry) -> None:
        """Whoever is told that it owns a shard holds the log."""
        self.told[entry.shard] = entry
        is_mine = (entry.node, entry.incarnation) == (self.node, self.membership.incarnation)
        if is_mine and entry.shard.startswith("m") and entry.log and not entry.heir:
            assert self.logs.get(entry.shard) == entry.log, entry

    def orphaned(self, shard: str) -> None:
        """Nobody is told to own it; that it was owned is known."""
        assert shard in self.told

    def woke_late(self) -> None:
        """All links go, a new incarnation comes."""
        for link in list(self.links):
            link.close(self)
        self.incarnation = self.world.incarnation()
        self.ownership.renew(self.incarnation)
        self.say()

    # Life

    def tick(self) -> None:
        """Judge, ping, dial."""
        if self.world.processes.get(self.node) is not self or not self.is_running:
            return
        self.world.later(TICK_MS, self.tick, self)
        self.ownership.tick()
        for link in list(self.links):
            if self.world.now - link.heard_ms[self] > SILENT_MS:
                link.close(self)
            else:
                link.send(self, ("ping", self.membership.report()))
        for node in self.world.nodes:
            if node > self.node and not any(link.other(self).node == node for link in self.links):
                self.world.dial(self, node)

    def hand_over(self) -> None:
        """Release a shard to a peer, which takes it, refuses it, or never hears of it."""
        if not self.logs or not self.links:
            return
        shard = self.world.random.choice(sorted(self.logs))
        link = self.world.random.choice(self.links)
        heir = link.other(self)
        entry = self.ownership.release(shard, f"{heir.node}/{link.life(heir)}")
        assert self.ownership.release(shard) is None
        fate = self.world.random.random()
        if entry is not None and fate < 0.6:
            link.send(self, ("handed", entry))
        elif fate < 0.8:
            self.ownership.refused(shard)

    def adopt(self, entry: Entry) -> None:
        """The log is opened again here, if this node is the heir still."""
        if entry.shard in self.logs or self.world.sealed.get(entry.log) != entry.node:
            assert not self.ownership.adopt(entry.shard, entry.log)
            return
        self.logs[entry.shard] = entry.log
        del self.world.sealed[entry.log]
        if not self.ownership.adopt(entry.shard, entry.log):
            del self.logs[entry.shard]
            self.world.sealed[entry.log] = entry.node

    def take(self, peer: "Process", peer_life: str, message: tuple[str, Any]) -> None:
        """Something has come from a peer."""
        kind, content = message
        self.membership.heard_from(peer.node, peer_life)
        if kind == "ping":
            heard: dict[str, Heard] = content
            self.membership.heard_of(peer.node, heard)
        elif kind == "handed":
            self.adopt(content)
        else:
            self.ownership.received(peer.node, peer_life, content)
            self.ownership.seed_answered(peer.node)


@attrs.define(eq=False)
class Link:
    """Two ends, each open or not. What cannot pass is held until the cut is over."""

    world: "World"
    ends: tuple[Process, Process]
    lives: tuple[str, str]
    is_open: dict[Process, bool] = attrs.field(factory=dict)
    heard_ms: dict[Process, int] = attrs.field(factory=dict)
    arrives_ms: dict[Process, int] = attrs.field(factory=dict)
    held: list[tuple[Process, tuple[str, Any]]] = attrs.field(factory=list)

    def other(self, process: Process) -> Process:
        """The other end."""
        return self.ends[process is self.ends[0]]

    def life(self, process: Process) -> str:
        """Under which incarnation that end opened it."""
        return self.lives[process is self.ends[1]]

    def open(self) -> None:
        """Both ends open it if both admit each other; the first words are tables."""
        a, b = self.ends
        if not (a.membership.admits(b.node, self.life(b)) and b.membership.admits(a.node, self.life(a))):
            return
        for end in self.ends:
            self.is_open[end] = True
            self.heard_ms[end] = self.arrives_ms[end] = self.world.now
            end.links.append(self)
            end.membership.link_opened(self.other(end).node, self.life(self.other(end)))
        for end in self.ends:
            end.say()
            self.send(end, ("table", end.ownership.table.entries()))

    def send(self, sender: Process, message: tuple[str, Any]) -> None:
        """In order, at some time."""
        if not self.is_open.get(sender):
            return
        if self.world.is_cut(sender.node, self.other(sender).node) or any(one is sender for one, _ in self.held):
            self.held.append((sender, message))
            return
        receiver = self.other(sender)
        self.arrives_ms[receiver] = max(self.arrives_ms[receiver], self.world.now + self.world.delay())
        self.world.at(self.arrives_ms[receiver], lambda: self._arrive(receiver, message), receiver)

    def _arrive(self, receiver: Process, message: tuple[str, Any]) -> None:
        if self.is_open.get(receiver):
            self.heard_ms[receiver] = self.world.now
            if message[0] == "bye":
                self._end(receiver)
            else:
                receiver.take(self.other(receiver), self.life(self.other(receiver)), message)

    def close(self, process: Process) -> None:
        """One end closes; the other one hears of it, if anything passes."""
        self.send(process, ("bye", None))
        self._end(process)

    def _end(self, process: Process) -> None:
        if self.is_open.get(process):
            self.is_open[process] = False
            process.links.remove(self)
            other = self.other(process)
            process.membership.link_closed(other.node, self.life(other))

    def healed(self) -> None:
        """What was held goes its way."""
        held, self.held = self.held, []
        for sender, message in held:
            self.send(sender, message)


class World:
    """Nodes, time and the network."""

    def __init__(self, seed: int, nodes: int, kind: type[Ownership] = Ownership) -> None:
        self.random = random.Random(seed)
        self.now = 1_000_000
        self.kind = kind
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.holders = self.nodes[:2]
        self.files: dict[str, int] = {}
        self.processes: dict[str, Process] = {}
        self.links: list[Link] = []
        self.cuts: dict[tuple[str, str], None] = {}
        self.sealed: dict[str, str] = {}
        self.announced: dict[tuple[str, int, str], str] = {}
        self._queue: list[tuple[int, int, Callable[[], None], Process | None]] = []
        self._numbers = 0

    # Time

    def number(self) -> int:
        """Never the same."""
        self._numbers += 1
        return self._numbers

    def incarnation(self) -> str:
        """64 random bits."""
        return f"{self.random.getrandbits(64):016x}"

    def delay(self) -> int:
        """Of one message."""
        return self.random.randrange(1, 300 if self.random.random() < 0.1 else 40)

    def at(self, when: int, action: Callable[[], None], whose: Process | None = None) -> None:
        """A sleeper does it when it wakes, a dead one never."""
        heapq.heappush(self._queue, (when, self.number(), action, whose))

    def later(self, ms: int, action: Callable[[], None], whose: Process | None = None) -> None:
        """The same from the present on."""
        self.at(self.now + ms, action, whose)

    def run(self, ms: int) -> None:
        """Let it pass."""
        until = self.now + ms
        while self._queue and self._queue[0][0] <= until:
            when, _, action, whose = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if whose is not None and whose.asleep_until > self.now:
                self.at(whose.asleep_until + self.random.randrange(3), action, whose)
            elif whose is None or whose.is_running:
                action()
        self.now = until

    # Faults

    def start(self, node: str) -> None:
        """Start a node that is not running."""
        if node in self.processes:
            return
        process = self.processes[node] = Process(self, node, self.incarnation())
        durable = {}
        if node in self.holders:
            shard = f"d{self.holders.index(node)}"
            self.files[shard] = self.files.get(shard, 0) + 1
            durable[shard] = (self.files[shard], f"{shard}-file")
        process.start(self.kind, durable)
        self.later(self.random.randrange(TICK_MS), process.tick, process)

    def kill(self, node: str) -> None:
        """kill -9: the kernel closes its links."""
        process = self.processes.pop(node, None)
        if process is not None:
            for link in list(process.links):
                link.close(process)
            process.is_running = False

    def doze(self, node: str, ms: int) -> None:
        """SIGSTOP; what comes meanwhile is there when it wakes."""
        process = self.processes.get(node)
        if process is not None:
            process.asleep_until = max(process.asleep_until, self.now + ms)

    def cut(self, a: str, b: str, *, is_breaking: bool) -> None:
        """Nothing passes from a to b. `is_breaking`: links notice, or they are silent."""
        if is_breaking:
            for link in self.links:
                if {end.node for end in link.ends} == {a, b}:
                    for end in link.ends:
                        if link.is_open.get(end):
                            link.close(end)
        self.cuts[a, b] = None

    def heal(self) -> None:
        """Everything passes again."""
        self.cuts.clear()
        self.links = [link for link in self.links if any(link.is_open.values())]
        for link in self.links:
            link.healed()

    def is_cut(self, a: str, b: str) -> bool:
        """Whether nothing passes this way."""
        return (a, b) in self.cuts

    def dial(self, dialler: Process, node: str) -> None:
        """A hello takes a while and needs both ways."""
        peer = self.processes.get(node)
        if peer is None or self.is_cut(dialler.node, node) or self.is_cut(node, dialler.node):
            return
        link = Link(self, (dialler, peer), (dialler.incarnation, peer.incarnation))

        def hello() -> None:
            ends_stand = [
                end.is_running and end.asleep_until <= self.now and end.incarnation == link.life(end)
                for end in link.ends
            ]
            known = any(one.other(dialler) is peer for one in dialler.links)
            if all(ends_stand) and not known and not self.is_cut(*[end.node for end in link.ends]):
                self.links.append(link)
                link.open()

        self.later(self.delay(), hello)

    # What must never happen

    def note(self, process: Process, entry: Entry) -> None:
        """One (shard, epoch, log) is announced by one incarnation; a sealed log is never owned again."""
        who = f"{process.node}/{process.membership.incarnation}"
        key = (entry.shard, entry.epoch, entry.log)
        assert self.announced.setdefault(key, who) == who, (key, who, self.announced[key])
        if entry.shard.startswith("m") and not entry.heir and entry.log in process.logs.values():
            assert entry.log not in self.sealed, entry

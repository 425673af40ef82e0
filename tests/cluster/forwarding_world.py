"""A small world for forwarded publishes: entry nodes, two owners, links that lose and delay, one clock, one seed.

Everything but the two sides under test is made up: who owns the shard is thrown with dice, entry nodes hear of it
late, owners die, stop, hand over, believe to be owners when they are not. The world judges as it goes (`Broken`).
"""

from collections import deque
from random import Random

import attrs
from msgspec import Raw
from triode_broker.cluster.accepting import Accepting
from triode_broker.cluster.forwarded import Flushing
from triode_broker.cluster.forwarding import Forwarder
from triode_broker.cluster.frames import Answered, Forward, Frame, decode, encode
from triode_broker.config import Limits
from triode_broker.core.interfaces import Publisher
from triode_broker.core.nowhere import Nowhere
from triode_broker.core.shard import Shard
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, Published, ServerPacket

STEP_MS = 25
TICK_MS = 100
LIMITS = Limits(max_inflight_publishes=40)


class Broken(Exception):
    """A promise was."""


def check(is_kept: bool, promise: str) -> None:
    """Judge."""
    if not is_kept:
        raise Broken(promise)


class Client:
    """A connection that publishes on an entry node."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.inflight = 0
        self.last = 0  # its publishes have rising numbers

    def answer(self, packet: ServerPacket) -> None:
        """`interfaces.Publisher`."""
        assert isinstance(packet, Published)
        text = f"{self.name}.{packet.id}"
        self.world.settle(text, "ok")
        if not packet.duplicate:
            check(self.world.logs[packet.log][packet.pos - 1] == text, "an acknowledged one is at its place")

    def refuse(self, refused: Refused) -> None:
        """`interfaces.Publisher`."""
        self.world.settle(f"{self.name}.{refused.id}", refused.name)


class Wire:
    """One link from an entry node to one life of an owner: two queues, each in order."""

    def __init__(self, world: "World", entry: "Entry", life: "Life") -> None:
        self.world = world
        self.entry = entry
        self.entry_incarnation = entry.incarnation
        self.life = life
        self.there: deque[tuple[int, bytes]] = deque()  # with when they arrive
        self.back: deque[tuple[int, bytes]] = deque()
        self.is_open = True
        self.is_full = False
        self.far_end = FarEnd(self)
        self.send(self.there, b"")  # hello

    def send(self, queue: deque[tuple[int, bytes]], data: bytes) -> None:
        """Later, and never before what was sent earlier."""
        due = self.world.now_ms + self.world.random.choice((0, 1, 5, 40, 200))
        queue.append((max(due, queue[-1][0] if queue else 0), data))

    def put(self, frame: Frame) -> None:
        """Of the entry node."""
        if self.is_open:
            assert isinstance(frame, Forward)
            self.entry.wrote(self, frame)
            self.send(self.there, encode([frame]))
            self.is_full = self.world.random.random() < 0.1

    def cut(self) -> None:
        """Both ends lose it; what is under way to the owner may arrive in spite of that, or some of it."""
        if self.is_open:
            self.is_open = False
            self.back.clear()
            for _ in range(self.world.random.choice((0, len(self.there), len(self.there) // 2))):
                self.there.pop()
            self.entry.lost(self)


class FarEnd:
    """Its other end."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.is_full = False

    def put(self, frame: Frame) -> None:
        """Of the owner."""
        if self._wire.is_open:
            self._wire.send(self._wire.back, encode([frame]))


class Life:
    """One incarnation of a node that owns the shard, or does not; its router, reduced to numbers."""

    def __init__(self, world: "World", incarnation: str) -> None:
        self.world = world
        self.incarnation = incarnation
        self.log = Nowhere("memory")
        self.shard = Shard(self.log, 0, "m0")
        self.shard.is_here = False
        self.epoch = 0
        self.dirty: list[Flushing] = []
        self.accepting = Accepting(self, lambda: world.now_ms, self.dirty)
        self.newest: dict[str, Wire] = {}  # by entry node
        self.stopped_until = 0
        self.late: deque[tuple[Publisher, Published]] = deque()  # as with a disk

    def shard_named(self, name: str) -> Shard | None:
        """The one there is."""
        return self.shard

    def shard_of(self, topic: str) -> Shard:
        """The one there is."""
        return self.shard

    def publish_own(self, packet: Publish, user: str, now_ms: int, publisher: Publisher) -> None:
        """There are none."""
        raise AssertionError(packet)

    def publish(
        self, packet: Publish, user: str, now_ms: int, publisher: Publisher | None = None
    ) -> Published | None:
        """Give it a place; some are answered later, some are refused."""
        world = self.world
        text = bytes(packet.data).decode().strip('"')
        if world.random.random() < 0.03:
            raise Refused(ErrorName.QUOTA, "bad luck")
        check(text not in world.places, "no publish is applied twice")
        name = self.shard.log.name
        log = world.logs.setdefault(name, [])
        log.append(text)
        world.places[text] = (name, len(log))
        published = Published(packet.id, name, len(log), len(log), "memory")
        if publisher is not None and world.random.random() < 0.2:
            self.late.append((publisher, published))
            return None
        return published

    def turn(self) -> None:
        """One turn of its loop."""
        if self.world.now_ms < self.stopped_until:
            return
        for wire in [wire for wire in self.world.wires if wire.life is self]:
            while wire.there and wire.there[0][0] <= self.world.now_ms:
                self.receive(wire, wire.there.popleft()[1])
        while self.late and self.world.random.random() < 0.5:
            publisher, published = self.late.popleft()
            publisher.answer(published)
        flush(self.dirty)

    def receive(self, wire: Wire, data: bytes) -> None:
        """The newest link of a node counts, and no other: its older incarnations' are superseded as well."""
        if not data:
            if wire.is_open:  # a hello takes a round trip
                self.newest[wire.entry.name] = wire
        elif self.newest.get(wire.entry.name) is wire or self.world.accepts_superseded:
            for frame in decode(data):
                assert isinstance(frame, Forward)
                self.accepting.receive(wire.far_end, wire.entry_incarnation, frame)


def flush(dirty: list[Flushing]) -> None:
    """The end of a turn."""
    for one in dirty:
        one.flush()
    dirty.clear()


class Entry:
    """An entry node."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = self.incarnation = name
        self.dirty: list[Flushing] = []
        self.forwarder = world.make_forwarder("m0", LIMITS, lambda: world.now_ms, self.dirty)
        self.clients = [Client(world, f"{name}c{number}") for number in range(3)]
        self.links: dict[str, Wire] = {}  # by incarnation of the owner
        self.epoch = 0
        self.owner = ("", "")  # incarnation and log, as far as it has heard
        self.written: dict[str, str] = {}  # the incarnation each publish was written to, and has not moved from
        self.by_seq: dict[int, str] = {}

    def publish(self, client: Client) -> None:
        """A client does."""
        client.last += 1
        text = f"{client.name}.{client.last}"
        packet = Publish("a/b", Raw(f'"{text}"'.encode()), client.last)
        self.world.begun[text] = self.world.now_ms
        try:
            self.forwarder.accept(None, packet, "", client, 0)
        except Refused as refused:
            self.world.settle(text, refused.name)

    def wrote(self, wire: Wire, frame: Forward) -> None:
        """Once written to one owner's incarnation, it goes to no other."""
        for row in frame.rows:
            text = row.data.decode().strip('"')
            to = self.written.setdefault(text, wire.life.incarnation)
            check(to == wire.life.incarnation, "no publish is written to two owners")
            self.by_seq[row.seq] = text

    def heard(self, wire: Wire, frame: Answered) -> None:
        """From the owner."""
        for refusal in frame.refusals:
            if refusal.name == "moved" and self.by_seq[refusal.seq] in self.written:
                del self.written[self.by_seq[refusal.seq]]
        self.forwarder.answered(wire, frame)

    def lost(self, wire: Wire) -> None:
        """A link is gone."""
        if self.links.get(wire.life.incarnation) is wire:
            del self.links[wire.life.incarnation]
        self.forwarder.closed(wire)

    def aim(self, *, is_handed_over: bool = False) -> None:
        """Tell the forwarder where the owner is, as far as is known here."""
        incarnation, log = self.owner
        wire = self.links.get(incarnation)
        if is_handed_over:
            self.forwarder.suspend()
        elif wire is not None:
            self.forwarder.link_to(wire, incarnation, log)
        else:
            self.forwarder.link_lost()

    def restart(self) -> None:
        """It was stopped for long, and calls itself anew."""
        self.incarnation += "'"
        for wire in list(self.links.values()):
            wire.cut()
        self.forwarder.restart()

    def turn(self) -> None:
        """One turn of its loop."""
        for wire in list(self.links.values()):
            wire.is_full = wire.is_full and self.world.random.random() < 0.8
            while wire.back and wire.back[0][0] <= self.world.now_ms:
                for frame in decode(wire.back.popleft()[1]):
                    assert isinstance(frame, Answered)
                    self.heard(wire, frame)
        if self.world.now_ms % TICK_MS == 0:
            self.forwarder.tick()
        flush(self.dirty)


@attrs.define
class World:
    """All of it, and the judge."""

    random: Random
    make_forwarder: type[Forwarder] = Forwarder
    accepts_superseded: bool = False
    now_ms: int = 0
    logs: dict[str, list[str]] = attrs.field(factory=dict)
    places: dict[str, tuple[str, int]] = attrs.field(factory=dict)  # by publish
    begun: dict[str, int] = attrs.field(factory=dict)
    ends: dict[str, str] = attrs.field(factory=dict)
    wires: list[Wire] = attrs.field(factory=list)
    news: list[tuple[int, int, Entry, tuple[str, str]]] = attrs.field(factory=list)  # when, epoch, to whom
    entries: list[Entry] = attrs.field(init=False)
    lives: list[Life] = attrs.field(init=False)
    owner: Life = attrs.field(init=False)
    sealed: dict[tuple[str, str], bool] = attrs.field(factory=dict)  # incarnation, log
    serial: int = 0
    rate: float = attrs.field(init=False)  # how often links and owners go

    def __attrs_post_init__(self) -> None:
        self.rate = self.random.choice((0.05, 0.5, 1.0))
        self.entries = [Entry(self, f"e{number}") for number in range(2)]
        self.lives = [Life(self, self.name("A")), Life(self, self.name("B"))]
        self.owner = self.lives[0]
        self.claim(self.owner, self.name("log"))

    def name(self, stem: str) -> str:
        """A new one."""
        self.serial += 1
        return f"{stem}{self.serial}"

    def settle(self, text: str, end: str) -> None:
        """A client has heard what became of a publish."""
        check(text not in self.ends, "every publish is answered once")
        check(self.now_ms - self.begun[text] <= 5_000 + TICK_MS, "every publish ends in time")
        self.ends[text] = end

    # What happens

    def claim(self, life: Life, log: str) -> None:
        """It owns the shard from here on; entry nodes hear of it in their time, the owner before as well."""
        before, self.owner = self.owner, life
        life.epoch = before.epoch + 1
        life.log.name = log
        life.shard.is_here = True
        for entry in self.entries:
            due = self.now_ms + self.random.choice((0, 25, 100, 800, 1_600))
            self.news.append((due, life.epoch, entry, (life.incarnation, log)))

    def hand_over(self, life: Life) -> None:
        """The owner seals its log for good; it goes on at the heir, a bit later."""
        log = self.owner.log.name
        if (life.incarnation, log) in self.sealed:
            return
        self.sealed[self.owner.incarnation, log] = True
        self.owner.shard.is_here = False
        for entry in self.entries:
            if self.random.random() < 0.7:
                entry.aim(is_handed_over=True)
        self.claim(life, log)

    def kill(self, index: int) -> None:
        """A node dies, and is started again."""
        dead = self.lives[index]
        self.lives[index] = Life(self, self.name("AB"[index]))
        for wire in [wire for wire in self.wires if wire.life is dead]:
            wire.there.clear()
            wire.cut()
        if dead is self.owner:
            self.claim(self.random.choice(self.lives), self.name("log"))

    def misfortune(self) -> None:
        """Dice."""
        dice, rate = self.random, self.rate
        other = self.lives[0] if self.owner is self.lives[1] else self.lives[1]
        for wire in [wire for entry in self.entries for wire in entry.links.values()]:
            if dice.random() < 0.02 * rate:
                wire.cut()
        if dice.random() < 0.02 * rate:
            self.claim(other, self.name("log"))
        if dice.random() < 0.01 * rate:
            self.claim(self.owner, self.name("log"))
        if dice.random() < 0.01 * rate:
            self.hand_over(other)
        if dice.random() < 0.005 * rate:
            self.kill(dice.randrange(2))
        if dice.random() < 0.01:
            dice.choice(self.lives).stopped_until = self.now_ms + dice.choice((100, 1_000, 6_000))
        if dice.random() < 0.03:  # suspended for a while
            self.owner.shard.is_here = not self.owner.shard.is_here
        if dice.random() < 0.005 * rate:
            dice.choice(self.entries).restart()
        if dice.random() < 0.01:
            dice.choice(self.entries).forwarder.resume()
        if dice.random() < 0.01 * rate:
            entry = dice.choice(self.entries)
            entry.owner = dice.choice((("", ""), (other.incarnation, other.log.name)))
            entry.aim()

    def step(self, *, is_calm: bool) -> None:
        """Let a bit of time pass."""
        dice = self.random
        self.now_ms += STEP_MS
        for life in self.lives:  # who was owner hears of it
            if life.shard.is_here and life.epoch < self.owner.epoch and (is_calm or dice.random() < 0.1):
                life.shard.is_here = False
        due = [one for one in self.news if one[0] <= self.now_ms]
        self.news = [one for one in self.news if one not in due]
        for _, epoch, entry, owner in due:
            if epoch > entry.epoch:
                entry.owner, entry.epoch = owner, epoch
                entry.aim()
        for entry in self.entries:
            for life in self.lives:
                if life.incarnation not in entry.links and (is_calm or dice.random() < 0.1):
                    self.connect(entry, life)
            for _ in range(dice.choice((0, 0, 1, 3))):
                entry.publish(dice.choice(entry.clients))
        self.turn()

    def turn(self) -> None:
        """Of every loop."""
        for life in self.lives:
            life.turn()
        for entry in self.entries:
            entry.turn()

    def quiet(self, ms: int) -> None:
        """Time passes, nobody publishes, nothing goes wrong."""
        for _ in range(ms // STEP_MS):
            self.now_ms += STEP_MS
            self.turn()

    def connect(self, entry: Entry, life: Life) -> None:
        """A link; an older one is superseded."""
        wire = entry.links[life.incarnation] = Wire(self, entry, life)
        self.wires = [old for old in self.wires if old.there or old.is_open]
        self.wires.append(wire)
        if entry.owner[0] == life.incarnation:
            entry.aim()

    def calm(self) -> None:
        """Everything heals."""
        for life in self.lives:
            life.stopped_until = 0
        self.claim(self.owner, self.owner.log.name)

    def judge(self) -> None:
        """Everything has ended."""
        check(set(self.ends) == set(self.begun), "every publish ends")
        for text, end in self.ends.items():
            if end == "ok":
                check(text in self.places, "what was acknowledged has a place")
            elif end != "timeout":
                check(text not in self.places, f"{end}: it was not applied")
        for log in self.logs.values():
            last: dict[str, int] = {}
            for text in log:
                client, _, number = text.partition(".")
                check(last.get(client, 0) < int(number), "the order of acceptance is the order in the log")
                last[client] = int(number)
        for entry in self.entries:
            check(entry.forwarder.unanswered == 0, "nothing is left")
            check(entry.forwarder.waiting_bytes == 0, "no byte is left")
            check(all(client.inflight == 0 for client in entry.clients), "nothing is in flight")

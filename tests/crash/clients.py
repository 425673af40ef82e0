"""The clients of a crash run: a publisher, a subscriber that resumes, a worker that acknowledges.

Each does what SPEC.md asks of a client, by the shortest way, over connections that are recorded. The surprising
decision: none of them waits for time to pass. What they do next depends on packets and their own random numbers.
"""

from collections.abc import Callable
from random import Random
from typing import Protocol

import trio
from attrs import define, field
from triode_protocol.topics import matches

from tests.crash.broker import BrokerProcess
from tests.crash.line import ENDS, Line
from tests.history.events import Packet, Recorder
from tests.history.streams import Stream

Place = tuple[str, int]
#: Topics on disk whose messages neither retention nor time takes away, and all others.
TOPICS_THAT_STAY = ("durable/a", "durable/b", "durable/c/d")
TOPICS = (
    *TOPICS_THAT_STAY,
    "durable/short",
    "durable/short",
    "durable/fading",
    "durable/state",
    "live/x",
    "live/y",
)


class Cut(Exception):
    """The client drops its own connection."""


@define
class Ledger:
    """What one durable subscription still owes an answer for."""

    settled: set[Place] = field(factory=set)  # or maybe: answers were lost
    open: set[Place] = field(factory=set)

    def published(self, place: Place) -> None:
        """It is to be delivered."""
        if place not in self.settled:
            self.open.add(place)

    def delivered(self, place: Place) -> None:
        """So it was not settled."""
        self.settled.discard(place)
        self.open.add(place)

    def settle(self, places: tuple[Place, ...]) -> None:
        """They are done with, or nobody knows; what is not comes again."""
        self.settled.update(places)
        self.open.difference_update(places)


@define
class Scene:
    """What the clients of one run share."""

    recorder: Recorder
    broker: BrokerProcess
    now_ms: Callable[[], int]
    most_a_life: int  # messages that all publishers publish at most in one life
    is_on_disk: bool = True
    is_draining: bool = False
    drain: trio.Event = field(factory=trio.Event)
    published: int = 0  # in this life
    filters: set[str] = field(factory=set)  # of all unacknowledged subscriptions
    heads: dict[tuple[str, str], int] = field(factory=dict)  # by filter and log: the newest that was acknowledged
    ledgers: dict[str, Ledger] = field(factory=dict)  # by durable name
    delayed: set[str] = field(factory=set)  # message ids that were taken for later and not seen yet

    def acknowledged(self, topic: str, place: Place) -> None:
        """A publish was answered with its place: everybody is to get it."""
        log, pos = place
        for filter in self.filters:
            if matches(filter, topic):
                self.heads[filter, log] = max(pos, self.heads.get((filter, log), 0))
        if topic in TOPICS_THAT_STAY:
            for ledger in self.ledgers.values():
                ledger.published(place)


class Role(Protocol):
    """What a client does on its connections."""

    def first(self) -> list[Packet]:
        """What is sent right behind `connect`."""

    def got(self, t: int, packet: Packet) -> list[Packet]:
        """A packet has come; what is sent now. Raises Cut."""

    def lost(self, t: int) -> None:
        """The connection is gone."""


class Client:
    """Connects again and again, and lets its role speak."""

    def __init__(self, who: str, scene: Scene, role: Role, *, is_lazy: bool = False) -> None:
        self.who = who
        self._scene = scene
        self._role = role
        self._is_lazy = is_lazy  # connects in every third life of the broker only, until the drain
        self._number = 0

    async def run(self) -> None:
        """For ever."""
        broker, old = self._scene.broker, ""
        while True:
            url = await broker.address(old)
            if self._is_lazy and broker.life % 3 != 1 and not self._scene.is_draining:
                old = url
                continue
            self._number += 1
            is_open, line = False, None
            try:
                async with trio.open_nursery() as nursery:
                    line = await Line.open(nursery, self._scene.recorder, self.who, self._number, url, broker.gone)
                    is_open = True
                    await self._converse(line)
            except* (*ENDS, Cut):
                event = self._scene.recorder.note("lost", self.who, self._number)
                self._role.lost(event.t)
            finally:
                if line is not None:
                    with trio.CancelScope(shield=True):
                        await line.cut()
            old = "" if is_open else url

    async def _converse(self, line: Line) -> None:
        requests = [{"type": "connect", "client": {"name": self.who}}, *self._role.first()]
        await line.send(*requests)
        async with trio.open_nursery() as nursery:
            if not self._scene.is_draining:
                nursery.start_soon(self._cut_at_drain)
            while True:
                for t, packet in await line.receive():
                    for request in self._role.got(t, packet):
                        await line.send(request)

    async def _cut_at_drain(self) -> None:
        """What a worker holds unanswered comes again only on another connection."""
        await self._scene.drain.wait()
        raise Cut


class Publisher:
    """Publishes under message ids; what is unanswered when a connection is lost is sent again, with its id."""

    def __init__(self, who: str, scene: Scene, random: Random) -> None:
        self._who = who
        self._scene = scene
        self._random = random
        self._window = random.choice((1, 4, 16, 32))
        self._counter = 0
        self._pending: dict[str, Packet] = {}
        self._asked: list[Packet] = []  # by id - 1, on this connection

    @property
    def is_done(self) -> bool:
        """Whether everything was answered."""
        return not self._pending

    def first(self) -> list[Packet]:
        """Again what was not answered, in its order; then new ones."""
        self._asked = [{"type": "connect"}]
        return [*map(self._send, list(self._pending.values())), *self._new()]

    def got(self, t: int, packet: Packet) -> list[Packet]:
        """An answer makes room for the next one; an error that allows it is followed by the same again."""
        asked = self._asked[packet["id"] - 1] if packet.get("id") else {}
        if packet["type"] == "published":
            self._pending.pop(asked["message_id"], None)
            if packet.get("pos"):
                self._scene.acknowledged(asked["topic"], (packet["log"], packet["pos"]))
            elif packet.get("delayed") and self._scene.is_on_disk and asked["topic"] in TOPICS_THAT_STAY:
                # On others what falls due while the broker is away may be replaced or gone before anybody is back.
                self._scene.delayed.add(asked["message_id"])
        elif packet["type"] == "error":
            assert packet["retry"] in ("now", "backoff"), packet
            return [self._send(asked)]
        return self._new()

    def lost(self, t: int) -> None:
        """What is pending stays so."""

    def _send(self, packet: Packet) -> Packet:
        self._asked.append(packet)
        return packet

    def _new(self) -> list[Packet]:
        packets = []
        scene = self._scene
        while len(self._pending) < self._window and scene.published < scene.most_a_life and not scene.is_draining:
            packet = self._message()
            self._pending[packet["message_id"]] = packet
            packets.append(self._send(packet))
            scene.published += 1
        return packets

    def _message(self) -> Packet:
        self._counter += 1
        random = self._random
        topic, size = random.choice(TOPICS), random.choice((10, 100, 1_000, 4_000))
        packet: Packet = {"type": "publish", "topic": topic, "message_id": f"{self._who}-{self._counter}"}
        packet["data"] = f"{self._who}-{self._counter} " + "x" * random.randrange(size)
        if "fading" in topic:
            packet["ttl_ms"] = random.randrange(1, 400)
        elif topic.startswith("durable/") and random.random() < 0.03:
            packet["deliver_at_ms"] = self._scene.now_ms() + random.randrange(1, 400)
        if topic == "durable/state" or random.random() < 0.2:
            packet["key"] = random.choice("abcdefgh")
        if topic == "durable/state" and random.random() < 0.2:
            del packet["data"]  # deletes the key
        return packet


class Subscriber:
    """Unacknowledged subscriptions that resume by position."""

    def __init__(
        self, who: str, scene: Scene, random: Random, wishes: list[Packet], *, is_steady: bool = False
    ) -> None:
        self.streams = {
            number: (Stream(who, number, wish["filter"]), wish) for number, wish in enumerate(wishes, 1)
        }
        self.who = who
        scene.filters |= {wish["filter"] for wish in wishes}
        self._scene = scene
        self._random = random
        self._is_steady = is_steady  # never drops its own connection
        self._line = 0
        self._left = 0  # packets until it drops its connection

    def first(self) -> list[Packet]:
        """All of them, each from where it is."""
        self._line += 1
        self._left = self._random.choice((20, 200, 1_000_000))
        requests = []
        for number, (stream, wish) in self.streams.items():
            start = stream.again(wish)
            request = {"type": "subscribe", "sub": number, "filter": wish["filter"], **start}
            if "overflow" in wish:
                request["overflow"] = wish["overflow"]
            stream.sent(self._line, request)
            requests.append(request)
        return requests

    def got(self, t: int, packet: Packet) -> list[Packet]:
        """Only to be noted."""
        assert packet["type"] not in ("error", "unsubscribed"), packet
        for stream, _ in self.streams.values():
            stream.got(t, packet)
            if self._scene.delayed and stream.steps and (one := stream.steps[-1].message) is not None:
                self._scene.delayed.discard(one.message_id)
        self._left -= 1
        if self._left < 0 and not self._is_steady and not self._scene.is_draining:
            raise Cut
        return []

    def lost(self, t: int) -> None:
        """The positions stay."""
        for stream, _ in self.streams.values():
            stream.lost(t)

    @property
    def missing(self) -> str:
        """The first that some subscription still has to get, before it is live and past the newest it was due."""
        for stream, _ in self.streams.values():
            if not stream.is_live:
                return f"{stream.who}'s {stream.filter} is not live"
            for (filter, log), pos in self._scene.heads.items():
                if filter == stream.filter and stream.position.get(log, pos) < pos:
                    return f"{stream.who}'s {filter} has not come to {pos} in {log}"
        return ""


class Worker:
    """A member of a durable subscription: acknowledges in several ways, gives back, rejects, or forgets to."""

    def __init__(self, name: str, scene: Scene, random: Random, *, is_shared: bool) -> None:
        self._wish: Packet = {"type": "subscribe", "sub": 1, "filter": "durable/#", "durable": name, "window": 16}
        self._wish |= {"from": "earliest"} | ({"shared": True} if is_shared else {})
        self._scene = scene
        self._random = random
        self._ledger = scene.ledgers.setdefault(name, Ledger())
        self._asked: list[tuple[Place, ...]] = []
        self._held: set[Place] = set()
        self._had: set[Place] = set()  # all that came on this connection
        self._left = 0

    def first(self) -> list[Packet]:
        """Joins it, as it was asked for first."""
        self._held = set()
        self._had = set()
        self._asked = [(), ()]
        self._left = self._random.choice((10, 100, 1_000_000))
        return [self._wish]

    def got(self, t: int, packet: Packet) -> list[Packet]:
        """A delivery is dealt with at once or not at all."""
        if packet["type"] in ("acked", "error"):
            self._ledger.settle(self._asked[packet["id"] - 1])
        assert packet["type"] != "unsubscribed", packet
        if packet["type"] == "error":
            assert packet["name"] == "conflict", packet
        if packet["type"] != "delivery":
            return []
        message = packet["message"]
        self._left -= 1
        if self._left < 0 and not self._scene.is_draining:
            raise Cut
        place = message["log"], message["pos"]
        self._held.add(place)
        self._had.add(place)
        if message["topic"] in TOPICS_THAT_STAY:
            self._ledger.delivered(place)
        return self._answer(place, packet.get("attempt", 1))

    def lost(self, t: int) -> None:
        """What was held comes again."""
        self._ledger.settle(tuple(self._had))

    def _answer(self, place: Place, attempt: int) -> list[Packet]:
        log, pos = place
        about: Packet = {"sub": 1, "log": log}
        dice = 0.0 if self._scene.is_draining else self._random.random()
        if dice < 0.7:
            return [self._settle({"type": "ack", **about, "pos": pos}, (place,))]
        if dice < 0.8:
            several = sorted(held for held in self._held if held[0] == log)[:50]
            return [self._settle({"type": "ack", **about, "pos": [pos for _, pos in several]}, tuple(several))]
        if dice < 0.85:
            upto = tuple(held for held in self._held if held[0] == log and held[1] <= pos)
            return [self._settle({"type": "ack", **about, "upto": pos}, upto)]
        if dice < 0.9:
            self._held.discard(place)
            return [self._settle({"type": "nack", **about, "pos": pos, "attempt": attempt}, ())]
        if dice < 0.93:
            reject = {"type": "nack", **about, "pos": pos, "attempt": attempt, "reject": True}
            return [self._settle(reject, (place,))]
        return []

    def _settle(self, packet: Packet, places: tuple[Place, ...]) -> Packet:
        self._asked.append(places)
        self._held.difference_update(places)
        return packet

"""The clients of the simulator: publishers and subscribers that follow SPEC.md over lines that come and go.

They know nodes only as places to connect to. Everything is a call at a moment of the virtual time; there are no
tasks. A client whose node is silent leaves it for another one.
"""

from collections.abc import Callable
from random import Random
from typing import Protocol

from attrs import define, field

from tests.crash.clients import Ledger as LedgerOfOneNode
from tests.crash.clients import Place
from tests.history.events import Packet, Recorder
from tests.history.streams import Stream
from tests.sim.line import Line
from tests.sim.network import Post
from tests.sim.node import SimNode

#: How often a client looks whether its node lives, and the silence that makes it ask, and leave.
LOOK_SECONDS = 1.0
ASK_SECONDS = 2.5
LEAVE_SECONDS = 6.0
BACKOFF_SECONDS = (0.02, 0.4)
#: Of workers: what one of them has forgotten comes again.
ACK_WAIT_MS = 1_500


class Role(Protocol):
    """What a client does on its connections."""

    def first(self) -> list[Packet]:
        """What is sent right behind `connect`."""

    def got(self, t: int, packet: Packet) -> None:
        """A packet has come."""

    def lost(self, t: int) -> None:
        """The connection is gone."""


@define(eq=False)
class Client:
    """Connects again and again, to one node or to any, and lets its role speak."""

    who: str
    nodes: list[SimNode]
    recorder: Recorder
    post: Post
    random: Random
    delay: tuple[float, float] = (0.0005, 0.01)
    bytes_per_second: float = float("inf")
    role: Role = field(init=False)
    line: Line | None = None
    is_steady: bool = False  # stays with the first of the nodes
    restless: float = 0.0  # drops its connection after so many seconds, on average; 0: never
    has_ended: bool = False
    _number: int = 0
    _place: int = 0
    _heard: float = 0.0

    def start(self, after: float) -> None:
        """Connect for the first time, then."""
        self.post.later(after, self._open)
        self.post.later(after, self._look)

    def end(self) -> None:
        """Not again."""
        self.has_ended = True
        if self.line is not None:
            self.line.cut()

    def send(self, *packets: Packet) -> None:
        """If it is connected."""
        if self.line is not None:
            self.line.send(*packets)

    def _open(self) -> None:
        if self.has_ended or self.line is not None:
            return
        node = self.nodes[self._place % len(self.nodes)]
        if node.running is None or not node.is_up:
            self._again()
            return
        self._number += 1
        self._heard = self.post.now
        life = node.running
        self.line = Line(
            self.who,
            self._number,
            life,
            self,
            self.recorder,
            self.post,
            self.random,
            self.delay,
            self.bytes_per_second,
        )
        if self.restless:
            line = self.line
            self.post.later(self.random.expovariate(1 / self.restless), lambda: self._leave(line))
        connect: Packet = {"type": "connect", "client": {"name": self.who}}
        if self.random.random() < 0.5:
            connect["capabilities"] = ["batch"]
        self.line.send(connect, *self.role.first())

    def _leave(self, line: Line) -> None:
        """For no reason; not any more once it has calmed down."""
        if self.restless:
            line.cut()

    def _again(self) -> None:
        if not self.is_steady:
            self._place += self.random.randrange(1, len(self.nodes)) if len(self.nodes) > 1 else 0
        self.post.later(self.random.uniform(*BACKOFF_SECONDS), self._open)

    def _look(self) -> None:
        """Whether the node lives."""
        if self.has_ended:
            return
        self.post.later(LOOK_SECONDS, self._look)
        if self.line is not None:
            silence = self.post.now - self._heard
            if silence > LEAVE_SECONDS:
                self.line.cut()
            elif silence > ASK_SECONDS:
                self.line.send({"type": "ping"})

    def got(self, t: int, packet: Packet) -> None:
        """From the line."""
        self._heard = self.post.now
        self.role.got(t, packet)

    def lost(self, t: int) -> None:
        """From the line."""
        self.line = None
        self.role.lost(t)
        if not self.has_ended:
            self._again()


class Publisher:
    """Publishes under message ids; what fails for a while, or has no answer, is sent again with its id."""

    def __init__(
        self, client: Client, topics: list[str], every: float, published: Callable[[str, Packet], None]
    ) -> None:
        """`every`: seconds between two, on average. `published(topic, answer)` hears of each acknowledgement."""
        self._client = client
        self._topics = topics
        self._every = every
        self._published = published
        self._counter = 0
        self._pending: dict[str, Packet] = {}  # by message id, in order; without ids of requests
        self._asked: dict[int, str] = {}  # message id by the request's id, on this connection
        self._waiting: set[str] = set()  # is sent again in a moment
        self.is_ending = False
        client.role = self

    @property
    def pending(self) -> list[str]:
        """What has no good answer yet."""
        return list(self._pending)

    def start(self, after: float) -> None:
        """Publish from then on."""
        self._client.start(after)
        self._client.post.later(after, self._next)

    def _next(self) -> None:
        if self.is_ending:
            return
        random = self._client.random
        self._client.post.later(random.uniform(0, 2 * self._every), self._next)
        if len(self._pending) < 32:
            burst = random.choice((1, 1, 1, 4))
            self.publish(*(random.choice(self._topics) for _ in range(burst)))

    def publish(self, *topics: str) -> None:
        """One message on each, at once."""
        names = []
        for topic in topics:
            self._counter += 1
            name = f"{self._client.who}-{self._counter}"
            size = self._client.random.choice((1, 20, 400))
            packet: Packet = {"type": "publish", "topic": topic, "data": name + "." * size}
            if self._client.random.random() < 0.8:  # others are sent once, whatever comes of it
                packet["message_id"] = name
            self._pending[name] = packet
            names.append(name)
        if self._client.line is not None:
            self._client.send(*self._prepare(names, self._client.line.last_id))

    def _prepare(self, names: list[str], last_id: int) -> list[Packet]:
        """The packets for these, whose ids will be the next ones."""
        packets = [dict(self._pending[name]) for name in names]
        for number, name in enumerate(names, last_id + 1):
            self._asked[number] = name
        return packets

    def first(self) -> list[Packet]:
        """Again what was not answered, in its order."""
        self._asked.clear()
        self._waiting.clear()
        return self._prepare(list(self._pending), 1)

    def got(self, t: int, packet: Packet) -> None:
        """An answer, maybe."""
        name = self._asked.pop(packet.get("id", 0), "")
        if not name or name not in self._pending:
            return
        if packet["type"] == "published":
            self._published(self._pending.pop(name)["topic"], packet)
        elif packet["type"] == "error":
            assert packet["retry"] in ("now", "backoff"), packet
            if "message_id" not in self._pending[name]:
                del self._pending[name]
                return
            self._waiting.add(name)
            seconds = max(packet.get("retry_after_ms", 0) / 1000, self._client.random.uniform(0.05, 0.3))
            self._client.post.later(seconds, lambda: self._again(name))

    def _again(self, name: str) -> None:
        if name in self._waiting and self._client.line is not None:
            self._waiting.discard(name)
            self._client.send(*self._prepare([name], self._client.line.last_id))

    def lost(self, t: int) -> None:
        """What can be sent again is pending still."""
        self._waiting.clear()
        self._pending = {name: packet for name, packet in self._pending.items() if "message_id" in packet}


class Subscriber:
    """Unacknowledged subscriptions that resume by position."""

    def __init__(self, client: Client, wishes: list[Packet]) -> None:
        self._client = client
        self._line = 0
        self.streams = [
            (Stream(client.who, number, wish["filter"]), wish) for number, wish in enumerate(wishes, 1)
        ]
        client.role = self

    def first(self) -> list[Packet]:
        """All of them, each from where it is."""
        self._line += 1
        requests = []
        for stream, wish in self.streams:
            request: Packet = {
                "type": "subscribe",
                "sub": stream.sub,
                "filter": wish["filter"],
                **stream.again(wish),
            }
            if "overflow" in wish:
                request["overflow"] = wish["overflow"]
            stream.sent(self._line, request)
            requests.append(request)
        return requests

    def got(self, t: int, packet: Packet) -> None:
        """Only to be noted."""
        assert packet["type"] not in ("error", "unsubscribed"), packet
        for stream, _ in self.streams:
            stream.got(t, packet)

    def lost(self, t: int) -> None:
        """The positions stay."""
        for stream, _ in self.streams:
            stream.lost(t)

    def missing(self, heads: dict[tuple[str, str], int]) -> str:
        """What some subscription still has to get of what was acknowledged; `heads` by filter and log."""
        for stream, _ in self.streams:
            if not stream.is_live:
                return f"{stream.who}'s {stream.filter} is not live"
            for (filter, log), pos in heads.items():
                if filter == stream.filter and stream.position.get(log, pos) < pos:
                    return f"{stream.who}'s {filter} has not come to {pos} in {log}"
        return ""


@define
class Ledger(LedgerOfOneNode):
    """What one durable subscription still owes an answer for; a delivery may have been long on its way."""

    done: set[Place] = field(factory=set)  # settled, and that answered
    told: dict[str, int] = field(factory=dict)  # by log: what was missed up to there was reported

    def published(self, place: Place) -> None:
        """It is to be delivered, if its log is not known to go on behind it."""
        if place[1] > self.told.get(place[0], 0):
            super().published(place)

    def begin_after(self, position: dict[str, int]) -> None:
        """A gap, or the begin: what lies before this is not owed, and judged by the checker alone."""
        for log, pos in position.items():
            self.told[log] = max(pos, self.told.get(log, 0))
        self.open = {(log, pos) for log, pos in self.open if pos > self.told.get(log, 0)}


class Worker:
    """A member of a durable subscription: acknowledges in several ways, gives back, rejects, or forgets to."""

    def __init__(self, client: Client, name: str, ledger: Ledger, *, is_shared: bool) -> None:
        self._client = client
        self._wish: Packet = {"type": "subscribe", "filter": "durable/#", "durable": name, "from": "earliest"}
        self._wish |= {"window": 8, "ack_wait_ms": ACK_WAIT_MS} | ({"shared": True} if is_shared else {})
        self._ledger = ledger
        self._sub = 0
        self._join_id = 0  # of the request to join, on this connection
        self._asked: dict[int, tuple[Place, ...]] = {}
        self._held: set[Place] = set()
        self._had: set[Place] = set()  # all that came on this connection
        self.is_ending = False
        client.role = self

    def first(self) -> list[Packet]:
        """Joins it, as it was asked for first."""
        self._held, self._had, self._asked = set(), set(), {}
        self._sub, self._join_id = 1, 2
        return [{**self._wish, "sub": 1}]

    def got(self, t: int, packet: Packet) -> None:
        """A delivery is dealt with at once or not at all."""
        is_refused = packet["type"] == "error" and packet.get("id") == self._join_id
        if is_refused or (packet["type"] == "unsubscribed" and packet["sub"] == self._sub):
            self._join_again(packet)
        elif packet["type"] in ("acked", "error"):
            places = self._asked.pop(packet.get("id", 0), ())
            self._ledger.settle(places)
            if packet["type"] == "acked":
                self._ledger.done.update(places)
        elif packet["type"] in ("subscribed", "gap"):
            self._ledger.begin_after(packet["after"])
        elif packet["type"] == "delivery":
            message = packet["message"]
            place = message["log"], message["pos"]
            self._held.add(place)
            self._had.add(place)
            if place not in self._ledger.done:  # else it was on its way here when another member settled it
                self._ledger.delivered(place)
            self._answer(place, packet.get("attempt", 1))

    def _join_again(self, packet: Packet) -> None:
        """Its home is gone, or refuses: in a moment, with a number that was not used.

        Or an earlier connection's request came late to the home and has taken the name over.
        """
        assert packet["retry"] in ("now", "backoff") or packet["name"] == "conflict", packet
        line = self._client.line
        self._sub += 1

        def join() -> None:
            if self._client.line is line and line is not None:
                self._join_id = line.last_id + 1
                line.send({**self._wish, "sub": self._sub})

        self._client.post.later(self._client.random.uniform(0.05, 0.5), join)

    def lost(self, t: int) -> None:
        """What was held comes again."""
        self._ledger.settle(tuple(sorted(self._had)))

    def _answer(self, place: Place, attempt: int) -> None:
        log, pos = place
        about: Packet = {"sub": self._sub, "log": log}
        dice = 0.0 if self.is_ending else self._client.random.random()
        if dice < 0.75:
            self._settle({"type": "ack", **about, "pos": pos}, (place,))
        elif dice < 0.85 and "shared" not in self._wish:  # else it may be with another member by now
            upto = tuple(held for held in sorted(self._held) if held[0] == log and held[1] <= pos)
            self._settle({"type": "ack", **about, "upto": pos}, upto)
        elif dice < 0.9:
            self._settle({"type": "nack", **about, "pos": pos, "attempt": attempt}, ())
        elif dice < 0.93:
            self._settle({"type": "nack", **about, "pos": pos, "attempt": attempt, "reject": True}, (place,))

    def _settle(self, packet: Packet, places: tuple[Place, ...]) -> None:
        self._held.difference_update(places)
        if self._client.line is not None:
            self._asked[self._client.line.last_id + 1] = places
            self._client.send(packet)


@define
class Heads:
    """The newest acknowledged message of each filter and log: what everybody is due."""

    filters: dict[str, None] = field(factory=dict)
    of: dict[tuple[str, str], int] = field(factory=dict)

    def take(self, filter: str, log: str, pos: int) -> None:
        """One acknowledgement."""
        self.of[filter, log] = max(pos, self.of.get((filter, log), 0))

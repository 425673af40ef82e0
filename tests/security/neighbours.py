"""Two tenants in one broker who do the same under the same names, and what each of them hears of it.

Knows a desk and a town. A client is named by its number; it says who it is with a token of two words, the tenant
and the user, which a gate of one line believes.
"""

from collections.abc import Callable
from typing import Any, Protocol

from triode_broker.config import Limits, TopicRule
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.node import Node
from triode_protocol.codec import Refused

from tests.cluster.town import Town
from tests.core.desk import Desk, Line, Packet

#: Topics jobs/… are on disk where there is one.
ON_DISK = TopicRule(filter="jobs/#", storage="disk")
#: What differs from one life of a broker to the other, or from one number of a log to the next: by what is left.
MASKED: dict[str, Callable[[Any], Any]] = {
    "pos": lambda pos: 0,
    "prev": lambda prev: prev,
    "connection": lambda id: "c",
    "node": lambda name: "n",
    "position": sorted,
    "after": sorted,
    "id": lambda id: "id" if isinstance(id, str) else id,
    "key": lambda key: "place" if key.startswith(("m", "d")) else key,
    "triode-dead-pos": lambda pos: "0",
}


class Words:
    """A gate."""

    def ask(self, token: str, arrival: Arrival, done: Callable[[Identity | Refused], None]) -> None:
        """Believe it."""
        tenant, _, user = token.partition(" ")
        done(Identity(user, tenant))


class World(Protocol):
    """A broker."""

    nodes: list[Node]

    def dial(self, number: int) -> Line:
        """A client's line."""

    def settle(self) -> None:
        """What is on its way arrives: on a disk, at another node."""

    def wait(self, ms: int) -> None:
        """Time passes."""


class OneNode:
    """A node on its own."""

    def __init__(self, limits: Limits | None = None, *, durable: bool = False) -> None:
        self.desk = Desk(*([ON_DISK] if durable else []), limits=limits, durable=durable, shards=2)
        self._is_durable = durable
        self._begin()

    def _begin(self) -> None:
        self.desk.node.gate = Words()
        self.nodes = [self.desk.node]

    def restart(self) -> None:
        """It was killed and started again."""
        self.desk.restart()
        self._begin()

    def dial(self, number: int) -> Line:
        """All at the same one."""
        return self.desk.dial()

    def settle(self) -> None:
        """Commit."""
        if self._is_durable:
            self.desk.commit()

    def wait(self, ms: int) -> None:
        """Time passes."""
        self.desk.wait(ms)


class TwoNodes:
    """A cluster."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.town = Town(2, limits=limits)
        self.nodes = [citizen.node for citizen in self.town.citizens]
        for node in self.nodes:
            node.gate = Words()

    def dial(self, number: int) -> Line:
        """By turns."""
        return self.town.citizens[number % 2].dial()

    def settle(self) -> None:
        """Carry."""
        self.town.carry()

    def wait(self, ms: int) -> None:
        """Time passes on both."""
        self.town.wait(ms)


class Clients:
    """The clients of one tenant, by number; and all they have heard."""

    def __init__(self, world: World, tenant: str, mark: str) -> None:
        """`mark`: stands in all that they say, but not in any name."""
        self.world = world
        self.tenant = tenant
        self.mark = mark
        self.lines: dict[int, Line] = {}
        self.heard: list[tuple[int, Packet]] = []

    def connect(self, number: int, **fields: Any) -> str:
        """One more, as the user ann; the id of its connection."""
        line = self.lines[number] = self.world.dial(number)
        line.send({"type": "connect", "id": 1, "token": f"{self.tenant} ann", **fields})
        self.hear()
        return line.session.connection_id

    def say(self, number: int, **packet: Any) -> list[Packet]:
        """One packet; what this client hears of it."""
        before = len(self.heard)
        if "from_" in packet:
            packet["from"] = packet.pop("from_")
        self.lines[number].send(packet)
        self.hear()
        return [heard for who, heard in self.heard[before:] if who == number]

    def hear(self) -> None:
        """Everything there is for anybody of them."""
        while True:
            self.world.settle()
            found = [(number, packet) for number, line in self.lines.items() for packet in line.drain()]
            self.heard += found
            if not found:
                return

    def lose(self, number: int) -> None:
        """Its line breaks."""
        self.lines.pop(number).session.detach()
        self.hear()

    def told(self, number: int = 0, type: str = "") -> list[Packet]:
        """What was heard, of one client, of one type."""
        return [
            packet for who, packet in self.heard if number in (0, who) and (not type or packet["type"] == type)
        ]


def masked(value: Any) -> Any:
    """A packet without what another tenant's messages may change: numbers of the shared logs."""
    if isinstance(value, dict):
        return {name: MASKED[name](one) if name in MASKED else masked(one) for name, one in value.items()}
    return [masked(one) for one in value] if isinstance(value, list) else value

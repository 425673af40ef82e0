"""A shard that another node owns, as a core sees it: a log that fills by itself, somebody who takes publishes."""

from typing import Any

from msgspec import Raw
from triode_broker.core.interfaces import Publisher
from triode_broker.core.nowhere import Nowhere
from triode_broker.core.shard import Shard, Topic
from triode_broker.log.memory import MemoryLog
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, Published

from tests.core.desk import Desk


class Away:
    """An acceptor: keeps what it is handed, or refuses it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.waiting: list[Publisher] = []
        self.is_reached = True

    def accept(
        self, topic: Any, packet: Publish, user: str, publisher: Publisher | None, now_ms: int
    ) -> Published | None:
        """Hand it on."""
        if not self.is_reached:
            raise Refused(ErrorName.UNAVAILABLE, "its owner is not reached")
        self.taken.append((topic.name, bytes(packet.data)))
        if publisher is not None:
            self.waiting.append(publisher)
        return None


class Far:
    """One shard of a desk, owned by somebody else from here on."""

    def __init__(self, desk: Desk, index: int = 0, name: str = "", *, is_reached: bool = True) -> None:
        self.desk = desk
        self.shard = desk.router.shards[index]
        self.acceptor = Away()
        self.move(name or f"{self.shard.name}-far", is_reached=is_reached)

    def move(self, name: str, *, is_reached: bool = True) -> None:
        """To a log of this name."""
        self.log = MemoryLog(name, self.desk.limits)
        self._owner = Shard(self.log, 0)
        self._topics: dict[str, Topic] = {}
        self.desk.router.follow_owner(self.shard, self.log, self.acceptor)
        if is_reached:
            self.desk.node.moving.back(self.shard)

    def lose(self) -> None:
        """Nobody is known to own it."""
        self.desk.router.follow_owner(self.shard, Nowhere("memory"), self.acceptor)

    def write(self, topic: str, data: Any, *, is_heard: bool = True) -> int:
        """The owner accepts a message; it is delivered here unless the link is down."""
        rule = self.desk.router._policies.of(topic)
        counter = self._topics.setdefault(topic, Topic(topic, rule, self._owner, 0))
        record = self._owner.accept(counter, Publish(topic, Raw(str(data).encode())), "", self.desk.now_ms)
        if is_heard:
            self.desk.router.deliver(record)
        return record.pos

"""A broker's core on a desk: no event loop, no sockets, time in the hand; what tests of the core work with."""

import json
from collections.abc import Callable
from typing import Any

from triode_broker.config import Limits, TopicRule
from triode_broker.core.errors import Disconnect
from triode_broker.core.identity import UNKNOWN, Arrival
from triode_broker.core.interfaces import Gate, Log
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.router import Router
from triode_broker.core.session import Session
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog

from tests.log.slow_disk import SlowDisk

Packet = dict[str, Any]


class Line:
    """One connection: what a client would send and see, and what the edge would do."""

    def __init__(self, desk: "Desk", arrival: Arrival = UNKNOWN) -> None:
        self._desk = desk
        self.closed_with = 0
        self.is_dropped = False
        self.reconnect_after_ms = 0
        self.outbox = Outbox(self, desk.dirty, desk.frame, desk.limits.max_outbox_bytes)
        self.session = Session(desk.node, self.outbox, arrival)

    @property
    def close_code(self) -> int:
        """The close that was begun."""
        return self.closed_with

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """The core ends the connection."""
        if not self.closed_with:
            self.closed_with, self.reconnect_after_ms = code, reconnect_after_ms

    def drop(self) -> None:
        """The core ends it without a word."""
        self.is_dropped = True

    def wake(self) -> None:
        """The core asks for a turn."""
        self.outbox.wants_room = True

    def send(self, *packets: Packet) -> None:
        """Hand one message of packets to the session, as the edge does; read nothing back."""
        self.send_text(json.dumps(packets[0] if len(packets) == 1 else packets))

    def send_text(self, text: str) -> None:
        """Hand over text."""
        self._enter(lambda: self.session.receive_text(text, self._desk.now_ms))

    def send_binary(self, data: bytes) -> None:
        """Hand over a binary message."""
        self._enter(lambda: self.session.receive_binary(data, self._desk.now_ms))

    def room(self) -> None:
        """Tell the session that the outbox has drained."""
        self._enter(lambda: self.session.room(self._desk.now_ms))

    def _enter(self, call: Callable[[], None]) -> None:
        """Serve, as the edge does: nothing more once the connection ends."""
        if not self.closed_with:
            try:
                call()
            except Disconnect as disconnect:
                self.close(disconnect.code, disconnect.reconnect_after_ms)

    def take_items(self) -> list[bytes]:
        """Everything in the outbox as it is, and the outbox empty; not yet told that there is room."""
        items, self.outbox.items = self.outbox.items, []
        self.outbox.size = 0
        return items

    def read(self) -> list[Packet]:
        """Everything in the outbox, decoded, and the outbox empty; not yet told that there is room."""
        return self.decode(self.take_items())

    @staticmethod
    def decode(items: list[bytes]) -> list[Packet]:
        """Outbox items as packets."""
        return [json.loads(item) for item in items]

    def drain(self) -> list[Packet]:
        """Read, tell the session there is room, until it has no more to say."""
        packets = self.read()
        while self.outbox.wants_room and not self.closed_with:
            self.room()
            packets += self.read()
        return packets

    def ask(self, *packets: Packet) -> list[Packet]:
        """Send and drain."""
        self.send(*packets)
        return self.drain()

    def ask_one(self, packet: Packet) -> Packet:
        """Send a request that has exactly one answer."""
        (answer,) = self.ask(packet)
        return answer

    def subscribe(self, sub: int, filter: str, **fields: Any) -> list[Packet]:
        """Subscribe, `from_` standing for `from`; everything that came of it."""
        if "from_" in fields:
            fields["from"] = fields.pop("from_")
        return self.ask({"type": "subscribe", "id": 100 + sub, "sub": sub, "filter": filter, **fields})


class Desk:
    """A node with memory logs, and with one on disk if `durable`; `now_ms` is yours, and `disk` to commit."""

    def __init__(
        self,
        *rules: TopicRule,
        limits: Limits | None = None,
        shards: int = 1,
        make_log: Callable[[str, Limits], Log] = MemoryLog,
        frame: Callable[[bytes], bytes] = bytes,
        durable: bool = False,
        gate: Gate | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.frame = frame
        self._rules = rules
        self._gate = gate
        self._shards = shards
        self._open_log = make_log
        self.now_ms = 1_000_000  # the wall clock
        self.dirty: list[Outbox] = []
        self.steady_ms = 50_000  # a clock that only goes forward; `wait` moves both
        self._serial = 0
        self._lives = 0
        self._build(SlowDisk("d0-life", self.limits) if durable else None)

    def _build(self, disk: SlowDisk | None) -> None:
        life = f"life{self._lives}" if self._lives else "life"
        self.logs = [self._open_log(f"m{index}-{life}", self.limits) for index in range(self._shards)]
        self._disk = disk
        parts = [Shard(log, self.limits.max_dedupe_bytes) for log in self.logs]
        self.router = Router(parts, Policies(self._rules), self.limits, (disk,) if disk else ())
        self.node = Node("n1", self.router, self.limits, self._next_id, lambda: self.steady_ms, gate=self._gate)

    @property
    def disk(self) -> SlowDisk:
        """The log on disk."""
        assert self._disk is not None
        return self._disk

    def commit(self) -> None:
        """Commit until there is nothing to commit, what is saved in a moment included."""
        self.node.consumers.save()
        while self.disk.is_dirty:
            self.disk.commit()

    def restart(self, name: str = "") -> None:
        """The node was killed and started again; with a `name` its disk begins a new life."""
        self._lives += 1
        self._build(self.disk.reopen(name))

    def wait(self, ms: int = 0) -> None:
        """Let time pass; what is due happens, also what follows from it at once."""
        self.now_ms += ms
        self.steady_ms += ms
        timers = self.node.timers
        while timers.next_due_ms is not None and timers.next_due_ms <= self.steady_ms:
            timers.tick(self.now_ms)

    def _next_id(self) -> str:
        self._serial += 1
        return f"id{self._serial}"

    def dial(self, arrival: Arrival = UNKNOWN) -> Line:
        """A connection that has not said connect."""
        return Line(self, arrival)

    def connect_quietly(self, **fields: Any) -> Line:
        """A connected connection, its greeting thrown away; for outboxes that frame."""
        line = self.dial()
        line.send({"type": "connect", "id": 1, **fields})
        line.take_items()
        return line

    def connect(self, **fields: Any) -> Line:
        """A connected connection, its greeting read."""
        line = self.dial()
        (greeting,) = line.ask({"type": "connect", "id": 1, **fields})
        assert greeting["type"] == "connected"
        return line

    def publish(self, topic: str, data: Any = None, **fields: Any) -> Packet:
        """Publish from a connection of its own; its answer. A durable one is committed."""
        line = self.connect()
        answers = line.ask({"type": "publish", "id": 9, "topic": topic, "data": data, **fields})
        if not answers:
            self.commit()
            answers = line.drain()
        line.session.detach()
        (answer,) = answers
        return answer

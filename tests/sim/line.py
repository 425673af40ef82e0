"""A client's connection to a node, both its ends: what the edge would do, and what travels in between.

No sockets and no frames: packets go as JSON texts, each way in order, with a delay by the seed, and a client that
reads slowly fills first its way and then its outbox. Every packet stands in the history as its client saw it.
"""

import json
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from attrs import define, field
from triode_broker.core.errors import Disconnect
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.session import Session
from triode_protocol.codec import encode
from triode_protocol.packets import Bye

from tests.history.events import Packet, Recorder
from tests.sim.network import Post
from tests.sim.scheduling import Machine

#: Bytes that are on their way to a client, in socket buffers for the most part; more wait in its outbox.
TRANSIT_BYTES = 8_192
_FIRST_OWN_CODE = 4_000


class Life(Protocol):
    """What a line needs of the node that it ends at."""

    node: Node
    machine: Machine
    dirty: list[Outbox]
    lines: "list[Line]"
    is_over: bool

    def now_ms(self) -> int:
        """The node's wall clock."""

    def awake(self) -> None:
        """Begin a turn."""

    def flush(self) -> None:
        """End a turn."""


class Listener(Protocol):
    """Whose connection it is."""

    def got(self, t: int, packet: Packet) -> None:
        """A packet has come."""

    def lost(self, t: int) -> None:
        """The connection is gone."""


@define(eq=False)
class Line:
    """One connection. The node's side runs inside its machine."""

    who: str
    number: int
    life: Life
    listener: Listener
    recorder: Recorder
    post: Post
    random: Random
    delay: tuple[float, float]
    bytes_per_second: float
    close_code: int = 0  # begun by the node
    is_open: bool = True  # as the client knows
    is_attached: bool = True  # as the node knows
    outbox: Outbox = field(init=False)
    session: Session = field(init=False)
    _transit: int = 0
    _input: deque[str] = field(factory=deque)  # not served yet: the outbox is over its bound
    _due_up: float = 0.0
    _due_down: float = 0.0
    _last_id: int = 0
    _is_roomy: bool = False  # is about to be told that there is room

    def __attrs_post_init__(self) -> None:
        self.recorder.note("open", self.who, self.number, node=self.life.node.name)
        self.outbox = Outbox(self, self.life.dirty, bytes, self.life.node.limits.max_outbox_bytes)
        self.session = Session(self.life.node, self.outbox)
        self.life.lines.append(self)

    # The client's side

    def send(self, *packets: Packet) -> None:
        """As one text, each packet with an id of its own."""
        if not packets:
            return
        for packet in packets:
            self._last_id += 1
            packet["id"] = self._last_id
            self.recorder.note("sent", self.who, self.number, dict(packet))
        text = json.dumps(packets if len(packets) > 1 else packets[0])
        self._due_up = self._arrival(self._due_up)
        self.post.at(self._due_up, lambda: self._enter(lambda: self._take(text)))

    @property
    def last_id(self) -> int:
        """Of the packet that was sent last."""
        return self._last_id

    def cut(self) -> None:
        """The client drops it; the node hears of that later."""
        if self.is_open:
            self._end()
            self.post.later(self._arrival(0) - self.post.now, lambda: self._enter(self._gone))

    def vanish(self) -> None:
        """The node has died, or closed it: the client hears of that behind all that was sent to it."""
        self.post.at(self._arrival(self._due_down), self._end)

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self.listener.lost(self.recorder.note("lost", self.who, self.number).t)

    def _receive(self, item: bytes) -> None:
        if self.is_open:
            packet: Any = json.loads(item)
            self.listener.got(self.recorder.note("got", self.who, self.number, packet).t, packet)
        self._enter(lambda: self._has_left(len(item)))

    def _arrival(self, not_before: float) -> float:
        return max(not_before, self.post.now + self.random.uniform(*self.delay))

    # The node's side

    def _enter(self, call: Callable[[], None]) -> None:
        def turn() -> None:
            if not self.life.is_over:
                self.life.awake()
                call()
                self.life.flush()

        self.life.machine.call(turn)

    def _take(self, text: str) -> None:
        self._input.append(text)
        self._serve()

    def _serve(self) -> None:
        while self._input and self.is_attached and not self.outbox.is_over:
            text = self._input.popleft()
            self._run(lambda text=text: self.session.receive_text(text, self.life.now_ms()))  # type: ignore[misc]  # bound now

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Disconnect as disconnect:
            self.close(disconnect.code)

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """The core ends it: what waits is sent, a bye behind it, and then it ends."""
        if not self.close_code and self.is_attached:
            self.close_code = int(code)
            if code >= _FIRST_OWN_CODE:
                self.outbox.put(encode(Bye(int(code), "", reconnect_after_ms)))
            self.post.later(0, lambda: self._enter(self._leave))

    def _leave(self) -> None:
        self.pump(float("inf"))
        self._gone()
        self.vanish()

    def _gone(self) -> None:
        if self.is_attached:
            self.is_attached = False
            self.life.lines.remove(self)
            self.session.detach()

    def keepalive(self) -> None:
        """What a server says now and then, and the bookmark in it."""
        if self.session.is_connected and not self.outbox.is_over:
            self.session.keepalive(self.life.now_ms())

    def pump(self, most: float = TRANSIT_BYTES) -> None:
        """As much as there is room for goes on its way."""
        outbox, items = self.outbox, self.outbox.items
        count = 0
        while count < len(items) and self._transit < most:
            item = items[count]
            count += 1
            self._transit += len(item)
            outbox.size -= len(item)
            self._due_down = self._arrival(self._due_down) + len(item) / self.bytes_per_second
            self.post.at(self._due_down, lambda item=item: self._receive(item))  # type: ignore[misc]  # bound now
        del items[:count]
        outbox.is_blocked = bool(items)
        self._look_for_room()

    def _has_left(self, size: int) -> None:
        self._transit -= size
        if self.is_attached:
            self.pump()
            self._serve()

    def _look_for_room(self) -> None:
        if self.outbox.wants_room and self.outbox.has_room and self.is_attached and not self._is_roomy:
            self._is_roomy = True
            self.post.later(0, lambda: self._enter(self._room))

    def _room(self) -> None:
        self._is_roomy = False
        if self.is_attached and self.outbox.has_room:
            self._run(lambda: self.session.room(self.life.now_ms()))
            self._look_for_room()

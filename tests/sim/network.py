"""The network of the simulator: byte streams between named nodes, over ways that are slow, stop, or lie.

Knows bytes and connections, nothing of what is said on them. It behaves like TCP: inside one connection bytes keep
their order and none is lost while both ends live, but they may come late, even after a newer connection was made;
and an end may learn late, or never, that the other one is gone. What is decided by chance is decided by the seed.
"""

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from math import ceil, inf
from random import Random

import trio
from attrs import define, field
from trio.abc import HalfCloseableStream, Listener

#: Bytes of one direction that are sent and not read yet; more wait in the sender.
WINDOW_BYTES = 65_536
#: The most that travels in one piece.
PIECE_BYTES = 16_384
STEPS_A_SECOND = 2_000


class Post:
    """What is to happen later, in order of time and then of being asked for; one task serves all.

    Time goes in steps: what falls into one is done in one turn of the loop, and a run takes a half of the time.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._wait = trio.CancelScope()

    @property
    def now(self) -> float:
        """Seconds since the begin."""
        return trio.current_time()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it in so many seconds."""
        self.at(self.now + seconds, call)

    def at(self, due: float, call: Callable[[], None]) -> None:
        """Call it then."""
        due = ceil(due * STEPS_A_SECOND) / STEPS_A_SECOND
        if due < self._wait.deadline:
            self._wait.deadline = due
        self._serial += 1
        heappush(self._heap, (due, self._serial, call))

    async def run(self) -> None:
        """For ever."""
        heap = self._heap
        while True:
            now = self.now
            while heap and heap[0][0] <= now:
                heappop(heap)[2]()
            with trio.CancelScope(deadline=heap[0][0] if heap else inf) as self._wait:
                await trio.sleep_forever()


@define(eq=False)
class Way:
    """From one node to another one: all connections go over it."""

    delay: tuple[float, float] = (0.0002, 0.003)  # seconds, at least and at most
    bytes_per_second: float = float("inf")
    is_blocked: bool = False  # what is sent waits, and so do new connections
    free_at: float = 0.0  # when the last piece has left

    def arrival(self, random: Random, now: float, size: int) -> float:
        """When a piece that is sent now is there."""
        self.free_at = max(self.free_at, now) + size / self.bytes_per_second
        return self.free_at + random.uniform(*self.delay)


class Pipe:
    """One direction of one connection."""

    def __init__(self, network: "Network", way: Way) -> None:
        self._network = network
        self.way = way
        self.is_held = False  # this connection's bytes alone
        self.is_reset = False
        self.is_unread = False  # its reader has closed
        self.is_ended = False  # everything was read, and the end
        self.unread = bytearray()
        self.changed = trio.Event()
        self.in_flight = 0  # bytes
        self.back: Pipe = self  # the other direction
        self._waiting: deque[bytes] = deque()  # blocked or held
        self._due = 0.0

    def ring(self) -> None:
        """Whoever waits for a change, go and look."""
        self.changed.set()
        self.changed = trio.Event()

    def put(self, piece: bytes) -> None:
        """Send; b"" is the end."""
        self.in_flight += len(piece)
        self._waiting.append(piece)
        self.flow()

    def flow(self) -> None:
        """What may travel does."""
        network = self._network
        while self._waiting and not self.way.is_blocked and not self.is_held:
            piece = self._waiting.popleft()
            due = self.way.arrival(network.random, network.post.now, len(piece))
            self._due = max(self._due, due)
            network.post.at(self._due, lambda piece=piece: self._arrive(piece))  # type: ignore[misc]  # bound now

    def _arrive(self, piece: bytes) -> None:
        if self.is_reset:
            return
        if self.is_unread:
            if piece:  # nobody is there to read it: the sender is told
                self._network.tell_reset(self.back)
            return
        if not piece:
            self.is_ended = True
        self.unread += piece
        self.ring()

    def take(self, count: int) -> bytes:
        """Read."""
        piece = bytes(self.unread[:count])
        del self.unread[:count]
        self.in_flight -= len(piece)
        self.ring()
        return piece

    def reset(self) -> None:
        """It is broken at both its ends; what was not read is gone."""
        self.is_reset = True
        self.unread.clear()
        self._waiting.clear()
        self.ring()


class SimStream(HalfCloseableStream):
    """One end of a connection."""

    def __init__(self, network: "Network", owner: str, inward: Pipe, outward: Pipe) -> None:
        self._network = network
        self._random = network.random
        self.owner = owner
        self._inward = inward
        self._outward = outward
        self._is_sending = False
        self._is_eof_sent = False
        self.is_broken = False  # this end was told that the connection is gone
        self.is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Wait while too much is unread at the other end. Raises as a socket stream."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            view = bytes(data)
            for begin in range(0, max(len(view), 1), PIECE_BYTES):
                await self._wait_for_room()
                if view:
                    self._outward.put(view[begin : begin + PIECE_BYTES])
        finally:
            self._is_sending = False

    async def _wait_for_room(self) -> None:
        while True:
            self._check()
            if self._is_eof_sent:
                raise trio.ClosedResourceError("the end was sent")
            if self._outward.in_flight < WINDOW_BYTES:
                return
            await self._outward.changed.wait()

    def _check(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError("this end is closed")
        if self.is_broken or self._outward.is_reset:
            raise trio.BrokenResourceError("the connection is broken")

    async def wait_send_all_might_not_block(self) -> None:
        """Until a send would find room."""
        await trio.lowlevel.checkpoint()
        await self._wait_for_room()

    async def send_eof(self) -> None:
        """Nothing more comes from here."""
        await trio.lowlevel.checkpoint()
        self._check()
        self._end()

    def _end(self) -> None:
        if not self._is_eof_sent:
            self._is_eof_sent = True
            self._outward.put(b"")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some of what is there, often less than all of it. Raises as a socket stream."""
        pipe = self._inward
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if pipe.unread:
                count = min(len(pipe.unread), max_bytes or PIECE_BYTES)
                if self._random.random() < 0.05:
                    count = self._random.randint(1, count)
                return pipe.take(count)
            if pipe.is_ended:
                return b""
            await pipe.changed.wait()

    async def aclose(self) -> None:
        """What was sent still arrives, and the end behind it."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same at once."""
        if not self.is_closed:
            self.is_closed = True
            self._end()
            self._inward.is_unread = True
            self._inward.ring()
            self._outward.ring()

    def break_(self) -> None:
        """This end is told that the connection is gone; the other one is not."""
        self.is_broken = True
        self._inward.ring()
        self._outward.ring()


class SimListener(Listener[SimStream]):
    """Where one life of a node takes connections; its kernel takes them while it is stopped."""

    def __init__(self, network: "Network", node: str, host: str, port: int) -> None:
        self._send, self._receive = trio.open_memory_channel[SimStream](float("inf"))
        network.listen(node, host, port, self._send.send_nowait)

    async def accept(self) -> SimStream:
        """The next one."""
        return await self._receive.receive()

    async def aclose(self) -> None:
        """Whoever has connected and was not accepted is left alone."""
        self._receive.close()
        await trio.lowlevel.checkpoint()


@define(eq=False)
class Connection:
    """Two ends."""

    ends: tuple[SimStream, SimStream]  # of the one that dialled, of the one that was dialled
    pipes: tuple[Pipe, Pipe]  # from the first to the second, and back

    def joins(self, one: str, other: str) -> bool:
        """Whether it is between these two."""
        return {end.owner for end in self.ends} == {one, other}

    def reset(self) -> None:
        """Both ends are told at once."""
        for pipe in self.pipes:
            pipe.reset()

    def hold(self, towards: str) -> None:
        """What is sent there on this connection does not arrive until it is released."""
        for end, pipe in zip(self.ends, reversed(self.pipes), strict=True):
            if end.owner == towards:
                pipe.is_held = True

    def release(self) -> None:
        """What was held arrives."""
        for pipe in self.pipes:
            pipe.is_held = False
            pipe.flow()


Accept = Callable[[SimStream], None]


@define
class Network:
    """All connections between nodes."""

    random: Random
    post: Post = field(factory=Post)
    connections: list[Connection] = field(factory=list)
    _ways: dict[tuple[str, str], Way] = field(factory=dict)
    _listeners: dict[tuple[str, int], tuple[str, Accept]] = field(factory=dict)
    _changed: trio.Event = field(factory=trio.Event)

    def way(self, source: str, target: str) -> Way:
        """All connections from one node to another one share it; the way back is another one."""
        return self._ways.setdefault((source, target), Way())

    def listen(self, node: str, host: str, port: int, accept: Accept) -> None:
        """`accept` gets the streams that others open to this address, until the node is cut off or `unlisten`."""
        self._listeners[host, port] = node, accept

    def unlisten(self, node: str) -> None:
        """It takes no more."""
        self._listeners = {place: one for place, one in self._listeners.items() if one[0] != node}

    async def connect(self, node: str, host: str, port: int) -> SimStream:
        """A connection from this node. Waits while the way is blocked. Raises OSError where nobody listens."""
        await trio.lowlevel.checkpoint()
        if (host, port) in self._listeners:
            target = self._listeners[host, port][0]
            await self._travel(node, target)
            await self._travel(target, node)
        if (host, port) not in self._listeners:
            raise ConnectionRefusedError(f"nobody listens at {host}:{port}")
        target, accept = self._listeners[host, port]
        ours, theirs = self._join(node, target)
        accept(theirs)
        return ours

    async def _travel(self, source: str, target: str) -> None:
        """One packet there: how long it takes, and no end to it while the way is blocked."""
        way = self.way(source, target)
        while way.is_blocked:
            await self._changed.wait()
        with trio.move_on_at(way.arrival(self.random, self.post.now, 0)):
            await trio.sleep_forever()

    def _join(self, one: str, other: str) -> tuple[SimStream, SimStream]:
        out, back = Pipe(self, self.way(one, other)), Pipe(self, self.way(other, one))
        out.back, back.back = back, out
        ends = SimStream(self, one, back, out), SimStream(self, other, out, back)
        self.connections = [link for link in self.connections if not all(end.is_closed for end in link.ends)]
        self.connections.append(Connection(ends, (out, back)))
        return ends

    def tell_reset(self, pipe: Pipe) -> None:
        """A sender wrote to an end that is closed: it hears of it on the way back, if that is open."""
        if pipe.way.is_blocked or pipe.is_held:
            return

        def arrive() -> None:
            pipe.reset()
            pipe.back.reset()

        self.post.at(pipe.way.arrival(self.random, self.post.now, 0), arrive)

    # Faults

    def between(self, one: str, other: str) -> list[Connection]:
        """The connections of two nodes that are not closed at both ends, oldest first."""
        return [link for link in self.connections if link.joins(one, other)]

    def cut(self, one: str, other: str) -> None:
        """All connections of two nodes break; new ones may be made."""
        for connection in self.between(one, other):
            connection.reset()

    def block(self, source: str, target: str) -> None:
        """From now on nothing arrives there, until `unblock`; nothing of it is lost."""
        self.way(source, target).is_blocked = True

    def unblock(self, source: str, target: str) -> None:
        """What waited arrives."""
        way = self.way(source, target)
        way.is_blocked = False
        self._ring()
        for connection in self.connections:
            for pipe in connection.pipes:
                if pipe.way is way:
                    pipe.flow()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def split(self, *sides: Iterable[str]) -> None:
        """Nothing passes between the sides."""
        for source, target in _pairs(sides):
            self.block(source, target)

    def heal(self, names: Iterable[str]) -> None:
        """Every way between these is open and at its usual speed again, and every connection is released."""
        for connection in self.connections:
            for pipe in connection.pipes:
                pipe.is_held = False
        for (source, target), way in list(self._ways.items()):
            if source in names and target in names:
                way.delay, way.bytes_per_second = Way().delay, float("inf")
                self.unblock(source, target)

    def lose(self, node: str, *, is_told: bool) -> None:
        """A node has died: its ends are gone. The others are told by its kernel, or by nobody."""
        self.unlisten(node)
        for connection in self.connections:
            for end in connection.ends:
                if end.owner == node:
                    if is_told:
                        end.close()
                    end.is_closed = True
                    end.break_()

    def reboot(self, node: str) -> None:
        """It starts again: whoever still writes on a connection of its life before is told."""
        for connection in self.connections:
            for end, pipe in zip(connection.ends, reversed(connection.pipes), strict=True):
                if end.owner == node:
                    pipe.is_unread = True


def _pairs(sides: tuple[Iterable[str], ...]) -> list[tuple[str, str]]:
    parts = [tuple(side) for side in sides]
    return [
        (source, target)
        for one in parts
        for other in parts
        if one is not other
        for source in one
        for target in other
    ]

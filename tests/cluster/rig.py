"""Nodes that are nothing but their links, in one process: over streams in memory, or over real sockets.

Knows `Links` and what it takes from outside; nothing of what the frames are about.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from attrs import define, field
from triode_broker.cluster import carrier as carriers
from triode_broker.cluster.carrier import Carrier
from triode_broker.cluster.frames import AnyFrame, Heard, Ping, Pong, decode, encode
from triode_broker.cluster.hello import Conversation, Dialler, Identity
from triode_broker.cluster.link import Link
from triode_broker.cluster.links import Links, Means
from triode_broker.config import Limits

SECRET = b"a secret of sixteen"
Pair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]


def identity(node: str = "n1", **changed: Any) -> Identity:
    """A node of the cluster `triode`; its incarnation follows from its name."""
    facts: dict[str, Any] = {
        "cluster": "triode",
        "node": node,
        "incarnation": node.encode().hex().rjust(16, "0")[-16:],
        "memory_shards": 8,
        "durable_shards": 1,
        "version": "0.1.0",
    }
    return Identity(**{**facts, **changed})


def steady_ms() -> int:
    """The clock of all nodes: trio's own, so that a test can jump."""
    return int(trio.current_time() * 1000)


@define
class Lines:
    """A log that is kept."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(factory=list)

    def debug(self, event: str, **values: Any) -> None:
        self.lines.append(("debug", event, values))

    def info(self, event: str, **values: Any) -> None:
        self.lines.append(("info", event, values))

    def warning(self, event: str, **values: Any) -> None:
        self.lines.append(("warning", event, values))

    def error(self, event: str, **values: Any) -> None:
        self.lines.append(("error", event, values))

    exception = error

    def of(self, event: str) -> list[dict[str, Any]]:
        """The values of one event's lines."""
        return [values for _, name, values in self.lines if name == event]

    def loud(self) -> list[str]:
        """Events that somebody should look at."""
        return [event for level, event, _ in self.lines if level in ("warning", "error")]


@define
class Story:
    """A sink that remembers; what a test wants to happen as well stands in lists."""

    events: list[tuple[Any, ...]] = field(factory=list)
    frames: list[tuple[Link, AnyFrame]] = field(factory=list)  # without life signs
    acts: list[Callable[[Link], None]] = field(factory=list)
    hears: list[Callable[[Link, list[AnyFrame]], None]] = field(factory=list)
    closes: list[Callable[[Link, str], None]] = field(factory=list)
    closed_ms: list[int] = field(factory=list)
    changed: trio.Event = field(factory=trio.Event)

    def opened(self, link: Link) -> None:
        self.note("opened", link, "")
        for act in self.acts:
            act(link)

    def received(self, link: Link, frames: list[AnyFrame]) -> None:
        assert link.is_open
        self.frames += [(link, frame) for frame in frames if not isinstance(frame, Ping | Pong)]
        self.note("received", link, "")
        for hear in self.hears:
            hear(link, frames)

    def closed(self, link: Link, reason: str) -> None:
        self.closed_ms.append(steady_ms())
        self.note("closed", link, reason)
        for close in self.closes:
            close(link, reason)

    def note(self, what: str, link: Link, reason: str) -> None:
        if what != "received":
            self.events.append((what, link, reason))
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait until it holds; looks whenever the sink was told something."""
        while not fact():
            await self.changed.wait()

    @property
    def reasons(self) -> list[str]:
        """Why links were closed."""
        return [reason for what, _, reason in self.events if what == "closed"]


class Node:
    """One node's links."""

    def __init__(self, net: "Net", me: Identity, secret: bytes, limits: Limits) -> None:
        self.net = net
        self.story = Story()
        self.log = Lines()
        self.heard: dict[str, Heard] = {}
        self.connects = 0
        source = random.Random(me.incarnation)
        self.means = Means(
            sink=self.story,
            limits=limits,
            log=self.log,
            steady_ms=steady_ms,
            random_bytes=source.randbytes,
            random_float=source.random,
            heard=lambda: self.heard,
            secret=secret,
            connect=self.connect,
        )
        self.links = Links(me, self.means)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.connects += 1
        return await self.net.connect(host, port)

    def link(self, *, is_dialler: bool) -> Link:
        """The open one of this direction."""
        return next(link for link in self.links.links if link.is_dialler == is_dialler)

    def link_to(self, node: str) -> Link:
        """The oldest open one."""
        return next(link for link in self.links.links if link.peer.node == node)

    async def linked(self, count: int = 1) -> None:
        """Wait until so many links are open."""
        await self.story.until(lambda: len(self.links.links) >= count)


class Gate(trio.abc.Stream):
    """One end of a pair; while it is shut, half of what is sent there gets through, and no more."""

    def __init__(self) -> None:
        self.other, self._stream = trio.testing.memory_stream_pair()
        self.opening = trio.Event()
        self.opening.set()
        self.is_closed = False

    def pair(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        """This end is the node's."""
        return self.other, self

    def shut(self) -> None:
        """From now on."""
        self.opening = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        begin = 0 if self.opening.is_set() else len(data) // 2
        await self._stream.send_all(bytes(data[:begin]))
        await self.opening.wait()
        await self._stream.send_all(bytes(data[begin:]))

    async def wait_send_all_might_not_block(self) -> None:
        await self.opening.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.is_closed = True
        await self._stream.aclose()


@define
class Net:
    """Where nodes find each other: by host name, over pairs of streams."""

    nursery: trio.Nursery
    pair: Pair = trio.testing.memory_stream_pair
    accepts: dict[str, Callable[[trio.abc.Stream], Awaitable[None]]] = field(factory=dict)
    streams: list[trio.abc.Stream] = field(factory=list)  # of those who dialled

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if host not in self.accepts:
            raise ConnectionRefusedError(f"nobody at {host}:{port}")
        ours, theirs = self.pair()
        self.streams.append(ours)
        self.nursery.start_soon(self.accepts[host], theirs)
        return ours

    async def node(
        self, name: str, *seeds: str, secret: bytes = SECRET, limits: Limits | None = None, **facts: Any
    ) -> Node:
        """A node that is dialled by its name, and dials these."""
        node = Node(self, identity(name, **facts), secret, limits or Limits())
        self.accepts[name] = node.links.serve_stream
        await self.start(node, *seeds)
        return node

    async def start(self, node: Node, *seeds: str) -> None:
        """Let it run."""
        urls = [f"ws://{seed}:7401" for seed in seeds]
        await self.nursery.start(lambda task_status: node.links.run([], urls, task_status=task_status))


@asynccontextmanager
async def network(pair: Pair = trio.testing.memory_stream_pair) -> AsyncIterator[Net]:
    """All of it ends with the block."""
    async with trio.open_nursery() as nursery:
        yield Net(nursery, pair)
        nursery.cancel_scope.cancel()


async def speak(carrier: Carrier, conversation: Conversation) -> None:
    """A hello by hand."""
    if said := conversation.begin():
        await carrier.send(said)
    while not conversation.is_done:
        if said := conversation.answer(await carrier.receive()):
            await carrier.send(said)


@define
class Hand:
    """A peer that the test itself plays, after its hello."""

    carrier: Carrier
    stream: trio.abc.Stream

    async def send(self, *frames: AnyFrame) -> None:
        """One message."""
        await self.carrier.send(encode(list(frames)))

    async def receive(self) -> list[AnyFrame]:
        """The next message that is more than a life sign, without those."""
        while True:
            frames: list[AnyFrame] = []
            for frame in decode(await self.carrier.receive()):
                if not isinstance(frame, Ping | Pong):
                    frames.append(frame)  # noqa: PERF401  # mypy: a comprehension would have a narrower type
            if frames:
                return frames


@asynccontextmanager
async def by_hand(
    node: Node, me: Identity, secret: bytes = SECRET, pair: Pair | None = None
) -> AsyncIterator[Hand]:
    """Dials `node`, says hello, and leaves the rest to the test."""
    ours, theirs = (pair or node.net.pair)()
    node.net.nursery.start_soon(node.links.serve_stream, theirs)
    async with carriers.dial(ours, "n", 4_194_304) as carrier:
        carrier.trust()
        opened = len(node.story.events)
        await speak(carrier, Dialler(me, secret, random.Random(1).randbytes(32), lambda peer, is_dialler: None))
        await node.story.until(lambda: any(what == "opened" for what, _, _ in node.story.events[opened:]))
        yield Hand(carrier, ours)

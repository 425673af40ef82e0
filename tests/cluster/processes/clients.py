"""The simulator's clients on real connections: what differs is the line, and what a node is.

Knows WebSockets and the simulator's roles, which follow SPEC.md. Every packet stands in the history.
"""

import json
from typing import Any
from urllib.parse import urlsplit

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from tests.cluster.processes.nodes import NodeProcess
from tests.cluster.processes.ways import ENDS as STREAM_ENDS
from tests.crash.line import SUBPROTOCOL
from tests.history.events import Packet, Recorder
from tests.sim.clients import Client
from tests.sim.line import Listener

ENDS = (*STREAM_ENDS, ConnectionClosed, HandshakeError)


@define(eq=False)
class RemoteLine:
    """One connection of one client to a node; begins to connect at once."""

    who: str
    number: int
    node: NodeProcess
    listener: Listener
    recorder: Recorder
    nursery: trio.Nursery
    is_open: bool = True
    last_id: int = 0
    _texts: list[str] = field(factory=list)
    _more: trio.Event = field(factory=trio.Event)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    def __attrs_post_init__(self) -> None:
        self.recorder.note("open", self.who, self.number, node=self.node.name)
        self.nursery.start_soon(self._run)

    def send(self, *packets: Packet) -> None:
        """As one text, each packet with an id of its own."""
        if not packets or not self.is_open:
            return
        for packet in packets:
            self.last_id += 1
            packet["id"] = self.last_id
            self.recorder.note("sent", self.who, self.number, dict(packet))
        self._texts.append(json.dumps(packets if len(packets) > 1 else packets[0]))
        self._more.set()

    def cut(self) -> None:
        """Drop it."""
        self._scope.cancel()
        self._end()

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self.listener.lost(self.recorder.note("lost", self.who, self.number).t)

    async def _run(self) -> None:
        url = urlsplit(self.node.url)
        stream: trio.SocketStream | None = None
        with self._scope:
            try:
                stream = await trio.open_tcp_stream(url.hostname or "127.0.0.1", url.port or 1)
                async with trio.open_nursery() as inside:
                    await self._talk(inside, stream, url.netloc)
            except* ENDS:
                self._end()
            finally:
                if stream is not None:
                    stream.socket.close()
        self._end()

    async def _talk(self, inside: trio.Nursery, stream: trio.SocketStream, host: str) -> None:
        websocket = await wrap_client_stream(
            inside, stream, host, "/ws", subprotocols=[SUBPROTOCOL], message_queue_size=1_000
        )

        async def write() -> None:
            while True:
                await self._more.wait()
                self._more = trio.Event()
                texts, self._texts = self._texts, []
                for text in texts:
                    await websocket.send_message(text)

        inside.start_soon(write)
        while True:
            content: Any = json.loads(await websocket.get_message())
            for packet in content if isinstance(content, list) else [content]:
                if self.is_open:
                    note = self.recorder.note("got", self.who, self.number, packet)
                    self.listener.got(note.t, packet)


@define(eq=False, kw_only=True)
class RemoteClient(Client):
    """Connects again and again, to one node or to any."""

    places: list[NodeProcess]
    nursery: trio.Nursery
    line: RemoteLine | None = None  # type: ignore[assignment]  # has the face of a simulated one

    def _open(self) -> None:
        if self.has_ended or self.line is not None:
            return
        node = self.places[self._place % len(self.places)]
        if not node.url:
            self._place += 0 if self.is_steady else 1
            self.post.later(self.random.uniform(0.05, 0.4), self._open)
            return
        self._number += 1
        self._heard = self.post.now
        self.line = RemoteLine(self.who, self._number, node, self, self.recorder, self.nursery)
        self.line.send({"type": "connect", "client": {"name": self.who}}, *self.role.first())

    def _again(self) -> None:
        if not self.is_steady:
            self._place += 1
        self.post.later(self.random.uniform(0.05, 0.4), self._open)

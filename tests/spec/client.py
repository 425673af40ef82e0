"""A raw client: packets as plain dictionaries over a real WebSocket, for tests of what SPEC.md says.

Knows nothing of Triode's own client or packet types: what it is given it sends, what comes it shows.
"""

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import trio
from jsonschema_rs import Draft202012Validator
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

Packet = dict[str, Any]

#: No answer takes so long; only a broken broker makes a test wait for it.
PATIENCE_SECONDS = 10
SUBPROTOCOL = "triode.v1.json"

#: What every packet of a server must satisfy, by type.
SCHEMAS = {
    path.name.split(".")[1]: Draft202012Validator(json.loads(path.read_text()))
    for path in (Path(__file__).parents[2] / "protocol" / "schemas").glob("server.*.json")
}


class RawClient:
    """One WebSocket to the broker. `packets` is what was received and not yet asked for."""

    def __init__(self, websocket: WebSocketConnection, stream: trio.SocketStream) -> None:
        self.websocket = websocket
        self.stream = stream
        self.packets: deque[Packet] = deque()
        self._last_id = 1_000_000

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        url: str,
        *,
        receive_buffer: int = 0,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> Self:
        """A WebSocket and nothing said. `receive_buffer`: the kernel's, in bytes, for clients that are slow."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        socket = trio.socket.socket()
        if receive_buffer:
            socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        with trio.fail_after(PATIENCE_SECONDS):
            await socket.connect((parts.hostname, parts.port))
            stream = trio.SocketStream(socket)
            host = f"{parts.hostname}:{parts.port}"
            websocket = await wrap_client_stream(
                nursery, stream, host, "/ws", subprotocols=[SUBPROTOCOL], extra_headers=list(headers)
            )
        return cls(websocket, stream)

    async def send(self, *packets: Packet) -> None:
        """One packet as it is, several as an array."""
        await self.send_text(json.dumps(packets[0] if len(packets) == 1 else packets))

    async def send_text(self, text: str) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            await self.websocket.send_message(text)

    async def send_binary(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            await self.websocket.send_message(data)

    async def receive_text(self) -> str:
        """The next text message, whole. Raises ConnectionClosed."""
        with trio.fail_after(PATIENCE_SECONDS):
            text = await self.websocket.get_message()
        assert isinstance(text, str)
        return text

    async def pull(self) -> None:
        """Wait for one text message and add its packets to `packets`. Raises ConnectionClosed."""
        content = json.loads(await self.receive_text())
        packets = content if isinstance(content, list) else [content]
        for packet in packets:
            SCHEMAS[packet["type"]].validate(packet)  # SPEC 7.4
        self.packets.extend(packets)

    async def receive(self) -> Packet:
        """The next packet, from an array or alone. Raises ConnectionClosed."""
        while not self.packets:
            await self.pull()
        return self.packets.popleft()

    async def expect(self, type: str, **fields: Any) -> Packet:
        """The next packet, which must be of this type and have these fields (and may have others)."""
        packet = await self.receive()
        assert packet["type"] == type, packet
        assert {name: packet.get(name) for name in fields} == fields, packet
        return packet

    async def ask(self, *packets: Packet) -> Packet:
        """Send, and the next packet that comes."""
        await self.send(*packets)
        return await self.receive()

    async def publish(self, topic: str, data: Any, **fields: Any) -> Packet:
        """Publish and skip to the answer; what comes before it stays in `packets`."""
        return await self.request({"type": "publish", "topic": topic, "data": data, **fields})

    async def request(self, packet: Packet) -> Packet:
        """Send with an id of its own and wait for the answer; what comes before it stays in `packets`."""
        self._last_id += 1
        await self.send({**packet, "id": self._last_id})
        while True:
            for packet in self.packets:
                if packet.get("id") == self._last_id:
                    self.packets.remove(packet)
                    return packet
            await self.pull()

    async def subscribe(self, sub: int, filter: str, **fields: Any) -> Packet:
        """Subscribe; the `subscribed`, which must be the next packet."""
        self._last_id += 1
        await self.send({"type": "subscribe", "id": self._last_id, "sub": sub, "filter": filter, **fields})
        return await self.expect("subscribed", id=self._last_id, sub=sub)

    async def has_nothing_more(self) -> None:
        """Whatever the server had to say before it answers this ping has been received."""
        pong = await self.request({"type": "ping"})
        assert pong["type"] == "pong"
        assert not self.packets, self.packets

    async def closed(self) -> int:
        """The code that the server closes with (1006: none); what comes before it is in `packets`."""
        try:
            while True:
                await self.pull()
        except ConnectionClosed as closed:
            return 1006 if closed.reason is None else closed.reason.code

    async def close(self, code: int = 1000) -> None:
        """The WebSocket closing handshake."""
        with trio.fail_after(PATIENCE_SECONDS):
            await self.websocket.aclose(code=code)

    async def cut(self) -> None:
        """Drop the line without a word."""
        await trio.aclose_forcefully(self.stream)

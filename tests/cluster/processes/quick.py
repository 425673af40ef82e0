"""A WebSocket client that costs little: for tests that need many thousands of packets from real nodes.

Knows frames and JSON, no packet types. It trusts its server to send whole, unfragmented frames.
"""

import json
from collections import deque
from typing import Any, Self

import trio

from bench.frames import client_frame, split
from tests.crash.line import SUBPROTOCOL
from tests.history.events import Packet

_TEXT = 1
_PIECE_BYTES = 65_536


class Quick:
    """One connection. Every packet gets an id; what comes is handed out in order."""

    def __init__(self, stream: trio.SocketStream, node: str) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._packets: deque[Packet] = deque()
        self.node = node
        self.last_id = 0

    @classmethod
    async def open(cls, url: str, node: str = "") -> Self:
        """`url`: where the node serves. Says `connect`."""
        host = url.partition("//")[2]
        name, _, port = host.rpartition(":")
        stream = await trio.open_tcp_stream(name, int(port))
        head = f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
        await stream.send_all(f"{head}Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode())
        quick = cls(stream, node)
        while b"\r\n\r\n" not in quick._buffer:
            quick._buffer += await quick._more()
        answer, _, rest = quick._buffer.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101"), answer
        quick._buffer = bytearray(rest)
        await quick.send({"type": "connect", "client": {"name": "quick"}})
        await quick.until("connected")
        return quick

    async def _more(self) -> bytes:
        piece = await self._stream.receive_some(_PIECE_BYTES)
        if not piece:
            raise ConnectionResetError("the node has gone")
        return bytes(piece)

    async def send(self, *packets: Packet) -> int:
        """In one frame. Returns the last packet's id."""
        for packet in packets:
            self.last_id += 1
            packet["id"] = self.last_id
        await self._stream.send_all(client_frame(json.dumps(packets).encode()))
        return self.last_id

    async def receive(self) -> Packet:
        """The next packet."""
        while not self._packets:
            self._buffer += await self._more()
            used = 0
            for opcode, start, stop in split(self._buffer, len(self._buffer)):
                used = stop
                if opcode == _TEXT:
                    content: Any = json.loads(self._buffer[start:stop])
                    self._packets.extend(content if isinstance(content, list) else [content])
            del self._buffer[:used]
        return self._packets.popleft()

    async def until(self, *kinds: str, **facts: Any) -> Packet:
        """The next packet of one of these types, with these fields; others are dropped."""
        while True:
            packet = await self.receive()
            if packet["type"] in kinds and packet.items() >= facts.items():
                return packet

    def cut(self) -> None:
        """Drop it."""
        self._stream.socket.close()

"""A recorded connection: a WebSocket whose every packet stands in the history, and nothing else.

Knows no packet types and gives no answers of its own.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Self
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from tests.history.events import Packet, Recorder

SUBPROTOCOL = "triode.v1.json"
#: What a connection may end with when its broker is killed; anything else is a bug of the test.
ENDS = (ConnectionClosed, HandshakeError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
#: No broker that lives keeps anybody waiting so long.
PATIENCE_SECONDS = 30


class Line:
    """One connection of one client."""

    def __init__(
        self, recorder: Recorder, who: str, number: int, stream: trio.SocketStream, websocket: WebSocketConnection
    ) -> None:
        self._recorder = recorder
        self._who = who
        self._stream = stream
        self._websocket = websocket
        self._last_id = 0
        self.number = number

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        recorder: Recorder,
        who: str,
        number: int,
        url: str,
        gone: Callable[[str], Awaitable[None]],
    ) -> Self:
        """A WebSocket and nothing said. Raises one of ENDS.

        `gone` ends when the broker at this address has: trio-websocket waits for ever for the answer to its
        handshake when the peer dies before it.
        """

        async def give_up() -> None:
            await gone(url)
            raise ConnectionResetError("the broker ended during the handshake")

        recorder.note("open", who, number)
        parts = urlsplit(url)
        assert parts.hostname is not None
        with trio.fail_after(PATIENCE_SECONDS):
            stream = await trio.open_tcp_stream(parts.hostname, parts.port or 80)
            try:
                async with trio.open_nursery() as opening:
                    opening.start_soon(give_up)
                    socket = await wrap_client_stream(
                        nursery, stream, parts.netloc, "/ws", subprotocols=[SUBPROTOCOL], message_queue_size=1_000
                    )
                    opening.cancel_scope.cancel()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        return cls(recorder, who, number, stream, socket)

    async def send(self, *packets: Packet) -> list[int]:
        """Each with an id of its own; several as an array. Returns the ids. Raises one of ENDS."""
        numbered: list[Packet] = []
        for packet in packets:
            self._last_id += 1
            numbered.append({**packet, "id": self._last_id})
            self._recorder.note("sent", self._who, self.number, numbered[-1])
        with trio.fail_after(PATIENCE_SECONDS):
            await self._websocket.send_message(json.dumps(numbered if len(numbered) > 1 else numbered[0]))
        return [packet["id"] for packet in numbered]

    async def receive(self) -> list[tuple[int, Packet]]:
        """The packets of the next text message, each with its number in the history. Raises one of ENDS."""
        content: Any = json.loads(await self._websocket.get_message())
        packets = content if isinstance(content, list) else [content]
        return [(self._recorder.note("got", self._who, self.number, packet).t, packet) for packet in packets]

    async def cut(self) -> None:
        """Drop it without a word."""
        await trio.aclose_forcefully(self._stream)

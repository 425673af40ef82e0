"""A scripted broker on a real socket: each connection plays the next scene of a list.

A scene is an async function of a `Line`; when it returns, the connection is closed politely. Failures inside a
scene fail the test: they leave through the test's nursery.
"""

import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
import trio_websocket

from tests.client.play import LIMITS, LOG

PATIENCE_SECONDS: Final = 10.0


class Line:
    """One connection as the broker sees it."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self.websocket = websocket
        self.texts: list[str] = []
        self._heard: deque[dict[str, Any]] = deque()

    async def hear(self, kind: str = "") -> dict[str, Any]:
        """The next packet of the client; with `kind`, one of that type."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not self._heard:
                text = await self.websocket.get_message()
                assert isinstance(text, str)
                self.texts.append(text)
                found = json.loads(text)
                self._heard.extend(found if isinstance(found, list) else [found])
        packet = self._heard.popleft()
        assert not kind or packet["type"] == kind, packet
        return packet

    async def say(self, *packets: dict[str, Any]) -> None:
        """Send packets as one text."""
        await self.websocket.send_message(json.dumps(packets[0] if len(packets) == 1 else packets))

    async def accept(self, **said: Any) -> dict[str, Any]:
        """Hear `connect` and answer it; reconnects are quick."""
        connect = await self.hear("connect")
        await self.say(connected(connect, **said))
        return connect

    async def subscribed(self, **said: Any) -> dict[str, Any]:
        """Hear `subscribe` and answer it: live at position 0 unless said otherwise."""
        asked = await self.hear("subscribe")
        await self.confirm(asked, **said)
        return asked

    async def confirm(self, asked: dict[str, Any], **said: Any) -> None:
        """Answer a `subscribe` that was heard."""
        packet = {"type": "subscribed", "id": asked["id"], "sub": asked["sub"], "after": {LOG: 0}, "live": True}
        await self.say({**packet, **said})

    async def published(self, pos: int = 1) -> dict[str, Any]:
        """Hear `publish` and acknowledge it."""
        packet = await self.hear("publish")
        place = {"log": LOG, "pos": pos, "offset": pos, "level": "memory"}
        await self.say({"type": "published", "id": packet["id"], **place})
        return packet

    async def goodbye(self) -> None:
        """Hear `disconnect`, and before it the subscriptions end."""
        while (packet := await self.hear())["type"] == "unsubscribe":
            pass
        assert packet["type"] == "disconnect", packet

    async def cut(self) -> None:
        """Drop the line without a word."""
        await trio.aclose_forcefully(self.websocket._stream)

    async def until_closed(self) -> None:
        """Ignore the client until it is gone."""
        try:
            while True:
                await self.websocket.get_message()
        except trio_websocket.ConnectionClosed:
            return


Scene = Callable[[Line], Awaitable[None]]


def connected(connect: dict[str, Any], **said: Any) -> dict[str, Any]:
    """The answer to `connect`."""
    packet = {
        "type": "connected",
        "id": connect["id"],
        "connection": "c-1",
        "node": "n1",
        "protocol": 1,
        "capabilities": ["batch"],
        "limits": {**LIMITS, **said.pop("limits", {})},
        "ping_ms": 25_000,
        "reconnect": {"min_ms": 10, "max_ms": 20},
    }
    return {**packet, **said}


@asynccontextmanager
async def playing(*scenes: Scene, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A broker's URL; its first connection plays the first scene, and so on. All of them must be played."""
    waiting = deque(scenes)
    over = trio.Event()
    underway = 0

    async def play(request: trio_websocket.WebSocketRequest) -> None:
        nonlocal underway
        scene = waiting.popleft()
        underway += 1
        websocket = await request.accept(subprotocol="triode.v1.json")
        await scene(Line(websocket))
        underway -= 1
        if not waiting and not underway:
            over.set()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, play, "127.0.0.1", 0, ssl_context)
        scheme = "ws" if ssl_context is None else "wss"
        yield f"{scheme}://127.0.0.1:{server.port}/ws"
        with trio.fail_after(PATIENCE_SECONDS):
            await over.wait()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A URL where every connection gets these bytes and is closed; None: gets nothing and is kept."""

    async def serve(stream: trio.SocketStream) -> None:
        if answer is None:
            await trio.sleep_forever()
        await stream.receive_some()
        await stream.send_all(answer or b"")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()

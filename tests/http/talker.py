"""HTTP as curl would speak it, over real sockets: whole answers, and streams of events read one by one.

Knows no packet. The surprising decision: a stream is read only when an event is asked for, so a test that asks for
none is a slow reader.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import attrs
import msgspec
import trio

from tests.http.event_stream import Event, read_events

PATIENCE_SECONDS = 20
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen
class Reply:
    """A whole answer, or the head of one that goes on."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes = b""

    @property
    def error(self) -> Any:
        """Of an answer that is one."""
        return msgspec.json.decode(self.body)["error"]


class Wire:
    """One connection."""

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self.stream = stream
        self.host = host
        self._unread = b""

    @classmethod
    async def open(cls, url: str, receive_buffer: int = 0) -> Self:
        host, _, port = url.removeprefix("http://").partition(":")
        socket = trio.socket.socket()
        if receive_buffer:
            socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        await socket.connect((host, int(port)))
        return cls(trio.SocketStream(socket), url.removeprefix("http://"))

    async def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS
    ) -> Reply:
        """Send a request, and read the head of the answer."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += [f"Content-Length: {len(body)}"]
            lines += [] if "Content-Type" in headers else ["Content-Type: application/json"]
        await self.stream.send_all("\r\n".join([*lines, "\r\n"]).encode() + (body or b""))
        head = (await self.until(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        return Reply(int(head[0].split()[1]), {name.lower(): value for name, value in pairs})

    async def body(self, reply: Reply) -> Reply:
        """The rest of an answer with a length."""
        length = int(reply.headers.get("content-length", "0"))
        while len(self._unread) < length:
            self._unread += await self._receive()
        body, self._unread = self._unread[:length], self._unread[length:]
        return attrs.evolve(reply, body=body)

    async def until(self, mark: bytes) -> bytes:
        """What comes up to there, the mark included."""
        while mark not in self._unread:
            self._unread += await self._receive()
        found, _, self._unread = self._unread.partition(mark)
        return found + mark

    async def chunk(self) -> bytes:
        """The next chunk; b"": that was all."""
        size = int(await self.until(b"\r\n"), 16)
        while len(self._unread) < size + 2:
            self._unread += await self._receive()
        chunk, self._unread = self._unread[:size], self._unread[size + 2 :]
        return chunk

    async def _receive(self) -> bytes:
        with trio.fail_after(PATIENCE_SECONDS):
            data = await self.stream.receive_some()
        if not data:
            raise EOFError
        return bytes(data)


class Events:
    """A stream of events."""

    def __init__(self, wire: Wire, reply: Reply) -> None:
        self.wire = wire
        self.reply = reply
        self.id = ""
        self.retry = 0
        self._events: list[Event] = []

    async def next(self) -> Event:
        """The next event that a page would be told of. Raises EOFError at the end."""
        while True:
            while not self._events:
                chunk = await self.wire.chunk()
                if not chunk:
                    raise EOFError
                self._events += read_events(chunk, self._events[-1].id if self._events else self.id)
            event = self._events.pop(0)
            self.id, self.retry = event.id, event.retry or self.retry
            if event.type:
                return event

    async def next_of(self, *types: str) -> Event:
        """The next event of one of these types."""
        while (event := await self.next()).type not in types:
            pass
        return event

    async def data(self, count: int) -> list[Any]:
        """What the next messages say."""
        return [(await self.next_of("message")).packet["data"] for _ in range(count)]

    async def ended(self) -> list[str]:
        """The types of all events up to the end."""
        types = []
        try:
            while True:
                types.append((await self.next()).type)
        except EOFError:
            return types


async def ask(
    url: str, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS
) -> Reply:
    """One request on a connection of its own."""
    wire = await Wire.open(url)
    async with wire.stream:
        return await wire.body(await wire.ask(method, target, body, headers))


def events_target(*topics: str, **parameters: object) -> str:
    pairs = [("topic", topic) for topic in topics]
    pairs += [(name.removesuffix("_"), str(value)) for name, value in parameters.items()]
    return "/v1/events?" + urlencode(pairs, quote_via=quote)


@asynccontextmanager
async def listening(
    url: str, *topics: str, headers: Mapping[str, str] = NO_HEADERS, receive_buffer: int = 0, **parameters: object
) -> AsyncIterator[Events]:
    """A stream of events that has begun, every subscription with its position."""
    wire = await Wire.open(url, receive_buffer)
    async with wire.stream:
        reply = await wire.ask("GET", events_target(*topics, **parameters), headers=headers)
        assert reply.status == 200, await wire.body(reply)
        events = Events(wire, reply)
        for _ in topics:
            await events.next_of("subscribed")
        yield events


class Link:
    """A link, as our own client has it."""

    def __init__(self, url: str, events: Events, name: str, headers: Mapping[str, str]) -> None:
        self.url = url
        self.events = events
        self.name = name
        self.headers = headers
        self.count = 0

    async def say(self, *packets: Any) -> Reply:
        """The next text."""
        self.count += 1
        return await self.say_again(self.count, *packets)

    async def say_again(self, number: int, *packets: Any, headers: Mapping[str, str] | None = None) -> Reply:
        body = msgspec.json.encode(packets[0] if len(packets) == 1 else packets)
        target = f"/v1/link/{self.name}?n={number}"
        return await ask(self.url, "POST", target, body, self.headers if headers is None else headers)

    async def hear(self, *types: str) -> Any:
        """The next packet of one of these types."""
        while (packet := (await self.events.next_of("message")).packet)["type"] not in types:
            pass
        return packet


@asynccontextmanager
async def linked(
    url: str, *packets: Any, headers: Mapping[str, str] = NO_HEADERS, token: str = "", receive_buffer: int = 0
) -> AsyncIterator[Link]:
    """A link that is connected, and has said this behind its `connect`."""
    wire = await Wire.open(url, receive_buffer)
    async with wire.stream:
        connect = {"type": "connect", "id": 1} | ({"token": token} if token else {})
        reply = await wire.ask("POST", "/v1/link", msgspec.json.encode([connect, *packets]), headers)
        assert reply.status == 200, await wire.body(reply)
        events = Events(wire, reply)
        link = Link(url, events, (await events.next_of("link")).packet["link"], headers)
        await link.hear("connected")
        yield link

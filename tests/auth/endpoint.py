"""A small HTTP server that answers as it is told to, also badly; and the wait for answers that come later."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import trio
from attrs import define, field
from triode_broker.core.identity import UNKNOWN, Arrival, Identity
from triode_protocol.codec import Refused

from tests.auth.making import Door

PATIENCE_SECONDS = 30


@define
class Seen:
    """One request."""

    head: str
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return msgspec.json.decode(self.body)


def reply(body: object = b"", status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


@define
class Endpoint:
    """Answers every request with what `answer` makes of it; None = never."""

    answer: Callable[[Seen], bytes | None]
    seen: list[Seen] = field(factory=list)
    is_asked: trio.Event = field(factory=trio.Event)
    url: str = ""

    async def start(self, nursery: trio.Nursery) -> "Endpoint":
        """Listen on a port of its own."""
        listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/asked"
        return self

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            self.seen.append(await _request(stream))
            self.is_asked.set()
            answer = self.answer(self.seen[-1])
            if answer is None:
                await trio.sleep_forever()
            await stream.send_all(answer)
        except trio.BrokenResourceError:
            return  # whoever asked has seen enough
        finally:
            await trio.aclose_forcefully(stream)


async def _request(stream: trio.SocketStream) -> Seen:
    got = b""
    while b"\r\n\r\n" not in got:
        got += await stream.receive_some()
    head, _, body = got.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    while len(body) < int(fields.get("content-length", "0")):
        body += await stream.receive_some()
    return Seen(head.decode(), body)


async def hear(door: Door, token: str, arrival: Arrival = UNKNOWN) -> Identity | Refused:
    """Ask, and wait for the answer."""
    answers: list[Identity | Refused] = []
    is_there = trio.Event()

    def done(answer: Identity | Refused) -> None:
        answers.append(answer)
        is_there.set()

    door.authority.ask(token, arrival, done)
    with trio.fail_after(PATIENCE_SECONDS):
        await is_there.wait()
    (answer,) = answers
    return answer


async def hear_identity(door: Door, token: str, arrival: Arrival = UNKNOWN) -> Identity:
    """Who it is; fails the test where it is nobody."""
    answer = await hear(door, token, arrival)
    assert isinstance(answer, Identity), (answer.args, door.log.lines)
    return answer


async def hear_refusal(door: Door, token: str, arrival: Arrival = UNKNOWN) -> Refused:
    """Why it is nobody."""
    answer = await hear(door, token, arrival)
    assert isinstance(answer, Refused), answer
    return answer

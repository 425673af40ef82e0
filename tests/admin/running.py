"""A broker with a disk in the test's nursery, its administration socket, and its log as plain events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from attrs import define, field
from triode_broker.config import Config
from triode_broker.server import Broker

PATIENCE_SECONDS = 30
ON_DISK = {"filter": "jobs/#", "storage": "disk"}


@define
class EventLog:
    """Stands where structlog's logger would; keeps what it is told."""

    events: list[tuple[str, str, dict[str, Any]]] = field(factory=list)

    def __getattr__(self, level: str) -> Any:
        return lambda event, **facts: self.events.append((level, event, facts))

    def told(self, event: str) -> list[dict[str, Any]]:
        """The facts of every event of this name."""
        return [facts for _, name, facts in self.events if name == event]


@define
class Running:
    """A broker that serves."""

    broker: Broker
    url: str
    log: EventLog

    async def ask(self, call: str, **parameters: Any) -> Any:
        """One administration call that is answered with a result."""
        answer = await self.hear(msgspec.json.encode({"call": call, **parameters}))
        assert "ok" in answer, answer
        return answer["ok"]

    async def names(self, call: str) -> list[dict[str, Any]]:
        """A list of names, all at home here; without saying so each time."""
        answer = await self.ask(call)
        assert answer["unanswered"] == []
        assert {one.pop("home") for one in answer["names"]} <= {self.broker.config.node}
        return list(answer["names"])

    async def refused(self, call: str, **parameters: Any) -> str:
        """One that is not; why."""
        answer = await self.hear(msgspec.json.encode({"call": call, **parameters}))
        return str(answer["error"])

    async def hear(self, line: bytes) -> Any:
        """What the socket answers to a line."""
        return await hear(Path(self.broker.config.data), line)


async def hear(directory: Path, line: bytes) -> Any:
    """What the socket in a directory answers to a line."""
    with trio.fail_after(PATIENCE_SECONDS):
        async with await trio.open_unix_socket(str(directory / "admin.sock")) as stream:
            await stream.send_all(line + b"\n")
            said = b""
            while not said.endswith(b"\n"):
                piece = await stream.receive_some()
                assert piece, said
                said += piece
    return msgspec.json.decode(said)


@asynccontextmanager
async def running(data: Path | str, **settings: Any) -> AsyncIterator[Running]:
    """A broker, until the block ends. `topics` unless given: jobs/# on disk. Raises what its start raises."""
    log = EventLog()
    given = {"listen": "127.0.0.1:0", "data": str(data), "topics": [ON_DISK], **settings}
    broker = Broker(msgspec.convert(given, Config), log)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(broker.run)
        yield Running(broker, url, log)
        nursery.cancel_scope.cancel()

"""An endpoint of webhooks: takes what it is sent, as it is told to, and checks every signature."""

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from tests.admin.running import PATIENCE_SECONDS, Running, running
from tests.auth import making
from tests.auth.endpoint import Endpoint, Seen, reply

SECRET = "a-secret-of-webhooks-that-is-long"
#: Fast: a test waits for what comes, and not for a pause.
ROW: dict[str, Any] = {"name": "hook", "linger_ms": 0, "backoff_min_ms": 1, "backoff_max_ms": 20}


def headers_of(seen: Seen) -> dict[str, str]:
    """Of a request, in lower case."""
    return dict(line.split(": ", 1) for line in seen.head.lower().split("\r\n")[1:])


def is_signed(seen: Seen, secret: str = SECRET) -> bool:
    """Whether one of its signatures is right."""
    time, *signatures = headers_of(seen)["triode-signature"].split(",")
    signed = time.removeprefix("t=").encode() + b"." + seen.body
    wanted = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"v1={wanted}" in signatures


@define
class Sink:
    """Answers as `answer` says, None: with yes."""

    answer: Callable[[Seen], bytes | None] = field(default=lambda _: reply(b"", "204 No Content"))
    requests: list[Seen] = field(factory=list)
    taken: list[dict[str, Any]] = field(factory=list)  # events that it said yes to, in order
    endpoint: Endpoint | None = None
    _bell: trio.Event = field(factory=trio.Event)

    async def start(self, nursery: trio.Nursery) -> "Sink":
        """Listen."""
        self.endpoint = await Endpoint(self._answer).start(nursery)
        return self

    @property
    def url(self) -> str:
        """Where."""
        assert self.endpoint is not None
        return self.endpoint.url

    def _answer(self, seen: Seen) -> bytes | None:
        assert is_signed(seen)
        self.requests.append(seen)
        answer = self.answer(seen)
        if answer is not None and answer.startswith(b"HTTP/1.1 2"):
            self.taken += seen.json["events"]
        self._bell.set()
        return answer

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what should come."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not is_so():
                await self._bell.wait()
                self._bell = trio.Event()

    async def kinds(self, count: int) -> list[str]:
        """Of the first so many that were taken."""
        await self.until(lambda: len(self.taken) >= count)
        return [event["kind"] for event in self.taken[:count]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Those taken of one kind."""
        return [event for event in self.taken if event["kind"] == kind]


def row(sink: Sink, directory: Path, **settings: Any) -> dict[str, Any]:
    """A webhook that tells it."""
    secret = directory / "webhook.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return {**ROW, "url": sink.url, "secret_file": str(secret), **settings}


def by_key(directory: Path) -> dict[str, Any]:
    """Settings of a broker whose clients have tokens, and may do everything that clients do."""
    key = directory / "tokens.key"
    key.write_text(making.SECRET)
    key.chmod(0o600)
    all_topics = {one: ["#"] for one in ("publish", "subscribe", "presence", "history", "consume")}
    return {"tokens": [{"algorithm": "HS256", "key_file": str(key)}], "permissions": [all_topics]}


def token_of(tenant: str) -> str:
    """Of a user of a tenant."""
    return making.sign({"sub": "ada", "tenant": tenant, "exp": int(time.time()) + 600})


@asynccontextmanager
async def hooked(
    directory: Path,
    nursery: trio.Nursery,
    sink: Sink | None = None,
    *,
    rows: Sequence[Any] = ({},),
    **settings: Any,
) -> AsyncIterator[tuple[Running, Sink]]:
    """A broker, and a sink that it tells of everything. `rows`: fields of each of its webhooks."""
    sink = sink or Sink()
    if sink.endpoint is None:
        await sink.start(nursery)
    made = [row(sink, directory, **fields) for fields in rows]
    async with running(settings.pop("data", directory / "data"), webhooks=made, **settings) as found:
        yield found, sink

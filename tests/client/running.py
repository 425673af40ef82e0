"""A real broker in the test's own process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio
from triode_broker.config import Config
from triode_broker.server import serve

PATIENCE_SECONDS = 60
SETTINGS: dict[str, Any] = {
    "listen": "127.0.0.1:0",
    "limits": {"reconnect_min_ms": 5, "reconnect_max_ms": 20},
    "topics": [{"filter": "#", "retention_messages": 100_000, "retention_bytes": 50_000_000}],
}
ON_DISK = {"filter": "#", "storage": "disk", "retention_messages": 100_000, "retention_bytes": 50_000_000}


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[str]:
    """A broker's URL while it runs."""
    async with trio.open_nursery() as nursery:
        config = msgspec.convert(SETTINGS | settings, Config)
        url = (await nursery.start(lambda task_status: serve(config, task_status=task_status)))[0]
        yield url
        nursery.cancel_scope.cancel()


def disk(folder: Path, **settings: Any) -> Any:
    """A broker whose topics are all on disk."""
    return running(data=str(folder), topics=[ON_DISK], **settings)


def port_of(url: str) -> int:
    """Where it listens."""
    return urlsplit(url).port or 0

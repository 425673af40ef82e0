"""A broker in the test's nursery, and who asks it by HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.admin.running import PATIENCE_SECONDS, Running, running

LINES = {"Content-Type": "application/x-ndjson"}


@asynccontextmanager
async def asking(running: Running, token: str = "", **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with connections of its own. `_` in the name of a header stands for a hyphen."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    async with httpx.AsyncClient(base_url=running.url, headers=sent, timeout=PATIENCE_SECONDS) as client:
        yield client


@asynccontextmanager
async def served(data: Path, **settings: Any) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A broker that asks nobody who they are, unless the settings say so, and a client of it."""
    async with running(data, **settings) as found, asking(found) as client:
        yield found, client


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """What an answer says that is one."""
    (only,) = answer.json().values()
    assert answer.headers["content-type"] == "application/json"
    return dict(only)

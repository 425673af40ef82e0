"""A broker that asks for tokens or keys, clients that come in with them, and an operator who withdraws them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import msgspec
import trio
from attrs import define, field
from triode_broker.auth.api_keys import make_key

from tests.admin.running import Running, running
from tests.spec.client import Packet, RawClient

SECRET = "0123456789abcdef" * 4
EVERYTHING: dict[str, object] = {
    "publish": ["#"], "subscribe": ["#"], "presence": ["#"], "history": ["#"], "consume": ["#"]
}  # fmt: skip


def token(user: str, *, issued: int | None = None, **claims: Any) -> str:
    """Good for ten minutes."""
    now = int(time.time())
    known = {"sub": user, "iat": now if issued is None else issued, "exp": now + 600, **claims}
    return jwt.encode(known, SECRET, "HS256")


def settings(folder: Path) -> dict[str, Any]:
    """Of a broker that takes such tokens, and one key, which stands in the file `key`."""
    secret, keys = folder / "secret", folder / "keys"
    for file in (secret, keys):
        file.touch(0o600)
    secret.write_text(SECRET)
    key, text = make_key(user="billing")
    keys.write_bytes(msgspec.json.encode(key) + b"\n")
    (folder / "key").write_text(text)
    return {
        "tokens": [{"algorithm": "HS256", "key_file": str(secret)}],
        "permissions": [EVERYTHING],
        "auth": {"api_keys_file": str(keys)},
    }


@define
class Door:
    """The broker and its clients."""

    running: Running
    nursery: trio.Nursery
    folder: Path
    clients: list[RawClient] = field(factory=list)

    async def knock(self, token: str, **fields: Any) -> tuple[RawClient, Packet]:
        """Connect, and what comes of it."""
        client = await RawClient.open(self.nursery, self.running.url)
        self.clients.append(client)
        return client, await client.ask({"type": "connect", "id": 1, "token": token, **fields})

    async def enter(self, token: str, **fields: Any) -> tuple[RawClient, str]:
        """Connect; the id of the connection."""
        client, answer = await self.knock(token, **fields)
        assert answer["type"] == "connected", answer
        return client, str(answer["connection"])

    async def is_shut(self, token: str) -> None:
        """The error says that it was revoked, and the close that there is no use in trying again (SPEC 11.1.4)."""
        client, answer = await self.knock(token)
        assert (answer["type"], answer["name"], answer["retry"]) == ("error", "revoked", "never")
        assert await client.closed() == 4002

    def key(self) -> str:
        """The API key."""
        return (self.folder / "key").read_text()

    @property
    def key_name(self) -> str:
        """Its name."""
        return self.key().split("_")[1]


@asynccontextmanager
async def door(folder: Path, **more: Any) -> AsyncIterator[Door]:
    """A broker with a disk, unless `data` says otherwise, until the block ends."""
    given = {"data": folder / "data", **settings(folder), **more}
    async with running(given.pop("data"), **given) as broker, trio.open_nursery() as nursery:
        here = Door(broker, nursery, folder)
        yield here
        for client in here.clients:
            await client.cut()
        nursery.cancel_scope.cancel()

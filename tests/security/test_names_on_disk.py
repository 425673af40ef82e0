"""S31: whatever clients call themselves and their things, on disk are the broker's own files, for it alone."""

import os
import re
import stat
from pathlib import Path
from typing import Any, Final

from tests.security.withdrawing import Door, door, token

#: Names that lead elsewhere, where somebody makes a path of them.
PATHS: Final = (
    "..",
    ".",
    "../../x",
    "/etc/x",
    "a/../../x",
    "~root",
    "x\\..\\y",
    "CON",
    "x.sqlite",
    "file:x",
    "%2e%2e",
)
TENANTS: Final = ("..", ".", "d0.sqlite", "revocations", "-")
FILES: Final = re.compile(r"d0\.(lock|sqlite|sqlite-wal|sqlite-shm)|revocations|admin\.sock(\.lock)?")


async def test_s31_nothing_that_a_client_names_becomes_a_path(tmp_path: Path) -> None:
    """S31: tenants, users, topics, names, ids, logs and clients; whatever the umask. Files 0600, folders 0700."""
    before = os.umask(0)
    try:
        topics = [{"filter": "#", "storage": "disk"}]
        async with door(tmp_path, topics=topics) as here:
            outside = listed(tmp_path)
            for tenant in TENANTS:
                for path in PATHS:
                    await say_all(here, tenant, path)
            is_private(tmp_path / "data")
            assert listed(tmp_path) == outside
    finally:
        os.umask(before)


def listed(folder: Path) -> set[str]:
    """What is in it."""
    return {file.name for file in folder.iterdir()}


def is_private(data: Path) -> None:
    """There are files, all of them of the names that the broker gives, and for nobody else."""
    inside = list(data.rglob("*"))
    assert inside
    assert [file.name for file in inside if not FILES.fullmatch(file.name)] == []
    assert {stat.S_IMODE(file.lstat().st_mode) for file in inside} == {0o600}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


async def say_all(here: Door, tenant: str, path: str) -> None:
    """Everything that has a name is called so. What comes of it is another matter: some of it is refused."""
    more: dict[str, Any] = {"client": {"name": path, "version": path}, "replaces": path}
    client, answer = await here.knock(token(path, tenant=tenant, jti=path), **more)
    assert answer["type"] == "connected", answer
    asked: list[dict[str, Any]] = [
        {"type": "publish", "topic": path, "data": 1, "message_id": path, "key": path, "headers": {path: path}},
        {"type": "publish", "topic": f"a/{path}", "data": 1},
        {"type": "subscribe", "sub": 1, "filter": "a/#", "durable": path},
        {"type": "subscribe", "sub": 2, "filter": "a/#", "group": path},
        {"type": "subscribe", "sub": 3, "filter": "a/#", "after": {path: 0}},
        {"type": "subscribe", "sub": 4, "filter": path, "presence": {"state": path}},
        {"type": "history", "topic": path, "after": {path: 0}},
        {"type": "ack", "sub": 1, "log": path, "pos": 1},
    ]
    for packet in asked:
        await client.request(packet)
    await client.cut()

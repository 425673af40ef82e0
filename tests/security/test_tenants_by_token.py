"""S23 on the wire: tokens of two tenants at a real broker, with the client that everybody uses."""

import os
import time
from pathlib import Path
from typing import Any

import jwt
import trio
import triode

from tests.admin.running import PATIENCE_SECONDS, Running, running

SECRET = "a secret of more than thirty-two bytes"


def token(tenant: str) -> str:
    """Of ann, who may do everything; with what names no tenant she is of none."""
    claims = {"sub": "ann", "exp": int(time.time()) + 600, **({"tenant": tenant} if tenant else {})}
    return jwt.encode(claims, SECRET, "HS256")


def settings(directory: Path) -> dict[str, Any]:
    """Tokens of one issuer, and one rule for all of them."""
    key = directory / "key"
    key.touch(0o600)
    key.write_text(SECRET)
    everything = ["#", "$dead/#"]
    may = dict.fromkeys(("publish", "subscribe", "presence", "history", "consume"), everything)
    return {"tokens": [{"name": "idp", "algorithm": "HS256", "key_file": os.fspath(key)}], "permissions": [may]}


async def work(node: Running, tenant: str, mark: str) -> list[Any]:
    """What a client of this tenant hears, when everything that can be heard is wanted and one of all is said."""
    async with (
        triode.connect(node.url, token=token(tenant)) as client,
        client.subscribe("#") as all_messages,
        client.consume("jobs/#", durable="worker") as jobs,
        client.subscribe("$dead/#") as letters,
    ):
        with trio.fail_after(PATIENCE_SECONDS):
            first = await client.publish("rooms/chat", mark, message_id="m1")
            second = await client.publish("jobs/1", mark, message_id="m1")
            await (await anext(jobs)).reject()
            letter = await anext(letters)
            heard = [await anext(all_messages) for _ in range(2)]
            history = await client.history("rooms/chat", last=10)
        found = [*heard, letter, *history.messages]
        assert [one.offset for one in found] == [1, 1, 1, 1]
        assert (first.duplicate, second.duplicate) == (False, False)
        return [one.data for one in found]


async def test_tenants_of_tokens_do_not_meet(tmp_path: Path) -> None:
    """S23: one after the other and all at once; nothing of the others was there, and nothing came."""
    async with running(tmp_path, **settings(tmp_path)) as node:
        assert await work(node, "acme", "ours") == ["ours"] * 4
        heard: dict[str, list[Any]] = {}

        async def take(tenant: str) -> None:
            heard[tenant] = await work(node, tenant, f"of {tenant}")

        async with trio.open_nursery() as nursery:
            for tenant in ("", "beta", "gamma"):
                nursery.start_soon(take, tenant)
        assert heard == {tenant: [f"of {tenant}"] * 4 for tenant in ("", "beta", "gamma")}
        names = await node.names("dead.list")
        assert [(one["tenant"], one["name"], one["count"]) for one in names] == [
            (tenant, "worker", 1) for tenant in ("", "acme", "beta", "gamma")
        ]
        rows = await node.names("tenants.list")
        assert {one["name"]: (one["publishes"], one["refused"]) for one in rows} == dict.fromkeys(
            ("", "acme", "beta", "gamma"), (2, 0)
        )

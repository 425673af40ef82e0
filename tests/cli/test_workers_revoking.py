"""`serve --workers N` and revocations: what one process is told holds in all, also after the next start (S19)."""

import json
import signal
from pathlib import Path

import trio

from tests.cli.programs import PATIENCE_SECONDS, Lines, Triode, run
from tests.cli.test_clients import serve
from tests.security.withdrawing import token
from tests.spec.client import RawClient

WORKERS = 2


async def up(lines: Lines) -> str:
    """Until all workers serve: the URL."""
    while True:
        event = json.loads(await lines.next())
        if event["event"] == "workers_up":
            return str(event["urls"][0])


async def reach_each_other(data: str) -> None:
    """Workers serve as soon as they can, which may be before their links are open."""
    with trio.fail_after(PATIENCE_SECONDS):
        while json.loads((await run("connections", "--data", data, "--json")).output)["unanswered"]:
            pass


async def at_every_worker(nursery: trio.Nursery, url: str, token: str) -> dict[str, RawClient]:
    """A client at each."""
    found: dict[str, RawClient] = {}
    with trio.fail_after(PATIENCE_SECONDS):
        while len(found) < WORKERS:
            client = await RawClient.open(nursery, url)
            answer = await client.ask({"type": "connect", "id": 1, "token": token})
            assert answer["type"] == "connected", answer
            if found.setdefault(answer["node"], client) is not client:
                await client.cut()
    return found


async def is_shut_everywhere(nursery: trio.Nursery, url: str, token: str) -> None:
    """As many attempts as make it likely that each worker was asked."""
    for _ in range(8 * WORKERS):
        client = await RawClient.open(nursery, url)
        answer = await client.ask({"type": "connect", "id": 1, "token": token})
        assert answer["name"] == "revoked"
        assert await client.closed() == 4002
        await client.cut()


async def test_what_one_process_is_told_holds_in_all_and_after_a_restart(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    arguments = ("--data", data, "--workers", str(WORKERS))
    lost = token("ada", jti="t1")
    async with serve(tmp_path, *arguments) as program, trio.open_nursery() as nursery:
        url = await up(program.errors())
        clients = await at_every_worker(nursery, url, lost)
        await reach_each_other(data)
        answer = json.loads((await run("revoke", "--token", "t1", "--data", data, "--json")).output)
        assert (answer["closed"], answer["unanswered"]) == (WORKERS, [])
        assert set(answer["kept"].values()) == {"disk"}
        for client in clients.values():
            assert await client.closed() == 4002
            await client.cut()
        await is_shut_everywhere(nursery, url, lost)
        nursery.cancel_scope.cancel()
        await _end(program)
    async with serve(tmp_path, *arguments) as program, trio.open_nursery() as nursery:
        url = await up(program.errors())
        await is_shut_everywhere(nursery, url, lost)
        nursery.cancel_scope.cancel()
        await _end(program)


async def _end(program: Triode) -> None:
    with trio.CancelScope(shield=True):
        program.signal(signal.SIGINT)
        await program.code()

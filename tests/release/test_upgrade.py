"""An upgrade: this release opens the data directory of each one before it, and nothing is lost or noticed."""

import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import triode
from triode_broker.log.disk.sums import row_sum

from tests.cli.programs import BrokerAt, run
from tests.release.data import DONE, HERE, JOBS, READ, REJECTED, SETTINGS

ARCHIVES = sorted(HERE.glob("data-*.tar.gz"))
ENOUGH_SECONDS = 20


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The directory, as its release has left it."""
    with tarfile.open(request.param) as packed:
        packed.extractall(tmp_path, filter="data")
    directory = tmp_path / "data"
    for path in directory.glob("*.sqlite"):
        stay_in_place(path)
    return directory


def stay_in_place(path: Path) -> None:
    """An upgrade copies no file: this one is where it was, and not the copy that it is here."""
    number = str(path.stat().st_ino)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value=?, sum=? WHERE name='inode'", (number, row_sum("inode", number)))
    db.close()


async def test_everything_goes_on(data: Path) -> None:
    async with trio.open_nursery() as nursery:
        broker = BrokerAt(nursery, {**SETTINGS, "data": str(data)})
        await broker.start()
        with trio.fail_after(ENOUGH_SECONDS):
            async with triode.connect(broker.url) as client:
                await check_messages(client, json.loads((data / "kept.json").read_text()))
                await check_worker(client)
        await check_operators(data)
        await check_health(broker.url)
        await broker.stop()
        nursery.cancel_scope.cancel()


async def check_messages(client: triode.Client, kept: dict[str, Any]) -> None:
    """All of them, without a gap, from a position of that time; the next number is the next one."""
    gaps: list[triode.Gap] = []
    position = kept["position"]
    seen: list[object] = []
    async with client.subscribe("jobs/#", after=position, on_gap=gaps.append) as messages:
        while len(seen) < JOBS - READ + 1:
            message = await anext(messages)
            seen.append(message.data)
            if isinstance(message.data, dict):
                assert message.headers == {"made": "before"}
    assert b"\x00\xff" in seen
    assert not gaps
    numbers = {message["number"] for message in seen if isinstance(message, dict)}
    assert len(numbers) == JOBS - READ
    history = await client.history("jobs/0", limit=100)
    placed = await client.publish("jobs/0", "after the upgrade")
    assert placed.offset == history.messages[-1].offset + 1
    assert history.complete
    states = (await client.history("states/lamp", limit=100)).messages
    assert {state.key for state in states if not state.deletes_key} == {"a"}


async def check_worker(client: triode.Client) -> None:
    """What was done is not given again; the rest is."""
    given: set[int] = set()
    async with client.consume("jobs/#", durable="worker", shared=True) as deliveries:
        while len(given) < JOBS - DONE - 1:
            delivery = await anext(deliveries)
            if isinstance(delivery.data, dict):
                given.add(delivery.data["number"])
            await delivery.ack()
    assert given == set(range(JOBS)) - set(range(DONE)) - {REJECTED}


async def check_operators(data: Path) -> None:
    """Dead letters, revocations and what waits for its time are there."""
    letters = json.loads((await run("dead", "list", "worker", "--json", "--data", str(data))).output)
    assert json.dumps({"number": REJECTED}, separators=(",", ":")) in json.dumps(letters, separators=(",", ":"))
    assert "mallory" in (await run("revocations", "--data", str(data))).output


async def check_health(url: str) -> None:
    """Both files are in use, and what waits for its time still does."""
    async with httpx.AsyncClient() as http:
        health = (await http.get(url.replace("ws", "http", 1).removesuffix("/ws") + "/healthz")).json()
    assert health["status"] == "ok"
    assert health["delayed"] == 1

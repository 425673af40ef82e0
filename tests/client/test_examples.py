"""The programs of docs/examples, run as their readers run them: as processes, against a real broker."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import triode

from tests.client.running import PATIENCE_SECONDS, running
from tests.house.tree import ROOT

EXAMPLES = ROOT / "docs" / "examples"
ON_DISK = {"filter": "#", "storage": "disk", "retention_messages": 100_000, "retention_bytes": 50_000_000}


@asynccontextmanager
async def program(name: str, *arguments: object) -> AsyncIterator[trio.Process]:
    """An example as a process; it must be gone at the end, or is killed."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        with trio.fail_after(PATIENCE_SECONDS):
            yield process
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
                await process.wait()
            for stream in (process.stdin, process.stderr):
                if stream is not None:
                    await stream.aclose()


async def until_said(process: trio.Process, what: bytes, times: int = 1) -> None:
    """Until the program has logged it so often."""
    assert process.stderr is not None
    said = b""
    while said.count(what) < times:
        more = await process.stderr.receive_some()
        assert more, f"it ended: {said.decode()}"
        said += more


async def feed(process: trio.Process, lines: list[str]) -> None:
    assert process.stdin is not None
    await process.stdin.send_all("".join(f"{line}\n" for line in lines).encode())


async def received(messages: triode.Messages, count: int) -> list[Any]:
    with trio.fail_after(PATIENCE_SECONDS):
        return [(await anext(messages)).data for _ in range(count)]


def rows(file: Path, table: str) -> int:
    """How many there are; a file that is not there has none."""
    database = sqlite3.connect(file)
    try:
        (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    finally:
        database.close()
    assert isinstance(count, int)
    return count


async def test_outbox_publishes_each_order_once_in_order(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    async with running() as url, triode.connect(url) as client, client.subscribe("orders") as messages:
        async with program("outbox_publisher", file, url) as process:
            await feed(process, [f"item {n}" for n in range(200)])
            assert process.stdin is not None
            await process.stdin.aclose()
            assert await process.wait() == 0
        got = await received(messages, 200)
        assert got == [{"order": n + 1, "item": f"item {n}"} for n in range(200)]
    assert (rows(file, "orders"), rows(file, "outbox")) == (200, 0)


async def test_outbox_killed_without_a_broker_publishes_after_its_restart(tmp_path: Path) -> None:
    """Stored before it is published, and nothing is lost with the process."""
    file = tmp_path / "orders.db"
    async with program("outbox_publisher", file, "ws://127.0.0.1:9") as process:
        await feed(process, ["one", "two", "three"])
        with trio.fail_after(PATIENCE_SECONDS):
            while not file.exists() or await trio.to_thread.run_sync(stored, file) < 3:
                await trio.lowlevel.checkpoint()
        process.kill()
        await process.wait()
    async with running() as url, triode.connect(url) as client, client.subscribe("orders") as messages:
        async with program("outbox_publisher", file, url) as process:
            assert process.stdin is not None
            await process.stdin.aclose()
            assert await process.wait() == 0
        assert [order["item"] for order in await received(messages, 3)] == ["one", "two", "three"]
    assert rows(file, "outbox") == 0


def stored(file: Path) -> int:
    """Orders in a file that may be in the making."""
    try:
        return rows(file, "orders")
    except sqlite3.OperationalError:
        return 0


async def test_outbox_killed_while_publishing_leaves_no_order_out_and_stores_none_twice(tmp_path: Path) -> None:
    """G2: a row that was published and not yet removed has the same message id the next time."""
    file = tmp_path / "orders.db"
    items = [f"item {n}" for n in range(2_000)]
    async with running() as url, triode.connect(url) as client, client.subscribe("orders") as messages:
        got: list[Any] = []
        async with program("outbox_publisher", file, url) as process:
            await feed(process, items)
            got += await received(messages, 100)
            process.kill()
            await process.wait()
        count = rows(file, "orders")
        async with program("outbox_publisher", file, url) as process:
            assert process.stdin is not None
            await process.stdin.aclose()
            assert await process.wait() == 0
        got += await received(messages, count - 100)
        assert [order["item"] for order in got] == items[:count]
        await client.publish("orders", "the end")
        assert await received(messages, 1) == ["the end"]
    assert rows(file, "outbox") == 0


async def test_outbox_sets_aside_what_the_broker_will_never_take(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    async with running() as url, triode.connect(url) as client, client.subscribe("orders") as messages:
        async with program("outbox_publisher", file, url) as process:
            await feed(process, ["x" * 100_000, "small"])
            assert process.stdin is not None
            await process.stdin.aclose()
            assert await process.wait() == 0
        assert [order["item"] for order in await received(messages, 1)] == ["small"]
    assert rows(file, "outbox") == 1


async def test_worker_that_dies_loses_no_job_and_doubles_no_result(tmp_path: Path) -> None:
    """G5"""
    jobs = 60
    async with running(data=str(tmp_path), topics=[ON_DISK]) as url, triode.connect(url) as client:
        for n in range(jobs):
            await client.publish("jobs/count", {"text": "word " * (n + 1)})
        await client.publish("jobs/count", "no job")
        async with (
            client.subscribe("counts", from_="earliest") as counts,
            client.subscribe("$dead/counter") as dead,
        ):
            async with program("job_worker", url) as dying:  # first alone, or the other might leave it nothing
                await until_said(dying, b"counted", 5)
            async with program("job_worker", url) as other:
                done = {each["words"] for each in await received(counts, jobs)}
                assert done == set(range(1, jobs + 1))
                letter = await anext(dead)
                assert (letter.data, letter.headers["triode-dead-reason"]) == ("no job", "rejected")
                other.send_signal(signal.SIGTERM)
                assert await other.wait() == 0
        page = await client.history("counts", last=1_000)
        assert len(page.messages) == jobs  # a job that came twice has one result


@pytest.mark.parametrize(
    "example", sorted(path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text())
)
def test_example_says_how_to_start_it_and_is_started_by_a_test(example: str) -> None:
    assert f"python docs/examples/{example}.py" in (EXAMPLES / f"{example}.py").read_text()
    assert any(f'"{example}' in path.read_text() for path in (ROOT / "tests").rglob("*.py"))

"""A node with files: starting, refusing to start, ending, and what its health says of the disk."""

import fcntl
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import triode
from triode_broker import stores
from triode_broker.config import Config
from triode_broker.http.pages import pages
from triode_broker.log.disk import open_log
from triode_broker.server import Broker, StoreError

from tests.admin.running import ON_DISK, PATIENCE_SECONDS, EventLog, Running, running


def config(data: Path, **settings: Any) -> Config:
    given = {"listen": "127.0.0.1:0", "data": str(data), "topics": [ON_DISK], **settings}
    return msgspec.convert(given, Config)


def refusal(data: Path, **settings: Any) -> str:
    """Why a node does not start."""
    with pytest.raises(StoreError) as refused:
        Broker(config(data, **settings), EventLog())
    return str(refused.value)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what should come at once."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not is_so():
            await trio.testing.wait_all_tasks_blocked(0.001)


async def publish(node: Running, *data: Any, topic: str = "jobs/a") -> triode.Published:
    async with triode.connect(node.url) as client:
        for one in data:
            published = await client.publish(topic, one)
    return published


# Starting


async def test_a_directory_is_made_and_holds_one_file_a_shard(tmp_path: Path) -> None:
    data = tmp_path / "new" / "with a space"
    async with running(data, durable_shards=3) as node:
        assert (await publish(node, 1)).level == "disk"
        assert node.broker.health()["status"] == "ok"
    names = {name for name in os.listdir(data) if name.endswith(".sqlite")}
    assert names == {"d0.sqlite", "d1.sqlite", "d2.sqlite"}


@pytest.mark.parametrize(("before", "now"), [(1, 2), (3, 2)])
async def test_another_number_of_shards_is_refused(before: int, now: int, tmp_path: Path) -> None:
    async with running(tmp_path, durable_shards=before):
        pass
    told = refusal(tmp_path, durable_shards=now)
    assert told.startswith(f"durable_shards is {now}, but {tmp_path} was made with {before}, for good: set it to ")
    async with running(tmp_path, durable_shards=before) as node:
        assert node.log.told("new_log") == []


@pytest.mark.parametrize("shard", ["d0", "d1", "d2"])
async def test_a_file_that_is_missing_is_told(shard: str, tmp_path: Path) -> None:
    async with running(tmp_path, durable_shards=3) as node:
        for number in range(8):
            await publish(node, 1, topic=f"jobs/{number}")
    os.rename(tmp_path / f"{shard}.sqlite", tmp_path / "away")
    told = refusal(tmp_path, durable_shards=3)
    assert f"{shard}.sqlite is missing" in told or f"or bring back {shard}.sqlite" in told
    os.rename(tmp_path / "away", tmp_path / f"{shard}.sqlite")
    async with running(tmp_path, durable_shards=3) as node:
        assert node.log.told("new_log") == []


async def test_a_first_start_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, durable_shards=2):
        pass
    for name in os.listdir(tmp_path):
        if name.startswith("d0"):
            os.unlink(tmp_path / name)
    async with running(tmp_path, durable_shards=2) as node:
        assert (await publish(node, 1)).level == "disk"


async def test_files_that_are_none_of_ours_are_left_alone(tmp_path: Path) -> None:
    for name in ("data.sqlite", "d1-backup.sqlite", "d0.sqlite.old"):
        (tmp_path / name).write_text("mine")
    async with running(tmp_path):
        pass
    assert (tmp_path / "d1-backup.sqlite").read_text() == "mine"


def test_data_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file" / "data").startswith(f"cannot use {tmp_path}/file/data for data: ")


async def test_a_second_node_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        assert refusal(tmp_path) == (
            f"{tmp_path} is in use by another triode: stop it, or give this one a directory of its own"
        )
        assert await node.names("subs.list") == []


def test_one_file_that_does_not_open_closes_the_others(tmp_path: Path) -> None:
    with (tmp_path / "d0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use" in refusal(tmp_path, durable_shards=3)
        with (tmp_path / "d2.lock").open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_a_taken_port_leaves_the_files_closed_and_clean(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = Broker(config(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}"), EventLog())
        with pytest.raises(OSError, match="in use"):
            await broker.run()
    assert sorted(os.listdir(tmp_path)) == ["d0.lock", "d0.sqlite"]
    async with running(tmp_path) as node:
        assert node.log.told("new_log") == []


async def test_what_was_kept_and_cannot_be_read_closes_the_files(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        (store,) = node.broker.stores
        store.save("consumer/worker", lambda: b"\xff")
        await until(lambda: store.uncommitted_bytes > 0 or store.commits > 0)
    with pytest.raises(msgspec.MsgspecError):
        Broker(config(tmp_path), EventLog())
    with (tmp_path / "d0.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_restored_begins_new_logs_and_clients_are_told(tmp_path: Path) -> None:
    """G4: a gap with reason reset, then what is held."""
    async with running(tmp_path) as node:
        place = await publish(node, 1, 2)
    async with running(tmp_path, restored=True) as node:
        (told,) = node.log.told("new_log")
        assert told["previous"] == place.log
        assert "restored" in told["reason"]
        gaps: list[triode.Gap] = []
        async with (
            triode.connect(node.url) as client,
            client.subscribe("jobs/a", after={place.log: place.pos}, on_gap=gaps.append) as messages,
        ):
            with trio.fail_after(PATIENCE_SECONDS):
                held = [await anext(messages) for _ in range(2)]
        assert [gap.reason for gap in gaps] == ["reset"]
        assert [one.data for one in held] == [1, 2]
        assert {one.log for one in held} == {told["log"]}
    async with running(tmp_path) as node:
        assert node.log.told("new_log") == []


# Several files


async def test_two_files_under_constant_publishing_are_caught_up_with(tmp_path: Path) -> None:
    """G3, G4: live in the end, and every message of every topic once, in order."""
    async with running(tmp_path, durable_shards=2) as node, triode.connect(node.url) as client:
        seen: dict[str, list[int]] = {}
        ends: list[trio.CancelScope] = []
        published: dict[str, int] = {}

        async def keep_publishing(topic: str) -> None:
            with trio.CancelScope() as scope:
                ends.append(scope)
                while True:
                    published[topic] = (await client.publish(topic, 1)).offset

        async def read(filter: str) -> None:
            async with triode.connect(node.url) as other, other.subscribe(filter, from_="earliest") as messages:
                async for one in messages:
                    seen.setdefault(one.topic, []).append(one.offset)
                    if node.broker.router.live_subscriptions and len(seen[one.topic]) % 10 == 0:
                        for scope in ends:
                            scope.cancel()
                    if len(ends) == 8 and all(scope.cancel_called for scope in ends) and has_all():
                        return

        def has_all() -> bool:
            return all(topic in seen and seen[topic][-1] >= offset for topic, offset in published.items())

        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    await publish(node, *[0] * 20, topic=f"jobs/{number}")
                    nursery.start_soon(keep_publishing, f"jobs/{number}")
                nursery.start_soon(read, "jobs/#")
        homes = {node.broker.router.shard_of(topic) for topic in seen}
        assert (len(seen), len(homes)) == (8, 2)
        for offsets in seen.values():
            assert offsets == list(range(1, len(offsets) + 1))


async def test_names_and_letters_of_two_files_have_their_homes(tmp_path: Path) -> None:
    """G5: what a name owes is there after a restart, wherever its messages and its own file are."""
    names = ["alpha", "beta", "delta", "gamma", "omega"]
    async with running(tmp_path, durable_shards=2) as node, triode.connect(node.url) as client:
        for name in names:
            async with client.consume("jobs/#", durable=name):
                pass
        for number in range(6):
            await client.publish(f"jobs/{number}", number)
        assert {node.broker.router.home_of(name) for name in names} == set(node.broker.router.shards[-2:])
    async with running(tmp_path, durable_shards=2) as node, triode.connect(node.url) as client:
        assert [one["name"] for one in await node.names("subs.list")] == names
        for name in names:
            async with client.consume("jobs/#", durable=name, window=6) as jobs:
                with trio.fail_after(PATIENCE_SECONDS):
                    got = [await anext(jobs) for _ in range(6)]
                assert sorted(one.data for one in got) == [0, 1, 2, 3, 4, 5]
                for one in got:
                    await one.reject()
        assert await node.names("dead.list") == [{"name": name, "tenant": "", "count": 6} for name in names]


# Ending


async def test_at_the_end_what_was_accepted_is_stored_and_answered(tmp_path: Path) -> None:
    """G1, G2: told `published`, then bye; what is not told so was surely not stored."""
    acknowledged: list[int] = []
    enough = trio.Event()

    async def publish_on(client: triode.Client, first: int) -> None:
        for number in range(first, 1_000_000, 16):
            await client.publish("jobs/a", number)
            acknowledged.append(number)
            if len(acknowledged) == 50:
                enough.set()

    async with running(tmp_path) as node, triode.connect(node.url) as client, trio.open_nursery() as nursery:
        for first in range(16):
            nursery.start_soon(publish_on, client, first)
        with trio.fail_after(PATIENCE_SECONDS):
            await enough.wait()
            await node.broker._settle()
        (shard,) = [shard for shard in node.broker.router.shards if shard.log.level == "disk"]
        assert shard.pos == shard.log.head()
        nursery.cancel_scope.cancel()
    async with running(tmp_path) as node, triode.connect(node.url) as client:
        held = (await client.history("jobs/a", last=1000, limit=1000)).messages
        assert len(held) == shard.log.head()
        assert set(acknowledged) <= {one.data for one in held}


async def test_a_node_that_ends_takes_no_more_for_its_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.broker.router.stop_storing()
        async with triode.connect(node.url, publish_expiry_seconds=0.05) as client:
            with pytest.raises(triode.TriodeError, match=r"shutting down|not acknowledged|expired"):
                await client.publish("jobs/a", 1)
            assert (await client.publish("live/a", 1)).level == "memory"


# Health


def status(node: Running) -> tuple[int, str]:
    """Of /healthz: the HTTP status and what it says."""
    code, _, body = pages(node.broker.health, list)["/healthz"]("/healthz")
    return code, msgspec.json.decode(body)["status"]


async def test_a_full_disk_is_degraded_and_recovers_without_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as node, triode.connect(node.url) as client:
        await client.publish("jobs/a", 0)
        (store,) = node.broker.stores
        db = store._store.db
        (pages_now,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count={pages_now}")
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(client.publish, "jobs/a", f"{number}" + "x" * 10_000)
            await until(lambda: status(node) == (200, "degraded"))
            assert node.broker.health()["degraded"] == [
                f"the store {store.name} is full: publishes to it are refused"
            ]
            assert (await client.publish("live/a", 1)).level == "memory"
            assert len((await client.history("jobs/a", last=1)).messages) == 1
            db.execute("PRAGMA max_page_count=1000000")
            await until(lambda: status(node) == (200, "ok"))
        assert len((await client.history("jobs/a", last=100)).messages) == 41
        assert len(node.log.told("store_has_room")) == len(node.log.told("store_full")) == 1


class FailingDisk:
    """A connection whose commits come to nothing once the test says so."""

    is_broken = False

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        """As SQLite does it, or as it says that the disk did not."""
        if FailingDisk.is_broken and sql == "COMMIT":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return self._db.execute(sql, parameters)

    def close(self) -> None:
        """Close it."""
        self._db.close()


async def test_a_store_that_fails_is_said_once_and_memory_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "open_log", partial(open_log, connect=FailingDisk))
    monkeypatch.setattr(FailingDisk, "is_broken", False)
    async with running(tmp_path) as node, triode.connect(node.url, publish_expiry_seconds=0.1) as client:
        await client.publish("jobs/a", 0)
        FailingDisk.is_broken = True
        for number in range(5):
            with pytest.raises(triode.TriodeError):
                await client.publish("jobs/a", number)
        assert status(node) == (503, "failed")
        assert (await client.publish("live/a", 1)).level == "memory"
        assert [one.data for one in (await client.history("jobs/a", last=10)).messages] == [0]
        for call in ("subs.delete", "subs.rewind"):
            assert "no durable subscription" in await node.refused(call, name="worker", to="new")
        assert [facts["error"] for facts in node.log.told("store_failed")] == ["disk I/O error"]


async def test_names_of_a_failed_store_are_not_changed(tmp_path: Path) -> None:
    async with running(tmp_path) as node, triode.connect(node.url) as client:
        async with client.consume("jobs/#", durable="worker"):
            pass
        (store,) = node.broker.stores
        store._state = "failed"
        for call in ("subs.delete", "subs.rewind"):
            assert "the store has failed" in await node.refused(call, name="worker", to="new")
        assert [one["name"] for one in await node.names("subs.list")] == ["worker"]
        store._state = "ok"


def test_a_disk_that_stays_full_is_said_once_until_there_is_room() -> None:
    log = EventLog()
    report = stores.StoreReport(log)
    for event in ("store_full", "store_full", "damaged_value", "store_has_room", "store_full", "store_failed"):
        report(event, log="d0-x")
    events = [(level, event) for level, event, _ in log.events]
    assert events == [
        ("warning", "store_full"),
        ("warning", "damaged_value"),
        ("warning", "store_has_room"),
        ("warning", "store_full"),
        ("error", "store_failed"),
    ]


def test_log_names_are_of_their_shard() -> None:
    assert re.fullmatch(r"d3-[a-z2-7]{16}", stores.new_log_name("d3"))

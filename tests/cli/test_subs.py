"""`triode subs` against a running broker: what is listed, shown, rewound and deleted, and every way to fail."""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import triode
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.subs import ago, parse_place, table

from tests.cli.programs import PATIENCE_SECONDS, BrokerAt, Ended, run

RULES = [{"filter": "jobs/#", "storage": "disk"}]


@asynccontextmanager
async def durable_broker(data: Path, **settings: Any) -> AsyncIterator[BrokerAt]:
    async with trio.open_nursery() as nursery:
        broker = BrokerAt(nursery, {"data": str(data), "topics": RULES, **settings})
        await broker.start()
        yield broker
        await broker.stop()


async def subs(data: Path | str, *arguments: str) -> Ended:
    return await run("subs", *arguments, "--data", str(data))


async def as_json(data: Path, *arguments: str) -> Any:
    ended = await subs(data, *arguments, "--json")
    assert (ended.code, ended.errors) == (ExitCode.OK, "")
    return json.loads(ended.output)


async def publish(broker: BrokerAt, count: int) -> None:
    async with triode.connect(broker.url) as client:
        for number in range(count):
            await client.publish("jobs/a", number)


async def take(jobs: triode.Deliveries, count: int) -> list[triode.Delivery]:
    with trio.fail_after(PATIENCE_SECONDS):
        return [await anext(jobs) for _ in range(count)]


async def test_names_with_lag_and_what_is_pending(tmp_path: Path) -> None:
    """Also after a restart, when nobody is there."""
    async with durable_broker(tmp_path) as broker:
        empty = await subs(tmp_path, "list")
        assert empty.output.startswith("no durable subscriptions or groups yet")
        async with (
            triode.connect(broker.url) as client,
            client.consume("jobs/#", durable="worker", window=3) as jobs,
            client.consume("live/#", group="team"),
        ):
            await publish(broker, 10)
            first, _, third = await take(jobs, 3)
            await third.ack()
            await first.reject()
            await take(jobs, 2)
            (team, worker) = await as_json(tmp_path, "list")
            assert (team["name"], team["kind"], team["lag"], team["home"]) == ("team", "group", 0, "n1")
            assert (worker["name"], worker["kind"], worker["filter"]) == ("worker", "durable", "jobs/#")
            assert (worker["members"], worker["in_flight"], worker["dead_letters"]) == (1, 3, 1)
            assert worker["pending"] >= 3
            assert worker["lag"] == 10  # nine jobs and the dead letter, which is in the same log
            listed = (await subs(tmp_path, "list")).output.splitlines()
            assert listed[0] == "NAME    KIND     FILTER  MEMBERS  IN FLIGHT  PENDING  LAG  DEAD  HOME"
            assert listed[2].split()[:5] == ["worker", "durable", "jobs/#", "1", "3"]
            assert listed[2].split()[6:] == ["≤10", "1", "n1"]
        await broker.stop()
        await broker.start()
        (worker,) = await as_json(tmp_path, "list")
        assert (worker["members"], worker["in_flight"], worker["pending"], worker["lag"]) == (0, 0, 3, 10)


async def test_one_name_in_full(tmp_path: Path) -> None:
    async with durable_broker(tmp_path) as broker:
        async with (
            triode.connect(broker.url) as client,
            client.consume("jobs/#", durable="worker", window=2, ack_wait=60, max_attempts=7) as jobs,
        ):
            await publish(broker, 3)
            one, _ = await take(jobs, 2)
            shown = await as_json(tmp_path, "show", "worker")
            (place,) = shown["positions"].items()
            assert place == (one.message.log, {"settled": 0, "taken": 3, "head": 3, "lag": 3})
            assert (shown["ack_wait_ms"], shown["max_attempts"]) == (60_000, 7)
            assert (shown["member_count"], shown["pending_count"]) == (1, 3)
            assert [(row["pos"], row["topic"], row["attempt"]) for row in shown["pending"]][:2] == [
                (1, "jobs/a", 1),
                (2, "jobs/a", 1),
            ]
            assert shown["pending"][0]["holder"] == shown["members"][0]["connection"]
            text = (await subs(tmp_path, "show", "worker")).output
            assert text.startswith(
                "worker: durable on jobs/#, at home on node n1\nack wait 60000 ms, at most 7 attempts, dead"
            )
            assert f"{one.message.log}.1" in text
            assert "no members" not in text
        text = (await subs(tmp_path, "show", "worker")).output
        assert "\nno members; the last one was there " in text


async def test_rewind_delivers_again(tmp_path: Path) -> None:
    async with durable_broker(tmp_path) as broker, triode.connect(broker.url) as client:
        async with client.consume("jobs/#", durable="worker") as jobs:
            await publish(broker, 3)
            for one in await take(jobs, 3):
                await one.ack()
            log = one.message.log
            ended = await subs(tmp_path, "rewind", "worker", "--to", "earliest")
            assert (ended.code, ended.output) == (ExitCode.OK, f"worker goes on after {log}.0\n")
            assert [again.data for again in await take(jobs, 3)] == [0, 1, 2]
            await subs(tmp_path, "rewind", "worker", "--to", f"{log}.2")
            assert [again.data for again in await take(jobs, 1)] == [2]
        ended = await subs(tmp_path, "rewind", "worker", "--to", "since:1h")
        assert ended.output == f"worker goes on after {log}.0\n"
        ended = await subs(tmp_path, "rewind", "worker", "--to", "new")
        assert ended.output == f"worker goes on after {log}.3\n"
        ended = await subs(tmp_path, "rewind", "worker", "--to", "d0-other.1")
        assert (ended.code, ended.errors) == (
            ExitCode.REFUSED,
            "triode subs: d0-other is not a log of worker\n",
        )


async def test_delete_forgets_the_name_and_tells_its_members(tmp_path: Path) -> None:
    async with durable_broker(tmp_path) as broker, triode.connect(broker.url) as client:
        async with client.consume("jobs/#", durable="worker") as jobs:
            await publish(broker, 1)
            await (await take(jobs, 1))[0].reject()
            ended = await subs(tmp_path, "delete", "worker")
            words = "worker is deleted; 1 dead letter stays: see triode dead list worker\n"
            assert (ended.code, ended.output) == (ExitCode.OK, words)
            with pytest.raises(triode.SubscriptionEnded), trio.fail_after(PATIENCE_SECONDS):
                await anext(jobs)
        await broker.stop()
        await broker.start()
        assert await as_json(tmp_path, "list") == []


@pytest.mark.parametrize("action", [("show",), ("delete",), ("rewind", "--to", "new")], ids=str)
async def test_unknown_name_is_refused(action: tuple[str, ...], tmp_path: Path) -> None:
    async with durable_broker(tmp_path):
        ended = await subs(tmp_path, action[0], "nobody", *action[1:])
        words = "triode subs: there is no durable subscription or group nobody\n"
        assert (ended.code, ended.output, ended.errors) == (ExitCode.REFUSED, "", words)


async def test_several_at_once(tmp_path: Path) -> None:
    async with durable_broker(tmp_path / "with a space"), trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await as_json(tmp_path / "with a space", "list") == []

        for _ in range(6):
            nursery.start_soon(ask)


async def test_where_the_broker_is_can_be_said_in_three_ways(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "triode.toml"
    file.write_text(f'data = "{data}"')
    async with durable_broker(data):
        for environ in ({"TRIODE_DATA": str(data)}, {"TRIODE_CONFIG": str(file)}):
            assert (await run("subs", "list", "--json", environ=environ)).output == "[]\n"
        assert (await run("subs", "list", "--json", "--config", str(file))).output == "[]\n"
    ended = await run("subs", "list")
    assert ended.code == ExitCode.USAGE
    assert "which broker? give its data directory: --data DIR" in ended.errors


async def test_no_broker_there_is_told(tmp_path: Path) -> None:
    """Never one, one that was killed, no directory at all, a path that no socket can have."""
    ended = await subs(tmp_path, "list")
    assert (ended.code, "no broker is running with --data" in ended.errors) == (ExitCode.TIMEOUT, True)
    async with durable_broker(tmp_path):
        os.link(tmp_path / "admin.sock", tmp_path / "left")
    os.rename(tmp_path / "left", tmp_path / "admin.sock")
    ended = await subs(tmp_path, "list")
    assert (ended.code, "no broker is running with --data" in ended.errors) == (ExitCode.TIMEOUT, True)
    ended = await subs(tmp_path / "typo", "list")
    assert (ended.code, "there is no directory" in ended.errors) == (ExitCode.USAGE, True)
    ended = await subs(tmp_path / ("x" * 200), "list")
    assert (ended.code, "too long for a socket" in ended.errors) == (ExitCode.USAGE, True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
async def test_another_user_is_told_whose_it_is(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(directory, 0o755)
    async with durable_broker(tmp_path):
        code = (
            "import os, sys; from triode_broker.cli.administration import Node\n"
            "from pathlib import Path; from triode_broker.cli.exit_codes import Failure\n"
            "os.setuid(65534)\n"
            "try: Node(Path(sys.argv[1])).call('subs.list')\n"
            "except Failure as failure: print(int(failure.code), failure)"
        )
        with trio.fail_after(PATIENCE_SECONDS):
            ended = await trio.run_process([sys.executable, "-c", code, str(tmp_path)], capture_stdout=True)
        assert ended.stdout.startswith(b"1 ")
        assert b"only the user that the broker runs as may administer it" in ended.stdout


@pytest.mark.parametrize("text", ["last", "last:3", "yesterday", "", "log.", ".5", "LOG.5", "a.1~", "since:"])
def test_a_place_that_is_none_is_told(text: str) -> None:
    with pytest.raises(Failure, match=r"allowed is earliest, new, .* LOG\.POS") as failed:
        parse_place(text, 0)
    assert failed.value.code == ExitCode.USAGE


def test_places() -> None:
    assert parse_place("earliest", 0) == "earliest"
    assert parse_place("since:2s", 5_000) == {"since": 3_000}
    assert parse_place("d0-x.5~d1-y.0", 0) == {"after": {"d0-x": 5, "d1-y": 0}}


def test_tables_cannot_drive_a_terminal() -> None:
    assert table(("A", "B"), [("x\x1b[2J", 1)]) == "A           B\nx\\u001b[2J  1\n"
    assert table(("A", "B"), []) == ""


@pytest.mark.parametrize(
    ("ms", "words"), [(0, "0 s ago"), (119_000, "119 s ago"), (120_000, "2 min ago"), (7_200_000, "2 h ago")]
)
def test_how_long_ago(ms: int, words: str) -> None:
    assert ago(0, ms) == words

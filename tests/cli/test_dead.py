"""`triode dead` against a running broker: letters as a table and as JSON, retry, drop, and what is left over."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import triode
from triode_broker.cli.dead import _as_letters
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, BrokerAt, Ended, run
from tests.cli.test_subs import durable_broker


async def dead(data: Path, *arguments: str) -> Ended:
    return await run("dead", *arguments, "--data", str(data))


async def fail_two(broker: BrokerAt) -> None:
    """One message rejected, and a binary one given back as often as it may be."""
    async with (
        triode.connect(broker.url) as client,
        client.consume("jobs/#", durable="worker", max_attempts=2) as jobs,
        client.subscribe("$dead/worker") as buried,
    ):
        await client.publish("jobs/a", {"n": 1}, key="k")
        await client.publish("jobs/b", b"\x00\xff")
        with trio.fail_after(PATIENCE_SECONDS):
            await (await anext(jobs)).reject()
            for _ in range(2):
                await (await anext(jobs)).nack()
            for _ in range(2):
                await anext(buried)


async def held(broker: BrokerAt, topic: str) -> list[Any]:
    async with triode.connect(broker.url) as client:
        return [one.data for one in (await client.history(topic, last=10)).messages]


async def test_letters_are_listed_with_reason_and_origin(tmp_path: Path) -> None:
    async with durable_broker(tmp_path) as broker:
        assert (await dead(tmp_path, "list")).output == "no dead letters\n"
        assert (await dead(tmp_path, "list", "worker")).output == "no dead letters\n"
        await fail_two(broker)
        assert (await dead(tmp_path, "list")).output == "NAME    DEAD LETTERS  HOME\nworker  2             n1\n"
        head, first, second = (await dead(tmp_path, "list", "worker")).output.splitlines()
        assert head.split() == ["POS", "REASON", "ATTEMPTS", "WHEN", "TOPIC", "PLACE", "KEY", "DATA"]
        assert first.split()[1:3] == ["rejected", "1"]
        assert first.split()[6:] == ["jobs/a", first.split()[7], "k", '{"n":1}']
        assert second.split()[1:3] == ["max_attempts", "2"]
        assert second.endswith("-    (2 bytes)")
        letters = json.loads((await dead(tmp_path, "list", "worker", "--json")).output)["letters"]
        assert [letter["source_pos"] for letter in letters] == [1, 2]
        assert letters[1]["b64"] == "AP8="
        limited = (await dead(tmp_path, "list", "worker", "--limit", "1")).output.splitlines()
        assert len(limited) == 3
        assert limited[2].startswith("there are more: --limit N shows more")


async def test_retry_of_one_and_of_the_rest(tmp_path: Path) -> None:
    async with durable_broker(tmp_path) as broker:
        await fail_two(broker)
        (first, _) = json.loads((await dead(tmp_path, "list", "worker", "--json")).output)["letters"]
        ended = await dead(tmp_path, "retry", "worker", "--pos", str(first["pos"]))
        assert (ended.code, ended.output) == (ExitCode.OK, "1 dead letter published again\n")
        assert await held(broker, "jobs/a") == [{"n": 1}, {"n": 1}]
        ended = await dead(tmp_path, "retry", "worker", "--json")
        assert json.loads(ended.output)["count"] == 1
        assert await held(broker, "jobs/b") == [b"\x00\xff", b"\x00\xff"]
        assert (await dead(tmp_path, "retry", "worker")).output == "0 dead letters published again\n"


async def test_drop_needs_to_be_told_which(tmp_path: Path) -> None:
    async with durable_broker(tmp_path) as broker:
        await fail_two(broker)
        for arguments in ([], ["--all", "--pos", "1"]):
            ended = await dead(tmp_path, "drop", "worker", *arguments)
            assert (ended.code, "which ones? --pos POS" in ended.errors) == (ExitCode.USAGE, True)
        ended = await dead(tmp_path, "drop", "worker", "--pos", "1")
        words = "triode dead: worker has no dead letter at position 1\n"
        assert (ended.code, ended.errors) == (ExitCode.REFUSED, words)
        ended = await dead(tmp_path, "drop", "worker", "--all")
        assert (ended.code, ended.output) == (ExitCode.OK, "2 dead letters dropped\n")
        assert (await dead(tmp_path, "list")).output == "no dead letters\n"
        assert await held(broker, "jobs/a") == [{"n": 1}]


async def test_what_stays_is_told_and_ends_with_3(tmp_path: Path) -> None:
    async with durable_broker(tmp_path) as broker:
        await fail_two(broker)
        await broker.stop()
        broker.settings["topics"] = [{"filter": "jobs/a", "storage": "disk", "max_payload_bytes": 2}]
        broker.settings["topics"] += [{"filter": "jobs/#", "storage": "disk"}]
        await broker.start()
        ended = await dead(tmp_path, "retry", "worker")
        assert (ended.code, ended.output) == (ExitCode.REFUSED, "1 dead letter published again\n")
        assert ended.errors.startswith("triode dead: the letter at ")
        assert ended.errors.endswith(" stays: a payload on this topic has at most 2 bytes\n")
        assert (await dead(tmp_path, "list")).output == "NAME    DEAD LETTERS  HOME\nworker  1             n1\n"


async def test_no_broker_is_told(tmp_path: Path) -> None:
    ended = await dead(tmp_path, "list")
    assert (ended.code, "no broker is running" in ended.errors) == (ExitCode.TIMEOUT, True)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"data": "\x1b[2J"}, '"\\u001b[2J"'),
        ({"data": "x" * 100}, f'"{"x" * 59}… (102 characters)'),
        ({"data": None}, "null"),
        ({"deletes": True}, "(deletes its key)"),
        ({"b64": ""}, "(0 bytes)"),
    ],
    ids=str,
)
def test_data_in_a_table_is_short_and_harmless(content: dict[str, Any], shown: str) -> None:
    letter = {
        "pos": 1,
        "reason": "rejected",
        "attempts": 1,
        "at_ms": 0,
        "topic": "a",
        "log": "d0",
        "source_pos": 1,
    }
    table = _as_letters({"letters": [{**letter, "key": "", **content}], "more": False}, 0)
    assert table.splitlines()[1].endswith(f"  {shown}")

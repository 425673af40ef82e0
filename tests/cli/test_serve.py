"""`triode serve` as a process: what it says, that it serves, and how it ends."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import trio
import triode
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, Lines, Triode, run


async def started(errors: Lines) -> str:
    """The address in its first log line."""
    event = json.loads(await errors.until('"started"'))
    return str(event["urls"][0])


async def health(url: str) -> str:
    """The answer to GET /healthz."""
    host, _, port = url.removeprefix("http://").partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        with trio.fail_after(PATIENCE_SECONDS):
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: triode\r\nConnection: close\r\n\r\n")
            return b"".join([piece async for piece in stream]).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal_and_ends_with_0(number: signal.Signals) -> None:
    async with Triode("serve", "--listen", "127.0.0.1:0", "--node", "n7") as program:
        errors = program.errors()
        url = await started(errors)
        assert '"node":"n7"' in (await health(url)).replace(" ", "")
        async with triode.connect(url) as client:
            assert (await client.publish("a", 1)).offset == 1
        program.signal(number)
        assert await program.code() == ExitCode.OK
        assert json.loads(await errors.until('"stopped"'))["node"] == "n7"


async def test_settings_reach_the_broker() -> None:
    environ = {"TRIODE_LIMITS_MAX_PACKET_BYTES": "1000", "TRIODE_LOG_FORMAT": "json"}
    async with (
        Triode("serve", "--listen", "127.0.0.1:0", environ=environ) as program,
        triode.connect(await started(program.errors())) as client,
    ):
        with pytest.raises(triode.PublishRefused, match="too_large"):
            await client.publish("a", "x" * 1_000)


async def test_for_people_it_says_what_to_open_and_what_to_type() -> None:
    async with Triode("serve", "--listen", "127.0.0.1:0", "--log-format", "console") as program:
        output = program.output()
        url = (await output.until("Triode is up: ")).removeprefix("Triode is up: ")
        assert url.startswith("ws://127.0.0.1:")
        assert url.endswith("/ws")
        assert (await output.until("  open ")).endswith(f"{url.replace('ws', 'http', 1).removesuffix('ws')}")
        assert (await output.until("  listen ")).endswith(f"sub 'rooms/#' --url {url}")
        assert (await output.until("  follow ")).endswith(f"pub logs/app - --url {url}")


def durable(folder: Path, *arguments: str) -> tuple[str, ...]:
    """`serve` with jobs/# on disk, in a directory whose name has a space in it."""
    file = folder / "triode.toml"
    file.write_text('[[topics]]\nfilter = "jobs/#"\nstorage = "disk"\n')
    listen = ("--listen", "127.0.0.1:0", "--log-format", "json")
    return ("serve", "--config", str(file), "--data", str(folder / "the data"), *listen, *arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_was_acknowledged_is_there_in_the_next_life(number: signal.Signals, tmp_path: Path) -> None:
    """G1: same log, pos and offset; G5: the name, its position and what it had pending."""
    async with (
        Triode(*durable(tmp_path)) as program,
        triode.connect(await started(program.errors())) as client,
        client.consume("jobs/#", durable="worker", window=2) as jobs,
    ):
        places = [await client.publish("jobs/a", number) for number in range(3)]
        assert [place.level for place in places] == ["disk"] * 3
        with trio.fail_after(PATIENCE_SECONDS):
            await (await anext(jobs)).ack()
            await anext(jobs)
        program.signal(number)
        await program.code()
    assert ("admin.sock" in os.listdir(tmp_path / "the data")) == (number == signal.SIGKILL)
    async with Triode(*durable(tmp_path)) as program, triode.connect(await started(program.errors())) as client:
        held = (await client.history("jobs/a", last=5)).messages
        assert [(one.log, one.pos, one.offset) for one in held] == [(p.log, p.pos, p.offset) for p in places]
        listed = await run("subs", "list", "--json", "--data", str(tmp_path / "the data"))
        (worker,) = json.loads(listed.output)
        assert (worker["name"], worker["members"], worker["lag"]) == ("worker", 0, 2)
        async with client.consume("jobs/#", durable="worker") as jobs:
            with trio.fail_after(PATIENCE_SECONDS):
                assert [(await anext(jobs)).data for _ in range(2)] == [1, 2]


async def test_sigterm_under_load_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    acknowledged: list[int] = []

    async def publish(client: triode.Client, first: int) -> None:
        for number in range(first, 1_000_000, 16):
            await client.publish("jobs/a", number)
            acknowledged.append(number)
            if len(acknowledged) == 200:
                program.signal(signal.SIGTERM)

    async with Triode(*durable(tmp_path)) as program:
        url = await started(program.errors())
        async with triode.connect(url) as client, trio.open_nursery() as nursery:
            for first in range(16):
                nursery.start_soon(publish, client, first)
            assert await program.code() == ExitCode.OK
            nursery.cancel_scope.cancel()
    async with Triode(*durable(tmp_path)) as program, triode.connect(await started(program.errors())) as client:
        held: set[int] = set()
        async with client.subscribe("jobs/a", from_="earliest") as messages:
            with trio.fail_after(PATIENCE_SECONDS):
                while not held >= set(acknowledged):
                    held.add((await anext(messages)).data)


async def test_a_second_broker_on_the_same_data_ends_with_1(tmp_path: Path) -> None:
    async with Triode(*durable(tmp_path)) as program:
        await started(program.errors())
        ended = await run(*durable(tmp_path))
        assert ended.code == ExitCode.FAILURE
        assert ended.errors.endswith(
            f"triode serve: {tmp_path}/the data is in use by another triode:"
            " stop it, or give this one a directory of its own\n"
        )
        assert "Traceback" not in ended.errors


async def test_a_taken_port_with_data_is_told_and_leaves_the_data_free(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = await run(*durable(tmp_path), "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (ended.code, "is taken by another program" in ended.errors) == (ExitCode.FAILURE, True)
    async with Triode(*durable(tmp_path)) as program:
        errors = program.errors()
        assert json.loads(await errors.next())["event"] == "started"  # no new log, nothing to mend


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--data", "/dev/null"), ExitCode.USAGE, '--data: data = "/dev/null": is not a directory'),
        (("--data", "/dev/null/data"), ExitCode.FAILURE, "cannot use /dev/null/data for data: Not a directory"),
        (("--data", ""), ExitCode.USAGE, 'topics #1 storage = "disk": needs a directory: --data DIR'),
        (("--data", "", "--restored"), ExitCode.USAGE, "of which data? give its directory: --data DIR"),
    ],
    ids=str,
)
async def test_data_that_is_none_is_told(
    arguments: tuple[str, ...], code: ExitCode, words: str, tmp_path: Path
) -> None:
    ended = await run(*durable(tmp_path), *arguments)
    assert (ended.code, words in ended.errors, "Traceback" in ended.errors) == (code, True, False)


async def test_restored_data_goes_on_under_a_new_name(tmp_path: Path) -> None:
    async with Triode(*durable(tmp_path)) as program, triode.connect(await started(program.errors())) as client:
        before = (await client.publish("jobs/a", 1)).log
        program.signal(signal.SIGTERM)
        await program.code()
    async with Triode(*durable(tmp_path), "--restored") as program:
        event = json.loads(await program.errors().until('"new_log"'))
        assert event["previous"] == before
        assert event["log"] != before

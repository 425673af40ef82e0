"""`triode drain` and the signals: what a process does, what its clients hear, and who may hurry it."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, Ended, Lines, Triode, run
from tests.cli.test_serve import durable, started
from tests.spec.client import RawClient

#: For tests in which it must not end by itself.
LONG = {"TRIODE_LIMITS_DRAIN_ALONE_MS": "3600000", "TRIODE_LIMITS_DRAIN_WINDOW_MS": "3600000"}


async def drain(data: Path, *arguments: str) -> Ended:
    return await run("drain", *arguments, "--data", str(data / "the data"))


@asynccontextmanager
async def broker_and_client(
    data: Path, environ: dict[str, str] | None = None
) -> AsyncIterator[tuple[Triode, Lines, RawClient]]:
    """A broker with a disk as a process, its log, and a client that is connected to it."""
    async with Triode(*durable(data), environ=environ) as program, trio.open_nursery() as nursery:
        errors = program.errors()
        client = await RawClient.open(nursery, await started(errors))
        await client.send({"type": "connect", "id": 1})
        await client.expect("connected")
        yield program, errors, client
        await client.cut()
        nursery.cancel_scope.cancel()


async def test_it_returns_when_the_broker_has_ended_and_another_may_start(tmp_path: Path) -> None:
    codes: list[int] = []

    async def listen(client: RawClient) -> None:
        codes.append(await client.closed())

    for offset in (1, 2):
        async with broker_and_client(tmp_path) as (program, _, client), trio.open_nursery() as nursery:
            assert (await client.publish("jobs/a", 1))["offset"] == offset
            nursery.start_soon(listen, client)  # who does not listen is waited for
            ended = await drain(tmp_path, "--seconds", "0")
            assert (ended.code, ended.errors) == (ExitCode.OK, "")
            assert ended.output == "drained: 1 connection sent away\n"
            async with Triode(*durable(tmp_path)) as next_one:
                await started(next_one.errors())
            assert await program.code() == ExitCode.OK
    assert codes == [4200, 4200]


async def test_for_programs_it_says_so_in_json(tmp_path: Path) -> None:
    async with Triode(*durable(tmp_path)) as program:
        await started(program.errors())
        ended = await drain(tmp_path, "--json")
        said = json.loads(ended.output)
        assert said.keys() == {"connections", "seconds"}
        assert said["connections"] == 0
        assert 0 < said["seconds"] <= 1.0, "what is left of drain_alone_ms"
        assert await program.code() == ExitCode.OK


async def test_sigterm_drains(tmp_path: Path) -> None:
    """SPEC 5.3.5"""
    environ = {"TRIODE_LIMITS_DRAIN_ALONE_MS": "100", "TRIODE_LIMITS_DRAIN_RECONNECT_MS": "0"}
    async with broker_and_client(tmp_path, environ) as (program, errors, client):
        program.signal(signal.SIGTERM)
        await client.expect("notice", draining=True)
        await client.expect("bye", code=4200, name="draining")
        assert await client.closed() == 4200
        assert await program.code() == ExitCode.OK
        assert json.loads(await errors.until('"draining"'))["sessions"] == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(second: signal.Signals, tmp_path: Path) -> None:
    async with broker_and_client(tmp_path, LONG) as (program, _, client):
        program.signal(signal.SIGTERM)
        await client.expect("notice", draining=True)
        program.signal(second)
        await client.expect("bye", code=4100)
        assert await client.closed() == 4100
        assert await program.code() == ExitCode.OK


async def test_sigint_does_not_wait_for_anybody(tmp_path: Path) -> None:
    async with broker_and_client(tmp_path, LONG) as (program, _, client):
        program.signal(signal.SIGINT)
        await client.expect("bye", code=4100)
        assert await program.code() == ExitCode.OK


async def test_sigterm_behind_the_command_cuts_nobody_off_and_the_command_may_hurry(tmp_path: Path) -> None:
    async with broker_and_client(tmp_path) as (program, errors, client):
        ended: list[Ended] = []

        async def wait_for_it() -> None:
            ended.append(await drain(tmp_path, "--seconds", "3600"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_it)
            await client.expect("notice", draining=True)
            program.signal(signal.SIGTERM)
            await errors.until('"signal"')
            assert (await client.publish("a", 1))["offset"] == 1
            hurried = await drain(tmp_path, "--seconds", "0")
        assert await client.closed() == 4200
        assert [one.code for one in (*ended, hurried)] == [ExitCode.OK] * 2
        assert ended[0].output == "drained: 1 connection sent away\n"


async def test_where_there_is_no_broker_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "the data").mkdir()
    ended = await drain(tmp_path)
    assert ended.code == ExitCode.TIMEOUT
    assert "no broker is running" in ended.errors


@pytest.mark.parametrize("seconds", ["-1", "x", "nan", ""])
async def test_what_is_no_time_is_a_wrong_argument(seconds: str, tmp_path: Path) -> None:
    ended = await drain(tmp_path, f"--seconds={seconds}")
    assert ended.code == ExitCode.USAGE


async def test_too_long_a_time_is_refused_by_the_broker(tmp_path: Path) -> None:
    async with Triode(*durable(tmp_path)) as program:
        await started(program.errors())
        ended = await drain(tmp_path, "--seconds", "3601")
        assert ended.code == ExitCode.REFUSED
        assert "from 0 to 3600" in ended.errors
        with trio.fail_after(PATIENCE_SECONDS):
            assert (await drain(tmp_path)).code == ExitCode.OK

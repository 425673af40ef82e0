"""`triode serve` as a process: what it says, that it serves, and how it ends."""

import json
import signal

import pytest
import trio
import triode
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, Lines, Triode


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

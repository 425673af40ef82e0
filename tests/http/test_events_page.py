"""docs/events-over-http.md is true: its commands are typed, and a stream passes nginx with its settings."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.admin.running import running
from tests.house.tree import ROOT
from tests.http.event_stream import read_events
from tests.http.talker import PATIENCE_SECONDS, listening

TEXT = (ROOT / "docs" / "events-over-http.md").read_text(encoding="utf-8")
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # what nginx keeps under paths of its own
ADDRESS = "http://127.0.0.1:7400"


def block(name: str) -> str:
    """The code block of that name."""
    found = re.search(rf"^```{name}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found, name
    return found[1]


async def until(process: trio.Process, mark: bytes) -> bytes:
    """What it prints, up to there."""
    said = b""
    assert process.stdout is not None
    with trio.fail_after(PATIENCE_SECONDS):
        while mark not in said:
            data = await process.stdout.receive_some()
            assert data, said
            said += data
    return said


@contextlib.asynccontextmanager
async def started(*command: str) -> AsyncIterator[trio.Process]:
    """A process, until the end of the block."""
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def test_its_commands_do_what_it_says(tmp_path: Path) -> None:
    async with running(tmp_path) as node:

        def typed(name: str) -> tuple[str, str, str]:
            return "bash", "-c", "exec " + block(name).replace(ADDRESS, node.url)

        async with started(*typed("sh listen")) as listen:
            begun = await until(listen, b'"sub":2')
            await trio.run_process(typed("sh publish"), capture_stdout=True, capture_stderr=True)
            said = begun + await until(listen, b'"hello"}')
        events = [event for event in read_events(said + b"\n\n") if event.type]
        assert [event.type for event in events] == ["subscribed", "subscribed", "message"]
        bash, dash_c, line = typed("sh resume")
        async with started(bash, dash_c, f"LAST={events[1].id}; {line}") as resume:
            assert b'"hello"}' in await until(resume, b'"hello"}')


async def test_events_pass_nginx(tmp_path: Path) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("no nginx")
    async with running(tmp_path) as node:
        listener = trio.socket.socket()
        await listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        (tmp_path / "nginx.conf").write_text(
            "daemon off; master_process off; "
            + f"pid {tmp_path}/pid; error_log {tmp_path}/error; events {{}}\nhttp {{ access_log off;\n"
            + "".join(f"{kind}_temp_path {tmp_path}/t;" for kind in TEMPORARY)
            + f"upstream triode {{ server {node.url.removeprefix('http://')}; }}\n"
            + f"server {{ listen 127.0.0.1:{port};\n{block('nginx')}}} }}\n"
        )
        async with started(nginx, "-p", str(tmp_path), "-c", "nginx.conf"):
            with trio.fail_after(PATIENCE_SECONDS):
                while True:
                    with contextlib.suppress(OSError):
                        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                        break
            url = f"http://127.0.0.1:{port}"
            async with listening(url, "news") as events, listening(node.url, "news"):
                command = block("sh publish").replace(ADDRESS, url).replace("rooms/42/chat", "news")
                await trio.run_process(["bash", "-c", command], capture_stdout=True, capture_stderr=True)
                assert await events.data(1) == ["hello"]

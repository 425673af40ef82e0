"""docs/http-api.md and the README: every command, run as it stands against a real broker; the table of errors."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from triode_broker.http.exchange import STATUS

from tests.http.asking import served

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "http-api.md"
#: What is another one each time.
_NAMES = ((r"\bm\d-[a-z0-9]{16}\b", "LOG"), (r'"ts":\d+', '"ts":TS'))


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """Every command of the page, in order, and what it prints."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for one in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = one.partition("\n")
            yield command, output


def evened(text: str) -> str:
    """Without what is another one each time."""
    for pattern, name in _NAMES:
        text = re.sub(pattern, name, text)
    return text


@pytest.mark.parametrize(("page", "least"), [(PAGE, 9), (ROOT / "README.md", 3)], ids=["http-api", "README"])
async def test_every_command_of_the_page_prints_what_it_says(page: Path, least: int, tmp_path: Path) -> None:
    found = list(commands(page))
    assert len(found) >= least
    shell = shutil.which("sh") or "/bin/sh"
    known = {"PATH": os.environ["PATH"], "TOKEN": "t"}
    async with served(tmp_path) as (running, _):
        for command, output in found:
            assert "curl" in command
            line = command.replace("http://127.0.0.1:7400", running.url)
            with trio.fail_after(30):
                done = await trio.run_process([shell, "-c", line], capture_stdout=True, env=known)
            assert evened(done.stdout.decode()).strip() == evened(output).strip(), command


def test_page_names_the_status_of_every_error() -> None:
    rows = re.findall(r"^\| (\d[^|]*)\| ([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
    told = {
        (int(status), name)
        for many, words in rows
        for status in re.findall(r"\d{3}", many)
        for name in re.findall(r"`(\w+)`", words)
    }
    for name, status in STATUS.items():
        assert (status, str(name)) in told, name

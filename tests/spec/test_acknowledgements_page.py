"""docs/acknowledgements.md is true: its configuration is accepted, its commands parsed, its programs run."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from triode_broker.cli.arguments import make_parser

from tests.browser.processes import TRIODE, Broker
from tests.spec.transcripts import SPEC

PAGE = SPEC.parent / "docs" / "acknowledgements.md"
TEXT = PAGE.read_text(encoding="utf-8")
ADDRESS = "ws://127.0.0.1:7400"


def blocks(language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """With the page's configuration, in a directory of its own, at another address."""
    (tmp_path / "triode.toml").write_text(blocks("toml")[0])
    monkeypatch.setenv("TRIODE_CONFIG", str(tmp_path / "triode.toml"))
    monkeypatch.setenv("TRIODE_DATA", str(tmp_path / "data"))
    broker = Broker(tmp_path / "broker.log")
    broker.start()
    yield broker
    broker.end()


def program(place: int, broker: Broker) -> list[str]:
    """The command that runs one of the page's Python programs."""
    source = blocks("python")[place]
    assert ADDRESS in source
    return [sys.executable, "-u", "-c", source.replace(ADDRESS, f"ws://127.0.0.1:{broker.port}")]


def test_configuration_of_the_page_is_accepted(tmp_path: Path) -> None:
    (example,) = blocks("toml")
    (tmp_path / "triode.toml").write_text(example)
    check = [TRIODE, "serve", "--config", "triode.toml", "--check"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "jobs/#" in done.stdout


def test_commands_of_the_page_are_commands() -> None:
    parser = make_parser()
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[0] == "triode"
        parser.parse_args(words[1:])
    assert len(lines) >= 5


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_programs_of_the_page_do_what_it_says(broker: Broker) -> None:
    """SPEC 4.5.1, 8.10, 9.4.8: the job is on disk, the worker gets it, over a kill of the broker."""
    worker = subprocess.Popen(program(0, broker), stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout
        stored = subprocess.run(program(1, broker), capture_output=True, text=True, check=True).stdout
        assert stored.startswith("disk {")
        assert worker.stdout.readline() == "done: {'to': 'ada'} attempt 1\n"
        broker.kill()
        broker.start()
        again = subprocess.run(program(1, broker), capture_output=True, text=True, check=True).stdout
        assert again == stored  # the same message_id, the same place
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.communicate()

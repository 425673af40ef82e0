"""docs/tutorial.md is true: every command is run in one shell, every file is used, what is shown is what comes.

Knows the page's blocks: `sh` is run, `text` behind it is what that printed (`…` stands for anything), a language
with a name is a file. The surprising decision: what a reader does in a browser is done in one, between two blocks.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attrs import define, field
from playwright.sync_api import Page, expect

from tests.browser.chromium import open_browser
from tests.browser.processes import TRIODE
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PORT = re.compile(r"\b(74\d\d|8000)\b")


@define(eq=False)
class Shell:
    """One bash, in which block after block is typed; an unexpected exit code ends the test."""

    folder: Path
    ports: dict[str, int] = field(factory=dict)
    _process: subprocess.Popen[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        known = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
        bin = str(Path(TRIODE).parent)
        self._process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=known | {"PATH": f"{bin}:{known['PATH']}", "TRIODE_URL": self.placed("ws://127.0.0.1:7400")},
            start_new_session=True,
        )

    def placed(self, text: str) -> str:
        """With ports that are free, and a folder that is the test's."""
        moved = _PORT.sub(lambda match: str(self._port(match[1])), text)
        return moved.replace("../first-broker", str(self.folder))

    def type(self, block: str) -> str:
        """What it prints."""
        assert self._process.stdin
        assert self._process.stdout
        mark = uuid.uuid4().hex
        self._process.stdin.write(f"{self.placed(block)}\necho\necho {mark} $?\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith(mark):
                assert line.split() == [mark, "0"], (block, said)
                return "".join(said).strip()
            said.append(line)
        raise AssertionError(f"the shell has ended: {block}")

    def end(self) -> None:
        """It and all that was started in it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _port(self, named: str) -> int:
        if named not in self.ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.ports[named] = int(free.getsockname()[1])
        return self.ports[named]


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """A shell until the end of the block."""
    opened = Shell(folder)
    try:
        yield opened
    finally:
        opened.end()


def matches(shown: str, said: str) -> bool:
    """Whether the page shows this; … is anything."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, said, re.DOTALL) is not None


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_everything_in_the_tutorial_works(tmp_path: Path) -> None:
    if shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("REQUIRE_DEPLOY_TOOLS") == "1":
            pytest.fail("no haproxy")
        pytest.skip("no haproxy")
    folder = tmp_path / "first-broker"
    said = ""
    with open_browser() as browser, shell(folder) as typed:
        page = browser.new_page()
        for language, name, block in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            if name:
                (folder / name).write_text(typed.placed(block), encoding="utf-8")
            elif language == "sh":
                said = typed.type(block)
                in_between(page, typed, block)
            else:
                assert (language, matches(block, said)) == ("text", True), said


def in_between(page: Page, typed: Shell, block: str) -> None:
    """What a reader does in the browser after this block."""
    if "http.server" in block:
        typed.type("until curl -fs -o page.txt http://127.0.0.1:8000/page.html; do sleep 0.2; done")
        page.goto(typed.placed("http://127.0.0.1:8000/page.html"))
        expect(page.get_by_role("listitem")).to_have_text(["hello"])
        page.get_by_placeholder("say something").fill("from the page")
        page.get_by_placeholder("say something").press("Enter")
        expect(page.get_by_role("listitem")).to_have_text(["hello", "from the page"])
    if "from the shell" in block:
        expect(page.get_by_role("listitem")).to_have_text(["hello", "from the page", "from the shell"])
    if "triode metrics" in block:
        page.goto(typed.placed("http://127.0.0.1:7413/console"))
        secret = page.get_by_label("Admin secret")
        secret.fill((typed.folder / "admin.secret").read_text(encoding="utf-8").strip())
        secret.press("Enter")
        expect(page.get_by_role("link", name="rooms/2/chat")).to_be_visible()
        assert '"n3"' in (typed.folder / "cluster.json").read_text(encoding="utf-8")
        assert "rooms/2/chat" in (typed.folder / "topics.json").read_text(encoding="utf-8")

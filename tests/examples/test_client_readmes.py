"""The READMEs of the clients are true: what a newcomer does first works, commands, links and figures hold.

Their shorter examples are run with those of docs/migrating (test_migrating.py).
"""

import gzip
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest
import trio
from triode_broker.cli.arguments import make_parser

from tests.browser.built import CLIENT, DIST, built_client, installed_client
from tests.browser.chromium import PATIENCE_MS, open_browser
from tests.browser.processes import Broker, publish_json
from tests.examples import pages
from tests.examples.programs import CONFIG, PATIENCE_SECONDS, Program, broker_of, running
from tests.house.tree import ROOT

JAVASCRIPT, PYTHON = pages.READMES
by_readme = pytest.mark.parametrize("readme", pages.READMES, ids=lambda path: str(path.parent.name))
MESSAGES: Final = 5  # are waited for at each step


@pytest.mark.parametrize("listener", ["listen.mjs", "listen_trio.py", "listen_asyncio.py", "listen_sync.py"])
async def test_newcomer_sees_a_subscription_resume(listener: str, tmp_path: Path) -> None:
    """Over a broker that is killed, and an end of its own: each message once, in order, without a gap (G4)."""
    readme, talker = (JAVASCRIPT, "talk.mjs") if listener.endswith("mjs") else (PYTHON, "talk.py")
    if readme is JAVASCRIPT:
        packed = await trio.to_thread.run_sync(installed_client, tmp_path)
        (named,) = re.findall(
            r"^npm install \S+/clients/js/(\S+) ws ", pages.blocks(readme, "sh")[1], re.MULTILINE
        )
        assert fnmatch(packed, named)
        (tmp_path / "node_modules" / "ws").symlink_to(CLIENT / "node_modules" / "ws")
    with broker_of(CONFIG, tmp_path) as broker:
        write(readme, tmp_path, broker.socket_url.removesuffix("/ws"), listener, talker)
        async with program(tmp_path, listener) as listening, program(tmp_path, talker) as talking:
            heard = [await until_message(listening)]
            heard += [await until_message(listening) for _ in range(MESSAGES)]
            broker.kill()
            if readme is JAVASCRIPT:
                while "in a row" not in heard[-1]:
                    heard.append(await listening.line())
            await trio.to_thread.run_sync(broker.start)
            heard += [await until_message(listening) for _ in range(MESSAGES)]
            listening.process.send_signal(signal.SIGINT)
            with trio.fail_after(PATIENCE_SECONDS):
                heard += (await listening.rest()).splitlines()
            await talking.until(lambda line: f"is number {last(heard) + MESSAGES} on disk" in line)
        async with program(tmp_path, listener) as listening:
            later = [await until_message(listening) for _ in range(MESSAGES)]
    assert numbers(heard) == list(range(numbers(heard)[0], last(heard) + 1))
    # One that was ended between a message and its `store` sees that one again.
    assert numbers(later)[0] in (last(heard), last(heard) + 1)
    assert numbers(later) == list(range(numbers(later)[0], numbers(later)[0] + MESSAGES))
    assert "missing" not in "".join(heard + later)
    if listener in ("listen.mjs", "listen_trio.py"):
        said = {without_figures(line) for text in heard for line in text.splitlines()}
        (transcript,) = pages.blocks(readme, "text")
        missing = [line for line in transcript.splitlines() if not begun(line, said)]
        assert missing == [], said


def write(readme: Path, folder: Path, url: str, *names: str) -> None:
    """These programs of a README into `folder`, for a broker at `url`, and in a hurry."""
    for name in names:
        (source,) = pages.blocks(readme, f"(?:js|python) {re.escape(name)}")
        assert pages.ADDRESS in source
        hurried = source.replace("sleep(1)", "sleep(0.02)").replace("resolve, 1000", "resolve, 20")
        (folder / name).write_text(hurried.replace(pages.ADDRESS, url))


@asynccontextmanager
async def program(folder: Path, name: str) -> AsyncIterator[Program]:
    """As the README says, in the project's folder."""
    command = ["node", name] if name.endswith(".mjs") else [sys.executable, "-u", name]
    async with running(*command, folder=folder) as process:
        yield process


async def until_message(listening: Program) -> str:
    """All lines up to the next message."""
    lines = [await listening.line()]
    while not numbers(lines):
        lines.append(await listening.line())
    return "\n".join(lines)


def numbers(texts: list[str]) -> list[int]:
    """The offsets of the messages in these lines."""
    return [int(number) for number in re.findall(r"^(\d+) orders/tea", "\n".join(texts), re.MULTILINE)]


def last(texts: list[str]) -> int:
    """Of the offsets."""
    return numbers(texts)[-1]


def without_figures(line: str) -> str:
    """A line that is the same in every run."""
    return re.sub(r"\d+", "N", line)


def begun(line: str, said: set[str]) -> bool:
    """Whether one of the lines begins so."""
    return any(one.startswith(without_figures(line)) for one in said)


@pytest.mark.browser
def test_page_without_a_bundler_shows_what_is_published(tmp_path: Path) -> None:
    dist = built_client(tmp_path)
    (page_text,) = pages.blocks(JAVASCRIPT, "html")
    found = re.fullmatch(r'<script src="/(.+?)"></script>\n<script>\n(.*)</script>\n', page_text, re.DOTALL)
    assert found
    broker = Broker(tmp_path / "broker.log")
    broker.start()
    try:
        with open_browser() as browser:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{broker.port}/healthz")  # one of no origin may not connect
            page.add_script_tag(path=dist / found[1])
            page.add_script_tag(content=found[2].replace(pages.ADDRESS, f"ws://127.0.0.1:{broker.port}"))
            publish_json(broker, "rooms/42/chat", '{"text": "hello"}')
            page.get_by_text("rooms/42/chat: hello").wait_for(timeout=PATIENCE_MS)
    finally:
        broker.end()


@by_readme
def test_commands_of_the_readme_are_commands(readme: Path) -> None:
    parser = make_parser()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for block in pages.blocks(readme, "sh") for line in block.splitlines()]
    started = 0
    for line in lines:
        words = shlex.split(line, comments=True)
        if words and words[0].endswith("triode"):
            command = words[1:-1] if words[-1] == "&" else words[1:]
            assert (ROOT / str(parser.parse_args(command).config)).is_file()
            started += 1
        if words and words[0] == "make":
            assert words[1] in targets
    assert started == 2


@pytest.mark.parametrize(
    "page", [*pages.READMES, ROOT / "docs" / "clients.md"], ids=lambda path: str(path.parent.name)
)
def test_links_of_the_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", page.read_text(encoding="utf-8"))
    assert links
    for link, place in links:
        target = page.parent / link
        assert target.exists(), link
        assert not place or place in headings(target), f"{link}#{place}"


def headings(page: Path) -> set[str]:
    """What a link may name."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_sizes_are_not_larger_than_the_readme_says(tmp_path: Path) -> None:
    built_client(tmp_path)
    (table,) = re.findall(r"^## Size$(.*)", JAVASCRIPT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    claimed = [int(figure.replace(",", "")) for figure in re.findall(r"(?:\| |and )([\d,]+)", table)]
    files = ("index", "triode-sse", "offline", "react", "tabs", "tabs-worker", "triode.iife")
    sizes = [len(gzip.compress((DIST / f"{name}.js").read_bytes(), 9, mtime=0)) for name in files]
    assert len(claimed) == len(sizes)
    assert all(size <= figure for size, figure in zip(sizes, claimed, strict=True)), (sizes, claimed)

"""docs/migrating is true as far as it is about us, and so are the clients' READMEs: their code has the right types
and does what it shows.
"""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import triode
import triode.sync

from tests.examples import pages
from tests.examples.programs import CONFIG, PATIENCE_SECONDS, Program, broker_of, running
from tests.house.tree import ROOT

CLIENT = ROOT / "clients" / "js"
NODE_MODULES = CLIENT / "node_modules"


@pytest.fixture(autouse=True, scope="module")
def packages() -> None:
    """Without Node.js and `npm ci` the pages are not tested; in CI that is a failure."""
    if shutil.which("node") is None or not NODE_MODULES.exists():
        missing = "no Node.js, or no packages: npm ci in clients/js"
        if os.environ.get("TRIODE_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)


by_page = pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.stem))
SHOWN = [*pages.PAGES, *pages.READMES]


def name_of(page: Path) -> str:
    """Of its file in a test; all READMEs have one name."""
    return f"{page.parent.name}_{page.stem}".replace("-", "_")


@by_page
def test_links_of_the_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    index = (pages.FOLDER / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", index)
    assert {page.name for page in pages.PAGES} <= set(links)
    assert [link for link in links if not (pages.FOLDER / link).exists()] == []


@by_page
def test_the_page_has_code_before_and_after_in_both_languages(page: Path) -> None:
    for language in ("python", "js"):
        assert pages.blocks(page, language)
        assert pages.blocks(page, f"{language} theirs")


@by_page
def test_python_of_other_systems_is_python(page: Path) -> None:
    for block in pages.blocks(page, "python theirs"):
        ast.parse(block)


def test_javascript_of_other_systems_is_javascript(tmp_path: Path) -> None:
    for page in pages.PAGES:
        for number, block in enumerate(pages.blocks(page, "js theirs")):
            (tmp_path / f"{page.stem}-{number}.mjs").write_text(block)
    esbuild("--log-level=warning", f"--outdir={tmp_path / 'parsed'}", *tmp_path.glob("*.mjs"))


def test_our_python_has_the_right_types(tmp_path: Path) -> None:
    files = []
    for page in SHOWN:
        files.append(tmp_path / f"{name_of(page)}.py")
        files[-1].write_text(pages.PRELUDE + pages.program(page, "python"))
    # Django's stubs take ten seconds, and the example that uses them is checked with everything else. That may
    # happen in another process at this moment: so without its cache, and a cache of one run need not be written.
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\nwarn_unreachable = True\n[mypy-django.*]\nfollow_imports = skip\n")
    options: list[str | Path] = ["--config-file", settings, "--cache-dir", os.devnull]
    command = [sys.executable, "-m", "mypy", *options, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


def test_our_javascript_has_the_right_types(tmp_path: Path) -> None:
    """Against the client's public words alone: that the code does what it should is seen where it runs."""
    source, react = CLIENT / "src", NODE_MODULES / "@types" / "react"
    words = source / "types"
    (tmp_path / "triode.d.ts").write_text(
        f'import type {{ Client, TriodeConstructor }} from "{words}";\nexport type * from "{words}";\n'
        "export declare const Triode: TriodeConstructor;\nexport type Triode = Client;\n"
        f'export {{ TriodeError }} from "{source / "errors"}";\n'
    )
    files = []
    for page in SHOWN:
        files.append(tmp_path / f"{name_of(page)}.tsx")
        kinds = ("js", "ts", "tsx")  # what needs a real browser has types and is not run
        files[-1].write_text("\n".join([*(pages.program(page, kind) for kind in kinds), "export {};\n"]))
    paths = {
        "triode": [tmp_path / "triode.d.ts"],
        "triode/*": [source / "*"],
        "react": [react],
        "react/*": [react / "*"],
    }
    options = {"types": [], "noUnusedLocals": False, "paths": paths}
    config = {"extends": str(CLIENT / "tsconfig.json"), "compilerOptions": options, "include": [], "files": files}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config, default=str))
    command: list[str | Path] = [NODE_MODULES / ".bin" / "tsc", "-p", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
async def test_everything_that_the_page_shows_is_seen(page: Path, tmp_path: Path) -> None:
    """Its functions and two browsers, each on its own, until every line that prints has printed."""
    config = tmp_path / "triode.toml"
    config.write_text(CONFIG.read_text() if page in pages.READMES else "\n".join(pages.blocks(page, "toml")))
    with broker_of(config, tmp_path, presence_debounce_ms=0) as broker:  # whoever is lost is gone at once
        url = broker.socket_url
        python, expected = pages.numbered(pages.program(page, "python").replace(pages.ADDRESS, url), "print")
        seen = Seen(expected)
        namespace: dict[str, Any] = {"print": seen.note, "triode": triode}
        script, in_browser, at_the_end = browser_program(page, url, tmp_path)
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for function in await trio.to_thread.run_sync(pages.functions, python, namespace):
                    nursery.start_soon(run, function, url, not pages.is_endless(function, python))
                await browsers_print(script, in_browser, at_the_end)
                await seen.all()
                nursery.cancel_scope.cancel()
        if isinstance(namespace.get("client"), triode.sync.Client):
            await trio.to_thread.run_sync(namespace["client"].close)


class Seen:
    """Which prints have printed."""

    def __init__(self, expected: set[int]) -> None:
        self._missing = set(expected)
        self._changed = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def note(self, number: int, *_: object) -> None:
        """From any thread."""
        self._token.run_sync_soon(self._noted, number)

    def _noted(self, number: int) -> None:
        self._missing.discard(number)
        if not self._missing:
            self._changed.set()

    async def all(self) -> None:
        if self._missing:
            await self._changed.wait()


async def run(function: Callable[..., Any], url: str, again: bool) -> None:
    """Call it with what it asks for; one that ends by itself again and again, because others may come later."""
    async with triode.connect(url) as client:
        given = {"client": client, "url": url}
        arguments = {name: given[name] for name in inspect.signature(function).parameters if name in given}
        while True:
            if inspect.iscoroutinefunction(function):
                await function(**arguments)
            else:
                await trio.to_thread.run_sync(partial(function, **arguments), abandon_on_cancel=True)
            if not again:
                return


async def browsers_print(script: Path, expected: set[int], at_the_end: set[int]) -> None:
    """One browser sees what another does, who leaves and comes again, until all has been seen."""
    async with running("node", str(script)) as one, trio.open_nursery() as nursery:
        nursery.start_soon(come_and_go, script, expected - at_the_end)
        await prints(one, expected)
        nursery.cancel_scope.cancel()


async def come_and_go(script: Path, expected: set[int]) -> None:
    while True:
        async with running("node", str(script)) as other:
            await prints(other, expected)


async def prints(browser: Program, expected: set[int]) -> None:
    """Until it has printed all of that."""
    missing = set(expected)
    while missing:
        line = await browser.line()
        assert line[0].isdigit(), f"{line}\n{await browser.rest()}"
        missing.discard(int(line.split()[0]))


def browser_program(page: Path, url: str, folder: Path) -> tuple[Path, set[int], set[int]]:
    """A page's JavaScript as one script for Node.js, the numbers of its lines, and of the late ones."""
    source, numbers = pages.numbered(pages.program(page, "js").replace(pages.ADDRESS, url), "console.log")
    (folder / "page.mjs").write_text(source)
    script = folder / "script.mjs"
    banner = 'import { createRequire } from "module"; const require = createRequire(import.meta.url);'
    esbuild(
        "--bundle",
        "--platform=node",
        "--format=esm",
        "--log-level=warning",
        '--define:VERSION="0"',
        f"--banner:js={banner}{pages.IN_A_BROWSER}",
        f"--alias:triode={CLIENT / 'src' / 'node.ts'}",
        f"--alias:triode/offline={CLIENT / 'src' / 'offline.ts'}",
        f"--inject:{NODE_MODULES / 'fake-indexeddb' / 'auto' / 'index.mjs'}",
        f"--outfile={script}",
        folder / "page.mjs",
    )
    return script, numbers, pages.late(source, "console.log")


def esbuild(*arguments: object) -> None:
    subprocess.run([NODE_MODULES / ".bin" / "esbuild", *map(str, arguments)], check=True, cwd=CLIENT)

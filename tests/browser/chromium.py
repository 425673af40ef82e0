"""Finding and starting a headless Chromium.

Knows Playwright and nothing of Triode. The browser is the machine's own, because Playwright's download is no
package of any registry that a checkout is promised. A machine without one skips the tests that need it; with
TRIODE_REQUIRE_BROWSER=1, as in CI, they fail instead.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS: Final = (
    "--no-sandbox",  # CI runs as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS: Final = 30_000  # a bound, not a measure: the page's longest pause between attempts is 20 s


def find_chromium() -> str | None:
    """Its path, or None."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser until the end of the block; skips or fails the test where there is none."""
    path = find_chromium()
    if path is None:
        missing = f"no Chromium: install one ({', '.join(NAMES)}) or set CHROMIUM to its path"
        if os.environ.get("TRIODE_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def _children() -> dict[int, list[int]]:
    """Of every process of this machine."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    return children


@contextmanager
def browser_asleep() -> Iterator[None]:
    """All processes of our browsers stand still until the end of the block, as on a laptop whose lid is closed."""
    children = _children()
    found = [os.getpid()]
    for process in found:
        found += children.get(process, [])
    names = {process: Path(f"/proc/{process}/comm").read_text() for process in found}
    asleep = [process for process, name in names.items() if name.startswith("chrom")]
    assert asleep
    for process in asleep:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in asleep:
            os.kill(process, signal.SIGCONT)

"""Takes docs/demo.png: `make screenshot`. A real broker, real figures, a real access log followed by `triode pub`.

The log is that of a small web server, asked for a few pages while the picture is set up. The line is cut and
mended once, so that the picture shows a reconnect that lost nothing.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import urlopen

from playwright.sync_api import Page, ViewportSize, expect

from tests.browser.cable import Cable
from tests.browser.chromium import open_browser
from tests.browser.processes import Broker, follow

ROOT: Final = Path(__file__).resolve().parents[2]
TOPIC: Final = "logs/web"
PICTURE: Final = ROOT / "docs" / "demo.png"
WIDTH, HEIGHT = 1120, 640
SECONDS_OF_FIGURES: Final = 4


@contextmanager
def web_server(log: Path) -> Iterator[str]:
    """Python's own, on a free port, over this project's files; its access log goes to `log`."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(ROOT)]
    with log.open("w") as stderr:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert server.stdout
    try:
        yield server.stdout.readline().partition("(")[2].partition(")")[0]  # Serving HTTP on … (http://…/) ...
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def ask(site: str, *paths: str) -> None:
    """Ask for pages, for the sake of the lines in the log."""
    for path in paths:
        try:
            with urlopen(site + path) as answer:
                answer.read()
        except HTTPError as error:
            error.close()


def shown(page: Page, text: str, count: int = 1) -> None:
    """Wait until so many rows have this text."""
    expect(page.locator("#messages tr", has_text=text).nth(count - 1)).to_be_visible()


def stage(page: Page, cable: Cable, site: str) -> None:
    """Bring about what the picture shows."""
    page.goto(f"http://127.0.0.1:{cable.port}/")
    shown(page, "demo/host/cpu")
    ask(site, "SPEC.md", "docs/")
    shown(page, "/docs/")
    cable.cut()
    expect(page.locator("#state")).to_contain_text("waiting")
    ask(site, "docs/missing.html")
    cable.mend()
    shown(page, "missing.html")
    shown(page, "demo/host/cpu", SECONDS_OF_FIGURES)
    ask(site, "LICENSE", "README.md")
    shown(page, "/README.md")
    expect(page.locator("#state")).to_have_text("live")


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        broker = Broker(Path(folder) / "broker.log")
        broker.start()
        access_log = Path(folder) / "access.log"
        try:
            with (
                web_server(access_log) as site,
                follow(access_log, broker, "logs/web"),
                Cable(broker.port) as cable,
            ):
                size = ViewportSize(width=WIDTH, height=HEIGHT)
                context = browser.new_context(viewport=size, device_scale_factor=1.5, locale="en-GB")
                page = context.new_page()
                stage(page, cable, site)
                page.screenshot(path=PICTURE)
        finally:
            broker.end()


if __name__ == "__main__":
    main()

"""The console's files as they are served, and the page of the documentation about it."""

import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import triode_broker.http.console_pages as pages
from triode_broker.cli.arguments import make_parser
from triode_broker.config import Config

from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "console.md"
MAX_BYTES = 104_000  # of all files that are the console's own
FILES = Path(pages.__file__).with_name("console")


def test_console_is_its_files_and_the_client() -> None:
    routes = pages.console_routes()
    names = {f"/console/{file.name}" for file in FILES.iterdir()} - {"/console/index.html"}
    assert routes.keys() == names | {"/console", "/console/", "/triode.js"}
    for path, route in routes.items():
        status, content_type, body = route(path)
        assert status == 200
        assert body
        assert content_type == {
            "js": "text/javascript; charset=utf-8",
            "css": "text/css; charset=utf-8",
            "svg": "image/svg+xml",
        }.get(path.rpartition(".")[2], "text/html; charset=utf-8")


def test_console_stays_small() -> None:
    assert sum(file.stat().st_size for file in FILES.iterdir()) <= MAX_BYTES


def test_console_takes_nothing_from_elsewhere_and_makes_no_markup() -> None:
    """S27: neither an address of another site, nor a way for text to become elements or code."""
    text = "".join(file.read_text() for file in FILES.iterdir() if file.suffix != ".svg")
    assert set(re.findall(r"\w+://[\w./-]+", text)) == {"http://www.w3.org/2000/svg"}
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "srcdoc",
        "style=",
    ):
        assert way not in text, way


def test_settings_and_commands_of_the_page_are_some() -> None:
    text = PAGE.read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert [msgspec.convert(tomllib.loads(block), Config).admin.listen for block in blocks] == ["127.0.0.1:7402"]
    commands = re.findall(r"^triode (.+)$", text, re.MULTILINE)
    assert [make_parser().parse_args(shlex.split(command)).command for command in commands] == ["token"]


def test_the_page_names_views_as_the_menu_does() -> None:
    menu = re.findall(r'^  \["(\w+)", "(\w+)", "M', (FILES / "main.js").read_text(), re.MULTILINE)
    assert re.findall(r"^\| \*(\w+)\* `#/(\w+)` \|", PAGE.read_text(), re.MULTILINE) == [(b, a) for a, b in menu]
    assert menu


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE.read_text())
    assert links
    assert not [link for link in links if not (PAGE.parent / link).exists()]

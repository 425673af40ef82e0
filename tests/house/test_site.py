"""The documentation site is built without a warning, needs nothing from elsewhere, and its reference is current.

Links of all pages of the repository, in the site or not, lead to a file that is there and to a heading in it.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from triode_broker.cli.arguments import make_parser
from triode_broker.cli.main import main

from tests.house.site_reference import FOLDER, PAGES, commands, page
from tests.house.tree import ROOT, files, name, source

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
#: Spelled so, and in no other way.
TERMS = (
    "WebSocket",
    "webhook",
    "back-pressure",
    "acknowledgement",
    "JavaScript",
    "TypeScript",
    "Node.js",
    "GitHub",
)
OTHER_SPELLINGS = re.compile(
    r"\b(Websocket|[Ww]eb[ -]socket|[Ww]eb[ -]hook|WebHook|[Bb]ack ?pressure|acknowledgment|Java Script|Javascript"
    r"|Typescript|NodeJS|Node JS|Github)s?\b"
)
DOCUMENTS = [path for path in files(".md") if ".cache" not in path.parts]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(CONFIG), "-d", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stderr
    return folder


class Sources(HTMLParser):
    """What a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.loaded.append(values.get("src") or "")
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(values.get("href") or "")


def test_site_needs_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(DOCUMENTS) / 2
    outside = set()
    for path in pages:
        sources = Sources()
        sources.feed(path.read_text(encoding="utf-8"))
        outside |= {(path.name, one) for one in sources.loaded if re.match(r"(https?:)?//", one)}
    assert outside == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles) == []


def test_site_has_every_page_and_its_search_finds_them(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs").glob("*.md")):
        place = path.with_suffix(".html").name
        assert (site / place).is_file(), place
        assert f'"location":"{place}' in index, place


@pytest.mark.parametrize("made", PAGES)
def test_reference_is_current(made: str) -> None:
    assert (FOLDER / made).read_text(encoding="utf-8") == page(made), "make generate"


def test_links_of_every_document_lead_somewhere() -> None:
    dead = [f"{name(path)}: {link}" for path in DOCUMENTS for link in links(path) if not leads(path, link)]
    assert dead == []


def test_dead_links_are_found() -> None:
    """The check bites: a file, a folder, a heading, and none of these."""
    home = ROOT / "README.md"
    assert leads(home, "docs/limits.md#rates")
    assert leads(home, "docs/examples")
    assert not leads(home, "docs/limits.md#no-such-heading")
    assert not leads(home, "docs/no-such-page.md")


def test_terms_are_spelled_one_way() -> None:
    found = [f"{name(path)}: {word}" for path in DOCUMENTS for word in OTHER_SPELLINGS.findall(prose(path))]
    assert found == [], TERMS


def prose(path: Path) -> str:
    """A document without its code and the targets of its links."""
    text = re.sub(r"^ *(`{3,}).*?^ *\1`*$", "", source(path), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(`+)[^\n]*?[^`]\1(?!`)", "", text)
    return re.sub(r"\]\([^)]*\)|https?://\S+", "]", text)


def links(path: Path) -> Iterator[str]:
    """Relative ones, outside of code."""
    prose = re.sub(r"^ *(`{3,}).*?^ *\1`*$", "", source(path), flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"(`+)[^\n]*?[^`]\1(?!`)", "", prose)
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose):
        if not re.match(r"[a-z]+:", found := link[0] or link[1]):
            yield found


def leads(path: Path, link: str) -> bool:
    """Whether there is such a file and such a heading."""
    file, _, anchor = link.partition("#")
    target = (path.parent / file).resolve() if file else path
    if not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in headings(target)


@cache
def headings(path: Path) -> frozenset[str]:
    """The names of its headings, as code hosts and the site make them."""
    prose = re.sub(r"^ *(`{3,}).*?^ *\1`*$", "", source(path), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#{1,6} +(.*?) *#*$", prose, re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "") for title in titles]
    slugs = [re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in plain]
    return frozenset(slugs) | frozenset(re.findall(r"<a id=\"([^\"]+)\"", prose))


@pytest.mark.parametrize("named", ["backup", "capacity", "choosing", "index", "troubleshooting", "upgrading"])
def test_commands_and_settings_of_the_page_are_some(named: str, tmp_path: Path) -> None:
    """Those in its blocks and within its lines; other pages have tests of their own."""
    text = source(ROOT / "docs" / f"{named}.md")
    parser = make_parser()
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            read = shlex.shlex(line.removeprefix("until "), posix=True, punctuation_chars=True)
            read.whitespace_split = True
            words = list(read)
            end = next((at for at, word in enumerate(words) if set(word) <= set(";&|<>()")), len(words))
            if words and words[0] == "triode":
                parser.parse_args(words[1:end])
    for command in re.findall(r"`triode ([a-z][a-z-]*)", text):
        assert command in commands()
    for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)):
        file = tmp_path / f"{number}.toml"
        file.write_text(f'data = "data"\n{block}', encoding="utf-8")
        assert main(["serve", "--config", str(file), "--check"]) == 0

"""What the site needs that the pages in the repository do not: a way out of docs/ for their relative links.

Every page is written to be read in the repository, where `../SPEC.md` and `../deploy/nginx/nginx.conf` are there.
Here such a file becomes part of the site: documents as pages, other text as a page that shows it, the rest as it
is. Knows paths, not what pages say. The surprising decision: nothing is listed, all that some page links to is
taken. So a link that works in the repository works in the site, and one that does not fails the strict build.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[2]
#: Longer text is not coloured, but given as it is.
MAX_SHOWN_BYTES: Final = 40_000
LANGUAGES: Final = {
    ".py": "python", ".js": "js", ".ts": "ts", ".toml": "toml", ".json": "json", ".yaml": "yaml", ".yml": "yaml",
    ".conf": "nginx", ".cfg": "text", ".html": "html", ".service": "ini", ".target": "ini", ".env": "sh",
    "": "text",
}  # fmt: skip
_LINK: Final = re.compile(r"(\]\(|<(?:img|a)\b[^>]*?\b(?:src|href)=\")([^)\s\"#]*)(#[^)\s\"]*)?(?=[)\"\s])")
_FENCE: Final = re.compile(r"^( *)(`{3,})(?:(\w+) +([^\s{]+) *$)?")
_NOT_SHOWN: Final = frozenset({"__pycache__", "node_modules", "dist"})
_HIDDEN: Final = "---\nsearch:\n  exclude: true\n---\n\n"
#: Where `make docs` has put the references of the clients, and what the page on them has in their place.
REFERENCES: Final = {"python": "triode.html", "js": "index.html"}
#: Where the README of the repository is.
OVERVIEW: Final = "readme.md"
_REFERENCES_MARK: Final = "<!-- site: references -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The menu has every decision, by its title."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for section in config.nav or ():
        for entries in section.values() if isinstance(section, dict) else ():
            if "decisions" in entries:
                place = entries.index("decisions")
                entries[place] = {"Design decisions": [f"decisions/{one.name}" for one in decisions]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Everything outside of docs/ that the menu names or pages link to, and what those link to."""
    waiting = [ROOT / "docs" / one.src_uri for one in files.documentation_pages()]
    seen: set[Path] = set()
    named = [ROOT / path for path in _in_the_menu(config.nav) if not files.get_file_from_path(path)]
    while waiting or named:
        targets = [one for one in named if one.is_file()] if named else list(_targets(waiting.pop()))
        named = []
        for target in targets:
            page = target / "README.md" if target.is_dir() else target
            if target in seen or files.get_file_from_path(_uri_of(target)):
                continue
            seen.add(target)
            files.append(_file_of(target, config))
            if page.suffix == ".md" and page.is_file():
                waiting.append(page)
    return files


def _in_the_menu(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry or ():
            yield from _in_the_menu(inner)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Its links as they are in the site."""
    source = _source_of(page.file)
    here = posixpath.dirname(page.file.src_uri)

    def turned(match: re.Match[str]) -> str:
        target = _resolved(source, match[2])
        if target is None or not target.exists():
            return match[0]  # a dead one is mkdocs' to tell
        start = match[1]
        return f"{start}{posixpath.relpath(_uri_of(target), here or '.')}{match[3] or ''}"

    lines = [_LINK.sub(turned, line) if is_prose else line for is_prose, line in _lines(markdown)]
    return "\n".join(lines).replace(_REFERENCES_MARK, _references(page))


def _references(page: Page) -> str:
    up = posixpath.relpath(".", posixpath.dirname(page.file.dest_uri) or ".")
    links = {"python": "Python", "js": "JavaScript and TypeScript"}
    found = [name for name in REFERENCES if (ROOT / ".cache" / "docs" / name).is_dir()]
    return "\n".join(f'- <a href="{up}/api/{name}/{REFERENCES[name]}">{links[name]}</a>' for name in found)


def _lines(markdown: str) -> Iterator[tuple[bool, str]]:
    """Each line and whether it is prose; blocks of code as this Markdown wants them."""
    fence, shift = "", ""
    for line in markdown.split("\n"):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence, shift = mark[2], " " * (4 - len(mark[1])) if len(mark[1]) in (2, 3) else ""
            # What follows a language is a file's name, or a word to the tests: `js theirs`.
            named = f' title="{mark[4]}"' if mark[4] and "." in mark[4] else ""
            yield False, shift + (f"{mark[1]}{fence}{mark[3]}{named}" if mark[4] else line)
        elif fence:
            yield False, shift + line if line else line
            if mark and mark[2] == fence and not line.strip("` "):
                fence = ""
        else:
            yield True, line


def _targets(page: Path) -> Iterator[Path]:
    if not page.is_file():
        return
    for is_prose, line in _lines(page.read_text(encoding="utf-8")):
        for match in _LINK.finditer(line) if is_prose else ():
            target = _resolved(page, match[2])
            if target is not None and target.exists():
                yield target


def _resolved(page: Path, link: str) -> Path | None:
    """The file or folder of the repository; None for what is elsewhere, or within the page."""
    if not link or ":" in link or link.startswith("/"):
        return None
    target = Path(os.path.normpath(page.parent / link))
    return target if target.is_relative_to(ROOT) else None


def _uri_of(target: Path) -> str:
    """Its place among the site's sources."""
    if target == ROOT / "README.md":
        return OVERVIEW  # docs/index.md is the first page here
    if target.is_dir():
        target = target / "README.md"
    if target.is_relative_to(ROOT / "docs"):
        inside = target.relative_to(ROOT / "docs").as_posix()
        return inside if target.suffix in (".md", ".png", ".svg") else _shown(f"files/docs/{inside}", target)
    path = target.relative_to(ROOT).as_posix()
    return path if target.suffix == ".md" and target.exists() else _shown(f"files/{path}", target)


def _shown(path: str, target: Path) -> str:
    """A page for what can be shown; anything else as it is."""
    return path if _is_raw(target) else path if path.endswith(".md") else f"{path}.md"


def _is_raw(target: Path) -> bool:
    return target.is_file() and (_language(target) is None or target.stat().st_size > MAX_SHOWN_BYTES)


def _language(target: Path) -> str | None:
    if target.name.startswith("Dockerfile"):
        return "docker"
    return LANGUAGES.get(target.suffix)


def _file_of(target: Path, config: MkDocsConfig) -> File:
    uri = _uri_of(target)
    if target.is_dir() and not (target / "README.md").is_file():
        return _hidden(config, uri, _listing(target))
    if target.is_dir() or target.suffix == ".md" or _is_raw(target):
        source = target / "README.md" if target.is_dir() else target
        return File.generated(config, uri, abs_src_path=str(source))
    text = target.read_text(encoding="utf-8")
    fence = "`" * (max([2, *map(len, re.findall(r"`{3,}", text))]) + 1)
    shown = f"# {target.relative_to(ROOT).as_posix()}\n\n{fence}{_language(target)}\n{text.rstrip()}\n{fence}\n"
    return _hidden(config, uri, shown)


def _hidden(config: MkDocsConfig, uri: str, text: str) -> File:
    """A page that is neither in the menu nor found by the search."""
    return File.generated(config, uri, content=_HIDDEN + text, inclusion=InclusionLevel.NOT_IN_NAV)


def _listing(folder: Path) -> str:
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not _NOT_SHOWN & {*path.parts}
    )
    return f"# {folder.relative_to(ROOT).as_posix()}\n\nIn this folder:\n\n" + "\n".join(f"- `{n}`" for n in names)


def _source_of(file: File) -> Path:
    """The file in the repository that a page comes from; for one that is made here a name beside the root."""
    if file.abs_src_path:
        return Path(file.abs_src_path)
    return ROOT / "generated.md"

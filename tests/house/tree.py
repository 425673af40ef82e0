"""The project's own files, found on disk, so that what is not committed yet is judged too.

Knows where code and prose live, not what they must look like.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "triode_protocol": ROOT / "protocol" / "triode_protocol",
    "triode_broker": ROOT / "broker" / "triode_broker",
    "triode": ROOT / "clients" / "python" / "triode",
}
_FOLDERS = (".ci", "bench", "broker", "clients", "deploy", "docs", "protocol", "tests")
_NOT_OURS = {"node_modules", "__pycache__", "results", "dist"}


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """Every file of the project with one of these suffixes, in order."""
    found = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".coverage")]
    for folder in _FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return tuple(sorted(p for p in found if p.suffix in suffixes and not _NOT_OURS & {*p.relative_to(ROOT).parts}))


@cache
def source(path: Path) -> str:
    """The text of a file."""
    return path.read_text("utf-8")


@cache
def syntax(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(source(path), str(path))


def name(path: Path) -> str:
    """A file as messages name it."""
    return path.relative_to(ROOT).as_posix()


def is_test(path: Path) -> bool:
    """Whether the file is part of the tests."""
    return path.is_relative_to(ROOT / "tests")


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module that is shipped."""
    for package, folder in PACKAGES.items():
        for path in files(".py"):
            if path.is_relative_to(folder):
                parts = path.relative_to(folder).with_suffix("").parts
                yield ".".join((package, *(part for part in parts if part != "__init__"))), path

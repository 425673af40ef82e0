"""The project's own files, found on disk, so that what is not committed yet is judged too.

Knows where code and prose live, not what they must look like.
"""

import ast
import os
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
    return tuple(path for path in _everything() if path.suffix in suffixes)


@cache
def _everything() -> tuple[Path, ...]:
    """What is not ours is not entered: npm's folders hold more files than all of the project."""
    found = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".coverage")]
    for part in _FOLDERS:
        for folder, folders, names in os.walk(ROOT / part):
            folders[:] = [each for each in folders if each not in _NOT_OURS]
            found += [Path(folder, each) for each in names if each not in _NOT_OURS]
    return tuple(sorted(found))


@cache
def source(path: Path) -> str:
    """The text of a file."""
    return path.read_text("utf-8")


def syntax(path: Path) -> ast.Module:
    """The syntax tree of a Python file. Not kept: the trees of all files are more than a million objects."""
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

"""The code of docs/migrating and of the clients' READMEs: each page's blocks as one program that says which lines
printed.

A block of ours is fenced as ```python or ```js, one of another system's as ```python theirs or ```js theirs, a
whole program as ```python NAME. Knows no broker and runs nothing. The surprising decision: every `print` and
`console.log` gets a number, so that a test can wait until each line that is there to show something has shown
something.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from tests.house.tree import ROOT

FOLDER: Final = ROOT / "docs" / "migrating"
PAGES: Final = sorted(FOLDER.glob("from-*.md"))
READMES: Final = [ROOT / "clients" / "js" / "README.md", ROOT / "clients" / "python" / "README.md"]
ADDRESS: Final = "ws://127.0.0.1:7400"
PRELUDE: Final = "import triode\n\n"
#: What the pages' programs have in a browser and not in Node.js.
IN_A_BROWSER: Final = """
const kept = new Map();
const setItem = (key, text) => kept.set(key, text);
globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem };
"""


def blocks(page: Path, kind: str) -> list[str]:
    """The code blocks that are fenced so, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def program(page: Path, language: str) -> str:
    """All blocks of ours, one after the other."""
    return "\n".join(blocks(page, language))


def numbered(source: str, call: str) -> tuple[str, set[int]]:
    """Every `call(` begins with a number of its own; the numbers, but of lines about gaps, which do not come."""
    numbers: set[int] = set()
    lines = source.splitlines()
    for place, line in enumerate(lines):
        if f"{call}(" in line:
            lines[place] = line.replace(f"{call}(", f"{call}({place}, ", 1)
            if '"gap"' not in line:
                numbers.add(place)
    return "\n".join(lines), numbers


def late(source: str, call: str) -> set[int]:
    """The numbers of what a browser need not see before it ends: another's leaving, what only one of them gets."""
    return {
        place
        for place, line in enumerate(source.splitlines())
        if f"{call}({place}, " in line and ('"left"' in line or "at one of" in line)
    }


def functions(source: str, namespace: dict[str, Any]) -> list[Callable[..., Any]]:
    """The functions of a page that can be called with a client or a URL, or with nothing."""
    exec(compile(source, "page", "exec"), namespace)
    names = [
        node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found = [namespace[name] for name in names]
    return [each for each in found if isinstance(each, FunctionType) and _required(each) <= {"client", "url"}]


def is_endless(function: Callable[..., Any], source: str) -> bool:
    """Whether it has a loop over what comes."""
    (node,) = [node for node in ast.parse(source).body if getattr(node, "name", "") == function.__name__]
    return any(isinstance(inner, ast.For | ast.AsyncFor) for inner in ast.walk(node))


def _required(function: FunctionType) -> set[str]:
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    return set(names[: len(names) - len(function.__defaults__ or ())])

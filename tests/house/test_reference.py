"""The reference of the Python client can be made, and nothing public is in it without a word.

That of the JavaScript client is checked with its package (tests/js/test_package.py): typedoc does both by itself.
"""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import triode
import triode.asyncio
import triode.records
import triode.sync

from tests.house.tree import ROOT, syntax

FACES = (triode, triode.asyncio, triode.sync)


def test_reference_is_made_without_a_warning(tmp_path: Path) -> None:
    """By the command of `make docs`, without the sources, which everybody has who reads it."""
    (options,) = re.findall(r"-m pdoc (--no-show-source) --output-directory", (ROOT / "Makefile").read_text())
    names = [face.__name__ for face in FACES]
    command = [sys.executable, "-W", "error", "-m", "pdoc", options, "--output-directory", str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for name in names:
        assert 'id="connect"' in (tmp_path / f"{name.replace('.', '/')}.html").read_text(encoding="utf-8")
    assert "url=./triode.html" in (tmp_path / "index.html").read_text(encoding="utf-8")
    entrance = (tmp_path / "triode.html").read_text(encoding="utf-8")
    assert [name for name in names[1:] if f'href="{name.replace(".", "/")}.html"' not in entrance] == []


@pytest.mark.parametrize("face", FACES, ids=lambda face: str(face.__name__))
def test_everything_public_says_what_it_is(face: ModuleType) -> None:
    """Classes, functions, methods and properties; of types made of others the place where they are made."""
    made = said_beside(Path(inspect.getfile(triode.records)))
    silent = []
    for name in face.__all__:
        thing = getattr(face, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            silent += [] if name in made else [name]
        elif not thing.__doc__:
            silent.append(name)
        elif inspect.isclass(thing) and thing.__module__.startswith("triode"):
            silent += [f"{name}.{member}" for member in silent_members(thing)]
    assert silent == []


def silent_members(thing: type) -> Iterator[str]:
    """Public methods and properties without a docstring, their own or an inherited one."""
    for name in dir(thing):
        member = inspect.getattr_static(thing, name)
        is_ours = inspect.isfunction(member) or isinstance(member, property | staticmethod | classmethod)
        if not name.startswith("_") and is_ours and not inspect.getdoc(getattr(thing, name)):
            yield name


def said_beside(module: Path) -> set[str]:
    """The names of a module that a string follows."""
    body = syntax(module).body
    return {
        ast.unparse(made.targets[0])
        for made, said in pairwise(body)
        if isinstance(made, ast.Assign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)
    }

"""S22: what comes from outside is decoded by its type, and nothing in the shipped code could run what it was sent.

Looks at the source: what is not there cannot be reached.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.house.tree import PACKAGES, files, name, source, syntax

#: Modules that make objects, or code, of bytes as these please.
LOADERS: Final = frozenset(
    {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "joblib", "yaml", "ruamel"}
    | {"xml", "lxml", "xmlrpc", "code", "codeop", "dbm"}
)
#: What runs text, or a shell.
RUNNERS: Final = frozenset({"eval", "exec", "compile", "__import__", "system", "popen", "literal_eval"})
SHELLS: Final = frozenset({"getoutput", "getstatusoutput", "create_subprocess_shell"})


def shipped() -> list[Path]:
    """Python that is installed with Triode."""
    return [path for path in files(".py") if any(path.is_relative_to(folder) for folder in PACKAGES.values())]


def findings(tree: ast.Module) -> Iterator[str]:
    """What of these is in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in LOADERS)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in LOADERS and not node.level:
                yield str(node.module)
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in RUNNERS | SHELLS:
                yield called.id
            if isinstance(called, ast.Attribute) and called.attr in RUNNERS - {"compile"} | SHELLS:
                yield called.attr
            if any(one.arg == "shell" for one in node.keywords):
                yield "shell="


def test_s22_nothing_that_is_shipped_makes_code_or_objects_of_bytes() -> None:
    """S22: no pickle, eval, yaml.load or shell anywhere."""
    paths = shipped()
    assert len(paths) > 100
    assert {name(path): found for path in paths if (found := list(findings(syntax(path))))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import os.path, marshal",
        "from yaml import load",
        "import xml.etree.ElementTree as tree",
        "eval(text)",
        "builtins.exec(text)",
        "os.system(text)",
        "__import__(name)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_s22_the_search_finds_them(text: str) -> None:
    """S22"""
    assert list(findings(ast.parse(text)))


def test_s22_scripts_make_no_code_of_text() -> None:
    """S22: nor do they put text into a page as HTML."""
    folders = ("clients/js/src", "broker")
    scripts = [path for path in files(".ts", ".tsx", ".html") if name(path).startswith(folders)]
    assert len(scripts) > 20
    words = ("eval(", "new Function", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write(")
    found = {name(path): word for path in scripts for word in words if word in source(path)}
    assert found == {}

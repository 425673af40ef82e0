"""The habits that a machine can check: sizes, words, sleeps, loose ends, reasons.

Each rule returns its findings as `file:line what`, so that a failure reads like a compiler's list.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from triode_broker.config import Config, Limits, TopicRule

from tests.house.tree import ROOT, files, is_test, modules, name, source, syntax

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
MAX_TEST_FILE_LINES = 800
BANNED_WORDS = frozenset({"channel", "hub", "manager", "util", "utils", "helper", "helpers", "base"})
# In two pieces each: this file is part of the tree that it searches.
_PIECES = (
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X"),
    ("for ", "now"),
    ("not ", "implemented"),
    ("NotImpl", "ementedError"),
)
LOOSE_ENDS = re.compile(rf"({'|'.join(a + b for a, b in _PIECES)})\b")  # whole words: `for now_ms in` is none
LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

python = files(".py")
shipped = {path: module for module, path in modules()}
#: Of a file, by their class.
Nodes = defaultdict[type[ast.AST], list[Any]]
Rule = Callable[[Path, Nodes], Iterator[str]]
NUMBERS = {
    field.name
    for record in (Config, Limits, TopicRule)
    for field in msgspec.structs.fields(record)
    if field.name.endswith(("_bytes", "_ms", "_seconds")) or field.name.startswith("max_")
}


def long_functions(path: Path, nodes: Nodes) -> Iterator[str]:
    for kind in FUNCTIONS:
        for node in nodes[kind]:
            if length(node) > MAX_FUNCTION_LINES:
                yield f"{name(path)}:{node.lineno} {node.name} has {length(node)} lines"


def modules_without_a_word(path: Path, nodes: Nodes) -> Iterator[str]:
    (module,) = nodes[ast.Module]
    if source(path).strip() and ast.get_docstring(module) is None:
        yield f"{name(path)}: no docstring"


def names_that_say_nothing(path: Path, nodes: Nodes) -> Iterator[str]:
    if words(path.stem) & BANNED_WORDS or words(path.parent.name) & BANNED_WORDS:
        yield f"{name(path)}: the module's name"
    for node in chain.from_iterable(nodes[kind] for kind in (*FUNCTIONS, ast.ClassDef)):
        if words(node.name) & BANNED_WORDS:
            yield f"{name(path)}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef) and "handler" in words(node.name):
            yield f"{name(path)}:{node.lineno} {node.name}: handler is no name for a class"


def sleeps(path: Path, nodes: Nodes) -> Iterator[str]:
    if is_test(path):
        for node in nodes[ast.Call]:
            if called(node) in {"sleep", "sleep_until"}:
                yield f"{name(path)}:{node.lineno}"


def mocks(path: Path, nodes: Nodes) -> Iterator[str]:
    if is_test(path):
        for node in (
            *(node for node in nodes[ast.ImportFrom] if node.module in {"unittest", "unittest.mock", "mock"}),
            *(node for node in nodes[ast.Import] if any("mock" in alias.name for alias in node.names)),
            *(node for node in nodes[ast.arg] if node.arg == "mocker"),
        ):
            yield f"{name(path)}:{node.lineno}"


def swallowed_exceptions(path: Path, nodes: Nodes) -> Iterator[str]:
    if path in shipped:
        for node in nodes[ast.ExceptHandler]:
            if (node.type is None or called(node.type) in {"Exception", "BaseException"}) and all(
                isinstance(inner, ast.Pass) for inner in node.body
            ):
                yield f"{name(path)}:{node.lineno}"


def log_events_that_vary(path: Path, nodes: Nodes) -> Iterator[str]:
    if path in shipped:
        for node in nodes[ast.Call]:
            if is_log_call(node.func) and not (
                len(node.args) == 1
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                yield f"{name(path)}:{node.lineno}"


def limits_outside_of_config(path: Path, nodes: Nodes) -> Iterator[str]:
    module = shipped.get(path, "")
    if module.startswith("triode_broker.") and not module.startswith("triode_broker.config"):
        for line, target, value in bindings(nodes):
            if target.lower().lstrip("_") in NUMBERS and isinstance(value, ast.Constant):
                yield f"{name(path)}:{line} {target}"


RULES = (
    long_functions,
    modules_without_a_word,
    names_that_say_nothing,
    sleeps,
    mocks,
    swallowed_exceptions,
    log_events_that_vary,
    limits_outside_of_config,
)


@cache
def findings() -> dict[Rule, list[str]]:
    """What each rule finds: each file is parsed once and shown to all. Its tree is not kept, because a million
    nodes would be walked by the garbage collector in whatever is tested later.
    """
    found: dict[Rule, list[str]] = {rule: [] for rule in RULES}
    for path in python:
        nodes = by_kind(syntax(path))
        for rule in RULES:
            found[rule] += rule(path, nodes)
    return found


def by_kind(tree: ast.Module) -> Nodes:
    """All nodes of a tree."""
    nodes: Nodes = defaultdict(list)
    for node in ast.walk(tree):
        nodes[type(node)].append(node)
    return nodes


def test_functions_have_at_most_60_lines() -> None:
    report(findings()[long_functions])


def test_files_have_at_most_500_lines_and_tests_800() -> None:
    report(
        f"{name(path)} has {count} lines"
        for path in files(".py", ".js", ".ts", ".html")
        if (count := source(path).count("\n")) > (MAX_TEST_FILE_LINES if is_test(path) else MAX_FILE_LINES)
    )


def test_modules_open_with_what_they_are_for() -> None:
    report(findings()[modules_without_a_word])


def test_names_are_none_of_the_words_that_say_nothing() -> None:
    report(findings()[names_that_say_nothing])


def test_tests_do_not_sleep() -> None:
    report(findings()[sleeps])


def test_tests_do_not_mock() -> None:
    report(findings()[mocks])


def test_tree_has_no_loose_ends() -> None:
    report(
        f"{name(path)}:{number} {line.strip()[:80]}"
        for path in files(".py", ".ts", ".js", ".md", ".html")
        if path.name != "CHANGELOG.md"
        for number, line in enumerate(source(path).splitlines(), 1)
        if LOOSE_ENDS.search(line)
    )


def test_ignores_have_a_code_and_a_reason() -> None:
    directive = re.compile(r"#\s*(type: ignore(\[[\w-]+(, ?[\w-]+)*\])?|noqa(: ?[A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)*)?)")

    def found() -> Iterator[str]:
        for path in python:
            lines = source(path).splitlines()
            for number, line in enumerate(lines, 1):
                marks = list(directive.finditer(line))
                reasoned = "#" in directive.sub("", line) or lines[number - 2].lstrip().startswith("#")
                if any(not (mark[2] or mark[4]) for mark in marks):
                    yield f"{name(path)}:{number} ignores everything: name the code"
                elif marks and not reasoned and not directive.search(lines[number - 2]):
                    yield f"{name(path)}:{number} gives no reason"

    report(found())


def test_exceptions_are_not_swallowed() -> None:
    report(findings()[swallowed_exceptions])


def test_log_events_are_constant_and_their_values_named() -> None:
    """S27: what came from outside can only be a value."""
    report(findings()[log_events_that_vary])


def test_limits_have_their_defaults_in_config_only() -> None:
    report(findings()[limits_outside_of_config])


def test_lock_files_name_no_registry() -> None:
    address = re.compile(r'index-url|find-links|"resolved": *"https?://|file://|https?://')
    locks = [
        path for path in files(".lock", ".json") if path.suffix == ".lock" or path.name == "package-lock.json"
    ]
    # An npm lock says where a package's funding page is; where it was downloaded from it must not say.
    report(
        f"{name(path)}:{number} {line.strip()}"
        for path in locks
        for number, line in enumerate(source(path).splitlines(), 1)
        if address.search(line) and '"url":' not in line
    )


def test_text_names_no_place_of_this_machine() -> None:
    here = f"{ROOT}/"
    report(
        name(path)
        for path in files(".py", ".js", ".ts", ".md", ".toml", ".html", ".lock", ".json", ".yaml", ".yml", "")
        if here in source(path)
    )


def report(found: Iterable[str]) -> None:
    """Fail with one line per finding."""
    lines = list(found)
    assert not lines, "\n" + "\n".join(lines)


def length(node: Any) -> int:
    """Lines from `def` to the end."""
    return int(node.end_lineno - node.lineno + 1)


def words(identifier: str) -> set[str]:
    """The words that a name is made of: MaxTopic_Bytes → max, topic, bytes."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", identifier)}


def called(node: ast.AST) -> str:
    """The last name of what is called or named."""
    function = node.func if isinstance(node, ast.Call) else node
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def is_log_call(function: ast.expr) -> bool:
    """Whether this is `log.info`, `self._log.error` and so on."""
    if not isinstance(function, ast.Attribute) or function.attr not in LOG_METHODS:
        return False
    return called(function.value).lstrip("_") in {"log", "logger"}


def bindings(nodes: Nodes) -> Iterator[tuple[int, str, ast.expr | None]]:
    """Every name that is given a value when it is made: assignments and defaults of parameters."""
    for node in nodes[ast.Assign]:
        yield from ((node.lineno, called(target), node.value) for target in node.targets)
    for node in nodes[ast.AnnAssign]:
        yield node.lineno, called(node.target), node.value
    for node in nodes[ast.arguments]:
        positional = [*node.posonlyargs, *node.args]
        given = positional[len(positional) - len(node.defaults) :]
        for argument, default in [
            *zip(given, node.defaults, strict=True),
            *zip(node.kwonlyargs, node.kw_defaults, strict=True),
        ]:
            yield argument.lineno, argument.arg, default

"""The table of docs/threat-model.md: every class of attack has a row, and in it tests that exist and say so."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from attrs import frozen

from tests.house.tree import ROOT, syntax

PAGE = ROOT / "docs" / "threat-model.md"
#: The rows of the design; 32 and 34 were never given.
NUMBERS = frozenset(range(1, 36)) - {32, 34}
MOST_TESTS = 3
_CITED = re.compile(r"\bS(\d{1,2})(?:[-\u2013]S?(\d{1,2}))?\b|(?<=_)s(\d{1,2})(?=_)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@frozen
class Row:
    """One line of the table."""

    numbers: frozenset[int]
    words: tuple[str, str]
    tests: tuple[tuple[str, str], ...]  # file, function


def cited(text: str) -> frozenset[int]:
    """Numbers of rows that a text names, ranges with all that is in them."""
    found: set[int] = set()
    for first, last, in_name in _CITED.findall(text):
        found |= {int(in_name)} if in_name else set(range(int(first), int(last or first) + 1))
    return frozenset(found)


@cache
def rows() -> tuple[Row, ...]:
    """All of them, in the order of the page."""
    return tuple(_rows())


def _rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| S"):
            number, name, holds, tests = (cell.strip() for cell in line.strip("|").split(" | "))
            yield Row(cited(number), (name, holds), tuple(_TEST.findall(tests)))


@cache
def functions(file: str) -> dict[str, str]:
    """Of each test in a file: what may cite a row, which is its name, its docstring and the file's."""
    tree = syntax(ROOT / file)
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    about = ast.get_docstring(tree) or ""
    return {one.name: f"{one.name} {ast.get_docstring(one) or ''} {about}" for one in found}


def test_every_class_has_one_row() -> None:
    numbers = [number for row in rows() for number in row.numbers]
    assert sorted(numbers) == sorted(NUMBERS)
    assert all(all(row.words) for row in rows())


def test_every_row_has_tests_that_are_there() -> None:
    assert [sorted(row.numbers) for row in rows() if not 1 <= len(row.tests) <= MOST_TESTS] == []
    missing = [
        f"{file}::{name}"
        for row in rows()
        for file, name in row.tests
        if not (ROOT / file).exists() or name not in functions(file)
    ]
    assert missing == []


def test_every_test_says_which_row_it_is_for() -> None:
    silent = [
        f"{sorted(row.numbers)}: {file}::{name}"
        for row in rows()
        for file, name in row.tests
        if not row.numbers & cited(functions(file)[name])
    ]
    assert silent == []


def test_numbers_are_read_as_they_are_written() -> None:
    assert cited("S1-S3, S17, S18; S20\u201322 test_s24_s25_x S29-30") == {
        1,
        2,
        3,
        17,
        18,
        20,
        21,
        22,
        24,
        25,
        29,
        30,
    }
    assert cited("SPEC 9.8, RS256, S3cret, s4") == frozenset()

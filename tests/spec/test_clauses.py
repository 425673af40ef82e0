"""Every clause of SPEC.md is cited by a test or shown by a transcript, and every citation in the tree exists."""

import re
from pathlib import Path

import pytest

from tests.spec.transcripts import SPEC, read_transcripts

ROOT = SPEC.parent
FOLDERS = ("bench", "broker", "clients", "deploy", "docs", "protocol", "tests")
FORMS = {".py", ".js", ".ts", ".html", ".md", ".toml", ".json"}

_NUMBER = r"\d+(?:\.\d+)*"
_CITATION = re.compile(rf"SPEC ({_NUMBER}(?:(?:-|–|, | and ){_NUMBER}\b)*)")
_CLAUSE = re.compile(rf"^\*\*({_NUMBER})\*\* ", re.MULTILINE)
_SECTION = re.compile(rf"^##+ ({_NUMBER})\.? ", re.MULTILINE)


def clauses() -> list[str]:
    """The numbers of all clauses, as they stand."""
    return _CLAUSE.findall(SPEC.read_text(encoding="utf-8"))


def sections() -> list[str]:
    return _SECTION.findall(SPEC.read_text(encoding="utf-8"))


def expand(citation: str) -> list[str]:
    """`1.4-1.6, 2.1` as the four numbers it names."""
    numbers: list[str] = []
    for part in re.split(", | and ", citation):
        first, *rest = re.split("[-–]", part)
        numbers.append(first)
        if rest:
            front, _, last = rest[0].rpartition(".")
            start = int(first.rpartition(".")[2])
            numbers += [f"{front}.{number}".lstrip(".") for number in range(start + 1, int(last) + 1)]
    return numbers


def citations(folder: str) -> dict[str, list[str]]:
    """What each file of a folder cites."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix in FORMS and not {"node_modules", "__pycache__"} & set(path.parts):
            text = " ".join(path.read_text(encoding="utf-8").split())
            cited = [number for citation in _CITATION.findall(text) for number in expand(citation)]
            if cited:
                found[str(path.relative_to(ROOT))] = cited
    return found


def test_expand_reads_lists_and_ranges() -> None:
    assert expand("1.4-1.6, 2.1 and 3") == ["1.4", "1.5", "1.6", "2.1", "3"]
    assert expand("3–4") == ["3", "4"]
    assert _CITATION.findall("(SPEC 3.2, 4.2)") == ["3.2, 4.2"]


def test_clauses_are_numbered_in_order() -> None:
    """No number twice, none left out."""
    for numbers in (clauses(), sections()):
        assert numbers
        keys = [tuple(map(int, number.split("."))) for number in numbers]
        assert keys == sorted(set(keys))
    groups: dict[tuple[int, ...], list[int]] = {}
    for number in clauses():
        *chapter, place = map(int, number.split("."))
        groups.setdefault(tuple(chapter), []).append(place)
    for front, lasts in groups.items():
        assert lasts == list(range(1, len(lasts) + 1)), front


def test_every_clause_is_cited_by_a_test_or_shown_by_a_transcript() -> None:
    cited = {number for numbers in citations("tests").values() for number in numbers}
    shown = {number for transcript in read_transcripts() for number in transcript.shows}
    assert [number for number in clauses() if number not in cited | shown] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_citation_exists(folder: str) -> None:
    known = {*clauses(), *sections()}
    wrong = {path: [n for n in numbers if n not in known] for path, numbers in citations(folder).items()}
    assert {path: numbers for path, numbers in wrong.items() if numbers} == {}


def test_transcripts_show_clauses_that_exist() -> None:
    known = set(clauses())
    assert [(t.number, n) for t in read_transcripts() for n in t.shows if n not in known] == []


def test_references_inside_the_specification_exist() -> None:
    """`(3.4.9)` and `4.10` in the text."""
    text = Path(SPEC).read_text(encoding="utf-8")
    known = {*clauses(), *sections()}
    inside = re.findall(r"\((\d+\.\d+(?:\.\d+)?)\)|(?:obeys|of|breaks|then|in) (\d+\.\d+(?:\.\d+)?)\b", text)
    wrong = [number for pair in inside for number in pair if number and number not in known]
    assert wrong == []

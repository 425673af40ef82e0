"""The judgement over Autobahn's report, on indexes written by hand.

It must not start the suite: these tests run in `make test`, where no CPython 2.7 is promised.

Surprising: the closest miss is tested by name. FAILED BY CLIENT holds the word FAILED and is a
preference of the suite, so a gate that looks for the word inside the verdict is wrong.
"""

import json
from pathlib import Path

import pytest

from tests.autobahn.summary import Summary, UnreadableReport, read_report


def written(folder: Path, cases: dict[str, tuple[str, str]], agent: str = "server") -> Path:
    """Write an index of the suite's own form, with the fields that nothing here reads."""
    index = folder / "index.json"
    results = {
        case: {
            "behavior": behavior,
            "behaviorClose": close,
            "duration": 2,
            "remoteCloseCode": None,
            "reportfile": "server_case.json",
        }
        for case, (behavior, close) in cases.items()
    }
    index.write_text(json.dumps({agent: results}))
    return index


def summary_of(folder: Path, cases: dict[str, tuple[str, str]]) -> Summary:
    return read_report(written(folder, cases), "server", len(cases))


@pytest.mark.parametrize(
    ("behavior", "close", "passes"),
    [
        ("OK", "OK", True),
        ("NON-STRICT", "OK", True),
        ("INFORMATIONAL", "INFORMATIONAL", True),
        ("OK", "FAILED BY CLIENT", True),
        ("OK", "WRONG CODE", True),
        ("OK", "UNCLEAN", True),
        ("FAILED", "OK", False),
        ("OK", "FAILED", False),
        ("FAILED", "FAILED", False),
    ],
)
def test_gate_fails_on_failed_alone(tmp_path: Path, behavior: str, close: str, passes: bool) -> None:
    summary = summary_of(tmp_path, {"1.1.1": ("OK", "OK"), "7.1.5": (behavior, close)})
    assert summary.passed is passes
    assert summary.failed == ([] if passes else ["7.1.5"])


@pytest.mark.parametrize("expected", [2, 4])
def test_gate_fails_on_a_number_of_cases_not_asked_for(tmp_path: Path, expected: int) -> None:
    index = written(tmp_path, dict.fromkeys(["1.1.1", "1.1.2", "1.1.3"], ("OK", "OK")))
    summary = read_report(index, "server", expected)
    assert summary.failed == []
    assert summary.missing_cases == expected - 3
    assert not summary.passed


def test_report_of_another_server_leaves_all_cases_missing(tmp_path: Path) -> None:
    index = written(tmp_path, {"1.1.1": ("OK", "OK")}, agent="another")
    summary = read_report(index, "server", 1)
    assert summary.missing_cases == 1
    assert not summary.passed


def test_table_counts_verdicts_and_names_cases_in_the_suites_order(tmp_path: Path) -> None:
    summary = summary_of(
        tmp_path,
        {
            "10.1.1": ("FAILED", "OK"),
            "2.9": ("OK", "FAILED"),
            "2.10": ("NON-STRICT", "OK"),
            "3.3": ("NON-STRICT", "OK"),
            "7.13.1": ("INFORMATIONAL", "NEW VERDICT"),
        },
    )
    assert summary.table().splitlines() == [
        "verdict           behavior  close",
        "OK                       1      3",
        "NON-STRICT               2      0",
        "INFORMATIONAL            1      0",
        "FAILED                   1      1",
        "NEW VERDICT              0      1",
        "NON-STRICT: 2.10 3.3",
        "INFORMATIONAL: 7.13.1",
        "NEW VERDICT: 7.13.1",
        "FAILED 2.9 (behavior OK, close FAILED)",
        "FAILED 10.1.1 (behavior FAILED, close OK)",
    ]


def test_table_shows_zero_failed_when_all_is_well(tmp_path: Path) -> None:
    table = summary_of(tmp_path, {"1.1.1": ("OK", "OK")}).table()
    assert "FAILED                   0      0" in table.splitlines()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"server": {"1.1.1": {"behavior": "OK"}}}', '{"server": {"1.1.1": 3}}']
)
def test_unreadable_index_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    index = tmp_path / "index.json"
    index.write_text(text)
    with pytest.raises(UnreadableReport, match=r"index\.json"):
        read_report(index, "server", 1)


def test_absent_index_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableReport, match=r"index\.json"):
        read_report(tmp_path / "index.json", "server", 1)

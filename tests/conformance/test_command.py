"""`triode conformance`: what people and programs read, and the exit codes."""

import json
import re
from pathlib import Path

import pytest
from triode_broker.cli.main import main

from tests.conformance.playing import PLANTS_ADAPTER, TINY_ADAPTER, python

TINY = python(TINY_ADAPTER)
Captured = pytest.CaptureFixture[str]


def conformance(*arguments: str) -> int:
    """Its exit code."""
    return main(["conformance", *arguments])


def test_a_line_for_each_scenario_and_one_for_all(capsys: Captured) -> None:
    code = conformance("--scenario", "r3-*", "--scenario", "deliver-and-acknowledge", "--", *TINY)
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert sorted(line[:4].strip() for line in lines[:-1]) == ["ok", "ok", "ok", "skip"]
    assert [line.split() for line in lines if line.startswith("skip")] == [
        ["skip", "deliver-and-acknowledge", "lacks", "consume"]
    ]
    assert lines[-1].startswith("tiny: 3 passed, 0 failed, 1 skipped (lacks consume), ")


def test_a_failure_shows_the_conversation(capsys: Captured) -> None:
    plant = python(PLANTS_ADAPTER, "ResumesFromTheStart")
    assert conformance("--scenario", "back-after-a-cut", "--", *plant) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL  back-after-a-cut: ")
    assert re.search(r"^      step \d+ of \d+: expect \{", out, re.MULTILINE)
    assert "      but: `after`.m0-a is 4, not 5; came: " in out
    assert "      see SPEC 3.1.4, " in out
    assert "        broker  (the line is cut)" in out
    assert out.splitlines()[-1].startswith("tiny: 0 passed, 1 failed, ")


def test_json_for_programs(capsys: Captured) -> None:
    plant = python(PLANTS_ADAPTER, "HandsOverDoubles")
    assert conformance("--scenario", "r3-doubles", "--scenario", "leave", "--json", "--", *plant) == 1
    said = json.loads(capsys.readouterr().out)
    results = {each["scenario"]: each for each in said["results"]}
    assert said["client"] == "tiny"
    assert results["r3-doubles"]["outcome"] == "failed"
    assert results["r3-doubles"]["group"] == "positions"
    assert results["r3-doubles"]["reason"].startswith("`pos` is 5, not 6")
    assert sorted({who for who, _ in results["r3-doubles"]["conversation"]} & {"broker", "client"}) == [
        "broker",
        "client",
    ]
    assert results["leave"] == {
        "scenario": "leave",
        "group": "acknowledged",
        "outcome": "skipped",
        "seconds": 0.0,
        "lacks": ["consume"],
    }


def test_lists_need_no_adapter(capsys: Captured) -> None:
    assert conformance("--list", "--scenario", "history") == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 6
    assert listed[0].startswith("history/newest-messages ")
    assert conformance("--features") == 0
    assert "consume          acknowledged subscriptions (SPEC 9)" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the adapter behind --"),
        (("--scenario", "no-such", "--", "true"), "--scenario no-such: there is none; --list shows all"),
        (("--scenarios", "/nowhere.json", "--", "true"), "--scenarios: "),
        (("--", "/nowhere/adapter"), "the adapter: /nowhere/adapter: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    arguments: tuple[str, ...], said: str, capsys: Captured
) -> None:
    assert conformance(*arguments) == 2
    assert capsys.readouterr().err.startswith(f"triode conformance: {said}")


@pytest.mark.parametrize(
    ("last", "shown"),
    [
        (r"'no client: \x1b[2J'", [*(f"  {n}" for n in range(80, 99)), r"  no client: \u001b[2J"]),
        ("9999 * '!'", [f"  {600 * '!'}… (8191 characters)"]),  # and the end of the line
    ],
)
def test_adapter_that_dies_at_its_start_shows_the_end_of_its_stderr(
    last: str, shown: list[str], capsys: Captured
) -> None:
    code = f"import sys; [print(n, file=sys.stderr) for n in range(99)]; sys.exit({last})"
    assert conformance("--", *python("-c", code)) == 2
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "triode conformance: the adapter: it has ended (exit code 1)"
    assert lines == shown


def test_scenarios_of_ones_own(tmp_path: Path, capsys: Captured) -> None:
    played = {
        "name": "mine",
        "about": "x",
        "shows": ["1.1"],
        "steps": [{"do": {"command": "connect"}}, {"accept": {}}],
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"about": "x", "scenarios": [played]}))
    assert conformance("--scenarios", str(path), "--", *TINY) == 0
    assert capsys.readouterr().out.startswith("ok    mine ")
    path.write_text('{"about": "x"}')
    assert conformance("--scenarios", str(path), "--", *TINY) == 2
    assert "--scenarios: own: Object missing required field `scenarios`" in capsys.readouterr().err

"""The scenarios as data: their form, the clauses that they cite, and what all of them together have to show."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from triode_broker.conformance import steps
from triode_broker.conformance.lines import FEATURES
from triode_protocol.errors import CloseCode, GapReason

from tests.house.tree import ROOT

FOLDER = ROOT / "protocol" / "scenarios"
SCENARIOS = steps.shipped()
SCHEMA = json.loads((FOLDER / "scenarios.schema.json").read_text())
#: What a command asks of a client, or one of its fields does.
NEEDED_BY_COMMAND = {
    **{name: name for name in ("consume", "delete_key", "history", "position", "presence", "send")},
    **dict.fromkeys(("ack", "nack", "reject", "extend"), "consume"),
}
NEEDED_BY_FIELD = {
    **{name: name for name in ("ask_token", "presence", "will")},
    "b64": "binary",
    "connect_timeout_ms": "connect_timeout",
    "deliver_at_ms": "delay",
    "publish_timeout_ms": "publish_timeout",
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_files_follow_the_schema(path: Any) -> None:
    if not path.name.endswith(".schema.json"):
        jsonschema_rs.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))


def test_schemas_are_schemas() -> None:
    for name in ("scenarios", "adapter"):
        jsonschema_rs.meta.validate(json.loads((FOLDER / f"{name}.schema.json").read_text()))


@pytest.mark.parametrize(
    "step",
    [
        {"cut": False},
        {"cut": True, "freeze": True},
        {"expect": {}, "as": "Not A Name"},
        {"quiet": 0},
        {"accept": {}, "at": "d"},
        {"wait": 1},
        {},
    ],
)
def test_broken_steps_are_refused_by_schema_and_reader(step: dict[str, Any]) -> None:
    file = {"about": "x", "scenarios": [{"name": "x", "about": "x", "shows": ["1.1"], "steps": [step]}]}
    assert not jsonschema_rs.Draft202012Validator(SCHEMA).is_valid(file)
    with pytest.raises(ValueError, match="x, step 1: "):
        steps.parse(json.dumps(file).encode(), "x")


def test_a_feature_that_nobody_knows_is_refused() -> None:
    scenario = {"name": "x", "about": "x", "shows": ["1.1"], "steps": [{"cut": True}], "needs": ["telepathy"]}
    file = {"about": "x", "scenarios": [scenario]}
    with pytest.raises(ValueError, match="needs what is no feature: telepathy"):
        steps.parse(json.dumps(file).encode(), "x")


def test_clauses_that_are_cited_exist() -> None:
    clauses = set(re.findall(r"^\*\*([0-9.]+)\*\*", (ROOT / "SPEC.md").read_text(), re.MULTILINE))
    wrong = [f"{each.name}: {clause}" for each in SCENARIOS for clause in each.shows if clause not in clauses]
    assert not wrong


def test_every_rule_of_receiving_is_shown() -> None:
    shown = {clause for each in SCENARIOS for clause in each.shows}
    assert shown >= {f"4.3.{rule}" for rule in range(5, 12)}  # R1-R7
    assert shown >= {"5.3.2", "5.3.3", "5.3.4", "5.3.5", "5.3.6", "5.4.1", "4.10.1", "9.7.2", "1.8", "1.15"}


def test_every_gap_reason_and_every_final_code_is_played() -> None:
    played = json.dumps([each.steps for each in SCENARIOS])
    assert [reason for reason in GapReason if f'"reason": "{reason}"' not in played] == []
    final = [code for code in CloseCode if code < 4100]
    assert [code for code in final if f'{{"code": {code:d}' not in played] == []


@pytest.mark.parametrize("retry", ["never", "now", "backoff", "reauth"])
@pytest.mark.parametrize("kind", ["refused", "publish-refused"])
def test_every_kind_of_retry_is_played(kind: str, retry: str) -> None:
    assert f"{kind}-{'for-good' if retry == 'never' else retry}" in {each.name for each in SCENARIOS}


def test_scenarios_say_what_they_need_and_no_more() -> None:
    wrong = [
        f"{each.name} needs {', '.join(sorted(needed))}"
        for each in SCENARIOS
        if (needed := set(needs(each))) != set(each.needs)
    ]
    assert not wrong


def needs(scenario: steps.Scenario) -> Iterator[str]:
    """What its steps ask of a client."""
    for step in scenario.script():
        if isinstance(step, steps.Send) and isinstance(step.send, dict) and "b64" in step.send:
            yield "binary"
        if isinstance(step, steps.Accept) and "auth" in step.accept.get("capabilities", ()):
            yield "auth"
        if not isinstance(step, steps.Do):
            continue
        name = step.do["command"]
        if name in NEEDED_BY_COMMAND:
            yield NEEDED_BY_COMMAND[name]
        yield from (NEEDED_BY_FIELD[field] for field in step.do if field in NEEDED_BY_FIELD)
        if len(step.do.get("urls", ())) > 1:
            yield "several_urls"


def test_every_feature_is_needed_somewhere() -> None:
    assert {feature for each in SCENARIOS for feature in each.needs} == set(FEATURES)


def test_scenarios_are_shipped_in_the_wheel() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"protocol/scenarios": "triode_broker/conformance/scenarios"}


def test_no_two_scenarios_have_the_same_name(tmp_path: Any) -> None:
    text = (FOLDER / "history.json").read_bytes()
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_bytes(text)
    with pytest.raises(ValueError, match="more than one scenario is called "):
        steps.read(tmp_path)

"""The runner and adapters that are none, or not well: it says so, skips aloud, and goes on with the others."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from triode_broker.conformance import steps
from triode_broker.conformance.adapter import AdapterFailed
from triode_broker.conformance.running import Result, run

from tests.conformance.playing import TINY_ADAPTER, python

HELLO = '{"event":"hello","version":1,"client":"toy"}'


def toy(*answers: str, after: str = "") -> list[str]:
    """An adapter of one line: it answers its commands with these lines, one after the other, then `after` runs."""
    code = f"import sys\nfor said in {list(answers)!r}:\n input()\n print(said, flush=True)\n{after}"
    return [sys.executable, "-c", code]


def script(*played: dict[str, Any], name: str = "toy-scenario", needs: list[str] | None = None) -> steps.Scenario:
    """A scenario of these steps."""
    file = {"about": "x", "scenarios": [{"name": name, "about": "x", "shows": ["1.1"], "steps": list(played)}]}
    (scenario,) = steps.parse(json.dumps(file).encode(), "toys")
    scenario.needs = needs or []
    return scenario


CONNECT: dict[str, Any] = {"do": {"command": "connect"}}
ACCEPT: dict[str, Any] = {"accept": {}}


async def play(command: list[str], *scenarios: steps.Scenario, patience_seconds: float = 10.0) -> list[Result]:
    results: list[Result] = []
    await run(scenarios, command, results.append, lanes=1, patience_seconds=patience_seconds)
    return results


def reason(result: Result) -> str:
    assert result.outcome == "failed"
    assert result.failure is not None
    return result.failure.reason


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nowhere/adapter"], "/nowhere/adapter: No such file or directory"),
        (toy("no JSON"), "not a report of the adapter protocol: "),
        (toy('{"event":"dance"}'), "not a report of the adapter protocol: "),
        (toy('{"event":"hello","version":1}'), "not a report of the adapter protocol: "),
        (toy('{"event":"hello","version":2,"client":"x"}'), "it speaks version 2"),
        (toy('{"event":"hello","version":1,"client":"x","lacks":["wings"]}'), "it lacks what nobody knows: wings"),
        (toy(), r"it has ended \(exit code 0\)"),
        (toy('{"event":"wrong","message":"no client"}'), "no client"),
    ],
)
async def test_what_is_no_adapter_is_told(command: list[str], said: str) -> None:
    with pytest.raises(AdapterFailed, match=said):
        await play(command, script(CONNECT))


async def test_what_the_client_lacks_is_skipped_and_said() -> None:
    hello = '{"event":"hello","version":1,"client":"toy","lacks":["consume","will"]}'
    (result,) = await play(toy(hello, after="input()"), script(CONNECT, needs=["consume"]))
    assert result.outcome == "skipped"
    assert result.lacks == ("consume",)


async def test_an_adapter_that_ends_fails_its_scenario_and_shows_what_it_wrote() -> None:
    command = toy(HELLO, after="input()\nraise SystemExit('out of paper')")
    first, second = await play(command, script(CONNECT, ACCEPT), script(CONNECT, ACCEPT, name="another"))
    assert "it has ended (exit code 1)" in reason(first)
    assert "out of paper" in reason(first)
    assert "it has ended" in reason(second)  # of a process of its own


async def test_an_adapter_that_says_wrong_fails_its_scenario() -> None:
    command = toy(HELLO, '{"event":"wrong","message":"KeyError: subscription"}', '{"event":"reset"}')
    (result,) = await play(command, script(CONNECT, ACCEPT))
    assert reason(result) == "the adapter: KeyError: subscription"


async def test_an_adapter_that_does_not_reset_is_started_anew() -> None:
    command = toy(HELLO, after="import time\nwhile True: input()")
    first, second = await play(command, script(CONNECT, ACCEPT), script(CONNECT, ACCEPT), patience_seconds=0.2)
    assert reason(first) == reason(second) == "nothing of the kind came within 0.2 s"


async def test_a_scenario_that_uses_what_it_has_not_captured_says_so() -> None:
    command = toy(HELLO, '{"event":"reset"}', after="input()")
    (result,) = await play(command, script({"do": {"command": "connect", "token": "$nothing"}}))
    assert reason(result) == "$nothing was not captured"


async def test_a_command_that_no_adapter_knows_is_a_fault_of_the_scenario() -> None:
    command = toy(HELLO, '{"event":"reset"}', after="input()")
    (result,) = await play(command, script({"do": {"command": "fly"}}))
    assert "not a command of the adapter protocol" in reason(result)


async def test_failures_show_step_reason_and_conversation() -> None:
    subscribe = {"do": {"command": "subscribe", "subscription": "s", "filter": "t"}}
    (result,) = await play(
        python(TINY_ADAPTER), script(CONNECT, ACCEPT, subscribe, {"expect": {"type": "subscribe", "filter": "u"}})
    )
    failure = result.failure
    assert failure is not None
    assert (failure.step, failure.wanted) == (4, 'expect {"type": "subscribe", "filter": "u"}')
    assert failure.reason.startswith("`filter` is 't', not 'u'; came: ")
    who = [each for each, _ in failure.conversation]
    assert who == ["program", "client", "client", "broker", "program", "client"]
    assert '"filter": "t"' in failure.conversation[-1][1]


@pytest.mark.parametrize(
    ("played", "said"),
    [
        ([CONNECT, ACCEPT, {"quiet": 50}], ""),
        ([CONNECT], "the client dials server a, and should not"),
        ([CONNECT, ACCEPT, {"do": {"command": "subscribe", "subscription": "s", "filter": "t"}}, {"quiet": 500}],
         "the client sent what nobody expects: "),
        ([CONNECT, {"accept": {}, "connect": {"token": "t"}}], "`token` is missing"),
        ([CONNECT, {"accept": {}, "at": "b"}], "the client dials server a, not b"),
        ([CONNECT, ACCEPT, {"cut": True}, {"expect": {"type": "pong"}}], "the client has ended the connection"),
        ([CONNECT, ACCEPT, {"expect_all": [{"type": "ack"}, {"type": "nack"}]},], "nothing of the kind"),
        ([{"cut": True}], "the scenario has no connection yet"),
    ],
)  # fmt: skip
async def test_what_the_scenarios_end_with(played: list[dict[str, Any]], said: str) -> None:
    waits = script(*played, {"quiet": 100}) if said.endswith("should not") else script(*played)
    (result,) = await play(python(TINY_ADAPTER), waits, patience_seconds=1.0)
    if said:
        assert said in reason(result)
    else:
        assert result.outcome == "passed"


def test_one_file_can_be_read_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    played = {"name": "x", "about": "x", "shows": ["1.1"], "steps": [CONNECT]}
    path.write_text(json.dumps({"about": "x", "scenarios": [played]}))
    (scenario,) = steps.read(path)
    assert (scenario.name, scenario.group, scenario.servers()) == ("x", "mine", ["a"])

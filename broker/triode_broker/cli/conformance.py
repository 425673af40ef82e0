"""`triode conformance`: plays the scenarios against a client, and prints one line for each.

Knows the runner and how people read. The surprising decision: a scenario that was skipped is always printed, with
what the client lacks; nobody shall take a short list for a clean one.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.conformance import running
from triode_broker.conformance.adapter import AdapterFailed
from triode_broker.conformance.lines import FEATURES
from triode_broker.conformance.player import Failure as Fault
from triode_broker.conformance.running import Result
from triode_broker.conformance.steps import Scenario, folder, read
from triode_broker.printable import escape, shorten

_NAME_WIDTH: Final = 48
_SHOWN_CHARACTERS: Final = 600  # of one line of a conversation


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Run the scenarios that the arguments name, or list what there is. Raises Failure."""
    if arguments.features:
        say("".join(f"{name:16} {meaning}\n" for name, meaning in FEATURES.items()))
        return ExitCode.OK
    scenarios = chosen(arguments.scenario, arguments.scenarios)
    if arguments.list:
        say("".join(f"{f'{each.group}/{each.name}':{_NAME_WIDTH}} {each.about}\n" for each in scenarios))
        return ExitCode.OK
    if not arguments.program:
        raise Failure(ExitCode.USAGE, "name the adapter behind --, as in `triode conformance -- node adapter.mjs`")
    results: list[Result] = []

    def tell(result: Result) -> None:
        results.append(result)
        if not arguments.json:
            say(as_text(result))

    began = time.monotonic()
    client = play(scenarios, arguments, tell)
    if arguments.json:
        say(as_json(client, results))
    else:
        say(summary(client, results, time.monotonic() - began))
    return ExitCode.FAILURE if any(result.outcome == "failed" for result in results) else ExitCode.OK


def chosen(patterns: Sequence[str], where: str | None) -> list[Scenario]:
    """The scenarios whose name or group fits one of the patterns; all where there is none. Raises Failure."""
    try:
        found = read(Path(where) if where else folder())
    except (OSError, ValueError) as error:
        raise Failure(ExitCode.USAGE, f"--scenarios: {error}") from error
    for pattern in patterns:
        if not any(_fits(pattern, scenario) for scenario in found):
            raise Failure(ExitCode.USAGE, f"--scenario {pattern}: there is none; --list shows all")
    return [each for each in found if not patterns or any(_fits(pattern, each) for pattern in patterns)]


def _fits(pattern: str, scenario: Scenario) -> bool:
    return fnmatchcase(scenario.name, pattern) or scenario.group == pattern


def play(scenarios: Sequence[Scenario], arguments: argparse.Namespace, tell: running.Tell) -> str:
    """Play them; the client's name. Raises Failure where the adapter is none."""

    async def main() -> str:
        return await running.run(
            scenarios,
            arguments.program,
            tell,
            lanes=arguments.parallel,
            patience_seconds=arguments.patience,
        )

    try:
        return trio.run(main)
    except AdapterFailed as failed:
        lines = [f"the adapter: {failed}", *failed.last_lines]
        shown = [shorten(escape(line), _SHOWN_CHARACTERS) for line in lines]
        raise Failure(ExitCode.USAGE, "\n  ".join(shown)) from failed


def as_text(result: Result) -> str:
    """One line; where it failed the conversation too."""
    name = result.scenario.name
    if result.outcome == "skipped":
        return f"skip  {name:{_NAME_WIDTH}} lacks {', '.join(result.lacks)}\n"
    if result.failure is None:
        return f"ok    {name:{_NAME_WIDTH}} {result.seconds:.2f} s\n"
    return f"FAIL  {name}: {escape(result.scenario.about)}\n{_explained(result.scenario, result.failure)}\n"


def _explained(scenario: Scenario, fault: Fault) -> str:
    steps = len(scenario.steps)
    where = f"step {fault.step} of {steps}" if fault.step else f"after the last of {steps} steps"
    lines = [
        f"      {where}: {shorten(escape(fault.wanted), _SHOWN_CHARACTERS)}",
        f"      but: {escape(fault.reason, keep=chr(10))}",
        f"      see SPEC {', '.join(scenario.shows)}. The conversation:",
        *(f"        {who:8}{shorten(escape(what), _SHOWN_CHARACTERS)}" for who, what in fault.conversation),
    ]
    return "\n".join(lines)


def summary(client: str, results: Sequence[Result], seconds: float) -> str:
    """The last line."""
    counts = Counter(result.outcome for result in results)
    lacks = sorted({name for result in results for name in result.lacks})
    skipped = f", {counts['skipped']} skipped (lacks {', '.join(lacks)})" if lacks else ""
    return f"{escape(client)}: {counts['passed']} passed, {counts['failed']} failed{skipped}, {seconds:.1f} s\n"


def as_json(client: str, results: Sequence[Result]) -> str:
    """All results, for programs."""
    said: dict[str, Any] = {"client": client, "results": [_as_values(result) for result in results]}
    return escape(msgspec.json.encode(said).decode()) + "\n"


def _as_values(result: Result) -> dict[str, Any]:
    values: dict[str, Any] = {
        "scenario": result.scenario.name,
        "group": result.scenario.group,
        "outcome": result.outcome,
        "seconds": round(result.seconds, 3),
    }
    if result.lacks:
        values["lacks"] = result.lacks
    if fault := result.failure:
        values["step"] = fault.step
        values["expected"] = fault.wanted
        values["reason"] = fault.reason
        values["conversation"] = fault.conversation
    return values

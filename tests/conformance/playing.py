"""Scenarios played in tests: against an adapter, all at once, and what came of it as one text."""

import sys
from collections.abc import Sequence
from typing import Final

from triode_broker.conformance import steps
from triode_broker.conformance.running import Result, run

from tests.house.tree import ROOT

PATIENCE_SECONDS: Final = 30.0  # only failures take so long
PYTHON_ADAPTER: Final = ROOT / "clients" / "python" / "conformance_adapter.py"
TINY_ADAPTER: Final = ROOT / "docs" / "examples" / "tiny_adapter.py"
MUTANTS_ADAPTER: Final = ROOT / "tests" / "conformance" / "mutants.py"
PLANTS_ADAPTER: Final = ROOT / "tests" / "conformance" / "plants.py"


def python(script: object, *arguments: str) -> list[str]:
    """How a Python adapter is started."""
    return [sys.executable, str(script), *arguments]


async def play(
    command: Sequence[str], scenarios: Sequence[steps.Scenario] | None = None, *, lanes: int = 4
) -> dict[str, Result]:
    """The results of these scenarios (all of them), by name."""
    results: dict[str, Result] = {}

    def keep(result: Result) -> None:
        results[result.scenario.name] = result

    chosen = steps.shipped() if scenarios is None else scenarios
    await run(chosen, command, keep, lanes=lanes, patience_seconds=PATIENCE_SECONDS)
    return results


def scenario(name: str) -> steps.Scenario:
    """One of those that are shipped."""
    return next(each for each in steps.shipped() if each.name == name)


def assert_passed(results: dict[str, Result], *, skipped: Sequence[str] = ()) -> None:
    """All of them, but for those of which it is known that the client lacks what they need."""
    failed = [told(result) for result in results.values() if result.outcome == "failed"]
    assert not failed, "\n".join(["", *failed])
    assert sorted(name for name, each in results.items() if each.outcome == "skipped") == sorted(skipped)


def told(result: Result) -> str:
    """A failure with its conversation."""
    failure = result.failure
    assert failure is not None
    lines = [f"{result.scenario.name}, step {failure.step}: {failure.wanted}", f"  but: {failure.reason}"]
    return "\n".join([*lines, *(f"    {who:8}{what}" for who, what in failure.conversation)])

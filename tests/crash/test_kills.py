"""Crash proof: kill -9 at random moments and at named points, and no acknowledged message is lost (G1 to G5).

Each run has a seed and is replayed by the command that its failure prints.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import trio

from tests.crash.faults import POINTS
from tests.crash.scenario import Outcome, Plan, play

#: Runs at a time: while one broker starts, the clients of another one work.
AT_ONCE = 4
MIN_KILLS = 60


def at_points(seed: int) -> Plan:
    """Each named point once, at a passage by the seed, in an order by the seed."""
    random = Random(seed)
    points = [f"{name}:{random.randint(1, point.often)}" for name, point in POINTS.items()]
    random.shuffle(points)
    return Plan(seed, len(points), tuple(points))


async def play_all(plans: Sequence[Plan], directory: Path) -> list[Outcome]:
    """Play them, some at once."""
    outcomes: list[Outcome] = []
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(plan: Plan, place: Path) -> None:
        async with limit:
            outcomes.append(await play(plan, place))

    async with trio.open_nursery() as nursery:
        for number, plan in enumerate(plans):
            nursery.start_soon(one, plan, directory / str(number))
    return outcomes


def explain(outcomes: Sequence[Outcome]) -> str:
    return "\n\n".join(outcome.explain() for outcome in outcomes if outcome.violations)


@pytest.mark.timeout(400)
async def test_kills_lose_nothing_and_hide_nothing(tmp_path: Path) -> None:
    """I1 to I10, I14, I15 and G5 over 66 lives: 0 acknowledged messages lost, 0 unreported gaps."""
    plans = [at_points(101), at_points(102), Plan(1, 16), Plan(2, 16)]
    outcomes = await play_all(plans, tmp_path)
    assert not explain(outcomes), explain(outcomes)
    assert sum(outcome.kills for outcome in outcomes) >= MIN_KILLS
    reached = {point for outcome in outcomes for point in outcome.reached}
    assert reached == set(POINTS)


@pytest.mark.timeout(200)
async def test_killed_memory_is_reported(tmp_path: Path) -> None:
    """G1: what a crash takes from memory is told to whoever was due it, by a reset."""
    (outcome,) = await play_all([Plan(3, 4, storage="memory")], tmp_path)
    assert not outcome.violations, outcome.explain()
    assert any(event.packet.get("reason") == "reset" for event in outcome.events)

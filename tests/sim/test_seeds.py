"""Every seed keeps every promise: I1 to I10, I14, I15, G3 and G5 over nodes, partitions, kills and stops.

A seed that fails prints the command that plays it again. Played by two processes: each seed is its own world, and
they are most of what the suite computes.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.sim.scenario import Plan, play

SEEDS = 200
#: Of one node alone, which has been through it before.
ALONE = 20
#: Seeds of one test, so that a failure names few.
AT_ONCE = 20
PROCESSES = 2


@pytest.fixture(scope="module")
def players() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("first", range(1, SEEDS, AT_ONCE))
def test_seeds_keep_every_promise(first: int, players: ProcessPoolExecutor) -> None:
    check([Plan(seed) for seed in range(first, first + AT_ONCE)], players)


def test_seeds_of_one_node_keep_every_promise(players: ProcessPoolExecutor) -> None:
    check([Plan(seed, is_alone=True) for seed in range(1, ALONE + 1)], players)


def check(plans: list[Plan], players: ProcessPoolExecutor) -> None:
    """Play them; say what went wrong in the first that failed."""
    failed = {plan.seed: words for plan, words in zip(plans, players.map(judged, plans), strict=True) if words}
    seeds = ", ".join(map(str, failed))
    assert not failed, f"seeds {seeds}\n{next(iter(failed.values()))}"


def judged(plan: Plan) -> str:
    """What went wrong with a plan; "" if nothing did."""
    outcome = play(plan)
    return outcome.explain() if outcome.violations else ""

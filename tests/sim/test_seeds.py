"""Every seed keeps every promise: I1 to I10, I14, I15, G3 and G5 over nodes, partitions, kills and stops.

A seed that fails prints the command that plays it again.
"""

import pytest

from tests.sim.scenario import Plan, play

SEEDS = 200
#: Of one node alone, which has been through it before.
ALONE = 20
#: Seeds of one test, so that a failure names few.
AT_ONCE = 10


@pytest.mark.parametrize("first", range(1, SEEDS, AT_ONCE))
def test_seeds_keep_every_promise(first: int) -> None:
    check([Plan(seed) for seed in range(first, first + AT_ONCE)])


def test_seeds_of_one_node_keep_every_promise() -> None:
    check([Plan(seed, is_alone=True) for seed in range(1, ALONE + 1)])


def check(plans: list[Plan]) -> None:
    """Play them; say what went wrong in the first that failed."""
    outcomes = [play(plan) for plan in plans]
    failed = {plan.seed: one.explain() for plan, one in zip(plans, outcomes, strict=True) if one.violations}
    seeds = ", ".join(map(str, failed))
    assert not failed, f"seeds {seeds}\n{next(iter(failed.values()))}"

"""Planted bugs: each is found by the crash suite within its budget, or the suite would be too weak."""

from pathlib import Path

import pytest
import trio

from tests.crash.faults import PLANTS
from tests.crash.scenario import Outcome, Plan, play

#: Plant → what must be broken by it, and the points at which it shows soonest.
CAUGHT_BY = {
    "ack_before_fsync": ("I1", ("begun:4", "written:4", "written:6", "begun:6", "begun:8")),
    "skip_gap": ("I6", ()),
    "reuse_offset": ("I3", ()),
    "dedup_off": ("I9", ("told:4", "told:6", "told:8")),
    "settle_before_fsync": ("G5", ()),
}
#: Seeds that are tried until one has found it, some side by side, and lives of each. The suite itself plays 66.
SEEDS = range(12, 19)
AT_ONCE = 2
LIVES = 5


def test_every_plant_is_tried() -> None:
    assert CAUGHT_BY.keys() == PLANTS.keys()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("plant", CAUGHT_BY)
async def test_planted_bug_is_caught(plant: str, tmp_path: Path) -> None:
    invariant, points = CAUGHT_BY[plant]
    outcomes: list[Outcome] = []
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(seed: int, nursery: trio.Nursery) -> None:
        async with limit:
            outcomes.append(await play(Plan(seed, LIVES, points, plant), tmp_path / str(seed)))
        if invariant in {violation.invariant for violation in outcomes[-1].violations}:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for seed in SEEDS:
            nursery.start_soon(one, seed, nursery)
    found = {violation.invariant for outcome in outcomes for violation in outcome.violations}
    assert invariant in found, found

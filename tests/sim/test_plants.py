"""Planted bugs: each is found by the seeds within its budget, or the simulator would be too weak."""

import inspect

import pytest

from tests.crash.faults import locate
from tests.sim.plants import PLANTS
from tests.sim.scenario import Plan, play

#: Plant → what is broken by it, the fault that shows it soonest ("": any), and whether one node is enough. S1: a
#: node has logged a bug, here that a peer's publishes are out of order.
CAUGHT_BY = {
    "ack_before_fsync": ("I1", "kill", True),
    "skip_gap": ("I6", "", True),
    "reuse_offset": ("I3", "kill", True),
    "forgotten_topic_offset_1": ("I3", "", True),
    "no_prev_check": ("I6", "hole", False),
    "reroute_unknown_publish": ("I9", "mute", False),
    "accept_superseded_link": ("S1", "late", False),
}
#: Seeds that are tried; the suite itself plays 200.
SEEDS = 40


def test_every_plant_is_tried() -> None:
    assert CAUGHT_BY.keys() | {"second_heir"} == PLANTS.keys()  # that one: `test_rolling`


@pytest.mark.parametrize("path", [path for places in PLANTS.values() for path in places])
def test_path_leads_to_a_function(path: str) -> None:
    owner, name = locate(path)
    assert inspect.isfunction(inspect.getattr_static(owner, name))


@pytest.mark.parametrize("plant", CAUGHT_BY)
def test_planted_bug_is_caught(plant: str) -> None:
    invariant, fault, is_alone = CAUGHT_BY[plant]
    found: set[str] = set()
    for seed in range(1, SEEDS + 1):
        found |= {violation.invariant for violation in play(Plan(seed, plant, is_alone, fault)).violations}
        if invariant in found:
            return
    raise AssertionError(f"{plant} was not caught by {SEEDS} seeds; they found {found or 'nothing'}")

"""Rights that change at any moment where clients, topics and rules are on several nodes (I12, G10).

The story is the one of `tests.core.test_rights_history`; here its clients connect to any of two nodes, and what
these say to each other arrives when it does.
"""

import pytest

from tests.cluster.town import Town
from tests.core.acl_plants import PLANTS, planted
from tests.core.test_rights_history import LIMITS, Story, play

SEEDS = range(1, 16)


def in_town(seed: int) -> Story:
    town = Town(2, limits=LIMITS)
    return Story(seed, *town.citizens, carry=lambda: town.wait(0))


@pytest.mark.parametrize("seed", SEEDS)
def test_rights_may_change_at_any_moment(seed: int) -> None:
    """I12, S13: each node judges what it puts into the outboxes of its own clients, wherever it comes from."""
    assert play(in_town(seed)) == []


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_bug_is_caught(plant: str) -> None:
    """I12"""
    with planted(plant):
        found = {violation.invariant for seed in SEEDS for violation in play(in_town(seed))}
    assert "I12" in found

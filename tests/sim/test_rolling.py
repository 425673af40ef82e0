"""Rolling restarts: what is in memory goes from node to node, and clients notice nothing (cluster.md, G4, G8)."""

import pytest

from tests.sim.rolling import play
from tests.sim.scenario import Plan

SEEDS = 6
AT_ONCE = 3
#: Of the planted bug: seeds that are tried.
TRIES = 16


@pytest.mark.parametrize("first", range(1, SEEDS, AT_ONCE))
def test_rolling_restart_under_load_shows_clients_no_gap(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        outcome = play(Plan(seed))
        assert not outcome.violations, f"rolling restart, seed {seed}\n{outcome.explain()}"


def test_second_heir_is_caught() -> None:
    """I3: two nodes go on with one log."""
    found: set[str] = set()
    for seed in range(1, TRIES + 1):
        found |= {violation.invariant for violation in play(Plan(seed, "second_heir")).violations}
        if "I3" in found:
            return
    raise AssertionError(f"second_heir was not caught by {TRIES} seeds; they found {found or 'nothing'}")

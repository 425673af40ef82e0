"""Rolling restarts: what is in memory goes from node to node, and clients notice nothing (cluster.md, G4, G8)."""

import pytest

from tests.sim.rolling import play
from tests.sim.scenario import Plan

SEEDS = 6
#: Of the planted bug: seeds that are tried.
TRIES = 16


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_rolling_restart_under_load_shows_clients_no_gap(seed: int) -> None:
    outcome = play(Plan(seed))
    assert not outcome.violations, f"rolling restart, seed {seed}\n{outcome.explain()}"


@pytest.mark.timeout(400)  # it computes for a quarter of a minute, where nothing else does
def test_second_heir_is_caught() -> None:
    """I3: two nodes go on with one log."""
    found: set[str] = set()
    for seed in range(1, TRIES + 1):
        found |= {violation.invariant for violation in play(Plan(seed, "second_heir")).violations}
        if "I3" in found:
            return
    raise AssertionError(f"second_heir was not caught by {TRIES} seeds; they found {found or 'nothing'}")

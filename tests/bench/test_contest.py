"""A whole small contest on the naive peer: every round and window is there, and everything was delivered."""

from functools import partial

from bench.contest import play
from bench.plan import Budget, Workload
from bench.report import rows
from bench.servers import RECIPES
from bench.workloads import FanOut

NAIVE = {"naive": RECIPES["naive"]}
SMALL = Budget(rounds=2, cycles=2, window_seconds=0.05, warm_seconds=0.0, most_seconds=60)


def test_contest_measures_every_round() -> None:
    workload = Workload("fanout-200", "small", "delivery", 1.0, partial(FanOut, subscribers=5, window=4))
    results = play(workload, NAIVE, SMALL)
    # The naive server has one window a round, whatever the number of cycles.
    assert [(one.contestant, one.round, one.cycle) for one in results.windows] == [
        ("naive", 0, 0),
        ("naive", 1, 0),
    ]
    assert all(one.count > 0 and one.cpu_us > 0 for one in results.windows)
    assert not results.failures
    [row] = rows(results)
    assert row.exact
    assert row.p50_ms is not None


def test_contest_measures_memory_and_connects() -> None:
    results = play(Workload("idle", "small", "connect", 1.0, connections=60), NAIVE, SMALL)
    [row] = rows(results)
    assert [one.count for one in results.windows] == [60, 60]
    assert row.exact
    assert row.kib is not None
    assert row.kib > 0
    assert row.kib_own_topic is not None

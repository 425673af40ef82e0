"""The measurement of identity, permission and rates: what it compares is what it says; not about time."""

from pathlib import Path

import pytest

from bench.guarded import ALGORITHMS, GUARDED, WORKLOADS, Bearers, Row, Workload, check, connect, play, row, table
from bench.load import LoadError, open_connections
from bench.packets import greeting
from bench.servers import running
from bench.sockets import Loop
from bench.workloads import FanOut

SMALL = Workload("fanout-2", 0.9, lambda loop, at, greet: FanOut(loop, at, subscribers=2, greet=greet))


def test_guarded_broker_lets_bearers_in_filters_some_and_nobody_else(tmp_path: Path) -> None:
    with running(GUARDED, place=tmp_path) as server, Loop() as loop:
        open_connections(loop, server.address, [Bearers(1).greet("bench/fan")])
        filtered = Bearers(1, is_filtered=True).greet("bench/fan")
        open_connections(loop, server.address, [filtered], b'"filtered":true')
        with pytest.raises(LoadError, match="forbidden"):
            open_connections(loop, server.address, [Bearers(1).greet("rooms/1")])
        with pytest.raises(LoadError, match="unauthorized"):
            open_connections(loop, server.address, [greeting("bench/fan")])


def test_all_contestants_deliver_everything() -> None:
    played = play(SMALL, rounds=1, cycles=1, seconds=0.01)
    assert len(played.cpu_us) == 3
    assert all(us > 0 for us in played.cpu_us)


def test_both_brokers_take_connections_in() -> None:
    assert all(us > 0 for us, _ in connect(3))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tokens_are_checked(algorithm: str) -> None:
    assert check(algorithm, count=2) > 0


def test_ratio_is_that_of_neighbouring_windows() -> None:
    found = row(WORKLOADS[0], [(1.0, 2.0, 1.0), (8.0, 10.0, 8.0), (9.0, 10.0, 10.0)])
    assert found.cpu_us == (8.0, 10.0, 8.0)
    assert found.ratios == (0.8, 1.0)
    assert found.spreads == ((0.5, 0.9), (0.9, 1.0))
    assert not found.is_met


def test_table_has_a_line_for_each_workload_and_for_connects() -> None:
    rows = [
        Row("pairs-1", 0.75, (20.0, 25.0, 24.0), (0.8, 0.83), ((0.7, 0.9), (0.8, 0.9))),
        Row("acked", 0.0, (5.0, 6.0, 6.0), (0.8, 0.8), ((0.8, 0.8), (0.8, 0.8))),
    ]
    assert table(rows, [(100.0, 2.0), (200.0, 5.0)]).splitlines()[2:] == [
        "| `pairs-1` | 20.00 | 25.00 | 24.00 | 0.80, 0.83 | ≥ 0.75 |",
        "| `acked` | 5.00 | 6.00 | 6.00 | 0.80, 0.80 | – |",
        "| a connect | 100 | 200 | – | 0.50 | – |",
        "| idle, KiB | 2.0 | 5.0 | – | – | – |",
    ]

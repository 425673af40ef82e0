"""Several nodes under the load generator: small runs of every kind, and what is said of their figures.

What it must not know: how fast anything is; no assertion here is about time.
"""

from collections import Counter
from pathlib import Path

import attrs
import pytest

from bench.cluster_tables import cluster_console, cluster_markdown, cluster_verdict
from bench.clustered import SINGLE, added_us, play_deliver, play_fan_out, play_forward, play_hop, play_workers
from bench.contest import Account, Mesh, Results, Return, Window
from bench.crossing import Batches, Runs
from bench.mesh import play_mesh
from bench.nodes import cluster
from bench.plan import QUICK_CLUSTER
from bench.report import rows
from bench.sockets import Loop
from bench.storms import play_storm
from bench.tables import write_sections

TINY = attrs.evolve(
    QUICK_CLUSTER,
    cycles=1,
    window_seconds=0.1,
    warm_seconds=0.05,
    subscribers=30,
    clients=30,
    filters=(250,),
    sizes=(2,),
)


@pytest.mark.parametrize("play", [play_fan_out, play_forward, play_deliver, play_hop, play_workers])
def test_nodes_deliver_exactly_what_a_single_one_does(play: object) -> None:
    assert callable(play)
    results: Results = play(TINY)
    assert results.failures == {}
    assert len(rows(results)) >= 2
    assert all(row.exact and row.rate > 0 for row in rows(results))


def test_storm_loses_nothing() -> None:
    results = play_storm(TINY)
    assert results.failures == {}
    assert [(one.clients, one.faults) for one in results.returns] == [(30, ()), (10, ())]


def test_mesh_registers_every_filter() -> None:
    results = play_mesh(TINY)
    assert results.failures == {}
    assert [(one.nodes, one.filters, one.kind) for one in results.meshes] == [
        (2, 250, "wildcards"),
        (2, 250, "topics"),
    ]


def test_runs_and_batches_account_for_every_publish() -> None:
    with cluster(1) as nodes, Loop() as loop:
        for traffic in (
            Batches(loop, nodes.addresses[0], topics=["a", "b"], window=8, subscriber=nodes.addresses[0]),
            Runs(loop, nodes.addresses[0], topics=["c", "d"], runs=2, size=5),
        ):
            traffic.pump(0.05)
            traffic.pump(0.05)
            traffic.close()
            assert traffic.notices == Counter()
            assert all(one.received > 0 for one in traffic.ledgers)
            assert [(one.lost, one.doubled, one.misordered) for one in traffic.ledgers] == [(0, 0, 0)] * len(
                traffic.ledgers
            )


def window(contestant: str, cycle: int, cpu_us: float, seconds: float = 2.0) -> Window:
    return Window(contestant, 0, cycle, 1_000_000, seconds, cpu_us / 2, cpu_us / 2)


def verdicts(results: Results) -> list[str]:
    return [cluster_verdict(results, row) for row in rows(results)]


@pytest.mark.parametrize(("cost", "word"), [(1.3, "met"), (1.31, "MISSED")])
def test_fan_out_is_judged_by_its_ratio(cost: float, word: str) -> None:
    results = Results("cluster-fanout", [window(SINGLE, 0, 1.0), window("3 nodes", 0, cost)], reference=SINGLE)
    assert verdicts(results) == ["", f"{word}: ≤ 1.3 ×"]


def test_what_is_added_is_the_difference_of_neighbours() -> None:
    windows = [window(SINGLE, 0, 5.0), window("2 nodes, forwarded", 0, 6.0)]
    windows += [window(SINGLE, 1, 50.0), window("2 nodes, forwarded", 1, 52.0)]
    results = Results("cluster-forward", windows, reference=SINGLE)
    assert added_us(windows, "2 nodes, forwarded") == pytest.approx([1.0, 2.0])
    assert verdicts(results) == ["", "met: ≤ 1.5 µs more"]


def test_workers_are_judged_by_their_rate_and_hops_by_their_delay() -> None:
    windows = [window("1 worker", 0, 5.0, 2.0), window("2 workers", 0, 5.0, 1.5)]
    assert verdicts(Results("cluster-workers", windows, reference="1 worker")) == ["", "MISSED: ≥ 1.4 × the rate"]
    hops = [
        window(SINGLE, 0, 5.0),
        window("2 nodes, delivered", 0, 5.0),
        window("2 nodes, there and back", 0, 5.0),
    ]
    accounts = [Account(SINGLE, 0, 0.5, 1.0), Account("2 nodes, delivered", 0, 1.25, 2.0)]
    results = Results("cluster-hop", hops, accounts, reference=SINGLE)
    assert verdicts(results) == ["", "met: ≤ 1 ms later", ""]


def test_tables_go_into_their_section(tmp_path: Path) -> None:
    storm = Results("cluster-storm")
    storm.returns = [
        Return("all 2,000 cut", 0, 2000, 1.5, {"503": 3}),
        Return("all 2,000 cut", 1, 2000, 6.5, {}, ("1 lost",)),
    ]
    mesh = Results("cluster-mesh", meshes=[Mesh(2, 100, "wildcards", 1024, 0.1, 3, 1, 5, 4.5)])
    workers = Results("cluster-workers", [window("1 worker", 0, 5.0)], reference="1 worker", remark="0.30 µs")
    mesh.failures["5 nodes"] = "did not link up"
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- cluster -->\nstale words\n<!-- end of cluster -->\nbehind\n")
    write_sections([], [], [], readme, [workers, storm, mesh])
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("behind\n")
    assert "stale words" not in text
    assert "| all 2,000 cut | 2,000 | 4.00 (slowest 6.50) | nobody told to wait | 1 lost | MISSED: ≤ 6 s |" in text
    assert "| 2 | 100 wildcards | 1,024 | 0.10 | 3 | 5 | 4.50 |" in text
    assert "5 nodes: did not link up" in text
    assert "0.30 µs." in text
    assert cluster_markdown([]) == ""
    assert len(cluster_console(storm)) == 2
    assert len(cluster_console(mesh)) == 1

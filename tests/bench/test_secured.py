"""The measurement of TLS: clients come in over it, and the table says both sides; not about time."""

from bench.secured import Row, connect, table


def test_both_servers_take_connections_in() -> None:
    (plain, plain_ms, _), (tls, tls_ms, _) = connect(5)
    assert (plain, tls) == ("triode", "tls")
    assert plain_ms > 0
    assert tls_ms > 0


def test_table_has_a_line_for_each_workload_and_for_connects() -> None:
    text = table([Row("pairs-1", 20.0, 30.0)], [("triode", 0.1, 2.0), ("tls", 1.0, 20.0)])
    assert text.splitlines()[2:] == [
        "| `pairs-1` | 20.00 | 30.00 | 1.50 |",
        "| a connect, ms | 0.10 | 1.00 | 10.00 |",
        "| idle, KiB | 2.0 | 20.0 | 10.0 |",
    ]

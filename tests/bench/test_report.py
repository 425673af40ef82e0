"""Figures from windows: medians, ratios of neighbours, verdicts. No servers, no time."""

from pathlib import Path

import pytest

from bench.contest import Account, Results, Start, Window
from bench.disk import Disk, Flush
from bench.report import Row, correctness, markdown, rows, verdict, version_of
from bench.tables import (
    against_markdown,
    against_verdict,
    starts_markdown,
    stored_markdown,
    stored_verdict,
    typical,
    write_sections,
)


def window(contestant: str, cycle: int, cpu_us: float) -> Window:
    """A window of a million deliveries in two seconds, a quarter of the processor time in user."""
    return Window(contestant, 0, cycle, 1_000_000, 2.0, cpu_us / 4, cpu_us * 3 / 4)


def results(workload: str, *windows: Window, accounts: tuple[Account, ...] = ()) -> Results:
    return Results(workload, list(windows), list(accounts))


def row_of(contestant: str, played: Results) -> Row:
    [row] = [row for row in rows(played) if row.contestant == contestant]
    return row


def test_ratio_is_the_median_over_neighbouring_windows() -> None:
    # The machine becomes ten times slower after the first cycle; neighbours agree all the same.
    played = results(
        "pairs-1",
        *(window("uws", cycle, cost) for cycle, cost in enumerate([1.0, 10.0, 10.0])),
        *(window("triode", cycle, cost) for cycle, cost in enumerate([1.2, 12.0, 12.0])),
    )
    row = row_of("triode", played)
    assert row.ratio == pytest.approx(1.2)
    assert (row.cpu_us, row.user_us, row.rate) == pytest.approx((12.0, 3.0, 500_000.0))
    assert row_of("uws", played).ratio == pytest.approx(1.0)


def test_ratio_is_absent_without_the_reference() -> None:
    row = row_of("triode", results("pairs-1", window("triode", 0, 1.0)))
    assert row.ratio is None
    assert verdict(row) == ""


@pytest.mark.parametrize(("cost", "word"), [(1.15, "met"), (1.16, "MISSED")])
def test_verdict_compares_with_the_target(cost: float, word: str) -> None:
    played = results("pairs-1", window("uws", 0, 1.0), window("triode", 0, cost))
    assert verdict(row_of("triode", played)) == f"{word}: ≤ 1.15 ×"
    assert verdict(row_of("uws", played)) == ""


@pytest.mark.parametrize(("seconds", "word", "rate"), [(2.5, "met", "0.80"), (2.6, "MISSED", "0.77")])
def test_verdict_on_idle_speaks_of_connects_and_memory(seconds: float, word: str, rate: str) -> None:
    """By rate; the stricter figure, by the server's own processor time, stands beside it."""
    played = results(
        "idle",
        window("uws", 0, 30.0),
        Window("triode", 0, 0, 1_000_000, seconds, 20.0, 40.0),
        accounts=(Account("triode", 0, kib=1.5, kib_own_topic=0.5),),
    )
    said = f"connects/s ≥ 0.8 × (is {rate} ×; per second of the server's CPU 0.50 ×); met: ≤ 2 KiB"
    assert verdict(row_of("triode", played)) == f"{word}: {said}"


def test_faults_of_all_rounds_are_added_and_shown() -> None:
    accounts = (
        Account("triode", 0, 1.0, 2.0, lost=1, notices={"gap": 1}),
        Account("triode", 1, 3.0, 4.0, doubled=2, misordered=3, notices={"gap": 2}),
    )
    row = row_of("triode", results("pairs-1", window("triode", 0, 1.0), accounts=accounts))
    assert not row.exact
    assert correctness(row) == "lost 1, doubled 2, misordered 3, 3 × gap"
    assert (row.p50_ms, row.p99_ms) == (2.0, 3.0)
    assert "3 × gap" in markdown([row])


def test_table_has_a_line_per_row_and_as_many_cells_as_its_head() -> None:
    played = results("fanout-200", window("uws", 0, 1.0), window("triode", 0, 0.3), window("naive", 0, 30.0))
    lines = markdown(rows(played)).splitlines()
    assert len(lines) == 2 + 3
    assert {line.count(" | ") for line in lines} == {8}


@pytest.mark.parametrize(
    ("seconds", "cost", "p99", "words"),
    [(50.0, 25.0, 25.0, "met met met"), (70.0, 25.1, 25.1, "MISSED MISSED MISSED")],
)
def test_verdict_on_stored_publishes(seconds: float, cost: float, p99: float, words: str) -> None:
    played = Results(
        "durable",
        [
            Window("triode", 0, 0, 1_000_000, seconds, cost, 0.0),
            Window("jetstream", 0, 0, 1_000_000, 9.0, 90.0, 0.0),
        ],
        [Account("triode", 0, 1.0, p99, steady_rate=9_000.0, steady_cpu_us=30.0)],
        reference="jetstream",
    )
    row = row_of("triode", played)
    said = stored_verdict(row)
    assert " ".join(part.split(":")[0] for part in said.split("; ")) == words
    assert row.ratio == pytest.approx(cost / 90.0)
    assert stored_verdict(row_of("jetstream", played)) == ""
    lines = stored_markdown(rows(played)).splitlines()
    assert len(lines) == 4
    assert {line.count(" | ") for line in lines} == {9}


def test_starts_are_a_line_for_each_kind_of_end() -> None:
    starts = [
        Start("triode, after a clean stop", 1.0, 0.5, 60.0),
        Start("triode, after a clean stop", 2.0, 0.5, 60.0),
        Start("triode, after kill -9", 3.5, 0.7, 61.0, ("a new log",)),
    ]
    _, _, clean, killed = starts_markdown(starts).splitlines()
    assert "1.50 (slowest 2.00)" in clean
    assert "met: ≤ 3 s" in clean
    assert "a new log" in killed
    assert "MISSED: ≤ 3 s" in killed


@pytest.mark.parametrize(("cost", "word"), [(1.05, "met"), (1.06, "MISSED")])
def test_verdict_beside_an_earlier_version(cost: float, word: str) -> None:
    played = Results(
        "pairs-1", [window("before", 0, 1.0), window("triode", 0, cost)], reference="before", remark="against x"
    )
    assert against_verdict(row_of("triode", played)).startswith(f"{word}: ≥ 0.95 ×")
    assert against_verdict(row_of("before", played)) == ""
    assert len(against_markdown(rows(played)).splitlines()) == 3


def test_typical_disk_is_the_one_in_the_middle() -> None:
    disks = [Disk("ext4", "x", (Flush(4096, cost, 9.0),)) for cost in (3.0, 1.0, 2.0)]
    assert typical(disks).flushes[0].p50_ms == 2.0


def test_version_of_a_program_that_is_absent_is_empty() -> None:
    assert version_of("no-such-program", "--version") == ""


def test_section_of_the_readme_is_written_only_with_figures_for_it(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    sections = ("results", "stored", "restart", "against")
    text = "".join(f"<!-- {name} -->\nold {name}\n<!-- end of {name} -->\n" for name in sections)
    readme.write_text(text)
    stored = Results(
        "durable",
        [Window("triode", 0, 0, 1_000_000, 50.0, 20.0, 0.0)],
        [Account("triode", 0, 1.0, 2.0)],
        {"mosquitto": "mosquitto is not installed"},
        disks=[Disk("ext4", "/dev/x", (Flush(4096, 0.3, 0.9),))],
    )
    start = Start("triode, after kill -9", 1.5, 0.7, 61.0)
    restart = Results("restart", disks=stored.disks, starts=[start], remark="7 messages")
    write_sections([], [stored, restart], [], readme)
    written = readme.read_text()
    assert "old results" in written
    assert "old against" in written
    assert "old stored" not in written
    assert "ext4 on /dev/x" in written
    assert "did not take part: mosquitto is not installed" in written
    assert "7 messages" in written.partition("<!-- restart -->")[2]
    write_sections([], [stored, restart], [], readme)
    assert readme.read_text().count("<!-- end of stored -->") == 1

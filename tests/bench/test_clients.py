"""Clients under measurement: every library does its work, small, and what is said of the figures.

What it must not know: how fast anything is; no assertion here is about time.
"""

import os
from pathlib import Path

import attrs
import pytest

from bench.callers.errand import NUMBERS, Errand, Meter, payload
from bench.client_tables import client_markdown, client_verdict
from bench.clients import BY_HAND, play_clients
from bench.contest import Account, Results, Window
from bench.plan import QUICK_CLIENTS
from bench.report import Row, rows
from bench.tables import write_sections

TINY = attrs.evolve(QUICK_CLIENTS, cycles=1, messages=2_560)


@pytest.mark.parametrize(
    ("workload", "contestants"),
    [
        ("clients-send", ("triode", BY_HAND)),
        ("clients-acked", ("triode, asyncio", "websockets")),
        ("clients-many", ("triode, sync",)),
        ("clients-receive", ("triode", "triode, sync", BY_HAND)),
    ],
)
def test_clients_lose_nothing(workload: str, contestants: tuple[str, ...]) -> None:
    results = play_clients(workload, TINY, contestants)
    assert results.failures == {}
    assert [row.contestant for row in rows(results)] == list(contestants)
    assert all(row.exact and row.rate > 0 for row in rows(results))


class Heard:
    """A meter, and what it says at its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said = b""
        monkeypatch.setattr(os, "write", self._write)
        self.meter = Meter(Errand("triode", "clients-receive", "", "", 256, 2, 0))

    def _write(self, _: int, data: bytes) -> None:
        self.said += data

    def faults(self) -> str:
        self.meter.report()
        return self.said.partition(b'"lost"')[2].decode()


@pytest.mark.parametrize(
    ("numbers", "faults"),
    [
        ([0, 1, 2], ':0,"doubled":0,"misordered":0}'),
        ([0, 2, 3], ':1,"doubled":0,"misordered":0}'),
        ([0, 1, 1], ':0,"doubled":0,"misordered":1}'),
    ],
)
def test_meter_reads_every_number(monkeypatch: pytest.MonkeyPatch, numbers: list[int], faults: str) -> None:
    heard = Heard(monkeypatch)
    for number in numbers:
        assert not heard.meter.received(payload(number)["n"])
    assert heard.faults() == faults


def test_meter_tells_of_progress_windows_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard(monkeypatch)
    heard.meter.ready()
    assert [heard.meter.received(number % NUMBERS) for number in range(512)] == [False] * 511 + [True]
    assert heard.said == b"r.."
    assert heard.faults() == ':0,"doubled":0,"misordered":0}'
    assert heard.said.count(b'"count":256') == 1  # the first window is for warming up


@pytest.mark.parametrize(
    ("offset", "faults"),
    [(110, ':0,"doubled":0'), (109, ':1,"doubled":0'), (111, ':0,"doubled":1')],
)
def test_meter_knows_by_the_offset_what_was_published(
    monkeypatch: pytest.MonkeyPatch, offset: int, faults: str
) -> None:
    heard = Heard(monkeypatch)
    heard.meter.place(100, 0)
    heard.meter.place(offset, 10)
    assert heard.faults().startswith(faults)


def row(contestant: str, rate: float, cpu_us: float) -> Row:
    window = Window(contestant, 0, 0, 1_000_000, 1_000_000 / rate, cpu_us, 0.0)
    [only] = rows(Results("clients-send", [window], [Account(contestant, 0)], reference=BY_HAND))
    return only


@pytest.mark.parametrize(
    ("rate", "cpu_us", "verdict"),
    [
        (50_000, 15.0, "met: ≥ 50,000/s"),
        (49_000, 15.0, "MISSED: ≥ 50,000/s; met: ≤ 20 µs"),
        (20_000, 21.0, "MISSED: ≥ 50,000/s; MISSED: ≤ 20 µs"),
    ],
)
def test_clients_are_judged_by_their_rate_and_what_it_leaves(rate: float, cpu_us: float, verdict: str) -> None:
    assert client_verdict(row("triode", rate, cpu_us)) == verdict
    assert client_verdict(row("nats-py", rate, cpu_us)) == ""


def test_tables_go_into_their_section(tmp_path: Path) -> None:
    windows = [Window(one, 0, 0, 50_000, 1.0, 0.5, 0.5) for one in ("triode", BY_HAND, "nats-py")]
    windows += [Window("triode", 0, 1 + cycle, 50_000, rest, 0.5, 0.5) for cycle, rest in enumerate((0.5, 2.0))]
    results = Results("clients-send", windows, [Account("triode", 0, lost=2)], reference=BY_HAND)
    results.failures["nats-py, TCP"] = "nats-server is not installed"
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- clients -->\nstale words\n<!-- end of clients -->\nbehind\n")
    write_sections([], [], [], readme, clients=[results])
    text = readme.read_text()
    assert "stale words" not in text
    assert "| 20.0 (10.0) | 1.00 | 50,000 (100,000) | lost 2, doubled 0, misordered 0 | met: ≥ 50,000/s |" in text
    assert "| not checked | – |" in text
    assert "`nats-py`, TCP did not take part: nats-server is not installed." in text
    assert client_markdown([results]) in text

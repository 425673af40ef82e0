"""The comparison with the neighbours: all that are here speak, and all is counted; not about time."""

from pathlib import Path

import pytest

from bench.crowds import open_all
from bench.load import LoadError, upgrade_request
from bench.neighbourhood import NEIGHBOURS, Neighbour, is_here, version_of
from bench.neighbours import WORKLOADS, Figures, Idle, check, figures_table, idle_table, who_table
from bench.servers import running
from bench.sockets import Loop
from bench.tongues import END, payload

TRIODE, OTHER = NEIGHBOURS[:2]


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=lambda one: one.name)
def test_neighbour_delivers_and_acknowledges_everything_once(neighbour: Neighbour) -> None:
    if why := is_here(neighbour):
        pytest.skip(f"{neighbour.name} is not here: {why}")
    counts = check(neighbour)
    assert len(counts) == len(WORKLOADS) - (neighbour.tongue.acked is None)
    assert all(due == received > 0 for due, received in counts.values()), counts
    assert version_of(neighbour)[0].isdigit()


@pytest.mark.parametrize("size", [128, 1024])
def test_payload_is_as_long_as_asked_and_ends_with_the_mark(size: int) -> None:
    text = payload(size)
    assert len(f'"{text}"'.encode()) == size
    assert text.encode().endswith(END)
    assert text.encode().count(END) == 1


def test_refused_handshake_is_told(tmp_path: Path) -> None:
    with running(TRIODE.recipe, place=tmp_path) as server, Loop() as loop:
        opening = upgrade_request(server.address, "/nowhere")
        with pytest.raises(LoadError, match="404"):
            open_all(loop, server.address, [[(opening, b"\r\n\r\n")]])


def test_tables_tell_each_figure_beside_triodes() -> None:
    played = {
        "pairs": {
            TRIODE.name: Figures([4.0, 5.0, 6.0], [100.0, 100.0, 100.0]),
            OTHER.name: Figures([2.0, 2.5, 9.0], [200.0, 150.0, 100.0], [1_000_000, 2_000_000], lost=3),
            NEIGHBOURS[2].name: Figures(failure="it does not listen"),
        }
    }
    title = next(one.title for one in WORKLOADS if one.name == "pairs")
    assert figures_table(played, NEIGHBOURS)[2:] == [
        f"| {title} | **Triode** | 5.00 (4.00–6.00) | 1.00 | 1.00 | – | – | none |",
        f"| {title} | µWebSockets | 2.50 (2.00–9.00) | 0.50 | 1.50 | 2.00 | 2.00 | 3 |",
        f"| {title} | NATS | it does not listen | | | | | |",
    ]
    idle = {TRIODE.name: Idle([100.0], [5_000.0], [1.5])}
    assert idle_table(idle, [TRIODE])[2:] == ["| **Triode** | 1.5 | 100 (100–100) | 5,000 |"]
    assert len(who_table([TRIODE])) == 3

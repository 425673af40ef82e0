"""What `triode bench` draws: how latencies are spread, and deliveries over time.

Knows plotille. The surprising decision: no colours, so that a picture is the same in a log and in a terminal.
"""

from collections.abc import Sequence

import plotille  # type: ignore[import-untyped]  # it has annotations, and no marker that says so

from triode_broker.cli.bench_figures import Times, rows
from triode_broker.cli.top_picture import time_of

WIDTH = 60
HEIGHT = 8


def spread(times: Times) -> str:
    """A histogram, by latency; bars by the logarithm, so that the few slow ones are seen."""
    counts, bounds = rows(times)
    labels = [f"< {time_of(bound)}".rjust(10) for bound in bounds[1:]]
    text: str = plotille.hist_aggregated(counts, labels=labels, width=WIDTH, log_scale=True)
    return text + "\n"


def timeline(counts: Sequence[int], slot_ms: int) -> str:
    """Deliveries per second, over the seconds."""
    figure = plotille.Figure()
    figure.width, figure.height, figure.with_colors = WIDTH, HEIGHT, False
    figure.x_label, figure.y_label = "s", "deliveries/s"
    places = [place * slot_ms / 1000 for place in range(len(counts))]
    rates = [count * 1000 / slot_ms for count in counts]
    figure.set_x_limits(0, max(places[-1], 0.1))
    figure.set_y_limits(0, max(*rates, 1.0))
    figure.plot(places, rates)
    text: str = figure.show()
    return text + "\n"

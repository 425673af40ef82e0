"""The table of docs/metrics.md: every metric as a page has it, with its kind, its labels and what it says.

`python -m tests.house.metrics_reference` (part of `make generate`) writes it; test_metrics_reference.py says if it
is current.
"""

import re
from pathlib import Path
from typing import Final

from triode_broker.http.metrics_table import SECTIONS, Metric

from tests.house.tree import ROOT

PAGE: Final = ROOT / "docs" / "metrics.md"


def table() -> str:
    """One table for each section."""
    lines: list[str] = []
    for heading, metrics in SECTIONS.items():
        lines += ["", f"### {heading}", "", "| metric | | labels | |", "| --- | --- | --- | --- |"]
        lines += [_row(metric) for metric in metrics]
    return "\n".join(lines[1:])


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.shown_name}` | {metric.kind} | {labels} | {metric.help} |"


def page(text: str) -> str:
    """It with its generated part as it has to be."""
    pattern = re.compile(r"(<!-- generated: metrics -->\n).*?(<!-- end -->)", re.DOTALL)
    found = pattern.search(text)
    assert found is not None, "the page has no place for the metrics"
    return f"{text[: found.start()]}{found[1]}\n{table()}\n\n{found[2]}{text[found.end() :]}"


if __name__ == "__main__":
    Path(PAGE).write_text(page(PAGE.read_text()))

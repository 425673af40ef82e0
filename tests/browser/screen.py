"""What the demo page shows, read as a person would: rows, state, counts."""

from itertools import groupby
from typing import Final

from attrs import frozen
from playwright.sync_api import Page

_READ_ROWS: Final = "rows => rows.map(row => [row.className, ...[...row.cells].map(cell => cell.textContent)])"


@frozen
class Row:
    """A line of the table; `kind` is "message", "gap", …; `offset` is "" where there is none."""

    kind: str
    time: str
    topic: str
    text: str
    offset: str = ""


def rows(page: Page, topic: str = "") -> list[Row]:
    """All rows, oldest first; those of one topic or filter."""
    found = [Row(*cells) for cells in page.locator("#messages tr").evaluate_all(_READ_ROWS)]
    return [row for row in reversed(found) if topic in ("", row.topic)]


def texts(page: Page, topic: str) -> list[str]:
    """What the rows of a topic say, oldest first."""
    return [row.text for row in rows(page, topic)]


def states(page: Page) -> list[str]:
    """The first words of all states shown since the page was opened, repetitions left out."""
    return [state for state, _ in groupby(text.split()[0] for text in page.evaluate("window.states"))]

"""Where `triode top` draws: a terminal's whole screen, or a page of text.

Knows rich's console, not what is drawn. The surprising decision: text has no width of its own choice. Whoever
reads a file wants the same columns each time, so the width is what COLUMNS says, or a fixed one.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from triode_broker.cli.top_picture import draw

Update = Callable[[Mapping[str, Any], str, str], None]


def as_text(shown: Mapping[str, Any], width: int, note: str = "") -> str:
    """One picture without colours or control characters."""
    paper = io.StringIO()
    console = Console(file=paper, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(draw(shown, width, note))
    return "\n".join(line.rstrip() for line in paper.getvalue().splitlines()) + "\n"


@contextmanager
def live() -> Iterator[Update]:
    """The screen is this command's until the end; colours as rich finds that they are wanted (NO_COLOR)."""
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as screen:

        def update(shown: Mapping[str, Any], note: str, order: str) -> None:
            body = draw(shown, console.width, note)
            screen.update(Group(body, Text(f"\n{order}", "dim")), refresh=True)

        yield update

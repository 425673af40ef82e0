"""What the user of `pub` and `sub` is told on stderr: lines, and one progress line that gives way to them.

Knows a stream. The surprising decision: the progress line is shown only on a terminal and only after a second, so
that neither logs nor quick commands ever have it.
"""

import sys
from collections.abc import Callable
from typing import TextIO

import trio

from triode_broker.printable import escape

FIRST_PROGRESS_SECONDS = 1.0
PROGRESS_SECONDS = 0.25
_CLEAR = "\r\x1b[K"


class Screen:
    """stderr for people. `tell` in any order; `show_progress` runs until cancelled."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._has_progress = False

    def tell(self, text: str) -> None:
        """One line; what came from outside in it cannot drive the terminal."""
        self._write(f"{escape(text)}\n")

    def clear(self) -> None:
        """Take the progress line away."""
        self._write("")

    async def show_progress(self, describe: Callable[[], str]) -> None:
        """Keep a line up to date, where there is a terminal; clears it when it is cancelled."""
        if not self._stream.isatty():
            return
        await trio.sleep(FIRST_PROGRESS_SECONDS)
        try:
            while True:
                self._write(escape(describe()), is_progress=True)
                await trio.sleep(PROGRESS_SECONDS)
        finally:
            self.clear()

    def _write(self, text: str, *, is_progress: bool = False) -> None:
        text = (_CLEAR if self._has_progress or is_progress else "") + text
        self._has_progress = is_progress
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more: the work itself goes on

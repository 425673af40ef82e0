"""SIGHUP, which means two things: read again what may have changed, or: the terminal is gone.

Knows file descriptors. The surprising decision: which of both it is, is asked of the terminal. One that has hung
up is none any more for `isatty`; so a broker that somebody has started by hand ends with its window, as programs
do, and `kill -HUP` from another one still reloads.
"""

import os
from typing import Final

_STANDARD: Final = (0, 1, 2)


class Terminal:
    """That of this process, from when it was made."""

    def __init__(self) -> None:
        self._was_there = _is_there()

    @property
    def is_gone(self) -> bool:
        """Whether there was one, and is none now."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    return any(os.isatty(descriptor) for descriptor in _STANDARD)

"""Keys of a terminal, one at a time, and that its size has changed; for a command that shows something live.

Knows termios and signals, nothing of what is shown. The surprising decision: a change of size comes through the
same wait as a key (a pipe that the signal writes into), so that there is no thread and no race between the two.
"""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

RESIZED: Final = "resized"
TIME_OVER: Final = ""
GONE: Final = "q"  # whoever sat at the terminal has left it: as if they had ended the command


class Keyboard:
    """stdin, where it is a terminal; else nothing ever comes."""

    def __init__(self, resized: int) -> None:
        self._resized = resized
        self._stdin = sys.stdin.fileno() if sys.stdin.isatty() else None

    def wait(self, seconds: float) -> str:
        """The next key, RESIZED, or TIME_OVER."""
        descriptors = [self._resized, *([] if self._stdin is None else [self._stdin])]
        ready, _, _ = select.select(descriptors, [], [], max(seconds, 0))
        if self._resized in ready:
            os.read(self._resized, 64)
            return RESIZED
        if ready and self._stdin is not None:
            return os.read(self._stdin, 1).decode("latin-1") or GONE
        return TIME_OVER


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Keys come as they are typed, and are not shown; after it the terminal is as it was."""
    with ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)
        os.set_blocking(writer, False)
        before = signal.signal(signal.SIGWINCH, lambda *_: None)
        stack.callback(signal.signal, signal.SIGWINCH, before)
        old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, old)
        if sys.stdin.isatty():
            number = sys.stdin.fileno()
            mode = termios.tcgetattr(number)
            stack.callback(termios.tcsetattr, number, termios.TCSADRAIN, mode)
            tty.setcbreak(number, termios.TCSANOW)
        yield Keyboard(reader)

"""Interrupting the main thread exactly where it waits."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_AGAIN_SECONDS = 0.2


@contextmanager
def interrupted_while_waiting() -> Iterator[None]:
    """The block gets a KeyboardInterrupt, as from ctrl-C, once the main thread waits inside of the client."""
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    is_over = threading.Event()

    def interrupt() -> None:
        while not is_over.is_set():
            frame = sys._current_frames().get(main)
            if frame is not None and frame.f_code.co_qualname == "Bell.wait":
                signal.pthread_kill(main, signal.SIGINT)
                # Again, because a signal just ahead of a system call that blocks is looked at behind that.
                is_over.wait(_AGAIN_SECONDS)

    watcher = threading.Thread(target=interrupt, daemon=True)
    watcher.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        is_over.set()
        watcher.join()

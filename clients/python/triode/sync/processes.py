"""What a process does with its background threads when it forks and when it ends.

Knows threads' owners by three methods, nothing of trio. The surprising decision: the child of a fork keeps what it
has inherited alive for good. Nothing of it runs any more, but collecting it would run the ends of its coroutines,
and these write to sockets.
"""

import atexit
import os
import sys
import threading
from typing import Final, Protocol


class Owner(Protocol):
    """Who has a thread and a connection."""

    def disown(self) -> None:
        """This is the child of a fork: both are the parent's."""

    def finish(self, timeout: float | None = None) -> None:
        """Begin to close politely."""

    def wait_ended(self) -> bool:
        """Until its thread is gone, or has had all the time that it may take."""


#: State of the process, because that is what forks and ends: a set of this module's clients would not be enough.
_running: Final[set[Owner]] = set()
_inherited: Final[list[Owner]] = []
_with_an_end: Final[set[int]] = set()


def enter(owner: Owner) -> None:
    """Its thread is about to start."""
    _running.add(owner)
    util = sys.modules.get("multiprocessing.util")
    if util is not None and os.getpid() not in _with_an_end:  # its processes end without atexit, but run these
        _with_an_end.add(os.getpid())
        util.Finalize(None, finish_all, exitpriority=0)


def leave(owner: Owner) -> None:
    """Its thread is about to end."""
    _running.discard(owner)


def finish_all() -> None:
    """Flush and close all of them at once: at the end of the process, and bounded as `close` is."""
    owners = list(_running)
    for owner in owners:
        owner.finish()
    for owner in owners:
        owner.wait_ended()


def _after_fork_in_child() -> None:
    _inherited.extend(_running)
    _running.clear()
    for owner in _inherited:
        owner.disown()


class Locks:
    """A lock for each process: one that another thread held at the fork is not the child's."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}

    def mine(self) -> "threading.RLock":
        """This process's."""
        lock = self._locks.get(os.getpid())
        return lock if lock is not None else self._locks.setdefault(os.getpid(), threading.RLock())


atexit.register(finish_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

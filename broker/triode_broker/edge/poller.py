"""The readiness queue of the kernel: epoll on Linux, kqueue on macOS and the BSDs, behind the same few calls.

Knows file descriptors. Level-triggered, and itself a descriptor that can be awaited. Surprising: on Linux there is
no class of ours, `select.epoll` is the interface, so that the hot call has no Python around it.
"""

import select
import sys
from collections.abc import Sequence
from typing import Final, Protocol

# epoll's own numbers, so that its events need no translation.
READ: Final = 0x001
WRITE: Final = 0x004
#: Error or hang-up. Reported whatever is asked for; the only other bits there are.
HANGUP: Final = 0x008 | 0x010


class Poller(Protocol):
    """Says which descriptors are ready for what they were registered for."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch `fd` for a sum of READ and WRITE. A descriptor that is closed leaves by itself."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Watch it for something else."""

    def unregister(self, fd: int, /) -> None:
        """Watch it no longer."""

    def poll(self, timeout: float = ..., maxevents: int = ..., /) -> Sequence[tuple[int, int]]:
        """Up to `maxevents` ready descriptors with the bits that are true of each."""

    def fileno(self) -> int:
        """Readable while something is ready."""

    def close(self) -> None:
        """Give the descriptor back."""


if sys.platform == "linux":

    def make_poller() -> Poller:
        """An empty poller."""
        return select.epoll()

else:

    class Kqueue:
        """kqueue in the words of epoll: two filters a descriptor instead of one mask."""

        __slots__ = ("_masks", "_queue")

        def __init__(self) -> None:
            self._queue = select.kqueue()
            self._masks: dict[int, int] = {}

        def register(self, fd: int, eventmask: int, /) -> None:
            """Watch `fd`; the kernel forgot a closed one, so what is remembered of its number is void."""
            self._masks.pop(fd, None)
            self.modify(fd, eventmask)

        def modify(self, fd: int, eventmask: int, /) -> None:
            """Add and delete the filters that differ."""
            before = self._masks.get(fd, 0)
            changes = [
                select.kevent(fd, filter, select.KQ_EV_ADD if eventmask & bit else select.KQ_EV_DELETE)
                for bit, filter in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE))
                if (eventmask ^ before) & bit
            ]
            self._masks[fd] = eventmask
            if changes:
                self._queue.control(changes, 0, 0)

        def unregister(self, fd: int, /) -> None:
            """Delete both filters."""
            self.modify(fd, 0)
            del self._masks[fd]

        def poll(self, timeout: float = 0, maxevents: int = 256, /) -> Sequence[tuple[int, int]]:
            """One entry for each filter that fired. An end of stream is READ: recv will tell."""
            return [
                (event.ident, WRITE if event.filter == select.KQ_FILTER_WRITE else READ)
                for event in self._queue.control(None, maxevents, timeout)
            ]

        def fileno(self) -> int:
            """The kqueue's own descriptor."""
            return self._queue.fileno()

        def close(self) -> None:
            """Give the descriptor back."""
            self._queue.close()

    def make_poller() -> Poller:
        """An empty poller."""
        return Kqueue()

"""Lines out of a stream of bytes, as they come: for `triode pub TOPIC -`.

Knows bytes and bounds, nothing of publishing. The surprising decision: chunks are read with `os.read` in a thread
and cut here, instead of line by line from `sys.stdin`. A pipe then gives at once what it has (50 µs a chunk, many
lines or one), files, terminals and pipes are alike, and no flag of a descriptor that others share is changed.
"""

import os
from collections.abc import Callable, Iterator

import trio
from attrs import frozen

CHUNK_BYTES = 65_536
MAX_LINE_BYTES = 1_048_576  # as much as waits in memory for a line's end


@frozen
class Line:
    """One line without its end; `number` counts from 1. `is_cut`: it was too long, this is its beginning."""

    number: int
    content: bytes
    is_cut: bool = False


class LineCutter:
    """Cuts what is fed into lines. A line longer than MAX_LINE_BYTES is given once, cut; its rest is dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._count = 0
        self._is_skipping = False

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that `chunk` completes; empty `chunk`: the end, what is left is a line too."""
        if not chunk:
            if self._rest and not self._is_skipping:
                yield self._line(self._rest)
            self._rest = b""
            return
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        for content in complete:
            if self._is_skipping:
                self._is_skipping = False
            else:
                yield self._line(content)
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._is_skipping:
                yield self._line(self._rest)
            self._is_skipping = True
            self._rest = b""

    def _line(self, content: bytes) -> Line:
        self._count += 1
        if len(content) > MAX_LINE_BYTES:
            return Line(self._count, content[:MAX_LINE_BYTES], is_cut=True)
        return Line(self._count, content.removesuffix(b"\r"))


async def read_chunk(descriptor: int, read: Callable[[int, int], bytes] = os.read) -> bytes:
    """What the descriptor has, at most CHUNK_BYTES; waits for something; b"" at the end.

    A cancelled read is left to its thread, which may still take (and lose) one chunk.
    """
    return await trio.to_thread.run_sync(read, descriptor, CHUNK_BYTES, abandon_on_cancel=True)

"""What a client is to do, and how it tells what that took.

What it must not know: any library, any server.
The surprising decision: a window is so many messages, not so much time: every client is measured doing the same
work, and the client itself reads its own clock and processor time, at the window's edges only.
"""

import os
import sys
import time
from typing import Any, Final

import msgspec

NUMBERS: Final = 4_096  # payloads are numbered up to here, again and again
TOLD_EACH: Final = 256  # messages between two signs of progress
READY: Final = b"r"
PROGRESS: Final = b"."
_TEXT: Final = "x" * 104


class Errand(msgspec.Struct, frozen=True):
    """`windows` × `count` messages, the first window not counted."""

    contestant: str
    workload: str
    url: str
    topic: str
    count: int
    windows: int
    core: int


class Spent(msgspec.Struct, frozen=True):
    """One window."""

    count: int
    seconds: float
    user_seconds: float
    system_seconds: float


class Report(msgspec.Struct):
    """All of them, and what was wrong."""

    windows: list[Spent] = []
    lost: int = 0
    doubled: int = 0
    misordered: int = 0


def payload(number: int) -> dict[str, Any]:
    """128 bytes of JSON, about."""
    return {"n": number % NUMBERS, "text": _TEXT}


class Meter:
    """Counts, and tells the other side of stdout."""

    def __init__(self, errand: Errand) -> None:
        self._report = Report()
        self._count = errand.count
        self._total = errand.count * errand.windows
        self._received = 0
        self._expected = 0
        self._next_offset = 0
        self._edge = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        split = os.times()
        return time.perf_counter(), time.process_time(), split.user, split.system

    def ready(self) -> None:
        """Everything is connected."""
        os.write(sys.stdout.fileno(), READY)
        self._edge = self._now()

    def begin(self) -> None:
        """A window begins here, not where the one before has ended."""
        self._edge = self._now()

    def end(self, count: int) -> None:
        """So many messages since the last edge."""
        before, self._edge = self._edge, self._now()
        seconds, spent, user, system = (later - earlier for later, earlier in zip(self._edge, before, strict=True))
        share = user / (user + system) if user + system else 1.0
        self._report.windows.append(Spent(count, seconds, spent * share, spent * (1 - share)))

    def place(self, offset: int, count: int) -> None:
        """The offset of the last of `count` messages just published; `count` 0: of the one before them."""
        expected = self._next_offset + count
        if count and offset < expected:
            self._report.lost += expected - offset
        elif count:
            self._report.doubled += offset - expected
        self._next_offset = offset

    def received(self, number: int) -> bool:
        """One message was received, with this number in its payload; whether it was the last."""
        if number != self._expected:
            self._unexpected(number)
        self._expected = (number + 1) % NUMBERS
        self._received += 1
        if not self._received % TOLD_EACH:
            os.write(sys.stdout.fileno(), PROGRESS)
            if not self._received % self._count:
                self.end(self._count)
        return self._received == self._total

    def _unexpected(self, number: int) -> None:
        ahead = (number - self._expected) % NUMBERS
        if ahead < NUMBERS // 2:
            self._report.lost += ahead
        else:
            self._report.misordered += 1

    def report(self) -> None:
        """The end."""
        del self._report.windows[:1]
        os.write(sys.stdout.fileno(), msgspec.json.encode(self._report))

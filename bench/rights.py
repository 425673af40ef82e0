"""What permission costs a delivery: `python -m bench.rights`, the router alone, 1,000 outboxes, no sockets.

What it must not know: sessions, credentials, other servers.
The surprising decision: it looks at the core from inside, because through sockets a difference this small drowns.
The three kinds take turns, a window each, and a ratio is the median of those of neighbouring windows.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Final

from attrs import frozen
from triode_broker.config import Limits
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.record import Record
from triode_broker.core.rights import Rights
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.core.subscription import Subscription
from triode_broker.log.memory import MemoryLog

OUTBOXES: Final = 1_000
FILTER: Final = "rooms/#"
PAYLOAD: Final = b"x" * 256
#: Messages of one window: what fits into an outbox.
MESSAGES: Final = 100
#: Item 11 of the issue asks for 0.9 of the rate; this part of it is to cost nothing.
TARGET: Final = 1.02


@frozen
class Kind:
    """How every one of the subscribers is allowed the filter."""

    name: str
    rights: Callable[[int], Rights | None]


KINDS: Final = (
    Kind("no rules", lambda number: None),
    Kind("allowed wholly", lambda number: Rights({"subscribe": [FILTER, f"users/{number}/#"]})),
    Kind(
        "allowed in part",
        lambda number: Rights({"subscribe": [FILTER]}, {"subscribe": ["rooms/closed/#", f"rooms/+/not/{number}"]}),
    ),
)


class Room:
    """A router with its subscribers, all of one kind."""

    def __init__(self, kind: Kind, outboxes: int = OUTBOXES) -> None:
        limits = Limits()
        shard = Shard(MemoryLog("m0-bench", limits), limits.max_dedupe_bytes)
        self.router = Router([shard], Policies(()), limits)
        self._dirty: list[Outbox] = []
        self._boxes = [Outbox(None, self._dirty, bytes, 1 << 30) for _ in range(outboxes)]
        self._serial = 0
        for number, box in enumerate(self._boxes):
            sub = Subscription(1, FILTER, "replay", box, (shard,), self.router.statistics.gaps)
            rights = kind.rights(number)
            if rights is not None and rights.verdict("subscribe", FILTER) != "all":
                sub.allows = partial(rights.may, "subscribe")
            self.router.go_live(sub)

    def deliver(self, messages: int = MESSAGES) -> float:
        """Seconds for one outbox and message of a topic whose audience is known."""
        return self._timed([Record("rooms/1/chat", 1, 1, 1, PAYLOAD)] * messages)

    def deliver_first(self, topics: int = 20) -> float:
        """The same for the first message of a topic: its audience is found, and with rules in part judged."""
        begin = self._serial
        self._serial += topics
        return self._timed([Record(f"rooms/{begin + one}/chat", 1, 1, 1, PAYLOAD) for one in range(topics)])

    def _timed(self, records: Sequence[Record]) -> float:
        deliver = self.router.deliver
        begin = time.perf_counter_ns()
        for record in records:
            deliver(record)
        took = time.perf_counter_ns() - begin
        delivered = sum(len(box.items) for box in self._boxes)
        if delivered != len(records) * len(self._boxes):
            raise AssertionError(f"{delivered} deliveries of {len(records)} messages")
        for box in self._boxes:
            box.items.clear()
            box.size = 0
        self._dirty.clear()
        return took / delivered / 1e9


@frozen
class Row:
    """What one kind came to."""

    name: str
    seconds: float  # of one delivery
    ratio: float  # to no rules
    first_seconds: float  # of one delivery of a topic's first message


def measure(windows: int, outboxes: int = OUTBOXES) -> list[Row]:
    """All kinds in turn."""
    rooms = [Room(kind, outboxes) for kind in KINDS]
    for room in rooms:
        room.deliver()
    gc.collect()
    gc.disable()
    try:
        known = [[room.deliver() for room in rooms] for _ in range(windows)]
        first = [[room.deliver_first() for room in rooms] for _ in range(max(windows // 10, 1))]
    finally:
        gc.enable()
    return [
        Row(
            kind.name,
            median(window[place] for window in known),
            median(window[place] / window[0] for window in known),
            median(window[place] for window in first),
        )
        for place, kind in enumerate(KINDS)
    ]


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    head = [
        "| subscribers | µs a delivery | ratio | first of a topic, µs a delivery |",
        "| --- | ---: | ---: | ---: |",
    ]
    return "\n".join(head + [_line(row) for row in rows])


def _line(row: Row) -> str:
    return f"| {row.name} | {row.seconds * 1e6:.3f} | {row.ratio:.2f} | {row.first_seconds * 1e6:.2f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rights", description=__doc__)
    parser.add_argument("--windows", type=int, default=300, help="of each kind (300)")
    rows = measure(parser.parse_args(arguments).windows)
    print(table(rows))
    is_met = all(row.ratio <= TARGET for row in rows)
    print(f"{'met' if is_met else 'MISSED'}: ≤ {TARGET} × what a delivery costs without rules")
    return 0


if __name__ == "__main__":
    sys.exit(main())

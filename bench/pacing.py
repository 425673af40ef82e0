"""Publishers that are told when a message is stored: as fast as a window allows, or by the clock.

What it must not know: which server they speak to, what is reported.
The surprising decision: by the clock, latency counts from the moment a message was due, not from when it could be
sent. A server that falls behind then shows it, where a patient client would publish less and hide it.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

from bench.ledger import Accounts
from bench.sockets import Connection, Loop
from bench.speakers import Address, Answers, Speaker
from bench.workloads import turn_for, turn_while

_FIRST_NUMBER = 100  # ids of one width


class Publisher:
    """One connection with a bounded number of publishes that are not acknowledged yet."""

    def __init__(
        self,
        connection: Connection,
        frames: dict[int, bytes],
        answers: Callable[[bytearray, int], Answers],
        accounts: Accounts,
        publishers: "Publishers",
    ) -> None:
        self.accounts = accounts
        self.published = 0
        self.owed: deque[int] = deque()  # when each message was due that could not be sent yet
        self._connection = connection
        self._frames = frames
        self._answers = answers
        self._all = publishers
        self._free = list(frames)
        self._due: dict[int, int] = {}
        connection.take = self._take

    @property
    def waiting(self) -> bool:
        return bool(self._due or self.owed)

    def saturate(self) -> None:
        """Everything the window allows."""
        self._send([time.perf_counter_ns()] * len(self._free))

    def send_owed(self) -> None:
        if self.owed and self._free:
            count = min(len(self.owed), len(self._free))
            self._send([self.owed.popleft() for _ in range(count)])

    def _send(self, due: Iterable[int]) -> None:
        parts = []
        for at in due:
            number = self._free.pop()
            self._due[number] = at
            parts.append(self._frames[number])
        self.published += len(parts)
        self._connection.send(b"".join(parts))

    def _take(self, buffer: bytearray, end: int) -> int:
        used, answers = self._answers(buffer, end)
        now = time.perf_counter_ns()
        for number, place in answers:
            self.accounts.take(place)
            if (at := self._due.pop(number, 0)) == 0:
                self._all.notices[f"answer to id {number}, which was not in flight"] += 1
                continue
            self._free.append(number)
            self._all.latencies.append(now - at)
        if self._all.open:
            self.saturate()
        else:
            self.send_owed()
        return used


class Publishers:
    """So many publishers, each on its own topic, each with `window` messages out at most; nobody subscribes."""

    def __init__(
        self, loop: Loop, address: Address, *, speaker: Speaker, publishers: int = 16, window: int = 32
    ) -> None:
        self.notices: Counter[str] = Counter()
        self.latencies: list[int] = []
        self.open = False
        self._loop = loop
        numbers = range(_FIRST_NUMBER, _FIRST_NUMBER + window)
        self.publishers = [
            self._make(speaker, connection, index, {i: speaker.frame(index, i) for i in numbers})
            for index, connection in enumerate(speaker.open(loop, address, publishers))
        ]
        self.ledgers = [one.accounts for one in self.publishers]

    def _make(self, speaker: Speaker, connection: Connection, index: int, frames: dict[int, bytes]) -> Publisher:
        def answers(buffer: bytearray, end: int) -> Answers:
            return speaker.answers(connection, buffer, end, self.notices)

        accounts = speaker.ledger(self._loop, connection, index)
        return Publisher(connection, frames, answers, accounts, self)

    @property
    def published(self) -> int:
        return sum(one.published for one in self.publishers)

    @property
    def waiting(self) -> bool:
        """Something is not acknowledged yet."""
        return any(one.waiting for one in self.publishers)

    def start(self) -> None:
        """From now on everything the windows allow; `stop` ends it."""
        self.open = True
        for one in self.publishers:
            one.saturate()

    def stop(self) -> None:
        self.open = False

    def pump(self, seconds: float) -> None:
        """As fast as the windows allow, then wait until everything is acknowledged."""
        self.start()
        turn_for(self._loop, seconds)
        self._rest()

    def fill(self, count: int) -> None:
        """At least so many more messages."""
        wanted = self.published + count
        self.start()
        turn_while(self._loop, lambda: self.published < wanted)
        self._rest()

    def steady(self, seconds: float, per_second: float) -> None:
        """By the clock, one publisher after the other, then wait until everything is acknowledged."""
        gap = 1e9 / per_second
        total = max(round(seconds * per_second), 1)
        began = time.perf_counter_ns()
        owed = 0
        while owed < total:
            due = min(int((time.perf_counter_ns() - began) / gap) + 1, total)
            for index in range(owed, due):
                self.publishers[index % len(self.publishers)].owed.append(int(began + index * gap))
            for one in self.publishers:
                one.send_owed()
            owed = due
            self._loop.turn(max((began + owed * gap - time.perf_counter_ns()) / 1e9, 0.0))
        self._rest()

    def close(self) -> None:
        for one in self.publishers:
            one.accounts.close(one.published)

    def _rest(self) -> None:
        self.stop()
        turn_while(self._loop, lambda: self.waiting)

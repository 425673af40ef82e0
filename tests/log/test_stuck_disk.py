"""A disk that does not answer holds up the end of the process for so long, and no longer."""

import threading
from typing import Any

import trio
from trio.testing import MockClock
from triode_broker.log.committer import CLOSE_SECONDS, Committer


class StuckDisk:
    """A log whose thread is in a call to the system that does not return."""

    name = "d0-stuck"

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.is_stopped = False
        self.wake = self.answered = self.barrier = lambda *_: None

    def work(self) -> None:
        """In its thread."""
        self.goes_on.wait()

    def take_answers(self) -> None:
        """There are none."""

    def close_turn(self) -> None:
        """Nothing was appended."""

    def stop(self) -> None:
        """Asked to end behind what it is doing."""
        self.is_stopped = True


async def test_end_waits_for_a_disk_that_does_not_answer_for_a_bounded_time(autojump_clock: MockClock) -> None:
    disk: Any = StuckDisk()
    told: list[tuple[str, dict[str, object]]] = []
    committer = Committer([disk], lambda: None, lambda event, **facts: told.append((event, facts)))
    began = trio.current_time()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(committer.run)
            nursery.cancel_scope.cancel()
        assert disk.is_stopped
        assert trio.current_time() - began == CLOSE_SECONDS
        assert [event for event, _ in told] == ["store_not_closed"]
    finally:
        disk.goes_on.set()


async def test_end_waits_no_longer_than_the_disk_takes() -> None:
    disk: Any = StuckDisk()
    told: list[str] = []
    committer = Committer([disk], lambda: None, lambda event, **_: told.append(event))
    disk.stop = disk.goes_on.set
    async with trio.open_nursery() as nursery:
        await nursery.start(committer.run)
        nursery.cancel_scope.cancel()
    assert told == []

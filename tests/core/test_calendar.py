"""Calls at times of the wall clock, whatever becomes of that clock."""

from triode_broker.core.calendar import LOOK_MS, Calendar
from triode_broker.core.timers import Timers


class Clocks:
    """A calendar, both clocks in the hand, and what rang when by the wall clock."""

    def __init__(self) -> None:
        self.steady_ms, self.wall_ms = 500, 1_000_000
        self.timers = Timers(lambda: self.steady_ms)
        self.timers.hear(self.wall_ms)
        self.calendar = Calendar(self.timers)
        self.rung: list[int] = []

    def at(self, due_ms: int) -> int:
        return self.calendar.at(due_ms, self.rung.append)

    def wait(self, ms: int, *, in_steps: int = 10) -> None:
        for _ in range(0, ms, in_steps):
            self.steady_ms += in_steps
            self.wall_ms += in_steps
            self.timers.tick(self.wall_ms)


def test_calls_come_in_order_of_their_time() -> None:
    clocks = Clocks()
    for due_ms in (1_000_300, 1_000_100, 1_005_000):
        clocks.at(due_ms)
    clocks.wait(400)
    assert clocks.rung == [1_000_100, 1_000_300]
    clocks.wait(4_600)
    assert clocks.rung[2:] == [1_005_000]
    assert clocks.timers.next_due_ms is None, "nothing is looked for any more"


def test_what_was_dropped_does_not_ring() -> None:
    clocks = Clocks()
    clocks.calendar.drop(clocks.at(1_000_100))
    assert len(clocks.calendar) == 1
    clocks.wait(200)
    assert clocks.rung == []
    assert len(clocks.calendar) == 0


def test_a_clock_that_is_set_is_noticed_within_a_second() -> None:
    clocks = Clocks()
    clocks.at(9_000_000)
    clocks.wall_ms = 9_000_001
    clocks.wait(LOOK_MS)
    assert len(clocks.rung) == 1
    clocks.at(clocks.wall_ms + 1_000)
    clocks.wall_ms -= 1_000_000
    clocks.wait(5_000)
    assert len(clocks.rung) == 1


def test_what_is_due_at_once_rings_in_the_next_turn() -> None:
    clocks = Clocks()
    clocks.at(5)
    assert clocks.rung == []
    clocks.timers.tick(clocks.wall_ms)
    assert clocks.rung == [clocks.wall_ms]

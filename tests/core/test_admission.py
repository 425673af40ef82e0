"""Admission (SPEC 3.1.7): who connects at once, who waits, in which order, what those hear who are sent away."""

from typing import Any

import pytest
from attrs import define, field
from triode_broker.config import Limits, TopicRule
from triode_broker.core.admission import Admission
from triode_broker.core.timers import Timers
from triode_protocol.errors import CloseCode

from tests.core.desk import Desk, Line

TEN_A_SECOND: dict[str, Any] = {"max_connects_per_second": 10, "max_connect_burst": 2, "max_connect_wait_ms": 500}


@define(eq=False)
class Guest:
    """Remembers what it was told."""

    name: str
    told: list[str] = field(repr=False)
    after_ms: int = 0

    def admitted(self) -> None:
        """Its turn."""
        self.told.append(self.name)

    def turned_away(self, after_ms: int) -> None:
        """Another time."""
        self.after_ms = after_ms
        self.told.append(f"-{self.name}")


class Door:
    """An admission, its clock, and what the guests were told."""

    def __init__(self, **limits: Any) -> None:
        self.steady_ms = 1_000
        self.told: list[str] = []
        self.timers = Timers(lambda: self.steady_ms)
        self.admission = Admission(Limits(**limits), self.timers)

    def ask(self, name: str, *, is_resuming: bool = False) -> Guest:
        """A guest comes; one that may enter at once is told so like the others."""
        guest = Guest(name, self.told)
        if self.admission.ask(guest, is_resuming=is_resuming):
            guest.admitted()
        return guest

    def wait(self, ms: int) -> list[str]:
        """Let time pass, 10 ms at a time; what was said since the last look."""
        for _ in range(ms // 10):
            self.steady_ms += 10
            self.timers.tick(0)
        said = self.told[:]
        self.told.clear()
        return said


def test_in_quiet_times_everybody_connects_at_once() -> None:
    door = Door(**TEN_A_SECOND)
    for number in range(50):
        door.ask(str(number))
        assert door.wait(100) == [str(number)]


def test_without_a_rate_everybody_always_does() -> None:
    door = Door(max_connects_per_second=0, max_connect_burst=1)
    for number in range(1_000):
        door.ask(str(number))
    assert len(door.told) == 1_000
    assert not door.admission.is_full
    assert door.admission.later_ms() == 2_000


def test_beyond_the_burst_they_wait_for_their_turn() -> None:
    door = Door(**TEN_A_SECOND)
    for name in "abcd":
        door.ask(name)
    assert door.wait(0) == ["a", "b"]
    assert door.wait(90) == []
    assert door.wait(20) == ["c"]
    assert door.wait(100) == ["d"]


def test_nobody_overtakes_those_who_wait() -> None:
    door = Door(**TEN_A_SECOND)
    for name in "abc":
        door.ask(name)
    door.steady_ms += 100  # there is a token, but no timer has been served yet
    door.ask("d")
    assert door.wait(10) == ["a", "b", "c"]
    assert door.wait(100) == ["d"]


def test_who_resumes_goes_before_newcomers() -> None:
    door = Door(**TEN_A_SECOND)
    for name in ("1", "2", "new 1", "new 2"):
        door.ask(name)
    door.ask("back 1", is_resuming=True)
    door.ask("back 2", is_resuming=True)
    assert door.wait(450) == ["1", "2", "back 1", "back 2", "new 1", "new 2"]


def test_so_many_wait_as_can_have_their_turn_in_time() -> None:
    door = Door(**TEN_A_SECOND)
    for name in "ab01234":
        door.ask(name)
    assert door.admission.waiting == 5
    full = door.ask("5")
    assert door.wait(0) == ["a", "b", "-5"]
    assert full.after_ms == 500
    assert door.wait(550) == list("01234")


def test_who_resumes_takes_the_place_of_the_last_newcomer() -> None:
    door = Door(**TEN_A_SECOND)
    for name in "ab01234":
        door.ask(name)
    for name in ("v", "w", "x", "y", "z"):
        assert not door.admission.is_full
        door.ask(name, is_resuming=True)
    assert door.wait(0) == ["a", "b", "-4", "-3", "-2", "-1", "-0"]
    assert door.admission.is_full
    door.ask("late", is_resuming=True)
    assert door.wait(550) == ["-late", "v", "w", "x", "y", "z"]


def test_who_has_waited_long_enough_is_sent_away() -> None:
    """Those who resume came in between."""
    door = Door(**TEN_A_SECOND)
    for name in "ab01":
        door.ask(name)
    for number in range(3):
        door.ask(f"back {number}", is_resuming=True)
    assert door.wait(300) == ["a", "b", "back 0", "back 1", "back 2"]
    for number in range(3, 6):
        door.ask(f"back {number}", is_resuming=True)
    assert door.wait(200) == ["back 3", "back 4", "-0", "-1"]
    assert door.wait(200) == ["back 5"]
    assert door.admission.waiting == 0


def test_who_has_gone_is_not_waited_for() -> None:
    door = Door(**TEN_A_SECOND)
    door.ask("a")
    door.ask("b")
    gone, back = door.ask("gone"), door.ask("gone too", is_resuming=True)
    door.ask("c")
    door.admission.leave(gone)
    door.admission.leave(back)
    door.admission.leave(gone)
    assert door.wait(150) == ["a", "b", "c"]


def test_everybody_may_have_gone_when_their_turn_comes() -> None:
    door = Door(**TEN_A_SECOND)
    door.ask("a")
    door.ask("b")
    door.admission.leave(door.ask("gone"))
    assert door.wait(1_000) == ["a", "b"]
    door.ask("c")
    assert door.wait(0) == ["c"]


def test_those_sent_away_come_back_one_after_the_other() -> None:
    door = Door(**TEN_A_SECOND, max_reconnect_after_ms=1_000)
    assert [door.admission.later_ms() for _ in range(8)] == [500, 600, 700, 800, 900, 1_000, 500, 600]
    door.wait(10_000)
    assert door.admission.later_ms() == 500


def test_with_no_time_to_wait_they_are_sent_away_at_once() -> None:
    door = Door(max_connects_per_second=10, max_connect_burst=1, max_connect_wait_ms=0)
    door.ask("a")
    door.ask("b")
    door.ask("c", is_resuming=True)
    assert door.wait(100) == ["a", "-b", "-c"]
    assert not door.admission.is_full
    door.ask("d")
    assert door.wait(0) == ["d"]


# Sessions as guests


def crowded(**limits: Any) -> tuple[Desk, Line]:
    """A desk whose last token is spent, and a line that waits: it has subscribed behind its connect."""
    desk = Desk(limits=Limits(**{**TEN_A_SECOND, "max_connect_burst": 1, **limits}))
    desk.connect()
    line = desk.dial()
    assert line.ask({"type": "connect", "id": 1}, {"type": "subscribe", "id": 2, "sub": 1, "filter": "a"}) == []
    assert not line.session.is_connected
    return desk, line


def test_what_comes_behind_a_waiting_connect_waits_with_it() -> None:
    """SPEC 1.11, 1.14"""
    desk, line = crowded()
    assert line.ask({"type": "ping", "id": 3}) == []
    assert line.ask({"type": "ping", "id": 4}, {"type": "nonsense"}) == []
    desk.wait(110)
    kinds = [packet["type"] for packet in line.drain()]
    assert kinds == ["connected", "subscribed", "pong", "pong", "error"]
    assert line.session.is_connected
    assert line.ask_one({"type": "ping", "id": 5}) == {"type": "pong", "id": 5}


def test_connect_that_did_not_get_its_turn_ends_with_4102() -> None:
    desk, line = crowded(max_connect_wait_ms=100, max_connect_burst=1)
    away = desk.dial()
    assert away.ask({"type": "connect", "id": 1}) == []
    assert (away.closed_with, away.reconnect_after_ms) == (CloseCode.OVERLOADED, 100)
    back = desk.dial()
    assert back.ask({"type": "connect", "id": 1, "resume": True}) == []
    assert (line.closed_with, line.reconnect_after_ms) == (CloseCode.OVERLOADED, 200)
    line.session.detach()
    desk.wait(110)
    assert [packet["type"] for packet in back.drain()] == ["connected"]


def test_line_that_breaks_while_it_waits_leaves_no_trace() -> None:
    desk, line = crowded()
    line.session.detach()
    assert desk.node.admission.waiting == 0
    desk.wait(1_000)
    assert line.read() == []


@pytest.mark.parametrize("packet", [{"type": "disconnect"}, {"type": "connect", "id": 9}])
def test_what_waited_is_judged_as_ever(packet: dict[str, Any]) -> None:
    desk, line = crowded()
    line.ask(packet)
    desk.wait(110)
    kinds = [one["type"] for one in line.drain()]
    assert kinds[:2] == ["connected", "subscribed"]
    assert (line.closed_with, kinds[2:]) == ((1000, []) if packet["type"] == "disconnect" else (0, ["error"]))


def test_connection_is_answered_once_the_disk_has_its_publishes() -> None:
    """SPEC 5.3.5: what a drain waits for."""
    desk = Desk(TopicRule(filter="d", storage="disk"), durable=True)
    line = desk.connect()
    answered = [line.session.is_answered]
    assert line.ask({"type": "publish", "id": 2, "topic": "d", "data": 1}) == []
    answered.append(line.session.is_answered)
    desk.commit()
    assert [packet["type"] for packet in line.drain()] == ["published"]
    assert [*answered, line.session.is_answered] == [True, False, True]

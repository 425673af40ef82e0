"""Deadlines fall due in order, each once."""

from hypothesis import given
from hypothesis import strategies as st
from triode_broker.edge.deadlines import Deadlines


@given(steps=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_deadlines_are_due_once_and_not_before_their_time(steps: list[tuple[float, bool]]) -> None:
    deadlines: Deadlines[float] = Deadlines(2.5)
    now, waiting = 0.0, []
    for seconds, is_added in steps:
        now += seconds
        if is_added:
            deadlines.add(now, now)
            waiting.append(now)
        due = deadlines.due(now)
        assert due == [added for added in waiting if added + 2.5 <= now]
        waiting = [added for added in waiting if added + 2.5 > now]
        assert len(deadlines) == len(waiting)


def test_deadlines_forget_what_is_gone_and_keep_the_order() -> None:
    deadlines: Deadlines[int] = Deadlines(1)
    for number in range(6):
        deadlines.add(number, number / 10)
    deadlines.forget(lambda number: number % 2 == 0)
    assert deadlines.due(2) == [1, 3, 5]

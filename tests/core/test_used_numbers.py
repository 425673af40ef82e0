"""Which `sub` numbers were used: a set, small where they come in a row, bounded where they do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.core.used_numbers import MAX_SCATTERED, UsedNumbers
from triode_protocol.codec import Refused
from triode_protocol.positions import MAX_INTEGER


def test_nothing_is_used_at_first() -> None:
    assert 1 not in UsedNumbers()


@given(st.lists(st.integers(1, 30), unique=True), st.lists(st.integers(1, 40)))
def test_numbers_are_as_in_a_set(added: list[int], asked: list[int]) -> None:
    """SPEC 3.2.1: used once, used for ever."""
    used = UsedNumbers()
    for number in added:
        used.add(number)
    for number in asked:
        assert (number in used) == (number in added)


def test_numbers_in_a_row_are_without_bound() -> None:
    used = UsedNumbers()
    for number in range(1, 3 * MAX_SCATTERED):
        used.add(number)
    assert 3 * MAX_SCATTERED not in used


def test_too_many_scattered_numbers_are_refused() -> None:
    """SPEC 3.2.1, I13: what a connection makes the broker remember is bounded."""
    used = UsedNumbers()
    for number in range(MAX_SCATTERED):
        used.add(MAX_INTEGER - number)
    with pytest.raises(Refused, match="count up from 1") as refused:
        used.add(1_000)
    assert (refused.value.name, refused.value.field) == ("quota", "sub")
    assert 1_000 not in used
    used.add(1)
    assert 1 in used
    assert MAX_INTEGER in used


def test_gap_that_closes_makes_room_again() -> None:
    used = UsedNumbers()
    for number in range(2, MAX_SCATTERED + 2):
        used.add(number)
    used.add(1)
    used.add(MAX_INTEGER)
    assert MAX_SCATTERED + 1 in used
    assert MAX_SCATTERED + 2 not in used

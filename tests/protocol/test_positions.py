"""Positions and their text form as properties; single cases are vectors."""

from hypothesis import example, given
from hypothesis import strategies as st
from triode_protocol import positions

from tests.protocol import strategies


@given(strategies.maps)
def test_position_survives_its_text_form(position: dict[str, int]) -> None:
    """SPEC 2.6"""
    assert positions.from_text(positions.to_text(position)) == position


@given(strategies.maps.map(positions.to_text), st.randoms())
def test_parts_of_the_text_may_stand_in_any_order(text: str, random: object) -> None:
    """SPEC 2.6"""
    parts = text.split("~")
    random.shuffle(parts)  # type: ignore[attr-defined]  # hypothesis' own Random
    assert positions.from_text("~".join(parts)) == positions.from_text(text)


@given(st.text("ab-A~.0123456789 \n", max_size=20))
@example("a.1~a.1")
@example("a.٣")
def test_text_is_a_position_written_back_alike_or_a_value_error(text: str) -> None:
    """SPEC 2.6: nothing is repaired."""
    try:
        position = positions.from_text(text)
    except ValueError:
        return
    assert sorted(positions.to_text(position).split("~")) == sorted(text.split("~"))


@given(st.text(max_size=40) | strategies.logs)
def test_is_log_is_the_rule_by_the_letter(name: str) -> None:
    """SPEC 2.1"""
    assert positions.is_log(name) == (
        1 <= len(name) <= 32 and all(c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in name)
    )

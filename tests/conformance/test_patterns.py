"""Patterns: what fits, what does not and why, and what is kept for later."""

from typing import Any

import pytest
from triode_broker.conformance.patterns import Unknown, fill_in, mismatch

Values = dict[str, Any]


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": "$any"}, {"a": None}),
        ({"a": "$absent"}, {"b": 1}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [1, "$any"]}, {"a": [1, 2]}),
        ({"a": "$x", "b": "$x"}, {"a": 5, "b": 5}),
        ({"a": {"$not": 1}}, {"a": 2}),
        ({"a": {"$one_of": [1, "$absent"]}}, {}),
        ({"a": {"$one_of": [1, 2]}}, {"a": 2}),
        ({"a": {"$includes": {"b": 1}}}, {"a": {"b": 1, "c": 2}}),
        ({"a": {"$includes": [2]}}, {"a": [1, 2]}),
        ({"a": "$dead/x"}, {"a": "$dead/x"}),  # a topic of the broker is no name
    ],
)
def test_what_fits(pattern: Values, value: Values) -> None:
    assert mismatch(pattern, value, {}) is None


@pytest.mark.parametrize(
    ("pattern", "value", "reason"),
    [
        ({"a": 1}, {}, "`a` is missing"),
        ({"a": 1}, {"a": 2}, "`a` is 2, not 1"),
        ({"a": 1}, {"a": True}, "`a` is True, not 1"),  # Python thinks otherwise
        ({"a": "$any"}, {}, "`a` is missing"),
        ({"a": "$absent"}, {"a": 1}, "`a` is 1, and should not be there"),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, "`a` has 'c': 2, which is not expected"),
        ({"a": {"b": 1}}, {"a": {}}, "`a`.b is missing"),
        ({"a": [1]}, {"a": [1, 2]}, "`a` is [1, 2], not [1]"),
        ({"a": [1]}, {"a": [2]}, "`a`[0] is 2, not 1"),
        ({"a": "$x", "b": "$x"}, {"a": 5, "b": 6}, "`b` is 6, not 5 ($x)"),
        ({"a": {"$not": 1}}, {"a": 1}, "`a` is 1, which it should not be"),
        ({"a": {"$not": 1}}, {}, "`a` is missing"),
        ({"a": {"$one_of": [1, 2]}}, {"a": 3}, "`a` is 3, and none of [1, 2]"),
        ({"a": {"$one_of": [1, 2]}}, {}, "`a` is missing, and none of [1, 2]"),
        ({"a": {"$includes": {"b": 1}}}, {"a": {}}, "`b` is missing"),
        ({"a": {"$includes": [3]}}, {"a": [1]}, "`a` is [1], and should include [3]"),
        ({"a": "$dead/x"}, {"a": "$dead/y"}, "`a` is '$dead/y', not '$dead/x'"),
    ],
)
def test_what_does_not_fit_and_why(pattern: Values, value: Values, reason: str) -> None:
    assert mismatch(pattern, value, {}) == reason


def test_captures_are_kept_only_where_everything_fits() -> None:
    captures: Values = {}
    assert mismatch({"a": "$x", "b": 1}, {"a": 5, "b": 2}, captures)
    assert captures == {}
    assert mismatch({"a": "$x", "b": 1}, {"a": 5, "b": 1}, captures) is None
    assert captures == {"x": 5}


def test_captures_stand_in_what_is_sent() -> None:
    captures = {"asked": {"id": 7, "sub": 2}, "x": "one"}
    assert fill_in({"id": "$asked.id", "list": ["$x", {"$x": "$dead/x"}]}, captures) == {
        "id": 7,
        "list": ["one", {"$x": "$dead/x"}],
    }


@pytest.mark.parametrize("name", ["$y", "$asked.colour"])
def test_what_was_not_captured_is_a_fault_of_the_scenario(name: str) -> None:
    with pytest.raises(Unknown, match="was not captured"):
        fill_in(name, {"asked": {"id": 7}})

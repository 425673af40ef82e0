"""The measurement of permission: every kind delivers to everybody and is set beside no rules; not about time."""

import pytest
from triode_broker.core.rights import Rights

from bench.rights import KINDS, Kind, Room, Row, measure, table


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_room_delivers_to_everybody(kind: Kind) -> None:
    room = Room(kind, outboxes=3)
    assert room.deliver(2) > 0
    assert room.deliver_first(2) > 0


def test_lost_delivery_is_no_measurement() -> None:
    room = Room(Kind("nobody", lambda number: Rights({"subscribe": ["rooms/+"]})), outboxes=3)
    with pytest.raises(AssertionError, match="0 deliveries of 2 messages"):
        room.deliver(2)


def test_no_rules_is_what_is_compared_with() -> None:
    rows = measure(windows=1, outboxes=3)
    assert [row.name for row in rows] == [kind.name for kind in KINDS]
    assert rows[0].ratio == 1


def test_table_has_a_line_for_each_kind() -> None:
    text = table([Row("no rules", 1e-7, 1.0, 5e-7), Row("allowed in part", 2e-7, 2.0, 4e-6)])
    assert text.splitlines()[2:] == [
        "| no rules | 0.100 | 1.00 | 0.50 |",
        "| allowed in part | 0.200 | 2.00 | 4.00 |",
    ]

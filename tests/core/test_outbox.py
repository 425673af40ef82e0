"""Outbox: bytes wait, in order and counted; it enters the dirty list once."""

from triode_broker.core.outbox import Outbox


def make_outbox(dirty: list[Outbox], limit: int = 100) -> Outbox:
    return Outbox(object(), dirty, lambda payload: b"<" + payload + b">", limit)


def test_packets_wait_framed_in_order() -> None:
    outbox = make_outbox([])
    outbox.put(b"one")
    outbox.put(b"two")
    assert outbox.items == [b"<one>", b"<two>"]
    assert outbox.size == 10


def test_packets_for_arrays_wait_bare() -> None:
    """SPEC 1.5: the edge joins them."""
    outbox = make_outbox([])
    outbox.hold_payloads()
    outbox.put(b"one")
    assert (outbox.items, outbox.size) == ([b"one"], 3)


def test_outbox_is_dirty_with_its_first_item() -> None:
    dirty: list[Outbox] = []
    outbox = make_outbox(dirty)
    outbox.put(b"one")
    outbox.put(b"two")
    assert dirty == [outbox]


def test_blocked_outbox_is_not_dirty() -> None:
    """The edge writes it when the socket takes more."""
    dirty: list[Outbox] = []
    outbox = make_outbox(dirty)
    outbox.is_blocked = True
    outbox.put(b"one")
    assert dirty == []
    assert outbox.items == [b"<one>"]


def test_put_refuses_nothing_and_the_bound_says_so() -> None:
    """G6, SPEC 1.16: replies and state packets always go in."""
    outbox = make_outbox([], limit=10)
    outbox.put(b"x" * 8)
    assert not outbox.is_over
    outbox.put(b"y")
    assert outbox.is_over


def test_there_is_room_at_half_the_bound() -> None:
    outbox = make_outbox([], limit=10)
    outbox.put(b"xyz")
    assert outbox.has_room
    outbox.size += 1
    assert not outbox.has_room

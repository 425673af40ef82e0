"""S6, S8: what one network address may take, and that counting it costs no memory that an attacker can choose."""

from collections.abc import Callable

import pytest
from triode_broker.config import Limits
from triode_broker.edge.addresses import Addresses, Seat

from tests.edge.rig import HANDSHAKE, Client, Rig

MakeRig = Callable[..., Rig]
HERE = "203.0.113.7"


def addresses(*, most: int = 0, per_second: int = 0, burst: int = 1) -> Addresses:
    """With these limits; 192.0.2.1 is a trusted proxy."""
    limits = Limits(
        max_address_connections=most,
        max_address_handshakes_per_second=per_second,
        max_address_handshake_burst=burst,
    )
    return Addresses(limits, lambda address: address == "192.0.2.1")


def enter(table: Addresses, address: str, now: float = 0.0) -> Seat | None:
    """Its seat, where it may stay."""
    seat, refusal = table.enter(address, now)
    assert refusal is None or refusal.status == 429
    return None if refusal else seat


def test_s6_address_has_so_many_connections_at_once() -> None:
    table = addresses(most=2)
    seats = [enter(table, HERE) for _ in range(2)]
    assert all(seats)
    assert enter(table, "203.0.113.8") is not None
    refused, refusal = table.enter(HERE, 0.0)
    assert refused is not None
    assert refusal is not None
    assert dict(refusal.headers)["Retry-After"] == "5"
    table.leave(refused, 0.0)
    assert seats[0] is not None
    table.leave(seats[0], 0.0)
    assert enter(table, HERE) is not None


def test_s6_refused_ones_count_until_they_are_gone() -> None:
    table = addresses(most=2)
    for _ in range(2 + 16):
        assert not table.is_overfull(HERE, 0.0)
        table.enter(HERE, 0.0)
    assert table.is_overfull(HERE, 0.0)
    assert not table.is_overfull("203.0.113.8", 0.0)


def test_s6_handshakes_of_an_address_come_from_a_bucket() -> None:
    table = addresses(per_second=10, burst=3)
    assert [enter(table, HERE, 0.0) is not None for _ in range(4)] == [True, True, True, False]
    assert [enter(table, HERE, 0.1) is not None for _ in range(2)] == [True, False]
    assert enter(table, "203.0.113.8", 0.1) is not None
    assert [enter(table, HERE, 60.0) is not None for _ in range(4)] == [True, True, True, False]


def test_s6_leaving_gives_no_handshake_back() -> None:
    table = addresses(per_second=1, burst=2)
    for _ in range(2):
        seat = enter(table, HERE, 0.0)
        assert seat is not None
        table.leave(seat, 0.0)
    assert enter(table, HERE, 0.5) is None


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", HERE, True),
        ("::ffff:203.0.113.8", HERE, False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_s6_network_of_an_ipv6_client_counts_as_one(first: str, second: str, are_one: bool) -> None:
    table = addresses(most=1)
    assert enter(table, first) is not None
    assert (enter(table, second) is None) is are_one


@pytest.mark.parametrize("address", ["", "192.0.2.1"])
def test_s6_trusted_proxy_is_not_counted(address: str) -> None:
    table = addresses(most=1, per_second=1)
    for _ in range(5):
        assert table.enter(address, 0.0) == (None, None)
    assert len(table) == 0


def test_s6_zero_means_no_limit() -> None:
    table = addresses()
    assert [table.enter(HERE, 0.0) for _ in range(100)] == [(None, None)] * 100


def test_s6_table_forgets_who_is_gone_and_whose_bucket_is_full() -> None:
    table = addresses(per_second=10, burst=30)  # full again after 3 s
    for place in range(100):
        seat = enter(table, f"198.51.100.{place}", 0.0)
        assert seat is not None
        table.leave(seat, 0.0)
    assert len(table) == 100
    assert enter(table, HERE, 3.0) is not None
    assert len(table) == 1


def test_s6_table_keeps_no_more_than_the_newest_of_those_who_are_gone() -> None:
    table = addresses(per_second=1, burst=1_000_000)
    for place in range(70_000):
        seat = enter(table, f"2001:db8:{place >> 16:x}:{place & 0xFFFF:x}::1", 0.0)
        assert seat is not None
        table.leave(seat, 0.0)
    assert len(table) == 65_536


# At the door


def statuses(rig: Rig, count: int, address: str) -> list[bytes]:
    """What so many handshakes from there are answered."""
    return [rig.client(b"", address=address).receive()[9:12] for _ in range(count)]


def test_s6_who_goes_on_with_handshakes_that_are_too_fast_is_not_even_told() -> None:
    """Over TLS whoever is told has had a handshake made: a few a second, and none in place of a good one."""
    table = addresses(per_second=10, burst=1)
    assert enter(table, HERE, 0.0) is not None
    told = 0
    while not table.is_overfull(HERE, 0.0):
        assert enter(table, HERE, 0.0) is None
        told += 1
    assert told == 17
    assert not table.is_overfull("203.0.113.8", 0.0)
    assert not table.is_overfull(HERE, 0.0625)
    assert enter(table, HERE, 0.0625) is None
    assert table.is_overfull(HERE, 0.0625)
    assert not table.is_overfull(HERE, 0.125)  # there is a token again
    assert enter(table, HERE, 0.125) is not None


def test_s6_one_too_many_is_told_when_to_come_back_before_it_has_said_anything(make_rig: MakeRig) -> None:
    """SPEC 1.1"""
    rig = make_rig(Limits(max_address_connections=2))
    first: Client = rig.client(b"", address=HERE)
    assert statuses(rig, 3, HERE) == [b"", b"429", b"429"]
    assert statuses(rig, 1, "203.0.113.8") == [b""]
    first.send(HANDSHAKE)
    assert first.receive().startswith(b"HTTP/1.1 101 ")
    assert rig.log.events == ["address_refused"]
    assert rig.log.entries[0][1]["address"] == HERE


def test_s6_place_is_free_when_its_connection_is_gone(make_rig: MakeRig) -> None:
    rig = make_rig(Limits(max_address_connections=1))
    client = rig.client(HANDSHAKE, address=HERE)
    client.socket.close()
    rig.turn()
    assert statuses(rig, 2, HERE) == [b"", b"429"]


def test_s6_handshakes_that_are_too_fast_are_told_so(make_rig: MakeRig) -> None:
    """SPEC 1.1"""
    rig = make_rig(Limits(max_address_handshakes_per_second=2, max_address_handshake_burst=2))
    assert statuses(rig, 3, HERE) == [b"", b"", b"429"]
    rig.after(1.0)
    assert statuses(rig, 3, HERE) == [b"", b"", b"429"]

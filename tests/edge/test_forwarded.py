"""X-Forwarded-For: the rightmost address that no trusted proxy has, of trusted proxies only; off by default."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.edge.door import Door
from triode_broker.edge.forwarded import MAX_PROXIES, Proxies, normal
from triode_broker.edge.front import PLAIN, Front
from triode_broker.edge.head import Request

TRUSTED = Proxies(["10.0.0.0/8", "fd00::/8", "192.0.2.7"])
CASES = [
    (b"203.0.113.9", "203.0.113.9"),
    (b"1.1.1.1, 203.0.113.9", "203.0.113.9"),
    (b"1.1.1.1,203.0.113.9 ,\t10.1.1.1,fd00::7", "203.0.113.9"),
    (b"10.0.0.9, 192.0.2.7", "10.0.0.9"),
    (b"203.0.113.9:4711, 10.0.0.3:80", "203.0.113.9"),
    (b"[2001:db8::9]:4711", "2001:db8::9"),
    (b"::ffff:203.0.113.9", "203.0.113.9"),
    (b"203.0.113.9, unknown", "10.0.0.1"),
    (b"203.0.113.9, ", "10.0.0.1"),
    (b"", "10.0.0.1"),
    (b"203.0.113.9, " + b"1" * 100, "10.0.0.1"),
    (b"203.0.113.9, _hidden, 10.0.0.2", "10.0.0.2"),
    (b"203.0.113.9" + b", 10.0.0.4" * (MAX_PROXIES + 1), "10.0.0.4"),
]


@pytest.mark.parametrize(("header", "address"), CASES)
def test_the_rightmost_address_that_is_not_trusted_is_the_client(header: bytes, address: str) -> None:
    assert TRUSTED.client("10.0.0.1", header) == address


def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says() -> None:
    assert TRUSTED.client("203.0.113.9", b"1.1.1.1") == "203.0.113.9"
    assert Proxies().client("10.0.0.1", b"1.1.1.1") == "10.0.0.1"
    assert TRUSTED.client("10.0.0.1", None) == "10.0.0.1"
    assert not TRUSTED.is_encrypted("203.0.113.9", b"https")


@pytest.mark.parametrize(
    ("proto", "is_encrypted"),
    [(b"https", True), (b"HTTPS", True), (b"wss", True), (b"http", False), (b"https, http", False), (None, False)],
)
def test_a_trusted_proxy_says_whether_tls_ends_there(proto: bytes | None, is_encrypted: bool) -> None:
    assert TRUSTED.is_encrypted("10.0.0.1", proto) == is_encrypted


@given(st.binary(max_size=200))
def test_what_a_client_writes_to_the_left_changes_nothing(left: bytes) -> None:
    assert TRUSTED.client("10.0.0.1", left + b", 203.0.113.9, 10.0.0.2") == "203.0.113.9"


@given(st.binary(max_size=100))
def test_any_value_gives_an_address(value: bytes) -> None:
    assert normal(TRUSTED.client("10.0.0.1", value)) != ""


def test_it_is_off_by_default() -> None:
    request = Request("GET", "/ws", b"1.1", {b"x-forwarded-for": b"1.1.1.1", b"x-forwarded-proto": b"https"}, 1)
    assert Door().front is PLAIN
    arrival = PLAIN.arrival(request, "127.0.0.1")
    assert (arrival.address, arrival.is_encrypted) == ("127.0.0.1", False)
    assert Front(proxies=TRUSTED).arrival(request, "10.0.0.1").address == "1.1.1.1"


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "proxy.example", "10.0.0.0/33", "1.2.3.4 "])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no address and no network"):
        Proxies([text])


def test_addresses_have_one_spelling() -> None:
    assert normal("::ffff:127.0.0.1") == "127.0.0.1"
    assert normal("FE80::1%eth0") == "fe80::1"
    assert normal("") == ""

"""The PROXY protocol: what is read of a header, and that nothing else is taken for one."""

import ipaddress
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.config import Limits
from triode_broker.edge.door import Door
from triode_broker.edge.forwarded import Proxies
from triode_broker.edge.front import Front
from triode_broker.edge.proxy import MAX_BINARY_BYTES, MAX_TEXT_BYTES, SIGNATURE, BadHeader, Header, read_header

from tests.edge.authority import TlsClient, server_context
from tests.edge.rig import HANDSHAKE, Rig

MakeRig = Callable[..., Rig]

ADDRESSES = st.ip_addresses()
PORTS = st.integers(0, 65_535)


def text_header(source: Any, destination: Any, ports: tuple[int, int] = (1, 2)) -> bytes:
    return f"PROXY TCP{source.version} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()


def binary_header(
    source: Any = None, *, command: int = 1, family: int | None = None, more: bytes = b"", version: int = 2
) -> bytes:
    body = b"" if source is None else source.packed * 2 + struct.pack("!HH", 1, 2)
    kind = {None: 0, 4: 0x11, 6: 0x21}[source and source.version] if family is None else family
    return SIGNATURE + bytes((version << 4 | command, kind)) + struct.pack("!H", len(body + more)) + body + more


def extension(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + struct.pack("!H", len(value)) + value


V4, V6 = ipaddress.ip_address("203.0.113.9"), ipaddress.ip_address("2001:db8::9")
GOOD = [
    (text_header(V4, V4), "203.0.113.9"),
    (text_header(V6, V6, (65_535, 0)), "2001:db8::9"),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n", "203.0.113.9"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535\r\n", ""),
    (binary_header(V4), "203.0.113.9"),
    (binary_header(V6), "2001:db8::9"),
    (binary_header(ipaddress.ip_address("::ffff:203.0.113.9")), "203.0.113.9"),
    (binary_header(), ""),
    (binary_header(command=0), ""),
    (binary_header(command=0, family=0xEE, more=b"\xff" * 9), ""),
    (binary_header(family=0x31, more=b"/run/socket".ljust(216, b"\0")), ""),
    (binary_header(V4, more=extension(0x04, b"\0" * 100)), "203.0.113.9"),
]


@pytest.mark.parametrize(("header", "address"), GOOD)
def test_a_header_gives_the_address_split_at_every_byte_and_with_anything_behind(
    header: bytes, address: str
) -> None:
    for size in range(len(header)):
        assert read_header(header[:size]) is None
    assert read_header(header) == Header(len(header), address)
    assert read_header(header + b"\x16\x03\x01") == Header(len(header), address)


@given(ADDRESSES, PORTS, PORTS)
def test_every_address_comes_through_both_versions(address: Any, first: int, second: int) -> None:
    expected = str(getattr(address, "ipv4_mapped", None) or address)
    for header in (text_header(address, address, (first, second)), binary_header(address)):
        found = read_header(header)
        assert found is not None
        assert found.address == expected


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"])
)
def test_any_bytes_are_a_header_or_refused_or_too_few(tail: bytes, front: bytes) -> None:
    data = front + tail
    try:
        found = read_header(data)
    except BadHeader:
        return
    if found is None:
        assert len(data) < MAX_BINARY_BYTES
    else:
        assert found.size <= len(data)
        assert found.address == "" or ipaddress.ip_address(found.address)


@given(st.sampled_from([header for header, _ in GOOD]), st.data())
def test_a_header_with_one_byte_changed_gives_an_address_or_a_refusal(header: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(header) - 1))
    changed = header[:at] + bytes((data.draw(st.integers(0, 255)),)) + header[at + 1 :]
    try:
        found = read_header(changed)
    except BadHeader:
        return
    assert found is None or found.address == "" or ipaddress.ip_address(found.address)


BAD = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"PROXI",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
    b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n",
    b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 \xb2 2\r\n",
    b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY UNIX 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY \r\n",
    b"PROXY " + b"x" * MAX_TEXT_BYTES,
    binary_header(V4, version=1),
    binary_header(V4, version=3),
    binary_header(V4, command=2),
    binary_header(V4, family=0x12),
    binary_header(V4, family=0x10),
    binary_header(V4, family=0x41),
    binary_header(V4, family=0x21),
    binary_header(V4, more=b"\x04\x00"),
    binary_header(V4, more=b"\x04\x00\x05abcd"),
    binary_header(V4, more=b"\0" * MAX_BINARY_BYTES),
]


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadHeader):
        read_header(data)


def test_an_extension_says_that_the_client_speaks_tls() -> None:
    used = extension(0x20, b"\x01" + b"\0" * 4)
    unused = extension(0x20, b"\0" * 5)
    for more, is_encrypted in ((used, True), (unused, False), (extension(0x01, b"h2") + used, True)):
        found = read_header(binary_header(V4, more=more))
        assert found is not None
        assert found.is_encrypted == is_encrypted


# In front of a connection. A pair of sockets has no addresses, so "" stands for the proxy's.


class Unnamed(Proxies):
    """Trusts whoever has no address, and 10.0.0.0/8."""

    __slots__ = ()

    def __contains__(self, address: str) -> bool:
        return not address or super().__contains__(address)


def proxied(**parts: Any) -> Door:
    return Door(front=Front(proxies=Unnamed(["10.0.0.0/8"]), has_header=True, **parts))


def test_a_header_gives_the_connection_its_address_however_it_is_cut(make_rig: MakeRig) -> None:
    rig = make_rig(door=proxied())
    for header in (text_header(V4, V4), binary_header(V4)):
        client = rig.client(b"")
        client.send(*(header[at : at + 1] for at in range(len(header))))
        client.send(HANDSHAKE)
        assert client.receive().startswith(b"HTTP/1.1 101 ")
        whole = rig.client(b"")
        whole.send(header + HANDSHAKE)
        assert whole.receive().startswith(b"HTTP/1.1 101 ")
    assert [talker.arrival.address for talker in rig.talkers] == ["203.0.113.9"] * 4
    assert not rig.talkers[0].arrival.is_encrypted


def test_a_header_goes_before_tls(make_rig: MakeRig) -> None:
    rig = make_rig(door=proxied(tls=server_context))
    TlsClient(rig, before=binary_header(V6)).upgrade()
    assert rig.talkers[0].arrival.address == "2001:db8::9"
    assert rig.talkers[0].arrival.is_encrypted


def test_a_proxy_that_ends_tls_can_say_so(make_rig: MakeRig) -> None:
    rig = make_rig(door=proxied())
    rig.client(b"").send(binary_header(V4, more=extension(0x20, b"\x01\0\0\0\0")) + HANDSHAKE)
    assert rig.talkers[0].arrival.is_encrypted


def test_a_client_behind_the_protocol_is_not_believed_in_http(make_rig: MakeRig) -> None:
    rig = make_rig(door=proxied())
    lie = HANDSHAKE[:-2] + b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\r\n"
    rig.client(b"").send(text_header(V4, V4) + lie)
    assert rig.talkers[0].arrival.address == "203.0.113.9"
    assert not rig.talkers[0].arrival.is_encrypted


@pytest.mark.parametrize(
    "data", [HANDSHAKE, b"PROXY TCP4 x\r\n", b"\x16\x03\x01\0\x05hello", binary_header(V4, version=3)]
)
def test_without_a_good_header_a_connection_ends_without_a_word(make_rig: MakeRig, data: bytes) -> None:
    rig = make_rig(door=proxied())
    for _ in range(3):
        client = rig.client(data[:0])
        client.send(data)
        assert client.receive() == b""
        assert client.is_closed
    assert rig.log.events == ["proxy_header_refused"]
    assert rig.edge.statistics().refused == 3


def test_a_header_from_whom_nobody_trusts_is_refused_unread(make_rig: MakeRig) -> None:
    rig = make_rig(door=Door(front=Front(proxies=Proxies(["10.0.0.0/8"]), has_header=True)))
    client = rig.client(b"")
    client.send(text_header(V4, V4))
    assert client.is_closed or client.receive() == b""
    assert rig.edge.statistics().connections == 0
    assert "trusted_proxies" in rig.log.entries[0][1]["reason"]


def test_s6_a_header_that_never_ends_is_waited_for_as_long_as_a_head(make_rig: MakeRig) -> None:
    rig = make_rig(door=proxied(), limits=Limits(connect_timeout_ms=1_000))
    rig.client(b"").send(b"PROXY TCP4 1.2")
    rig.after(1.5)
    assert rig.edge.statistics().connections == 0


def test_who_looks_whether_the_port_is_open_is_no_line_in_the_log(make_rig: MakeRig) -> None:
    rig = make_rig(door=proxied())
    rig.client(b"").socket.close()
    rig.turn()
    assert rig.edge.statistics().connections == 0
    assert rig.log.events == []

"""The PROXY protocol, versions 1 and 2: what a proxy in front says of a connection, before its first own byte.

Pure: bytes in, a header or a refusal out; who may send one is decided elsewhere. The surprising decision: nothing
in a header is optional to understand but its extensions. A family, a transport or a spelling that the text of the
protocol does not give to a TCP proxy is refused, because a receiver that guesses can be told any address.
"""

import ipaddress
from typing import Final

import attrs

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2
MAX_TEXT_BYTES: Final = 107  # of version 1, its line end included
MAX_BINARY_BYTES: Final = 4_096  # of version 2, extensions included; the protocol itself would allow 65,551

_TEXT: Final = b"PROXY "
_FIXED_BYTES: Final = 16  # of version 2, before the addresses
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _UNIX = 0x00, 0x31
#: Bytes of both addresses and ports, by family and transport: only streams come through a listener for TCP.
_ADDRESS_BYTES: Final = {_UNSPECIFIED: 0, 0x11: 12, 0x21: 36, _UNIX: 216}
_EXTENSION_BYTES: Final = 3  # type and length
_TLS_EXTENSION: Final = 0x20
_CLIENT_USED_TLS: Final = 0x01


class BadHeader(Exception):
    """These bytes are no header, whatever follows; says why in words without any of them."""


@attrs.frozen
class Header:
    """What the proxy says. `size`: bytes of it. `address` "": nothing, so it is the proxy's own connection."""

    size: int
    address: str = ""
    is_encrypted: bool = False  # the client speaks TLS, which ends at the proxy


def read_header(data: bytes | bytearray) -> Header | None:
    """The header at the front of `data`, or None while it is incomplete. Raises BadHeader."""
    if data.startswith(SIGNATURE):
        return _read_binary(data)
    if data.startswith(_TEXT):
        return _read_text(data)
    if SIGNATURE.startswith(data) or _TEXT.startswith(data):
        return None
    raise BadHeader("no PROXY header")


def most_bytes(data: bytes | bytearray) -> int:
    """How many bytes the header that begins so may have at most."""
    return MAX_TEXT_BYTES if data.startswith(_TEXT) else MAX_BINARY_BYTES


# Version 1: PROXY TCP4 SOURCE DESTINATION PORT PORT, or PROXY UNKNOWN and whatever the proxy likes


def _read_text(data: bytes | bytearray) -> Header | None:
    end = data.find(b"\r\n", 0, MAX_TEXT_BYTES)
    if end < 0:
        if len(data) >= MAX_TEXT_BYTES:
            raise BadHeader("a line that does not end")
        return None
    size = end + 2
    words = bytes(data[len(_TEXT) : end]).split(b" ")
    if words[0] == b"UNKNOWN":
        return Header(size)
    if len(words) != 5 or words[0] not in (b"TCP4", b"TCP6"):
        raise BadHeader("not: TCP4 or TCP6, two addresses, two ports")
    family = ipaddress.IPv4Address if words[0] == b"TCP4" else ipaddress.IPv6Address
    addresses = [_read_address(word, family) for word in words[1:3]]
    for port in words[3:]:
        _check_port(port)
    return Header(size, plain_address(addresses[0]))


def _read_address(
    word: bytes, family: type[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        text = word.decode("ascii")
        if "%" in text:  # a scope: of another machine's interfaces
            raise ValueError
        return family(text)
    except ValueError:
        raise BadHeader("an address that is none of its family") from None


def _check_port(word: bytes) -> None:
    is_right = word.isdigit() and len(word) <= 5 and int(word) <= 65_535 and word == b"%d" % int(word)
    if not is_right:
        raise BadHeader("a port that is none")


# Version 2


def _read_binary(data: bytes | bytearray) -> Header | None:
    if len(data) < _FIXED_BYTES:
        return None
    command, family = data[12], data[13]
    size = _FIXED_BYTES + int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("a version or command that there is not")
    if command == _PROXY and family not in _ADDRESS_BYTES:
        raise BadHeader("addresses that are not those of a TCP connection")
    if size > MAX_BINARY_BYTES:
        raise BadHeader(f"more than {MAX_BINARY_BYTES} bytes")
    if len(data) < size:
        return None
    if command == _LOCAL:  # of itself, to see whether anybody is there; what stands behind is to be passed over
        return Header(size)
    body = bytes(data[_FIXED_BYTES:size])
    used = _ADDRESS_BYTES[family]
    if len(body) < used:
        raise BadHeader("fewer bytes than its addresses have")
    if family == _UNSPECIFIED:
        return Header(size)
    is_encrypted = _is_encrypted(body[used:])
    return Header(size, _binary_address(body, family), is_encrypted)


def _binary_address(body: bytes, family: int) -> str:
    if family == _UNIX:
        return ""
    return plain_address(ipaddress.ip_address(body[: 4 if family == 0x11 else 16]))


def _is_encrypted(rest: bytes) -> bool:
    """Whether one of the extensions says so; all have to be whole."""
    found = False
    while rest:
        length = int.from_bytes(rest[1:_EXTENSION_BYTES])
        if len(rest) < _EXTENSION_BYTES + length:
            raise BadHeader("an extension that is cut off")
        if rest[0] == _TLS_EXTENSION and length:
            found = bool(rest[_EXTENSION_BYTES] & _CLIENT_USED_TLS)
        rest = rest[_EXTENSION_BYTES + length :]
    return found


def plain_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The one spelling of an address: IPv4 in IPv6 is IPv4, so that it has one limit and one place in the log."""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)

"""Who a connection is from, where proxies stand in front: what of their words is believed, and of whose.

Pure: addresses and header values in, an address out. The surprising decision: of `X-Forwarded-For` only the right
end counts. Every proxy adds at the right what it saw; whatever the client wrote itself stands further left, so the
first address from the right that no trusted proxy has is the client, and nothing left of it is even read.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from triode_broker.edge.proxy import plain_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Proxies in a row; what stands left of so many is nobody's word.
MAX_PROXIES: Final = 16
_MAX_ADDRESS_BYTES: Final = 64
_ENCRYPTED: Final = frozenset({b"https", b"wss"})


def parse_network(text: str) -> Network:
    """An address, or a network like 10.0.0.0/8. Raises ValueError saying why."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address and no network like 10.0.0.0/8 or fd00::/8") from None


@lru_cache(maxsize=1_024)  # every connection asks; parsing takes 5 µs
def normal(address: str) -> str:
    """The one spelling of what a socket calls its other end; what is no IP address stays as it is."""
    try:
        return plain_address(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return address


class Proxies:
    """Those whose word is believed."""

    __slots__ = ("_networks",)

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """`trusted`: addresses and networks. Raises ValueError where one is neither."""
        self._networks = tuple(parse_network(text) for text in trusted)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        """Whether it is one of them; `address` in its one spelling."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    def client(self, address: str, forwarded: bytes | None) -> str:
        """Who is behind a connection from `address` whose request has this `X-Forwarded-For`."""
        if forwarded is None or address not in self:
            return address
        for _ in range(MAX_PROXIES):
            forwarded, comma, last = forwarded.rpartition(b",")
            found = _parse(last.strip(b" \t"))
            if not found:  # not an address: the trusted proxy that wrote it is the last that is known
                return address
            address = found
            if not comma or address not in self:
                return address
        return address

    def is_encrypted(self, address: str, proto: bytes | None) -> bool:
        """Whether the proxy at `address` says, by `X-Forwarded-Proto`, that TLS ends there."""
        if proto is None or address not in self:
            return False
        return proto.rpartition(b",")[2].strip(b" \t").lower() in _ENCRYPTED


def _parse(word: bytes) -> str:
    """The address in an element, that some proxies write with its port; "" where there is none."""
    if len(word) > _MAX_ADDRESS_BYTES:
        return ""
    text = word.decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return plain_address(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return ""

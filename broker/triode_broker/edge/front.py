"""What stands in front of a listener's connections: TLS, a proxy's header; and what both tell of the client.

A record that the composition root makes. Surprising: the context of TLS is asked for at each handshake, as it is
another one as soon as the certificate was renewed.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from triode_broker.core.identity import Arrival
from triode_broker.core.interfaces import Gate
from triode_broker.edge.forwarded import Proxies
from triode_broker.edge.head import Request

#: Names in the certificate that a client has shown, by what `ssl` says of it. Raises OSError: it is over.
Names = Callable[[Mapping[str, Any]], tuple[str, ...]]


def no_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Nobody is known by one."""
    return ()


@attrs.frozen
class Front:
    """One for all listeners of an edge."""

    tls: Callable[[], ssl.SSLContext] | None = None
    names: Names = no_names
    proxies: Proxies = attrs.field(factory=Proxies)  # whose X-Forwarded-… is believed
    has_header: bool = False  # each connection begins with a PROXY header, and comes from one of these
    gate: Gate | None = None  # who says here who clients are; None: the node's

    @property
    def is_plain(self) -> bool:
        """Whether a connection begins with its own first byte."""
        return self.tls is None and not self.has_header

    def arrival(
        self, request: Request, address: str, *, is_encrypted: bool = False, certificate: tuple[str, ...] = ()
    ) -> Arrival:
        """What is known of whom a request has come from, over a connection from `address`."""
        headers = request.headers
        return Arrival(
            address=self.proxies.client(address, headers.get(b"x-forwarded-for")),
            certificate=certificate,
            is_encrypted=is_encrypted or self.proxies.is_encrypted(address, headers.get(b"x-forwarded-proto")),
            gate=self.gate,
        )


PLAIN: Final = Front()

"""Where a node is dialled: URLs of other nodes, from settings and from what peers said.

Pure. Two spellings of one address are one: whatever path a URL has is dropped, the port is filled in.
"""

from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from triode_broker.config import CLUSTER_PORT

#: Characters of a URL that a peer may name.
MAX_URL_CHARACTERS: Final = 255
_TLS_PORT: Final = 443


@frozen
class PeerAddress:
    """Host and port, and whether TLS stands in front of it."""

    host: str
    port: int
    is_tls: bool = False

    @property
    def url(self) -> str:
        """The one spelling."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.is_tls else 'ws'}://{host}:{self.port}"


def parse_peer_url(url: str) -> PeerAddress:
    """The address in ws://HOST:PORT (7401 if it says none) or wss://HOST (443). Raises ValueError saying why."""
    if len(url) > MAX_URL_CHARACTERS or not (url.isascii() and url.isprintable()):
        raise ValueError("a peer's URL has at most 255 printable ASCII characters")
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"not a peer's URL: {url!r}; one looks like ws://10.0.0.2:7401")
    if parts.username is not None or parts.port == 0:  # .port raises ValueError when out of range
        raise ValueError(f"a peer's URL has no user and no port 0: {url!r}")
    is_tls = parts.scheme == "wss"
    return PeerAddress(parts.hostname, parts.port or (_TLS_PORT if is_tls else CLUSTER_PORT), is_tls)

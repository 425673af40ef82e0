"""Origins: which web pages may open a connection (S9).

Pure: the values of headers in, yes or no out. Browsers let any page dial any server and send along whatever they
keep for it; all that tells the server is `Origin`, which a page cannot forge. The surprising decision: on this
machine alone the page of a name that is *not* this machine's is refused although it comes from the very host and
port that it dials. A name can be made to lead to 127.0.0.1 by whoever owns it (DNS rebinding); an address cannot,
and a name in `origins` is one that the operator vouches for.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

import attrs

from triode_broker.this_machine import is_this_machine

ANY: Final = "*"  # in `origins`: the pages of everybody
_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")  # no empty label: neither a dot at the end nor two
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_MAX_CHARACTERS: Final = 300  # of an origin: a host has at most 253


@attrs.frozen
class Origin:
    """Scheme, host and port in the one form in which they are compared; no port = the scheme's own."""

    scheme: str
    host: str  # an IPv6 address stands in brackets
    port: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{':' if self.port else ''}{self.port}"

    @property
    def is_this_machine(self) -> bool:
        """Whether its host is one that no DNS can lead here: localhost or a loopback address."""
        return is_this_machine(self.host)


def parse_origin(text: str) -> Origin | None:
    """What a browser sends, or what is listed; None where it is not one origin, written as browsers write it.

    Scheme and host in any case, the default port said or left out: nothing else is evened out. Refused are `null`,
    paths, user names, dots at the end, names beyond ASCII, addresses that are not in their shortest form.
    """
    if len(text) > _MAX_CHARACTERS:
        return None
    scheme, separator, rest = text.lower().partition("://")
    host, port = _split(rest)
    if not separator or _SCHEME.fullmatch(scheme) is None or not _is_host(host):
        return None
    if port is None:
        return Origin(scheme, host, "")
    if _PORT.fullmatch(port) is None or int(port) > 65_535:
        return None
    return Origin(scheme, host, "" if port == _DEFAULT_PORTS.get(scheme) else port)


def _split(place: str) -> tuple[str, str | None]:
    """Host and port of `host[:port]`; None where there is no colon for one."""
    host, bracket, behind = place.partition("]")
    if bracket and not behind:
        return place, None
    if bracket:
        return host + bracket, behind[1:] if behind.startswith(":") else ""
    host, colon, port = place.partition(":")
    return host, port if colon else None


def _is_host(host: str) -> bool:
    try:
        if host.startswith("["):
            return "%" not in host and f"[{ipaddress.IPv6Address(host[1:-1])}]" == host
    except ValueError:
        return False
    return _NAME.fullmatch(host) is not None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class Origins:
    """The pages that may connect: the listed ones, the node's own, and on this machine those of this machine."""

    __slots__ = ("_are_all_allowed", "_listed")

    def __init__(self, listed: Iterable[str] = ()) -> None:
        """`listed`: scheme://host[:port] or "*". Raises ValueError where one is neither."""
        entries = list(listed)
        self._are_all_allowed = ANY in entries
        self._listed = frozenset(_checked(entry) for entry in entries if entry != ANY)

    def allows(self, text: str | None, host: str, *, is_encrypted: bool, is_local: bool) -> bool:
        """Whether a page of this origin may connect; None: no page, only browsers send `Origin`.

        `host`: of the request's own Host. `is_local`: the connection was made to a loopback address.
        """
        if text is None or self._are_all_allowed:
            return True
        origin = parse_origin(text)
        if origin is None:
            return False
        if origin in self._listed:
            return True
        own = parse_origin(f"{'https' if is_encrypted else 'http'}://{host}")
        if own is None:
            return False
        if not is_local:
            return origin == own
        if own.is_this_machine and origin.is_this_machine:
            return True  # a development server beside it, on another port
        return origin == own and _is_address(own.host)


def _checked(entry: str) -> Origin:
    origin = parse_origin(entry)
    if origin is None:
        raise ValueError(f"{entry!r} is not an origin: write scheme://host or scheme://host:port")
    return origin

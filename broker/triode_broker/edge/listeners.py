"""Listening sockets: from "HOST:PORT" to sockets that can be handed to the edge, and back to what people open.

Knows addresses and nothing of what is served. Surprising: a name is resolved in place, without a thread; it
happens once, before anything is served.
"""

import contextlib
import socket
from collections.abc import Iterable
from typing import Final

BACKLOG: Final = 4096


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT", "[IPv6]:PORT" or ":PORT" (all addresses). Raises ValueError saying why."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{address!r} is not an address: write HOST:PORT, like 127.0.0.1:7400 or [::1]:7400")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r} is not an address: an IPv6 address stands in brackets, like [::1]:7400")
    return host, int(port)


def listen(address: str) -> list[socket.socket]:
    """Bind and listen, on every address the host stands for; port 0 is one free port for all. Raises OSError.

    ValueError where it is not an address at all.
    """
    host, port = parse_address(address)
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as undo:
        sockets: list[socket.socket] = []
        for family, _, _, _, target in dict.fromkeys(found):
            bound = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            _prepare(bound)
            bound.bind((target[0], port or _port(sockets), *target[2:]))
            bound.listen(BACKLOG)
            sockets.append(bound)
        undo.pop_all()
    return sockets


def _prepare(bound: socket.socket) -> None:
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted: a call less each
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own


def _port(sockets: Iterable[socket.socket]) -> int:
    return next((int(bound.getsockname()[1]) for bound in sockets), 0)


def url(listener: socket.socket) -> str:
    """What to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

"""Listening sockets: from "HOST:PORT" to sockets that can be handed to the edge, and back to what people open.

Knows addresses and nothing of what is served. Surprising: a name is resolved in place, without a thread; it
happens once, before anything is served.

Processes that share a port (`reuse_port`) each have a listening socket of their own; Linux deals new connections
out among them, other systems may give all to one. A parent holds such a port by `reserve`, without listening: so
nobody waits in a queue that is never looked at, and the system gives the port to nobody else meanwhile.
"""

import contextlib
import socket
from collections.abc import Iterable
from typing import Final

BACKLOG: Final = 4096
#: What the kernel takes for one connection before it can be sent. Without it a reader that has stalled is given up
#: to 4 MiB there before its outbox fills and its subscriptions hear of it (S7). What is on its way is not counted,
#: so it costs no speed.
UNSENT_BYTES: Final = 131_072


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


def listen(address: str, *, reuse_port: bool = False) -> list[socket.socket]:
    """Bind and listen, on every address the host stands for; port 0 is one free port for all. Raises OSError.

    ValueError where it is not an address at all. `reuse_port`: other processes of this user may do so too.
    """
    with contextlib.ExitStack() as undo:
        sockets = _bind(address, undo, reuse_port=reuse_port)
        for bound in sockets:
            bound.listen(BACKLOG)
        undo.pop_all()
    return sockets


def reserve(address: str) -> tuple[list[socket.socket], str]:
    """Hold an address for processes that will `listen` there with `reuse_port`; and the address, with its port.

    Raises OSError as `listen` does, also where somebody else listens with `reuse_port`: that port would be shared.
    """
    with contextlib.ExitStack() as alone:
        _bind(address, alone, reuse_port=False)
    with contextlib.ExitStack() as undo:
        sockets = _bind(address, undo, reuse_port=True)
        undo.pop_all()
    return sockets, f"{address.rpartition(':')[0]}:{_port(sockets)}"


def _bind(address: str, undo: contextlib.ExitStack, *, reuse_port: bool) -> list[socket.socket]:
    host, port = parse_address(address)
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    for family, _, _, _, target in dict.fromkeys(found):
        bound = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        _prepare(bound, reuse_port=reuse_port)
        bound.bind((target[0], port or _port(sockets), *target[2:]))
        sockets.append(bound)
    return sockets


def _prepare(bound: socket.socket, *, reuse_port: bool) -> None:
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted: a call less each
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Linux, macOS
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # inherited, too
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own


def _port(sockets: Iterable[socket.socket]) -> int:
    return next((int(bound.getsockname()[1]) for bound in sockets), 0)


def url(listener: socket.socket, *, is_tls: bool = False) -> str:
    """What to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "https" if is_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

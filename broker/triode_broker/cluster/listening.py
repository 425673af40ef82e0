"""Listening: where other nodes connect. Bound sockets become listeners, and each stream a call.

Knows sockets, nothing of what is said on them. Binding is the composition root's, like that of the edge's sockets.
"""

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import trio
import trio.abc

from triode_broker.cluster.tcp import take_over

AnyListener = trio.abc.Listener[Any]


def as_listeners(sockets: Iterable[socket.socket]) -> list[trio.SocketListener]:
    """Sockets that are bound and listen, taken over."""
    return [trio.SocketListener(trio.socket.from_stdlib_socket(bound)) for bound in sockets]


def is_reachable_from_outside(listener: AnyListener) -> bool:
    """Whether another machine may connect there."""
    if not isinstance(listener, trio.SocketListener):
        return False
    name = listener.socket.getsockname()
    return isinstance(name, tuple) and not ip_address(name[0]).is_loopback


async def serve(
    listeners: Sequence[AnyListener], serve_stream: Callable[[trio.abc.Stream], Awaitable[None]], log: Any
) -> None:
    """Accept until cancelled; `serve_stream` raises nothing. No descriptors: trio waits and tries again (S6)."""
    if not listeners:
        await trio.sleep_forever()
    for listener in listeners:
        if isinstance(listener, trio.SocketListener):
            log.info("peer_listening", address=str(listener.socket.getsockname()[:2]))

    async def serve_accepted(stream: trio.abc.Stream) -> None:
        try:
            served = await take_over(stream) if isinstance(stream, trio.SocketStream) else stream
        except OSError as error:  # this connection's end, not the listener's (S1)
            log.debug("peer_connection_dropped", reason=str(error))
        else:
            await serve_stream(served)

    await trio.serve_listeners(serve_accepted, list(listeners))

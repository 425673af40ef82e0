"""Securing: TLS around the stream of a link, from both ends, and whose name the other end has shown.

Knows trio's streams and contexts that others made; what is said inside is the hello's. The surprising decision:
before anything is answered, the first byte of who connects is looked at without being taken. So that a node with
TLS and one without, which would else only see each other vanish, both log what the matter is.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio
import trio.abc
import trio_websocket
from attrs import frozen

from triode_broker.cluster.addresses import PeerAddress
from triode_broker.cluster.carrier import TlsWanted
from triode_broker.cluster.hello import BAD_TLS, HelloRefused
from triode_broker.cluster.tcp import TcpStream

_HANDSHAKE: Final = b"\x16"
#: To a node that dials without TLS (RFC 2817 has a status for it), and to one that dials with it in vain.
_TLS_ONLY: Final = (
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade, close\r\nContent-Length: 0\r\n\r\n"
)
_PLAIN_ONLY: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
#: What OpenSSL calls it if something else than TLS is the answer.
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})

_BOTH: Final = "all nodes of a cluster have cluster_tls, or none"
_IT_IS_PLAIN: Final = f"it dials without TLS, and this node has cluster_tls: {_BOTH}"
_IT_HAS_TLS: Final = f"it dials with TLS, and this node has no cluster_tls: {_BOTH}"
_NO_TLS_THERE: Final = f"what listens there speaks no TLS: {_BOTH}"
_TLS_THERE: Final = f"what listens there speaks TLS: the address is wss://…, and {_BOTH}"
_PLAIN_ADDRESS: Final = f"this node has cluster_tls and dials no ws:// address: write wss://…; {_BOTH}"

_RECEIVE_BYTES: Final = 4_096
_UPGRADE_REQUIRED: Final = 426

Certificate = Mapping[str, Any]


@frozen
class PeerTls:
    """What a node has of it. Contexts are asked for each time, as certificates are renewed."""

    listening: Callable[[], ssl.SSLContext]
    dialling: Callable[[], ssl.SSLContext]
    #: Whether a certificate is that of this cluster's node of this name.
    is_of_node: Callable[[Certificate, str, str], bool] | None = None

    def names(self, certificate: Certificate | None, cluster: str, node: str) -> bool:
        """Whether it does, where that is asked."""
        return self.is_of_node is None or self.is_of_node(certificate or {}, cluster, node)


async def secure_dialled(stream: trio.abc.Stream, at: PeerAddress, tls: PeerTls | None) -> trio.abc.Stream:
    """The stream to a node at this address, to be spoken on. Raises as any stream does, and HelloRefused."""
    if not at.is_tls:
        if tls is None:
            return stream
        await trio.aclose_forcefully(stream)
        raise HelloRefused(BAD_TLS, _PLAIN_ADDRESS)
    context = ssl.create_default_context() if tls is None else tls.dialling()
    return await _shaken(trio.SSLStream(stream, context, server_hostname=at.host, https_compatible=True))


async def secure_accepted(stream: trio.abc.Stream, tls: PeerTls | None) -> trio.abc.Stream:
    """The stream from somebody, to be spoken on. Raises as any stream does, and HelloRefused."""
    if isinstance(stream, TcpStream):  # any other is a test's
        await _check_first_byte(stream, is_tls=tls is not None)
    if tls is None:
        return stream
    return await _shaken(trio.SSLStream(stream, tls.listening(), server_side=True, https_compatible=True))


async def _check_first_byte(stream: TcpStream, *, is_tls: bool) -> None:
    try:
        first = await stream.peek()
        if first in (b"", _HANDSHAKE) if is_tls else first != _HANDSHAKE:
            return
        await stream.receive_some(_RECEIVE_BYTES)  # closed over unread bytes it would reset what is said here
        await stream.send_all(_TLS_ONLY if is_tls else _PLAIN_ONLY)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    await trio.aclose_forcefully(stream)
    raise HelloRefused(BAD_TLS, _IT_IS_PLAIN if is_tls else _IT_HAS_TLS)


async def _shaken(stream: trio.SSLStream[Any]) -> trio.abc.Stream:
    try:
        await stream.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            raise HelloRefused(BAD_TLS, _NO_TLS_THERE if cause.reason in _NOT_TLS else str(cause)) from error
        raise
    return stream


def as_refusal(error: Exception) -> HelloRefused | None:
    """The refusal that this is, or stands for."""
    is_rejected = isinstance(error, trio_websocket.ConnectionRejected) and error.status_code == _UPGRADE_REQUIRED
    if is_rejected or isinstance(error, TlsWanted):
        return HelloRefused(BAD_TLS, _TLS_THERE)
    return error if isinstance(error, HelloRefused) else None


def certificate_of(stream: trio.abc.Stream) -> Certificate | None:
    """What the other end has shown and was found good; None where there is no TLS of this node's own."""
    if not isinstance(stream, trio.SSLStream):
        return None
    try:
        found: Certificate = stream.getpeercert() or {}
    except trio.NeedHandshakeError:  # whoever listens or dials has put it there
        return None
    return found

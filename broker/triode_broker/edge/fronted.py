"""A connection that has something in front of its own first byte: a proxy's header, a TLS handshake, or both.

Knows the order of these and whose word counts; what they look like is proxy.py's and tls.py's business. The
surprising decision: it is a subclass, so that a plain connection pays nothing. All that differs lies before the
application is connected, and in what the poller is asked to watch; a live connection runs the same code on a
socket that happens to decrypt.
"""

import socket
from typing import Final

from triode_broker.core.identity import Arrival
from triode_broker.edge.connection import Connection
from triode_broker.edge.head import Refusal, Request
from triode_broker.edge.poller import WRITE
from triode_broker.edge.proxy import BadHeader, most_bytes, read_header
from triode_broker.edge.shared import Shared
from triode_broker.edge.tls import PlainText, TlsSocket
from triode_broker.edge.wire import NOTHING

_NOT_PLAIN: Final = Refusal(400, "This port speaks TLS: the URL begins with https:// or wss://.")
_MAX_REASON: Final = 200  # characters of what OpenSSL says; it says constants only


class Fronted(Connection):
    """As its class, but that it begins later."""

    __slots__ = ("_address", "_header", "_is_encrypted", "_raw", "_tls")

    def __init__(self, client: socket.socket, shared: Shared) -> None:
        front = shared.door.front
        self._raw = client
        self._header: bytes | bytearray | None = NOTHING if front.has_header else None  # None: it has been read
        self._address = ""  # of the client, where a proxy has said it
        self._is_encrypted = front.tls is not None
        self._tls = TlsSocket(client, front.tls()) if front.tls is not None else None
        super().__init__(self._tls or client, shared)  # type: ignore[arg-type]  # the half of one that it uses

    @property
    def address(self) -> str:
        """Of the client, by the proxy's word if there is one."""
        return self._address or super().address

    def _arrival(self, request: Request) -> Arrival:
        front = self._shared.door.front
        names: tuple[str, ...] = ()
        if self._tls is not None:
            try:
                names = front.names(self._tls.certificate())
            except OSError as error:  # it was good when it was shown, in a session that goes on
                raise Refusal(403, f"{error}.") from None
        return front.arrival(request, self.address, is_encrypted=self._is_encrypted, certificate=names)

    # Before its first byte

    def _receive_early(self, now: float, now_ms: int) -> None:
        if self._header is not None and not self._read_header():
            return
        if self._tls is not None and not self._tls.is_ready and not self._shake(self._tls):
            return
        super()._receive_early(now, now_ms)

    def _read_header(self) -> bool:
        """Whether all of the proxy's header is there; not a byte behind it is read."""
        front = self._shared.door.front
        try:
            if super().address not in front.proxies:
                raise BadHeader("from an address that is not among trusted_proxies")
            assert self._header is not None
            before = len(self._header)
            seen = self._raw.recv(most_bytes(self._header) - before, socket.MSG_PEEK)
            if not seen and not before:  # somebody looks whether this port is open
                self.drop()
                return False
            if not seen:
                raise BadHeader("cut off")
            found = read_header(self._header + seen)
            self._raw.recv(len(seen) if found is None else found.size - before)
        except BlockingIOError:
            return False
        except (BadHeader, OSError) as error:
            self._refuse_silently("proxy_header_refused", str(error))
            return False
        if found is None:
            self._header = bytearray(self._header + seen)
            return False
        self._header = None
        self._is_encrypted = self._is_encrypted or found.is_encrypted
        if found.address:
            self._address = found.address
            if self._seat is None:
                self.take_seat(found.address)
        return True

    def _shake(self, tls: TlsSocket) -> bool:
        """Whether the handshake is over; its bytes count as all that comes before `connect` (S2)."""
        left = self._shared.limits.max_before_connect_bytes - self._early_bytes
        try:
            if left <= 0:
                raise OSError("more than max_before_connect_bytes")
            self._early_bytes += tls.shake(left)
        except BlockingIOError:
            return False
        except PlainText:
            self._tls, self._socket, self._is_encrypted = None, self._raw, False
            self.refuse(_NOT_PLAIN)
            return False
        except OSError as error:
            if self._early_bytes or not isinstance(error, ConnectionResetError):
                self._refuse_silently("tls_handshake_failed", _reason(error))
            self.drop()  # without a line where somebody only looks whether this port is open
            return False
        if not tls.is_ready:
            self._watch()
            return False
        if self._ahead:  # it was refused before it could be told
            self._write_ahead()
        self._watch()
        return True

    def _refuse_silently(self, event: str, reason: str) -> None:
        """There is no way to say it that the other end would understand, or that it has not been told."""
        shared = self._shared
        shared.refused += 1
        shared.complaints.say(event, shared.now, address=self.address, reason=reason)
        self.drop()

    # What waits below

    def _wanted(self) -> int:
        wanted, tls = super()._wanted(), self._tls
        if tls is None:
            return wanted
        if not tls.is_ready:
            wanted &= ~WRITE  # what waits to be said cannot be, yet
        return wanted | WRITE if tls.is_waiting else wanted

    def _writable(self, now: float, now_ms: int) -> None:
        if self._tls is not None:
            try:
                self._tls.flush()
            except OSError:
                self.drop()
                return
        super()._writable(now, now_ms)


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)[:_MAX_REASON] or type(error).__name__

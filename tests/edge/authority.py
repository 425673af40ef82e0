"""Certificates for the edge's tests, and a client that speaks TLS to a rig driven by hand.

Knows trustme and `ssl`. One authority for all: making a key takes longer than most of the tests.
"""

import ssl
from functools import cache
from typing import Any

import trustme
from triode_broker.edge.door import Door
from triode_broker.edge.front import Front

from tests.edge.rig import HANDSHAKE, Client, Rig

HOST = "broker.example"


@cache
def authority() -> trustme.CA:
    """Signs everybody's."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@cache
def server_context() -> ssl.SSLContext:
    """The edge's."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert(HOST, key_type=trustme.KeyType.ECDSA).configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


def tls_door(**parts: Any) -> Door:
    """A door behind which TLS is spoken."""
    return Door(front=Front(tls=server_context, **parts))


def client_context() -> ssl.SSLContext:
    """A client's that trusts the authority."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsClient:
    """The other end of one connection to a rig, over TLS."""

    def __init__(self, rig: Rig, context: ssl.SSLContext | None = None, *, before: bytes = b"", **options: Any):
        """`before` is sent in the clear, ahead of the handshake."""
        self._rig = rig
        self.below: Client = rig.client(b"", **options)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or client_context()).wrap_bio(self._incoming, self._outgoing, server_hostname=HOST)
        if before:
            self.below.send(before)

    def shake(self) -> "TlsClient":
        """All of the handshake."""
        while not self.step():
            self.below.send(self._outgoing.read())
        self.below.send(self._outgoing.read())
        return self

    def step(self) -> bool:
        """As much of the handshake as what has come allows; true once this end is through."""
        self._hear()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def said(self) -> bytes:
        """Records that wait to be sent."""
        return self._outgoing.read()

    def upgrade(self) -> "TlsClient":
        """Handshakes of both kinds."""
        self.shake().send(HANDSHAKE)
        answer = self.receive()
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return self

    def encrypt(self, *pieces: bytes) -> bytes:
        """As records."""
        for piece in pieces:
            self.tls.write(piece)
        return self._outgoing.read()

    def send(self, *pieces: bytes) -> None:
        """Each piece in records of its own, in one write, and a turn of the edge."""
        self.below.send(self.encrypt(*pieces))

    def _hear(self) -> None:
        self._incoming.write(self.below.receive())

    def receive(self) -> bytes:
        """All plain text there is."""
        self._hear()
        pieces = []
        try:
            while piece := self.tls.read(1 << 16):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)

    def is_told_the_end(self) -> bool:
        """Whether the edge has said that nothing follows."""
        try:
            return self.tls.read(1) == b""
        except ssl.SSLWantReadError:
            return False

"""TLS under a connection: what looks like its socket, and turns records into what they hold and back.

Knows `ssl` over memory, a plain socket below, and nothing of what is said. The surprising decision: whatever the
socket gave is decrypted at once, to the last whole record. A level-triggered poller sees only what the kernel
holds; plain text that waited in here would wait until the peer says more. So `recv` may return up to a record (16
KiB) more than it was asked for, and there is nothing to be remembered between turns but a record that is cut.

What cannot be sent stays here as records, of CHUNK_BYTES of plain text at most; until they have left, the caller
is told that this plain text was not taken, keeps it, and so counts it as waiting. It comes back with the same
bytes in front, as it must with a plain socket.

Everything that goes wrong is an OSError, as all errors of `ssl` are: the connection drops, as it does on a reset.
"""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

#: Plain text per turn into records, and records per turn into plain text: bounds what one of them keeps in memory
#: for later, as a memory BIO never gives back what it once needed.
CHUNK_BYTES: Final = 16_384
#: Read since the last plain text: one record is less, and who sends nothing but handshakes, keys and alerts is up
#: to no good (S4).
MAX_SILENT_BYTES: Final = 65_536
#: Records that wait which nobody asked for: answers to the peer's own, which it does not read.
MAX_WAITING_BYTES: Final = 262_144
_RECORD_BYTES: Final = 16_384  # of plain text, at most
_HANDSHAKE: Final = 0x16  # the first byte of TLS


class PlainText(Exception):
    """The peer speaks no TLS, but perhaps HTTP."""


class Flood(OSError):
    """Bytes and bytes, and nothing in them."""

    def __str__(self) -> str:
        return "too many bytes with nothing in them"


class TlsSocket:
    """The half of a socket that a connection uses. `shake` until it `is_ready`; before, nothing can be said."""

    __slots__ = (
        "_encrypted",
        "_incoming",
        "_is_ended",
        "_is_shut",
        "_object",
        "_outgoing",
        "_silent_bytes",
        "_waiting",
        "is_ready",
        "raw",
    )

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self.raw = raw
        self.is_ready = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._waiting = b""  # records that the kernel did not take
        self._encrypted = 0  # so much in front of what is sent next is in them already
        self._silent_bytes = 0  # read since there was plain text
        self._is_ended = False  # the peer has said that nothing follows
        self._is_shut = False  # so have we

    def fileno(self) -> int:
        """The plain socket's."""
        return self.raw.fileno()

    def getpeername(self) -> Any:
        """The plain socket's."""
        return self.raw.getpeername()

    @property
    def is_waiting(self) -> bool:
        """Whether records wait for the socket to be writable."""
        return bool(self._waiting)

    def shake(self, size: int) -> int:
        """One step of the handshake with up to `size` bytes: how many were read.

        Raises BlockingIOError where there are none, PlainText for another protocol, OSError where it has failed.
        """
        data = self.raw.recv(min(size, CHUNK_BYTES))
        if not data:
            raise ConnectionResetError("cut off")
        if not self._silent_bytes and data[0] != _HANDSHAKE and data[:1].isalpha():
            raise PlainText
        self._count(len(data))
        self._incoming.write(data)
        try:
            self._object.do_handshake()
            self.is_ready = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._flush_quietly()  # the alert that says why
            raise
        self.flush()
        return len(data)

    def certificate(self) -> Mapping[str, Any]:
        """What the peer has shown and was found good, as `ssl` puts it; empty where it has shown none."""
        return self._object.getpeercert() or {}

    def recv(self, size: int) -> bytes:
        """What there is; nothing: the peer has ended it, or vanished. BlockingIOError: nothing yet."""
        if self._is_ended:
            return b""
        try:
            data = self.raw.recv(size)
        except BlockingIOError:
            if not self._incoming.pending:
                raise
            data = b""  # what came with the end of the handshake
        else:
            if not data and not self._incoming.pending:
                return b""  # without a word: lost, as far as anybody knows
        if self._is_shut:
            return data  # only its end is awaited
        return self._decrypt(data) or self._nothing()

    def _nothing(self) -> bytes:
        if self._is_ended:
            return b""
        raise BlockingIOError

    def _count(self, size: int) -> None:
        self._silent_bytes += size
        if self._silent_bytes > MAX_SILENT_BYTES:
            raise Flood

    def _decrypt(self, data: bytes) -> bytes:
        if len(data) <= CHUNK_BYTES:
            found = self._read_piece(data)
        else:
            starts = range(0, len(data), CHUNK_BYTES)
            found = b"".join([self._read_piece(data[start : start + CHUNK_BYTES]) for start in starts])
        if self._outgoing.pending:  # an answer to something that was not for us: keys, an alert
            self.flush()
        return found

    def _read_piece(self, data: bytes) -> bytes:
        """Counted only where nothing was in it: with the end of a record may come many more."""
        self._incoming.write(data)
        found = self._read()
        if found:
            self._silent_bytes = 0
        else:
            self._count(len(data))
        return found

    def _read(self) -> bytes:
        """All that is whole."""
        read, incoming = self._object.read, self._incoming
        pieces = []
        try:
            while True:
                piece = read(_RECORD_BYTES)
                if not piece:
                    self._is_ended = True
                    break
                pieces.append(piece)
                if not incoming.pending and not self._object.pending():
                    break  # asking again would cost an exception
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._flush_quietly()
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """How much of `data` has left, or need not be sent again. BlockingIOError is never raised: it is 0."""
        if not self.is_ready or self._is_shut:
            return 0
        size = len(data)
        if size <= CHUNK_BYTES and not self._waiting and not self._encrypted:
            self._encrypted = self._object.write(data)
            if not self.flush():
                return 0
            self._encrypted = 0
            return size
        return self._send_chunks(data, size)

    def _send_chunks(self, data: bytes | bytearray | memoryview, size: int) -> int:
        taken = 0
        with memoryview(data) as rest:
            while True:
                if not self._waiting:
                    taken += self._encrypted
                    self._encrypted = 0
                    if taken >= size:
                        return taken
                    self._encrypted = self._object.write(rest[taken : taken + CHUNK_BYTES])
                if not self.flush():
                    return taken

    def flush(self) -> bool:
        """Send records; true once none waits. Raises OSError, also where the peer makes them and reads none."""
        waiting = self._outgoing.read()
        if self._waiting:
            waiting, self._waiting = self._waiting + waiting, b""
        elif not waiting:
            return True
        try:
            sent = self.raw.send(waiting)
        except BlockingIOError:
            sent = 0
        if sent == len(waiting):
            return True
        self._waiting = waiting[sent:]
        if len(self._waiting) > MAX_WAITING_BYTES:
            raise Flood
        return False

    def _flush_quietly(self) -> None:
        with suppress(OSError):
            self.flush()

    def shutdown(self, how: int) -> None:
        """Say that nothing follows, in TLS and below (only writing is ever shut). Raises OSError."""
        self._end()
        self.raw.shutdown(how)

    def close(self) -> None:
        """Say so if it can still be heard, and close."""
        self._end()
        self.raw.close()

    def _end(self) -> None:
        if self.is_ready and not self._is_shut:
            self._is_shut = True
            with suppress(OSError):  # it waits for the peer's answer in vain, or the peer has gone
                self._object.unwrap()
            self._flush_quietly()

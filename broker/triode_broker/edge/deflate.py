"""permessage-deflate (RFC 7692), as far as it can be shared: every message stands alone, in both directions.

Pure functions on bytes, and what wsproto asks of an extension. The surprising decision: no connection keeps a
window. A message is compressed once, for all connections that take it, where the usual way would compress it for
each of them and hold 300 KiB for each; and nothing of one message can show in the length of another.

S3: what is inflated has a bound, and nothing is inflated beyond it. Control frames are never compressed.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

from triode_broker.core.outbox import Outbox
from triode_broker.edge.frames import text_frame

_NAME: Final = "permessage-deflate"
_ACCEPTED: Final = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
#: 4 KiB of window and 16 KiB of tables: a new compressor takes 1 µs, where one of the usual size takes 50; JSON
#: shrinks as well. Clients that want a smaller window (RFC 7692 7.1.2.1) do without compression.
_WINDOW_BITS: Final = 12
_MEMORY_LEVEL: Final = 5
_LEVEL: Final = 6
_TAIL: Final = b"\x00\x00\xff\xff"  # ends every message, and is left out on the wire
#: What may lie behind the last block of a message that says which one is its last (RFC 7692 7.2.3.4).
_BEHIND_THE_LAST: Final = (_TAIL, b"\x00" + _TAIL)
_COMPRESSED: Final = 0x40  # RSV1

_SWITCHES: Final = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOW_BOUND: Final = "server_max_window_bits"
_CLIENT_WINDOW: Final = "client_max_window_bits"


def negotiate(header: bytes) -> bytes:
    """The value of `Sec-WebSocket-Extensions` to answer with, b"" for none: the first offer that can be met."""
    for name, *parameters in _offers(header.decode("ascii")):
        if name.lower() == _NAME and (bound := _bound(parameters)) is not None:
            return f"{_ACCEPTED}{bound}".encode()
    return b""


def _offers(header: str) -> Iterator[list[str]]:
    """Each offer as its name and parameters. No parameter of ours holds a comma or a semicolon, quoted or not."""
    for offer in header.split(","):
        yield [part.strip() for part in offer.split(";")]


def _bound(parameters: list[str]) -> str | None:
    """What to say of our window, or None where the offer is not one that RFC 7692 knows, or asks too much."""
    seen: dict[str, str] = {}
    for parameter in parameters:
        name, equals, value = (part.strip() for part in parameter.partition("="))
        value = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
        if name in seen or bool(equals) != bool(value):
            return None
        seen[name] = value
        if name in _SWITCHES:
            if value:
                return None
        elif name not in (_WINDOW_BOUND, _CLIENT_WINDOW) or not _is_window(value, name):
            return None
    if _WINDOW_BOUND not in seen:
        return ""
    return f"; {_WINDOW_BOUND}={_WINDOW_BITS}" if int(seen[_WINDOW_BOUND]) >= _WINDOW_BITS else None


def _is_window(value: str, name: str) -> bool:
    if not value:
        return name == _CLIENT_WINDOW  # says only that it could
    return value in ("8", "9", "10", "11", "12", "13", "14", "15")


def deflate(payload: bytes) -> bytes:
    """The payload as a message of its own, its tail left out."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


class TooLong(Exception):
    """What comes out is more than may be."""


def inflate(data: bytes, max_bytes: int) -> bytes:
    """The message that was compressed to `data`, its tail left out. Raises TooLong, or zlib.error."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    message = inflater.decompress(data + _TAIL, max_bytes + 1)
    if len(message) > max_bytes:
        raise TooLong
    if inflater.eof and inflater.unused_data not in _BEHIND_THE_LAST:
        raise zlib.error("more behind the last block")
    return message


class Deflating:
    """Makes frames of payloads for those who take compressed ones: one for all of them, so that they share."""

    __slots__ = ("_item", "_payload", "frame", "min_bytes")

    def __init__(self, min_bytes: int) -> None:
        self.min_bytes = min_bytes  # shorter payloads go as they are
        self._payload = self._item = b""  # the last one: replays give the same object to one after the other
        self.frame = self._frame  # one object for all outboxes: by it the core tells who takes the same items

    def _frame(self, payload: bytes) -> bytes:
        if len(payload) < self.min_bytes:
            return text_frame(payload)
        if payload is not self._payload:
            self._payload, self._item = payload, _smaller(payload)
        return self._item


def _smaller(payload: bytes) -> bytes:
    compressed = deflate(payload)
    if len(compressed) >= len(payload):
        return text_frame(payload)
    frame = text_frame(compressed)
    return bytes((frame[0] | _COMPRESSED,)) + frame[1:]


class DeflatingOutbox(Outbox):
    """Of a connection that takes compressed messages: it is sent no arrays, whatever it offered.

    An array would be its own, compressed for it alone: 9 µs and more for each connection and turn, where its share
    of a compressed message is nothing.
    """

    __slots__ = ()

    def hold_payloads(self) -> None:
        """Its items stay frames."""


class Inflation(Extension):
    """What wsproto does with the payloads of one unusual thing: inflates at most `max_bytes` of each message.

    (wsproto's own has no bound.)
    """

    name = _NAME

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._inflater: Any = None  # zlib's type has no name; of the compressed message under way
        self._is_control = False

    def enabled(self) -> bool:
        """There is no unusual thing but behind a handshake that agreed on it."""
        return True

    def offer(self) -> bool:
        """Servers make no offers."""
        return False

    def frame_inbound_header(
        self, proto: Any, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """RSV1 may stand on the first frame of a message, and nowhere else."""
        self._is_control = opcode.iscontrol()
        if rsv.rsv1:
            if self._is_control or opcode is Opcode.CONTINUATION:
                return CloseReason.PROTOCOL_ERROR
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            self._left = self._max_bytes
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes | CloseReason:
        """A piece of a payload."""
        if self._inflater is None or self._is_control or not data:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> bytes | CloseReason | None:
        """The end of a frame, maybe of its message."""
        if self._inflater is None or self._is_control or not fin:
            return None
        rest = self._inflate(_TAIL)
        inflater, self._inflater = self._inflater, None
        if inflater.eof and inflater.unused_data not in _BEHIND_THE_LAST:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return rest

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        inflater = self._inflater
        try:
            inflated: bytes = inflater.decompress(data, self._left + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._left -= len(inflated)
        if self._left < 0:
            return CloseReason.MESSAGE_TOO_BIG
        if len(inflater.unused_data) > len(_BEHIND_THE_LAST[-1]):
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return inflated

"""Text of a WebSocket message ↔ packets (SPEC 1.4-1.9): one packet or a non-empty flat array of packets.

Knows the packet types and nothing of sessions. Two decisions surprise: text arrives as `str`, because msgspec does
not check the UTF-8 of a `Raw` (one bad publisher would make the broker send invalid text to everybody); and a
failed packet is decoded a second time, leniently, only to find its `id` and `sub` for the answer, so that the
good path pays nothing for errors.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar, Union

import msgspec
from msgspec import UNSET, Raw

from triode_protocol.errors import RETRY, ErrorName
from triode_protocol.packets import (
    ABSENT,
    CLIENT_PACKETS,
    SERVER_PACKETS,
    ClientPacket,
    Connect,
    Publish,
    Seen,
    ServerPacket,
    Subscribe,
)
from triode_protocol.positions import MAX_INTEGER

MAX_DATA_DEPTH: Final = 32
MAX_ARRAY_PACKETS: Final = 4_096  # from a client, in one array (SPEC 1.5): bounds the work of one message
MAX_ERROR_CHARACTERS: Final = 200  # of what is said back about a bad packet
MAX_FIELD_CHARACTERS: Final = 64
_BLANKS: Final = " \t\r\n"  # what JSON allows around values
_MAX_BLANKS: Final = 1_024  # in front of an array; a MiB of them takes 10 ms to skip

#: All that msgspec raises on bad input; RecursionError is its answer to very deep nesting.
DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)

_Packet = TypeVar("_Packet", ClientPacket, ServerPacket)

_client: Final = msgspec.json.Decoder(Union[CLIENT_PACKETS])  # noqa: UP007  # a tuple made at run time
_clients: Final = msgspec.json.Decoder(list[Union[CLIENT_PACKETS]])  # type: ignore[valid-type]  # noqa: UP007
_server: Final = msgspec.json.Decoder(Union[SERVER_PACKETS])  # noqa: UP007
_servers: Final = msgspec.json.Decoder(list[Union[SERVER_PACKETS]])  # type: ignore[valid-type]  # noqa: UP007
_raw_array: Final = msgspec.json.Decoder(list[Raw])
encode: Final = msgspec.json.Encoder().encode


class Refused(Exception):
    """A packet that is not served: what the answering `error` says (SPEC 5.1).

    `id` and `sub` are 0 where the packet had none. Raised by the codec and by every rule behind it; the connection
    lives on.
    """

    __slots__ = ("field", "id", "message", "name", "retry_after_ms", "sub")  # an array may hold 4,096 of them

    def __init__(self, name: ErrorName, message: str, *, field: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(name, message)
        self.name = name
        self.message = message[:MAX_ERROR_CHARACTERS]
        self.field = field[:MAX_FIELD_CHARACTERS]
        self.retry_after_ms = retry_after_ms
        self.id = 0
        self.sub = 0

    @property
    def retry(self) -> str:
        """What the client does about it: never, now, backoff or reauth."""
        return RETRY[self.name]


def decode(text: str, max_packet_bytes: int) -> Sequence[ClientPacket | Refused]:
    """The packets of one WebSocket message from a client, in order, each judged alone.

    A packet that cannot be served is a `Refused` in its place. Never raises for any text. Bounds: a packet longer
    than `max_packet_bytes` (UTF-8) is refused as too_large; the whole text is the WebSocket layer's to bound.
    """
    if text[:1] == "[":
        return _decode_array(text, max_packet_bytes)
    if len(text) * 4 > max_packet_bytes and len(text.encode("utf-8", "surrogatepass")) > max_packet_bytes:
        return _decode_bad(None, text, max_packet_bytes)
    try:
        packet = _client.decode(text)
    except DECODE_ERRORS as error:
        return _decode_bad(error, text, max_packet_bytes)
    # Looking how deep it nests costs more than decoding: spared where it cannot nest deep. 33 levels of objects
    # alone take over 200 characters; searching is a tenth of counting.
    if ("[" in text or (len(text) > 190 and text.find("{", 1) > 0)) and (
        text.count("{") + text.count("[") > MAX_DATA_DEPTH
    ):
        return (_shallow(packet),)
    return (packet,)


def decode_first(text: str, max_packet_bytes: int, max_first_characters: int) -> ClientPacket | Refused:
    """The first packet of a text alone, as `decode` has it, for one that comes from a stranger (S2).

    Costs no more than a text of `max_first_characters` does, whatever stands in the others and however deep it
    nests: what is longer, or nests deeper than the parser goes, may be refused without its `id`.
    """
    if text.lstrip(_BLANKS)[:1] == "[":
        return _first_element(text, max_packet_bytes, max_first_characters)
    if len(text) <= max_first_characters:
        return _decode_one(text, max_packet_bytes)
    try:
        packet: ClientPacket = _client.decode(text)
    except DECODE_ERRORS:
        return _refused("this is no packet, and too long for a first one")
    return packet


def _first_element(text: str, max_packet_bytes: int, max_first_characters: int) -> ClientPacket | Refused:
    begin = text.index("[") + 1
    piece = text[begin : begin + max_first_characters + 1].lstrip(_BLANKS)
    depth = 0
    for match in _MARKS.finditer(piece) if piece[:1] == "{" else ():
        mark = match[0]
        depth += 1 if mark in "[{" else -1 if mark in "]}" else 0
        if not depth:
            return _decode_one(piece[: match.end()], max_packet_bytes)
    return _refused("an array holds packets, at least one, and no arrays; the first is short")


def _decode_one(text: str, max_packet_bytes: int) -> ClientPacket | Refused:
    """A text that is no array. What nests too deep for the parser is not looked through for its `id`."""
    try:
        packet: ClientPacket = _client.decode(text)
    except RecursionError:
        return _refused(f"nested deeper than {MAX_DATA_DEPTH} levels")
    except DECODE_ERRORS as error:
        return _explain(error, text)
    return _shallow(packet)


def _decode_bad(error: Exception | None, text: str, max_packet_bytes: int) -> Sequence[ClientPacket | Refused]:
    """No packet within its limit: an array behind blanks, too large (no `error`), or what `error` says."""
    if text[:_MAX_BLANKS].lstrip(_BLANKS)[:1] == "[":
        return _decode_array(text, max_packet_bytes)
    return (_explain(error, text) if error else _too_large(text, max_packet_bytes),)


def _decode_array(text: str, max_packet_bytes: int) -> Sequence[ClientPacket | Refused]:
    if len(text) * 4 <= max_packet_bytes:
        try:
            packets = _clients.decode(text)
        except DECODE_ERRORS:
            pass  # at least one element is bad: judge each alone
        else:
            return [_shallow(packet) for packet in packets] or (_refused("an array has at least one packet"),)
    try:
        elements = _raw_array.decode(text)
    except DECODE_ERRORS as error:
        return (_refused(f"not JSON: {error}"),)
    if len(elements) > MAX_ARRAY_PACKETS:
        return (Refused(ErrorName.TOO_LARGE, f"an array holds at most {MAX_ARRAY_PACKETS} packets"),)
    if not elements or any(bytes(raw).lstrip()[:1] == b"[" for raw in elements):
        return (_refused("an array holds packets, at least one, and no arrays"),)
    return [_decode_element(raw, max_packet_bytes) for raw in elements]


def _decode_element(raw: Raw, max_packet_bytes: int) -> ClientPacket | Refused:
    if len(memoryview(raw)) > max_packet_bytes:
        return _too_large(raw, max_packet_bytes)
    try:
        packet: ClientPacket = _client.decode(raw)
    except DECODE_ERRORS as error:
        return _explain(error, raw)
    return _shallow(packet)


def _shallow(packet: ClientPacket) -> ClientPacket | Refused:
    """The packet, unless what it carries nests too deep: the other fields have types."""
    carried, field = _carried(packet)
    if not is_too_deep(carried):
        return packet
    refused = Refused(ErrorName.MALFORMED, f"{field} nests deeper than {MAX_DATA_DEPTH} levels", field=field)
    refused.id = getattr(packet, "id", 0)
    refused.sub = getattr(packet, "sub", 0)
    return refused


def _carried(packet: ClientPacket) -> tuple[Raw, str]:
    """What of a packet passes through as the text it came in, and the name of its field."""
    if type(packet) is Publish:
        return packet.data, "data"
    if type(packet) is Subscribe and isinstance(packet.presence, Seen):
        return packet.presence.state, "state"
    if type(packet) is Connect and packet.will is not UNSET:
        return packet.will.data, "data"
    return ABSENT, ""


def decode_server(text: str) -> list[ServerPacket]:
    """The packets of one WebSocket message from a server; those of unknown type are left out (SPEC 1.8).

    Raises ValueError for text that is no packet and no array of packets: a broken server.
    """
    if text[:1] == "[":
        try:
            return _servers.decode(text)  # half the time of one by one
        except DECODE_ERRORS:
            pass  # at least one is of unknown type, or all is lost
    try:
        if text.lstrip(_BLANKS)[:1] != "[":
            return [_server.decode(text)]
        elements = _raw_array.decode(text)
    except DECODE_ERRORS as error:
        _pass_over_unknown(error)
        return []
    packets = []
    for element in elements:
        try:
            packets.append(_server.decode(element))
        except DECODE_ERRORS as error:
            _pass_over_unknown(error)
    return packets


def _pass_over_unknown(error: Exception) -> None:
    """Return for a packet of unknown type; raise for everything else."""
    if not str(error).startswith("Invalid value "):  # said of the tag alone: no other field is a tagged union
        raise ValueError(f"not a packet of this protocol: {error}") from error


def join(payloads: Sequence[bytes]) -> bytes:
    """Encoded packets as one array."""
    return b"[%b]" % b",".join(payloads)


# Linear, whatever comes: no two branches start alike, nothing is given back, a string without an end is one match.
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def is_too_deep(data: Raw) -> bool:
    """Whether valid JSON nests deeper than MAX_DATA_DEPTH; cheap for the short and the flat.

    Nothing in it is done once for each bracket, of which a packet may hold 60,000: with one kind of brackets and
    nothing else left, each `replace` takes away the innermost ones, so one level.
    """
    view = memoryview(data)
    if len(view) <= 2 * MAX_DATA_DEPTH:
        return False
    text = view.tobytes()
    if text.count(b"[") + text.count(b"{") <= MAX_DATA_DEPTH:
        return False
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(text.split(b'"')[::2])  # of strings
    brackets = outside.translate(_ALIKE, _NO_BRACKETS)
    for _ in range(MAX_DATA_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _refused(message: str) -> Refused:
    return Refused(ErrorName.MALFORMED, message)


def _too_large(text: str | Raw, max_packet_bytes: int) -> Refused:
    refused = Refused(ErrorName.TOO_LARGE, f"a packet has at most {max_packet_bytes} bytes")
    return _addressed(refused, text)


# Anchored at both ends: what stands between may quote anything that the client wrote.
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*?)`(?: - at `[^`]*`)?\Z", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(.*?)`")
_AT = re.compile(r" - at `(?:key` in `)?\$\.([A-Za-z0-9_]+)[^`]*`\Z")


def _explain(error: Exception, text: str | Raw) -> Refused:
    """What is wrong, in the terms of the protocol."""
    said = str(error)
    if isinstance(error, RecursionError):
        refused = _refused(f"nested deeper than {MAX_DATA_DEPTH} levels")
        refused.field = "data" if "data" in _lenient(text) else ""
        return _addressed(refused, text)
    if not isinstance(error, msgspec.ValidationError):
        return _refused(f"not JSON: {said}")
    at = _AT.search(said)
    if unknown := _UNKNOWN_FIELD.match(said):
        refused = Refused(ErrorName.UNSUPPORTED, said, field=unknown[1])
    elif said.startswith(("Invalid value", "Invalid enum value")):
        refused = Refused(ErrorName.UNSUPPORTED, said, field=at[1] if at else "")
    else:
        missing = _MISSING_FIELD.match(said)
        field = missing[1] if missing else at[1] if at else ""
        refused = Refused(ErrorName.MALFORMED, said, field=field)
    return _addressed(refused, text)


def _addressed(refused: Refused, text: str | Raw) -> Refused:
    found = _lenient(text)
    refused.id = _number(found.get("id"))
    refused.sub = _number(found.get("sub"))
    return refused


def _lenient(text: str | Raw) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except RecursionError:
        return _around(text)
    except DECODE_ERRORS:
        return {}
    return found if isinstance(found, dict) else {}


def _around(text: str | Raw) -> dict[str, Any]:
    """What stands before and behind all that nests too deep for the parser; nothing, if in doubt."""
    whole = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    body = whole.strip().removeprefix(b"{").removesuffix(b"}")
    begins = [at for at in (body.find(b"["), body.find(b"{")) if at >= 0]
    end = max(body.rfind(b"]"), body.rfind(b"}"))
    try:
        found = msgspec.json.decode(b"{%b0%b}" % (body[: min(begins)], body[end + 1 :]))
    except DECODE_ERRORS:
        return {}
    return found  # type: ignore[no-any-return]  # braces are around it


def _number(value: object) -> int:
    return value if type(value) is int and 1 <= value <= MAX_INTEGER else 0

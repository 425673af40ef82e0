"""Spoken: what went over a connection, as plain data for an operator who looks into it.

Pure: knows packets as JSON and the few bytes around them on a wire. The surprising decision: what an application
says is left out unless it is asked for, and a credential always is. So what is looked into for a fault shows which
packets went where and how large they were, and nobody's letters.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

#: A packet that is longer is told of by its size alone.
MAX_SHOWN_BYTES: Final = 65_536
HIDDEN: Final = "…"
#: What applications say, wherever it stands in a packet.
_PAYLOADS: Final = frozenset({"data", "b64", "state", "headers"})
#: What lets somebody in.
_SECRETS: Final = frozenset({"token"})
_EVENT: Final = b"data:"
_COMPRESSED: Final = 0x40


def packets(text: str | bytes, *, with_payloads: bool) -> Iterator[dict[str, Any]]:
    """Those of one text: one, or an array of them; what is no packet by its size."""
    size = len(text)
    if size > MAX_SHOWN_BYTES:
        yield {"bytes": size, "is_cut": True}
        return
    malformed = {"bytes": size, "is_malformed": True}
    try:
        found = msgspec.json.decode(text)
        shown = [
            _shown(one, with_payloads=with_payloads) if isinstance(one, dict) else malformed
            for one in (found if isinstance(found, list) else [found])
        ]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        shown = [malformed]
    yield from shown


def _shown(packet: dict[str, Any], *, with_payloads: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in packet.items():
        if name in _SECRETS:
            shown[name] = HIDDEN
        elif name in _PAYLOADS and not with_payloads:
            shown[f"{name}_bytes"] = len(msgspec.json.encode(value))
        elif name in _PAYLOADS:
            shown[name] = value
        else:
            shown[name] = _inside(value, with_payloads=with_payloads)
    return shown


def _inside(value: Any, *, with_payloads: bool) -> Any:
    if isinstance(value, dict):
        return _shown(value, with_payloads=with_payloads)
    if isinstance(value, list):
        return [_inside(one, with_payloads=with_payloads) for one in value]
    return value


def payload_of(item: bytes) -> bytes | None:
    """The text inside what is written to a wire: a WebSocket frame or an event; None: there is none."""
    if item[:1] in (b"\x81", b"\xc1"):
        short = item[1] & 0x7F
        start = 2 + {126: 2, 127: 8}.get(short, 0)
        inside = item[start:]
        return _inflated(inside) if item[0] & _COMPRESSED else inside
    for line in item.splitlines():
        if line.startswith(_EVENT):
            return line[len(_EVENT) :].strip()
    return None


def _inflated(data: bytes) -> bytes | None:
    """Of permessage-deflate without context; bounded."""
    try:
        reader = zlib.decompressobj(-zlib.MAX_WBITS)
        return reader.decompress(data + b"\x00\x00\xff\xff", MAX_SHOWN_BYTES + 1)
    except zlib.error:
        return None

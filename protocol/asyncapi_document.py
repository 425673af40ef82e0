"""The AsyncAPI 3 document of the protocol, asyncapi.json: made from the packet types, like the schemas.

Knows how AsyncAPI says things; what a packet looks like is told to it. The surprising decision: it describes the
broker (what it receives, what it sends), because AsyncAPI describes one side, and clients are many.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

Packet = type[msgspec.Struct]
Document = dict[str, Any]

ASYNCAPI_VERSION = "3.0.0"

_ABOUT = """\
One WebSocket carries packets of JSON both ways, one packet a text message, or an array of packets (SPEC 1.4, 1.5).
This document names the packets and their fields, and is made from the types that the broker runs on. What they
mean, in which order they come, and what a client does about them stands in SPEC.md."""

#: What answers a packet of a client, beside `error`; of these types the broker sends more than answers.
_REPLIES: dict[str, tuple[str, ...]] = {
    "connect": ("connected", "bye"),
    "auth": ("authorized",),
    "subscribe": ("subscribed",),
    "unsubscribe": ("unsubscribed",),
    "publish": ("published", "traced"),
    "ack": ("acked",),
    "nack": ("acked",),
    "extend": ("acked",),
    "history": ("history",),
    "presence": ("presence",),
    "ping": ("pong",),
}
#: What the broker sends without being asked.
_UNASKED = (
    *("message", "delivery", "gap", "catching_up", "caught_up", "unsubscribed", "joined", "left"),
    *("ping", "notice", "bye", "error"),
)
#: Examples of what no transcript of SPEC.md shows.
_EXTRA_EXAMPLES: dict[str, Document] = {
    "server.catching_up": {"type": "catching_up", "sub": 1, "after": {"m0-q3x7": 17}, "reason": "slow"},
    "server.authorized": {"type": "authorized", "id": 7, "expires_in_ms": 3600000},
    "server.ping": {"type": "ping", "at": {"m0-q3x7": 18234}},
    "server.notice": {"type": "notice", "draining": True},
    "server.traced": {
        "type": "traced",
        "id": 5,
        "hops": [{"hop": "stored", "node": "n1", "at_us": 1732281000123456, "level": "memory"}],
        "end": "complete",
    },
}
_TRANSCRIPT_LINE = re.compile(r"^([CS])\d?: +([\[{].*)$", re.MULTILINE)
_SHOWN = {"ts": 1732281000123, "message": "for people, not for programs"}  # where a transcript says "$any"


def document(sides: Mapping[str, tuple[Packet, ...]], describe: Callable[[Packet], Packet], spec: str) -> Document:
    """The whole of it. `sides`: packets of "client" and "server"; `describe`: a packet without its raw JSON."""
    packets = {f"{side}.{_tag(packet)}": packet for side, union in sides.items() for packet in union}
    described = [describe(packet) for packet in packets.values()]
    _, schemas = msgspec.json.schema_components(described, ref_template="#/components/schemas/{name}")
    examples = {**_EXTRA_EXAMPLES, **_examples(spec)}
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Triode wire protocol",
            "version": "1.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:7400",
                "protocol": "ws",
                "description": "Where `triode serve` listens when nothing is set.",
            }
        },
        "channels": {
            "connection": {
                "address": "/ws",
                "title": "A connection",
                "description": "One WebSocket, subprotocol `triode.v1.json`. `connect` is the first packet.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in packets},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": dict(_operations(packets)),
        "components": {
            "messages": {name: _message(name, packet, examples) for name, packet in packets.items()},
            "schemas": schemas,
        },
    }


def _tag(packet: Packet) -> str:
    return str(packet.__struct_config__.tag)


def _operations(packets: Mapping[str, Packet]) -> Iterator[tuple[str, Document]]:
    channel = {"$ref": "#/channels/connection"}
    for name, packet in packets.items():
        side, tag = name.split(".")
        if side == "client":
            operation = {"action": "receive", "channel": channel, "messages": [_listed(name)]}
            if replies := _REPLIES.get(tag):
                answers = [_listed(f"server.{reply}") for reply in (*replies, "error")]
                operation["reply"] = {"channel": channel, "messages": answers}
            yield f"receive_{tag}", {**operation, "summary": _first_sentence(packet)}
        elif tag in _UNASKED:
            operation = {"action": "send", "channel": channel, "messages": [_listed(name)]}
            yield f"send_{tag}", {**operation, "summary": _first_sentence(packet)}


def _listed(name: str) -> Document:
    return {"$ref": f"#/channels/connection/messages/{name}"}


def _message(name: str, packet: Packet, examples: Mapping[str, Document]) -> Document:
    made: Document = {
        "name": _tag(packet),
        "title": f"{_tag(packet)} (from the {name.split('.')[0]})",
        "summary": _first_sentence(packet),
        "payload": {"$ref": f"#/components/schemas/{packet.__name__}"},
    }
    if name in examples:
        made["examples"] = [{"payload": examples[name]}]
    if "id" in packet.__struct_fields__:
        made["correlationId"] = {"location": "$message.payload#/id"}
    return made


def _first_sentence(packet: Packet) -> str:
    return (packet.__doc__ or "").split("\n")[0].strip()


def _examples(spec: str) -> dict[str, Document]:
    """Of each type the first packet in the transcripts that is not refused there."""
    found: dict[str, Document] = {}
    for side, text in _TRANSCRIPT_LINE.findall(spec):
        try:
            value = json.loads(text)
        except ValueError:  # over several lines, or meant to be no JSON
            continue
        for packet in value if isinstance(value, list) else [value]:
            if isinstance(packet, dict) and "type" in packet:
                name = f"{'client' if side == 'C' else 'server'}.{packet['type']}"
                found.setdefault(name, _shown(packet))
    return found


def _shown(value: Any, name: str = "") -> Any:
    """A packet of a transcript with values in place of its `$names`."""
    if isinstance(value, dict):
        return {_shown(key): _shown(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [_shown(member) for member in value]
    if value == "$any":
        return _SHOWN.get(name, 1)
    if isinstance(value, str) and value.startswith("$"):
        return "m0-q3x7" if value in ("$log", "$first") else f"{value[1:].strip('0123456789')}-k7d2"
    return value

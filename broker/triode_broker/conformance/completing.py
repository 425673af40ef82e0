"""What the script leaves out of a packet: the fields that no scenario is about.

Knows packets as plain values. The surprising decision: nothing here is random or of the clock, so that two runs of
a scenario are the same bytes.
"""

from collections.abc import Callable
from typing import Any, Final

from triode_protocol.errors import RETRY, CloseCode
from triode_protocol.packets import PROTOCOL

Packet = dict[str, Any]

LOG: Final = "m0-a"
TOPIC: Final = "t"
_FIRST_TS: Final = 1_732_281_000_000
_MOST_LATER_MS: Final = 1_000_000
_CAPABILITIES: Final = (
    *("batch", "history", "resume", "dedupe", "conflate", "delay"),
    *("compact", "group", "durable", "presence", "will"),
)
LIMITS: Final = {
    "max_packet_bytes": 65_536,
    "max_frame_bytes": 1_048_576,
    "max_subscriptions": 200,
    "max_inflight_publishes": 256,
    "dedupe_window_ms": 300_000,
}
_RECONNECT: Final = {"min_ms": 10, "max_ms": 20}  # so that no scenario waits


def complete(packet: Packet) -> Packet:
    """The packet with every field that a client needs."""
    fill = _FILLS.get(packet.get("type", ""))
    return packet if fill is None else fill(packet)


def connected(packet: Packet) -> Packet:
    """`limits` may name some."""
    limits = {**LIMITS, **packet.get("limits", {})}
    usual = {
        "type": "connected",
        "node": "n1",
        "protocol": PROTOCOL,
        "capabilities": list(_CAPABILITIES),
        "ping_ms": 25_000,
        "reconnect": _RECONNECT,
    }
    return {**usual, **packet, "limits": limits}


def _message(packet: Packet) -> Packet:
    pos = packet.get("pos", 1)
    ts = _FIRST_TS + min(pos, _MOST_LATER_MS)  # also of a `pos` as large as any number here may be
    usual = {"type": "message", "topic": TOPIC, "offset": pos, "log": LOG, "pos": pos, "ts": ts}
    return {**usual, **packet}


def _delivery(packet: Packet) -> Packet:
    return {"type": "delivery", "attempt": 1, **packet, "message": _message(packet["message"])}


def _published(packet: Packet) -> Packet:
    if packet.get("delayed"):
        return {"level": "memory", **packet}
    return {"log": LOG, "offset": packet.get("pos", 1), "pos": 1, "level": "memory", **packet}


def _subscribed(packet: Packet) -> Packet:
    return {"after": {LOG: 0}, "live": True, **packet}


def _error(packet: Packet) -> Packet:
    return {"message": "as the script has it", "retry": RETRY.get(packet["name"], "never"), **packet}


def _history(packet: Packet) -> Packet:
    messages = [_message(message) for message in packet.get("messages", [])]
    return {"complete": True, "after": {}, **packet, "messages": messages}


def _presence(packet: Packet) -> Packet:
    return {"complete": True, "members": [], **packet}


def _bye(packet: Packet) -> Packet:
    names = {int(code): code.name.lower() for code in CloseCode}
    return {"name": names.get(packet["code"], "of_tomorrow"), **packet}


_FILLS: Final[dict[str, Callable[[Packet], Packet]]] = {
    "connected": connected,
    "message": _message,
    "delivery": _delivery,
    "published": _published,
    "subscribed": _subscribed,
    "error": _error,
    "history": _history,
    "presence": _presence,
    "bye": _bye,
}

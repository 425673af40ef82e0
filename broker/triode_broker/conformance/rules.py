"""The house rules: what a client must not do in any conversation, checked on every packet of every scenario.

Knows the protocol's packets and what the script has sent, no scenario. The surprising decision: a packet is read
by the very codec that the broker reads it with, so what a broker would refuse is a fault here, with no more rules.
"""

from typing import Any, Final

import msgspec
from triode_protocol import codec, packets
from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, BadTopic, check_filter, check_topic

from triode_broker.conformance.completing import LIMITS

BEFORE_CONNECTED_BYTES: Final = 65_536  # what a broker reads of a client until then (SPEC 1.11)

_WITH_CONTENT: Final[tuple[str, ...]] = ("data", "b64", "key", "headers", "ttl_ms", "deliver_at_ms")


class Fault(Exception):
    """The client broke the protocol; the text cites the clause."""


class Memory:
    """What holds across the connections of one scenario."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, str], dict[str, Any]] = {}  # by topic and message_id


class Rules:
    """Of one connection."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._max_packet_bytes = LIMITS["max_packet_bytes"]  # until `connected` says another number
        self._max_frame_bytes = LIMITS["max_frame_bytes"]
        self._max_inflight = 0
        self._early_bytes: int | None = 0  # None: `connected` has been sent
        self._has_connect = False
        self._has_left = False
        self._asked: dict[int, str] = {}  # ids that wait for their reply, and of which type
        self._subs: set[int] = set()

    # What the client sends

    def read(self, text: str) -> list[dict[str, Any]]:
        """The packets of one message of the client. Raises Fault."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > self._max_frame_bytes:
            raise Fault(f"a message of {size} bytes, and `max_frame_bytes` is {self._max_frame_bytes} (SPEC 1.10)")
        if self._early_bytes is not None:
            self._early_bytes += size
            if self._early_bytes > BEFORE_CONNECTED_BYTES:
                raise Fault(f"{self._early_bytes} bytes before `connected` (SPEC 1.11)")
        judged = codec.decode(text, max_packet_bytes=size)  # too large a packet is an error, no fault
        for packet in judged:
            if isinstance(packet, codec.Refused):
                at = f", field {packet.field!r}" if packet.field else ""
                raise Fault(f"a broker refuses this as {packet.name}{at}: {packet.message} (SPEC 1.5, 1.7, 3)")
        found = msgspec.json.decode(text)
        values: list[dict[str, Any]] = found if isinstance(found, list) else [found]
        for value in values:
            self._check(value)
        return values

    def _check(self, packet: dict[str, Any]) -> None:
        kind = packet["type"]
        if self._has_left:
            raise Fault(f"a `{kind}` behind `disconnect` (SPEC 3.7.1)")
        if self._has_connect == (kind == "connect"):
            raise Fault(
                "a second `connect` (SPEC 3.1.1)" if self._has_connect else "`connect` is first (SPEC 1.12)"
            )
        self._has_connect = True
        self._has_left = kind == "disconnect"
        self._check_id(packet)
        if kind == "subscribe":
            self._check_subscribe(packet)
        elif kind == "publish":
            self._check_publish(packet)

    def _check_id(self, packet: dict[str, Any]) -> None:
        number = packet.get("id", 0)
        if not number:
            return
        if number in self._asked:
            raise Fault(f"id {number} again, before the answer to the first (SPEC 1.13)")
        self._asked[number] = packet["type"]
        waiting = sum(kind == "publish" for kind in self._asked.values())
        if self._max_inflight and waiting > self._max_inflight:
            raise Fault(f"{waiting} publishes unanswered, {self._max_inflight} are allowed (SPEC 3.4.12)")

    def _check_subscribe(self, packet: dict[str, Any]) -> None:
        number = packet["sub"]
        if number in self._subs:
            raise Fault(f"sub {number} again on the same connection (SPEC 3.2.1)")
        self._subs.add(number)
        if "after" in packet and packet.get("from", "new") != "new":
            raise Fault("`after` and `from` exclude each other (SPEC 3.2.8)")
        try:
            check_filter(packet["filter"], HARD_MAX_LEVELS, HARD_MAX_BYTES)
        except BadTopic as error:
            raise Fault(f"not a filter: {error} (SPEC 6)") from error

    def _check_publish(self, packet: dict[str, Any]) -> None:
        try:
            check_topic(packet["topic"], HARD_MAX_LEVELS, HARD_MAX_BYTES)
        except BadTopic as error:
            raise Fault(f"not a topic: {error} (SPEC 6)") from error
        if message_id := packet.get("message_id"):
            content = {name: packet[name] for name in _WITH_CONTENT if name in packet}
            first = self._memory.contents.setdefault((packet["topic"], message_id), content)
            if first != content:
                raise Fault(f"message_id {message_id!r} again, with other content (SPEC 3.4.6)")

    def is_too_large(self, packet: dict[str, Any]) -> bool:
        """Whether a broker answers it with `too_large`, unread (SPEC 1.10)."""
        return len(msgspec.json.encode(packet)) > self._max_packet_bytes

    # What the script sends

    def sent(self, packet: dict[str, Any]) -> None:
        """Take notice of a packet of the broker."""
        self._asked.pop(packet.get("id", 0), None)
        if packet.get("type") == "connected":
            self._early_bytes = None
            limits = packet["limits"]
            self._max_packet_bytes = limits["max_packet_bytes"]
            self._max_frame_bytes = limits["max_frame_bytes"]
            self._max_inflight = limits["max_inflight_publishes"]


PROTOCOL_OFFERED: Final = packets.SUBPROTOCOL


def check_offer(path: str, offered: tuple[str, ...]) -> None:
    """The handshake's own rules. Raises Fault."""
    if path.partition("?")[0] != "/ws":
        raise Fault(f"the handshake asks for {path!r}, not /ws (SPEC 1.1)")
    if offered and PROTOCOL_OFFERED not in offered:
        raise Fault(f"the handshake offers only {', '.join(offered)} (SPEC 1.2)")

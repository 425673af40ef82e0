"""What programs say, as packets: checked here, so that a mistake is told at the line that made it.

Knows packets and plain values, no session. The surprising decision: `bytes` are sent as binary, and text that is
JSON already goes through as it stands when it is a `msgspec.Raw`.
"""

from collections.abc import Mapping

import msgspec
from triode_protocol import packets
from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, check_topic


def packet_without_data(
    topic: str,
    key: str,
    headers: Mapping[str, str] | None,
    message_id: str,
    ttl_ms: int,
    deliver_at_ms: int,
) -> packets.Publish:
    """All of a publish but its payload. Raises BadTopic, ValueError."""
    check_topic(topic, HARD_MAX_LEVELS, HARD_MAX_BYTES)
    if len(message_id.encode()) > packets.MAX_MESSAGE_ID_BYTES:
        raise ValueError(f"a message_id has at most {packets.MAX_MESSAGE_ID_BYTES} bytes")
    if len(key.encode()) > packets.MAX_KEY_BYTES:
        raise ValueError(f"a key has at most {packets.MAX_KEY_BYTES} bytes")
    return packets.Publish(
        topic,
        message_id=message_id,
        key=key,
        headers=dict(headers or {}),
        ttl_ms=ttl_ms,
        deliver_at_ms=deliver_at_ms,
    )


def publish_packet(
    topic: str,
    data: object,
    key: str,
    headers: Mapping[str, str] | None,
    message_id: str,
    ttl_ms: int,
    deliver_at_ms: int,
) -> packets.Publish:
    """Raises BadTopic, ValueError, TypeError: what the broker would refuse anyway, told at the line at fault."""
    packet = packet_without_data(topic, key, headers, message_id, ttl_ms, deliver_at_ms)
    if isinstance(data, msgspec.Raw):
        packet.data = data
    elif isinstance(data, bytes | bytearray | memoryview):
        packet.b64 = msgspec.Raw(msgspec.json.encode(data))  # msgspec says bytes in base64
    else:
        packet.data = msgspec.Raw(msgspec.json.encode(data))
    return packet

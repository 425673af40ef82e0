"""What a publish must satisfy beside its types (SPEC 3.4): one content, offered features, bounds.

Pure checks on one packet; every refusal names its field.
"""

from base64 import b64decode
from binascii import Error as Base64Error

import msgspec
from msgspec import Raw
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import ABSENT, MAX_KEY_BYTES, MAX_MESSAGE_ID_BYTES, Publish

from triode_broker.config import Limits, TopicRule


def check_publish(packet: Publish, rule: TopicRule, limits: Limits) -> None:
    """Raise Refused for a publish that breaks a rule. Order of tests: the usual message passes eight cheap ones.

    When it is to be delivered is looked at where the clock is known (`core.delayed`).
    """
    data = packet.data
    if rule.compact and not packet.key:
        # Kept by topic and key: without one, each message would delete the one before and none could be deleted.
        raise Refused(ErrorName.MALFORMED, "on this topic every message has a key", field="key")
    if packet.b64 is not ABSENT or data is ABSENT:
        data = _check_content(packet, rule)
    if rule.max_payload_bytes and len(memoryview(data)) > rule.max_payload_bytes:
        field = "data" if data is packet.data else "b64"
        message = f"a payload on this topic has at most {rule.max_payload_bytes} bytes"
        raise Refused(ErrorName.TOO_LARGE, message, field=field)
    if packet.message_id and len(packet.message_id.encode()) > MAX_MESSAGE_ID_BYTES:
        message = f"a message_id has at most {MAX_MESSAGE_ID_BYTES} bytes"
        raise Refused(ErrorName.MALFORMED, message, field="message_id")
    if packet.key and len(packet.key.encode()) > MAX_KEY_BYTES:
        raise Refused(ErrorName.MALFORMED, f"a key has at most {MAX_KEY_BYTES} bytes", field="key")
    if packet.headers:
        _check_headers(packet.headers, limits)


def _check_content(packet: Publish, rule: TopicRule) -> Raw:
    if packet.b64 is ABSENT:
        if rule.compact:
            return packet.data  # none: it deletes its key
        message = "a publish has data or b64; only on a compacted topic a key without them is deleted"
        raise Refused(ErrorName.MALFORMED, message, field="data")
    if packet.data is not ABSENT:
        raise Refused(ErrorName.MALFORMED, "a publish has data or b64, not both", field="b64")
    try:
        b64decode(msgspec.json.decode(packet.b64, type=str), validate=True)
    except (msgspec.MsgspecError, Base64Error, ValueError):
        message = "b64 is a string of base64 with padding (RFC 4648 section 4)"
        raise Refused(ErrorName.MALFORMED, message, field="b64") from None
    return packet.b64


def _check_headers(headers: dict[str, str], limits: Limits) -> None:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if len(headers) > limits.max_message_headers or size > limits.max_message_header_bytes:
        message = (
            f"a message has at most {limits.max_message_headers} headers"
            f" of {limits.max_message_header_bytes} bytes together"
        )
        raise Refused(ErrorName.TOO_LARGE, message, field="headers")

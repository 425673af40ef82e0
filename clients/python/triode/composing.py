"""What programs say, as packets: checked here, so that a mistake is told at the line that made it.

Knows packets and plain values, no session. The surprising decision: `bytes` are sent as binary, and text that is
JSON already goes through as it stands when it is a `msgspec.Raw`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal, Required, TypedDict

import msgspec
from triode_protocol import packets
from triode_protocol.codec import DECODE_ERRORS
from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, check_topic

from triode.subscription import Wish

_REMEMBERED_TOPICS: Final = 256
_MOST_SECONDS: Final = 1e11  # since 1970: the year 5138; who passes ms by mistake is told

#: Makes of a value that JSON has no word for one that it has; see `connect`.
Encode = Callable[[Any], Any]


class Draft(TypedDict, total=False):
    """One message for `publish_many`, with what `publish` takes besides."""

    topic: Required[str]
    data: Required[object]
    key: str
    headers: Mapping[str, str] | None
    message_id: str
    ttl_ms: int
    deliver_at: datetime | float | None


class Composer:
    """The packets of one client. Raises BadTopic, ValueError, TypeError, and what `encode` raises."""

    def __init__(self, encode: Encode | None = None) -> None:
        self._encode = msgspec.json.Encoder(enc_hook=encode).encode

    def publish(
        self,
        topic: str,
        data: object,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at: datetime | float | None = None,
        is_traced: bool = False,
    ) -> packets.Publish:
        """What the broker would refuse anyway is told at the line at fault."""
        packet = self.without_data(topic, key, headers, message_id, ttl_ms, _ms_since_1970(deliver_at))
        packet.trace = is_traced
        if isinstance(data, bytes | bytearray | memoryview):
            packet.b64 = self._json(data)  # msgspec says bytes in base64
        else:
            packet.data = self._json(data)
        return packet

    def several(self, message: tuple[str, object] | Draft) -> packets.Publish:
        """One of `publish_many`."""
        return self.publish(*message) if isinstance(message, tuple) else self.publish(**message)

    def without_data(
        self,
        topic: str,
        key: str,
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at_ms: int = 0,
    ) -> packets.Publish:
        """All of a publish but its payload."""
        _check_topic(topic)
        if message_id != "" and len(message_id.encode()) > packets.MAX_MESSAGE_ID_BYTES:
            raise ValueError(f"a message_id has at most {packets.MAX_MESSAGE_ID_BYTES} bytes")
        if key != "" and len(key.encode()) > packets.MAX_KEY_BYTES:
            raise ValueError(f"a key has at most {packets.MAX_KEY_BYTES} bytes")
        if not isinstance(ttl_ms, int):
            raise TypeError(f"ttl_ms is a number of ms: {ttl_ms!r}")
        return packets.Publish(
            topic,
            message_id=message_id,
            key=key,
            headers=_of_text(headers) if headers else {},
            ttl_ms=ttl_ms,
            deliver_at_ms=deliver_at_ms,
        )

    def deletion(self, topic: str, key: str, message_id: str) -> packets.Publish:
        """What deletes `key` from a compacted topic."""
        if not key:
            raise ValueError("what is deleted has a key")
        return self.without_data(topic, key, message_id=message_id)

    def wish(self, presence: Literal["watch"] | Mapping[Literal["state"], object] | None) -> Wish:
        """What a subscription says of presence."""
        if presence is None:
            return msgspec.UNSET
        if presence == "watch":
            return "watch"
        if not isinstance(presence, Mapping) or presence.keys() != {"state"}:
            raise ValueError(f'presence is "watch" or {{"state": …}}: {presence}')
        return packets.Seen(self._json(presence["state"]))

    def _json(self, data: object) -> msgspec.Raw:
        return _checked(data) if isinstance(data, msgspec.Raw) else msgspec.Raw(self._encode(data))


_skip: Final = msgspec.json.Decoder(msgspec.Raw).decode


def _checked(text: msgspec.Raw) -> msgspec.Raw:
    """What is no JSON would spoil all that leaves with it, or be taken for packets of its own."""
    try:
        return _skip(str(text, "utf-8"))  # a Raw's UTF-8 is not looked at by msgspec
    except DECODE_ERRORS as error:
        raise ValueError(f"data given as Raw is one JSON value: {error}") from None


def _of_text(headers: Mapping[str, str]) -> dict[str, str]:
    """As they will be encoded, perhaps by another thread, where nobody could be told."""
    said = dict(headers)
    for each in (*said, *said.values()):
        if not isinstance(each, str):
            raise TypeError(f"headers are text: {each!r}")
        each.encode()
    return said


@lru_cache(_REMEMBERED_TOPICS)  # of a program's few topics, each is published to again and again
def _check_topic(topic: str) -> None:
    check_topic(topic, HARD_MAX_LEVELS, HARD_MAX_BYTES)


def _ms_since_1970(at: datetime | float | None) -> int:
    if at is None:
        return 0
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError("deliver_at as a datetime has a time zone")
        at = at.timestamp()
    if not 0 < at <= _MOST_SECONDS:
        raise ValueError(f"deliver_at is seconds since 1970 (ms would be far ahead): {at}")
    return max(1, round(at * 1000))

"""Messages as lines: for people, or as JSON for other programs.

Knows what a message has, nothing of where lines go. The surprising decision: payloads are shown from the JSON text
they came in, because decoding and encoding again would change numbers that Python or JSON libraries round.
"""

import msgspec
from triode import Message

from triode_broker.printable import escape


def as_text(message: Message) -> str:
    """`topic data`: text as it is, anything else as JSON; no character of it can drive a terminal (S27)."""
    return f"{escape(message.topic)} {_payload(message)}"


def _payload(message: Message) -> str:
    if message.is_binary:
        return f'{{"b64":{_one_line(message.raw)}}}'
    try:
        if isinstance(message.data, str):
            return escape(message.data, keep="\t")
    except ValueError:
        pass  # JSON that has no Python value, as half a surrogate pair: shown as it came
    return _one_line(message.raw)


def as_json(message: Message) -> str:
    """One JSON object on one line, with every field that the message has; `b64` instead of `data` for bytes."""
    fields: dict[str, object] = {
        "topic": message.topic,
        "b64" if message.is_binary else "data": msgspec.Raw(_one_line(message.raw).encode()),
        "log": message.log,
        "pos": message.pos,
        "offset": message.offset,
        "ts": message.ts,
    }
    optional = {
        "user": message.user,
        "key": message.key,
        "headers": message.headers,
        "message_id": message.message_id,
    }
    fields |= {name: value for name, value in optional.items() if value}
    return escape(msgspec.json.encode(fields).decode())


_SPACES = str.maketrans("\n\r\t", "   ")


def _one_line(raw: bytes) -> str:
    """JSON text on one line: these three stand unescaped only between its values."""
    return escape((raw or b"null").decode("utf-8", "replace").translate(_SPACES).strip())

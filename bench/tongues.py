"""The neighbours' languages, as far as the load needs them: what a client says to come in, a publish, what counts.

What it must not know: sockets, servers' settings, time.
The surprising decision: whoever counts reads no protocol. Every payload ends with the same few bytes, which
nothing else contains, and deliveries are occurrences of them. So the load generator spends the same on every
neighbour, and what is counted is what arrived, however it was framed.
"""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from bench.frames import client_frame
from bench.load import upgrade_request
from bench.packets import greeting, packet

#: What every payload ends with.
END: Final = b"~end~"
_UPGRADED: Final = b"\r\n\r\n"
_BINARY: Final = 0x82
#: Numbers of acknowledged publishes begin here, and none is larger than a byte.
FIRST_NUMBER: Final = 16

Address = tuple[str, int]
#: Say this, wait until that has come; and so on.
Script = Sequence[tuple[bytes, bytes]]


@attrs.frozen
class Tongue:
    """How one speaks to a neighbour. `acked` is None where publishes are not acknowledged."""

    publisher: Callable[[Address, str], Script]  # to a topic
    subscriber: Callable[[Address, str], Script]
    publish: Callable[[str, str], bytes]  # topic, payload
    acked: Callable[[str, str, int], bytes] | None = None  # the same with a number, for an acknowledgement
    ack: bytes = b""  # occurs once in each of these, and in nothing else that a publisher is sent


def payload(size: int) -> str:
    """So many bytes, as JSON text with its two quotation marks."""
    return "x" * (size - 2 - len(END)) + END.decode()


def _quoted(text: str) -> bytes:
    return f'"{text}"'.encode()


def _upgrade(address: Address, path: str = "/ws", subprotocol: str = "") -> tuple[bytes, bytes]:
    return upgrade_request(address, path, subprotocol), _UPGRADED


def _own(address: Address, *says: tuple[bytes, bytes]) -> Script:
    return [_upgrade(address, "/ws", "triode.v1.json"), *says]


#: Triode, and those who were given the few packets of its that the load needs.
TRIODE: Final = Tongue(
    lambda address, topic: _own(address, (greeting(), b'"connected"')),
    lambda address, topic: _own(address, (greeting(topic), b'"subscribed"')),
    lambda topic, data: packet(kind="publish", topic=topic, data=data),
    lambda topic, data, number: packet(kind="publish", id=number, topic=topic, data=data),
    b'"published"',
)
BROADCASTING: Final = attrs.evolve(
    TRIODE,
    publisher=lambda address, topic: _own(address, (packet(kind="connect", id=1), b'"connected"')),
    subscriber=lambda address, topic: _own(
        address, (packet(kind="subscribe", id=1, filter=topic), b'"subscribeed"')
    ),
    ack=b'"publishe',
)


def _nats_hello(more: bytes = b"") -> tuple[bytes, bytes]:
    options = json.dumps({"verbose": False, "pedantic": False, "lang": "bench", "version": "1"})
    return b"CONNECT %b\r\n%bPING\r\n" % (options.encode(), more), b"PONG\r\n"


def _nats_subscribe(topic: str) -> tuple[bytes, bytes]:
    return _nats_hello(b"SUB %b 1\r\n" % _subject(topic))


def _subject(topic: str) -> bytes:
    return topic.replace("/", ".").encode()


def _nats_publish(topic: str, data: str) -> bytes:
    body = _quoted(data)
    return b"PUB %b %d\r\n%b\r\n" % (_subject(topic), len(body), body)


def _framed(said: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    return client_frame(said[0], _BINARY), said[1]


NATS: Final = Tongue(
    lambda address, topic: [_nats_hello()],
    lambda address, topic: [_nats_subscribe(topic)],
    _nats_publish,
)
NATS_WEBSOCKET: Final = Tongue(
    lambda address, topic: [_upgrade(address), _framed(_nats_hello())],
    lambda address, topic: [_upgrade(address), _framed(_nats_subscribe(topic))],
    lambda topic, data: client_frame(_nats_publish(topic, data), _BINARY),
)


def _mqtt_text(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def _mqtt(first: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while rest > 127:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return client_frame(bytes((first,)) + length + bytes((rest,)) + body, _BINARY)


def _mqtt_hello(address: Address) -> list[tuple[bytes, bytes]]:
    """Version 3.1.1, a clean session without a name, keep-alive off."""
    connect = _mqtt(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
    return [_upgrade(address, "/mqtt", "mqtt"), (connect, b"\x20\x02\x00\x00")]


def _mqtt_subscribe(topic: str) -> tuple[bytes, bytes]:
    return _mqtt(0x82, b"\x00\x01" + _mqtt_text(topic.encode()) + b"\x00"), b"\x90\x03\x00\x01\x00"


MQTT: Final = Tongue(
    lambda address, topic: _mqtt_hello(address),
    lambda address, topic: [*_mqtt_hello(address), _mqtt_subscribe(topic)],
    lambda topic, data: _mqtt(0x30, _mqtt_text(topic.encode()) + _quoted(data)),
    lambda topic, data, number: _mqtt(
        0x32, _mqtt_text(topic.encode()) + struct.pack(">H", number) + _quoted(data)
    ),
    b"\x82\x04\x40\x02\x00",  # the frame's head too, and half of the number: nothing of it is in the other half
)


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _redis_publish(topic: str, data: str, number: int = 0) -> bytes:
    return _resp(b"PUBLISH", topic.encode(), _quoted(data))


REDIS: Final = Tongue(
    lambda address, topic: [(_resp(b"PING"), b"+PONG\r\n")],
    lambda address, topic: [(_resp(b"SUBSCRIBE", topic.encode()), b":1\r\n")],
    _redis_publish,
    _redis_publish,
    b":0\r\n",  # how many there were; here nobody
)

NCHAN: Final = Tongue(
    lambda address, topic: [_upgrade(address, f"/pub/{topic}")],
    lambda address, topic: [_upgrade(address, f"/sub/{topic}")],
    lambda topic, data: client_frame(_quoted(data)),
    lambda topic, data, number: client_frame(_quoted(data)),
    b"last message id",
)


def _socket_io(address: Address) -> list[tuple[bytes, bytes]]:
    """The WebSocket, the greeting of the transport, a namespace."""
    path = "/socket.io/?EIO=4&transport=websocket"
    return [_upgrade(address, path), (b"", b'"sid"'), (client_frame(b"40"), b'40{"sid"')]


def _event(number: str, *arguments: str) -> bytes:
    return client_frame(f"42{number}{json.dumps(arguments, separators=(',', ':'))}".encode())


SOCKET_IO: Final = Tongue(
    lambda address, topic: _socket_io(address),
    lambda address, topic: [*_socket_io(address), (_event("1", "join", topic), b"431[]")],
    lambda topic, data: _event("", "publish", topic, data),
    lambda topic, data, number: _event(str(number), "publish", topic, data),
    b"[]",
)

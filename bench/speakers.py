"""Three languages in which one can publish and be told that it is stored: Triode's, NATS's, MQTT's.

What it must not know: when anything is published, what is measured, how servers are started.
The surprising decision: the neighbours get clients as bare as Triode's, frames made ahead and answers cut out of
the bytes. Their own client libraries would cost the shared core more than their servers do.
"""

import json
import re
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from bench.ledger import Accounts, Ledger, Rising
from bench.load import LoadError, acknowledgements, open_connections, overhear, probe
from bench.packets import PAYLOAD, greeting, publish_frame
from bench.sockets import Connection, Loop

Address = tuple[str, int]
Answers = tuple[int, list[tuple[int, int]]]  # bytes used, and (id, place) of what is stored now

_PATIENCE_SECONDS = 20.0
_DATA = f'"{PAYLOAD}"'.encode()  # the same 128 bytes for everybody


class Speaker(Protocol):
    """A language, over connections of its own."""

    def open(self, loop: Loop, address: Address, count: int) -> list[Connection]:
        """Connections that may publish at once. Raises LoadError."""

    def frame(self, publisher: int, number: int) -> bytes:
        """A publish of 128 bytes to the publisher's own topic, to be acknowledged under this number."""

    def answers(self, connection: Connection, buffer: bytearray, end: int, notices: "Counter[str]") -> Answers:
        """The acknowledgements in what arrived; anything unexpected becomes a notice."""

    def ledger(self, loop: Loop, connection: Connection, publisher: int) -> Accounts:
        """What accounts for the places in this publisher's answers."""


class TriodeSpeaker:
    """Publishes with an id, each connection on a topic of its own: the offsets in the answers have no hole."""

    def __init__(self, prefix: str = "bench/stored") -> None:
        self._prefix = prefix

    def open(self, loop: Loop, address: Address, count: int) -> list[Connection]:
        return open_connections(loop, address, [greeting()] * count, b'"connected"')

    def topic(self, publisher: int) -> str:
        return f"{self._prefix}/{publisher}"

    def frame(self, publisher: int, number: int) -> bytes:
        return publish_frame(self.topic(publisher), number)

    def answers(self, connection: Connection, buffer: bytearray, end: int, notices: "Counter[str]") -> Answers:
        return acknowledgements(buffer, end, notices)

    def ledger(self, loop: Loop, connection: Connection, publisher: int) -> Ledger:
        first = probe(loop, connection, self.topic(publisher))
        connection.take = overhear(Counter())
        return Ledger(first)


_NATS_STORED = re.compile(rb'MSG _I\.\d+\.(\d+) 1 \d+\r\n\{"stream":"BENCH",\s*"seq":\s*(\d+)[^}]*\}\r\n')
_NATS_HEAD = re.compile(rb"MSG \S+ 1 (\d+)\r\n")


class NatsSpeaker:
    """JetStream: each publish names the inbox that hears it is stored. One stream, one subject a publisher."""

    def open(self, loop: Loop, address: Address, count: int) -> list[Connection]:
        hello = json.dumps({"verbose": False, "pedantic": False, "lang": "bench", "version": "1"})
        connections = []
        for index in range(count):
            text = f"CONNECT {hello}\r\nSUB _I.{index}.* 1\r\nPING\r\n"
            connections.append(_open(loop, address, text.encode(), b"PONG\r\n"))
        self._create_stream(loop, connections[0])
        return connections

    def frame(self, publisher: int, number: int) -> bytes:
        return b"PUB bench.stored.%d _I.%d.%d %d\r\n%b\r\n" % (publisher, publisher, number, len(_DATA), _DATA)

    def answers(self, connection: Connection, buffer: bytearray, end: int, notices: "Counter[str]") -> Answers:
        stored: list[tuple[int, int]] = []
        at = 0
        while at < end:
            if match := _NATS_STORED.match(buffer, at, end):
                stored.append((int(match[1]), int(match[2])))
                at = match.end()
            elif stop := _nats_unit(buffer, at, end):
                _heard_nats(connection, bytes(buffer[at:stop]), notices)
                at = stop
            else:
                break
        return at, stored

    def ledger(self, loop: Loop, connection: Connection, publisher: int) -> Rising:
        return Rising()

    def _create_stream(self, loop: Loop, connection: Connection) -> None:
        config = {"name": "BENCH", "subjects": ["bench.stored.>"], "storage": "file", "num_replicas": 1}
        body = json.dumps(config | {"retention": "limits", "discard": "old"}).encode()
        connection.send(b"PUB $JS.API.STREAM.CREATE.BENCH _I.0.1 %d\r\n%b\r\n" % (len(body), body))
        heard = _hear(loop, connection, b'"type":')
        if b'"error"' in heard:
            raise LoadError(f"JetStream did not make the stream: {heard!r}")


def _nats_unit(buffer: bytearray, at: int, end: int) -> int:
    """Where the line at `at` ends, with the payload where it announces one; 0 while it is incomplete."""
    stop = buffer.find(b"\r\n", at, end) + 2
    if stop < 2:
        return 0
    if head := _NATS_HEAD.match(buffer, at, end):
        stop += int(head[1]) + 2
    return stop if stop <= end else 0


def _heard_nats(connection: Connection, unit: bytes, notices: "Counter[str]") -> None:
    if unit == b"PING\r\n":
        connection.send(b"PONG\r\n")
    elif not unit.startswith((b"INFO ", b"PONG", b"+OK")):
        notices[unit[:200].decode(errors="replace")] += 1


_PUBACK = b"\x40\x02"
_KEEPER = b"bench-keeper"


class MqttSpeaker:
    """MQTT 3.1.1, quality of service 1. An absent subscriber with a session is why the server keeps anything."""

    def open(self, loop: Loop, address: Address, count: int) -> list[Connection]:
        keeper = _open(loop, address, _mqtt_connect(_KEEPER, clean=False), b"\x20\x02")
        keeper.send(_mqtt_packet(0x82, b"\x00\x01" + _mqtt_text(b"bench/#") + b"\x01"))
        _hear(loop, keeper, b"\x90\x03\x00\x01\x01")
        keeper.send(b"\xe0\x00")  # DISCONNECT: its session stays
        return [
            _open(loop, address, _mqtt_connect(b"bench-%d" % index, clean=True), b"\x20\x02\x00\x00")
            for index in range(count)
        ]

    def frame(self, publisher: int, number: int) -> bytes:
        topic = _mqtt_text(b"bench/stored/%d" % publisher)
        return _mqtt_packet(0x32, topic + struct.pack(">H", number) + _DATA)

    def answers(self, connection: Connection, buffer: bytearray, end: int, notices: "Counter[str]") -> Answers:
        whole = end - end % 4
        count = whole // 4
        if buffer[0:whole:4].count(0x40) == count == buffer[1:whole:4].count(0x02):
            return whole, [(number, 0) for (number,) in struct.iter_unpack(">2xH", buffer[:whole])]
        return _mqtt_walk(buffer, end, notices)

    def ledger(self, loop: Loop, connection: Connection, publisher: int) -> Rising:
        return Rising()


def _mqtt_walk(buffer: bytearray, end: int, notices: "Counter[str]") -> Answers:
    """Packet by packet; everything here has fewer than 128 bytes, so its length is one byte."""
    stored: list[tuple[int, int]] = []
    at = 0
    while end - at >= 2 and (stop := at + 2 + buffer[at + 1]) <= end:
        if buffer[at : at + 2] == _PUBACK:
            stored.append((int.from_bytes(buffer[at + 2 : stop]), 0))
        else:
            notices[f"MQTT packet {bytes(buffer[at:stop]).hex()}"] += 1
        at = stop
    return at, stored


def _mqtt_connect(client: bytes, clean: bool) -> bytes:
    """Keep-alive off: the windows of the others are not our silence."""
    return _mqtt_packet(0x10, b"\x00\x04MQTT\x04" + (b"\x02" if clean else b"\x00") + b"\0\0" + _mqtt_text(client))


def _mqtt_text(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def _mqtt_packet(first: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while rest > 127:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return bytes((first,)) + length + bytes((rest,)) + body


def _open(loop: Loop, address: Address, hello: bytes, marker: bytes) -> Connection:
    connection = loop.connect(address, lambda buffer, end: end)
    connection.send(hello)
    _hear(loop, connection, marker)
    return connection


def _hear(loop: Loop, connection: Connection, marker: bytes) -> bytes:
    """Everything that arrives until the marker is in it. Raises LoadError after 20 s, or when closed."""
    heard = bytearray()
    connection.take = _collector(heard)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while marker not in heard:
        if connection.closed or time.monotonic() > deadline:
            raise LoadError(f"no {marker!r}: {bytes(heard)!r}")
        loop.turn(0.5)
    return bytes(heard)


def _collector(heard: bytearray) -> Callable[[bytearray, int], int]:
    def take(buffer: bytearray, end: int) -> int:
        heard.extend(buffer[:end])
        return end

    return take


SPEAKERS: dict[str, Callable[[], Speaker]] = {
    "triode": TriodeSpeaker,
    "jetstream": NatsSpeaker,
    "jetstream-lazy": NatsSpeaker,
    "mosquitto": MqttSpeaker,
}

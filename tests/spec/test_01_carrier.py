"""SPEC 1: WebSocket, texts and packets, bounds, the first packet, signs of life. Black box."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from wsproto.connection import Connection as WebSocketConnection
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, Pong

from tests.protocol import vectors
from tests.spec.broker import RunningBroker
from tests.spec.client import PATIENCE_SECONDS
from tests.spec.conftest import StartBroker

CONNECT = {"type": "connect", "id": 1}


def masked(first: int, payload: bytes, length: int | None = None) -> bytes:
    """A client's frame with a mask of zeros; `length` announces more than there is."""
    size = len(payload) if length is None else length
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65_536:
        head = bytes([first, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0xFF]) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)


class Line:
    """A bare TCP line to the broker, for what a WebSocket library would not do."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.seen = b""

    async def until(self, wanted: bytes) -> bytes:
        """Read until `wanted` has been seen; everything seen so far."""
        with trio.fail_after(PATIENCE_SECONDS):
            while wanted not in self.seen:
                more = await self.stream.receive_some()
                assert more, self.seen
                self.seen += more
        return self.seen


@asynccontextmanager
async def dialled(broker: RunningBroker, *, path: str = "/ws", more: str = "") -> AsyncIterator[Line]:
    """A line on which the request for a WebSocket has been sent."""
    host, port = broker.url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(HANDSHAKE.format(path=path, more=more).encode())
        yield Line(stream)


async def test_handshake_selects_the_subprotocol_that_was_offered(broker: RunningBroker) -> None:
    """SPEC 1.1, 1.2"""
    async with dialled(broker, more="Sec-WebSocket-Protocol: other, triode.v1.json\r\n") as line:
        head = (await line.until(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"\r\nsec-websocket-protocol: triode.v1.json\r\n" in head
    assert b"\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in head


async def test_handshake_without_subprotocol_speaks_version_1(broker: RunningBroker) -> None:
    """SPEC 1.2"""
    async with dialled(broker) as line:
        head = (await line.until(b"\r\n\r\n")).lower()
        assert b"sec-websocket-protocol" not in head
        await line.stream.send_all(masked(0x81, b'{"type":"connect"}'))
        await line.until(b'"protocol":1')


async def test_handshake_negotiates_no_extension(broker: RunningBroker) -> None:
    """SPEC 1.3"""
    async with dialled(broker, more="Sec-WebSocket-Extensions: permessage-deflate\r\n") as line:
        head = (await line.until(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"sec-websocket-extensions" not in head


@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("/ws", "Sec-WebSocket-Protocol: mqtt, triode.v9.json\r\n", b"400"),
        ("/nowhere", "", b"404"),
        ("/ws/", "", b"404"),
    ],
)
async def test_handshake_that_cannot_be_is_refused(
    broker: RunningBroker, path: str, more: str, status: bytes
) -> None:
    """SPEC 1.1, 1.2"""
    async with dialled(broker, path=path, more=more) as line:
        assert (await line.until(b"\r\n\r\n")).split()[1] == status


async def test_websocket_ping_is_answered_with_its_payload(broker: RunningBroker) -> None:
    """SPEC 1.3"""
    client = await broker.connect()
    with trio.fail_after(PATIENCE_SECONDS):
        await client.websocket.ping(b"are you there")


async def test_message_may_come_in_fragments(broker: RunningBroker) -> None:
    """SPEC 1.3"""
    client = await broker.connect()
    await client.stream.send_all(masked(0x01, b'{"type":"pi') + masked(0x00, b"") + masked(0x80, b'ng","id":2}'))
    await client.expect("pong", id=2)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(0x81, b'{"type":"ping"\xff}'), 1007),
        (masked(0x81, b'"\xed\xa0\x80"'), 1007),
        (masked(0x91, b"{}"), 1002),
        (masked(0x83, b"{}"), 1002),
        (b"\x81\x02{}", 1002),
        (masked(0x81, b"", 1_048_577), 1009),
    ],
    ids=["not UTF-8", "surrogate", "reserved bit", "reserved opcode", "not masked", "too long"],
)
async def test_bad_frame_ends_its_connection_and_no_other(broker: RunningBroker, frame: bytes, code: int) -> None:
    """SPEC 1.10, 8.7"""
    client, other = await broker.connect(), await broker.connect()
    await client.stream.send_all(frame)
    assert await client.closed() == code
    await other.has_nothing_more()


CLOSING_FRAMES = [case for case in vectors.cases("frames.json", "cases") if "close" in case or "pongs" in case]


@pytest.mark.parametrize("case", CLOSING_FRAMES, ids=lambda case: case["name"])
async def test_frames_end_as_the_vectors_say(broker: RunningBroker, case: dict[str, Any]) -> None:
    """SPEC 1.3, 1.10: read by a WebSocket implementation that is not ours."""
    websocket = WebSocketConnection(ConnectionType.CLIENT)
    data = b"".join(bytes.fromhex(part["hex"]) * part.get("times", 1) for part in case["data"])
    pongs: list[str] = []
    close: int | None = None
    async with dialled(broker) as line:
        await line.until(b"\r\n\r\n")
        await line.stream.send_all(masked(0x81, b'{"type":"connect"}') + data)
        with trio.fail_after(PATIENCE_SECONDS):
            while close is None and (len(pongs) < len(case.get("pongs", ())) or "close" in case):
                websocket.receive_data(await line.stream.receive_some())
                for event in websocket.events():
                    if isinstance(event, Pong):
                        pongs.append(bytes(event.payload).hex())
                    elif isinstance(event, CloseConnection):
                        close = int(event.code)
    assert pongs == case.get("pongs", [])
    assert close in (case.get("close"), case.get("or_close"))


async def test_fragments_and_control_frames_are_bounded(start_broker: StartBroker) -> None:
    """SPEC 1.3, S4: never finished messages and floods of pings end their connection."""
    broker = await start_broker(limits={"max_fragments": 10, "max_control_frames": 10})
    for frames, code in (
        (masked(0x01, b"") + masked(0x00, b"") * 9, None),
        (masked(0x01, b"") + masked(0x00, b"") * 10, 1009),
        (masked(0x89, b"") * 10, None),
        (masked(0x89, b"") * 11, 1008),
    ):
        client = await broker.connect()
        await client.stream.send_all(frames)
        if code is not None:
            assert await client.closed() == code


async def test_full_server_refuses_the_handshake(start_broker: StartBroker) -> None:
    """SPEC 1.1: and takes the next one when there is room."""
    broker = await start_broker(limits={"max_connections": 1})
    client = await broker.connect()
    async with dialled(broker) as line:
        head = (await line.until(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 503 ")
    assert b"\r\nretry-after: " in head
    await client.has_nothing_more()


async def test_bounds_of_a_frame_can_be_configured(start_broker: StartBroker) -> None:
    """SPEC 1.10"""
    broker = await start_broker(limits={"max_frame_bytes": 10_000})
    client = await broker.connect()
    await client.send_text('{"type":"ping","id":2}' + " " * 9_900)
    await client.expect("pong", id=2)
    await client.send_text('{"type":"ping","id":2}' + " " * 10_000)
    assert await client.closed() == 1009


async def test_server_sends_nothing_longer_than_a_frame_may_be(start_broker: StartBroker) -> None:
    """SPEC 1.10, 3.5.3: neither arrays nor pages of history."""
    broker = await start_broker(limits={"max_frame_bytes": 10_000})
    client = await broker.connect(capabilities=["batch"])
    await client.subscribe(1, "a")
    for _ in range(5):
        await client.send(*({"type": "publish", "topic": "a", "data": "x" * 900} for _ in range(9)))
    await client.send({"type": "history", "id": 9, "topic": "a"})
    await client.send({"type": "subscribe", "sub": 2, "filter": "a", "from": "earliest"})
    await client.send({"type": "ping", "id": 10})
    sizes: list[int] = []
    texts: list[str] = []
    while '"pong"' not in (texts[-1] if texts else ""):
        texts.append(await client.receive_text())
        sizes.append(len(texts[-1]))
    assert max(sizes) <= 10_000
    assert len(sizes) < 90  # arrays


async def test_binary_message_is_refused_and_the_connection_stays(broker: RunningBroker) -> None:
    """SPEC 1.6, 3.8.1: before `connect` and after it."""
    client = await broker.open()
    await client.send_binary(b'{"type":"connect"}')
    await client.expect("error", name="unsupported", retry="never")
    await client.send(CONNECT)
    await client.expect("connected")
    await client.send_binary(b"")
    await client.expect("error", name="unsupported", id=None)
    await client.has_nothing_more()


async def test_array_goes_only_to_a_client_that_offers_batch(broker: RunningBroker) -> None:
    """SPEC 1.5"""
    client = await broker.connect()
    await client.send({"type": "ping", "id": 2}, {"type": "ping", "id": 3})
    assert [json.loads(await client.receive_text())["id"] for _ in range(2)] == [2, 3]


DATA = [
    '{ "b" : [ 1 ,2 ] , "a":0 }',
    "123456789012345678901234567890.10e-400",
    '{"k":1,"k":2}',
    r'"\u00e9\/ é 😀 \ud83d\ude00 \u0000"',
    "[" * 32 + "]" * 32,
    "null",
]


@pytest.mark.parametrize("data", DATA, ids=lambda data: data[:20])
async def test_data_arrives_as_the_text_it_was_sent_as(broker: RunningBroker, data: str) -> None:
    """SPEC 1.9: live and from the log."""
    client = await broker.connect()
    await client.subscribe(1, "a")
    await client.send_text(f'{{"type":"publish","topic":"a","data":{data}}}')
    live = await client.receive_text()
    assert f'"data":{data}' in live
    await client.send({"type": "subscribe", "sub": 2, "filter": "a", "from": "earliest"})
    await client.expect("subscribed")
    assert live in await client.receive_text()


BAD_DATA = [
    "[" * 33 + "]" * 33,
    "[" * 20_000 + "]" * 20_000,
    r'"\ud800"',
    r'{"\udc00":1}',
    "NaN",
    "01",
    '"\t"',
    "{]",
]


@pytest.mark.parametrize("data", BAD_DATA, ids=lambda data: data[:10])
async def test_bad_data_costs_its_sender_one_error(broker: RunningBroker, data: str) -> None:
    """SPEC 1.9, 8.7, S26"""
    client, other = await broker.connect(), await broker.connect()
    await other.subscribe(1, "#")
    await client.send_text(f'{{"type":"publish","topic":"a","data":{data}}}')
    await client.expect("error", name="malformed")
    await client.has_nothing_more()
    await other.has_nothing_more()


async def test_repeated_member_counts_the_last_time(broker: RunningBroker) -> None:
    """SPEC 1.9"""
    client = await broker.connect()
    await client.send_text('{"type":"ping","id":2,"id":3}')
    await client.expect("pong", id=3)
    await client.send_text('{"type":"ping","id":2,"type":"pong"}')
    await client.expect("error", name="unsupported", field="type")


@pytest.mark.parametrize("id", ["0", "-1", "1.5", "1e2", "9007199254740992", '"1"', "null", "true"])
async def test_number_that_is_none_is_malformed(broker: RunningBroker, id: str) -> None:
    """SPEC 1.9, 1.13: the error has no id, since none could be read."""
    client = await broker.connect()
    await client.send_text(f'{{"type":"ping","id":{id}}}')
    await client.expect("error", name="malformed", field="id", id=None)


async def test_largest_number_is_answered_unchanged(broker: RunningBroker) -> None:
    """SPEC 1.9, 1.13"""
    client = await broker.connect()
    await client.send({"type": "ping", "id": 2**53 - 1})
    await client.expect("pong", id=2**53 - 1)


async def test_packet_over_its_bound_is_too_large(broker: RunningBroker) -> None:
    """SPEC 1.10: bytes of UTF-8, also inside an array, whose other packets are served."""
    client = await broker.connect()
    rest = len(b'{"type":"publish","id":2,"topic":"a","data":""}')
    fits = '{"type":"publish","id":2,"topic":"a","data":"' + "é" * ((65_536 - rest) // 2) + '"}'
    await client.send_text(fits)
    await client.expect("published", id=2)
    await client.send_text(fits.replace("é", "éé", 1))
    await client.expect("error", name="too_large", id=2)
    await client.send_text("[" + fits.replace("é", "éé", 1) + ',{"type":"ping","id":3},' + fits + "]")
    assert [(await client.receive())["type"] for _ in range(3)] == ["error", "pong", "published"]


async def test_connect_over_its_bound_ends_the_connection(broker: RunningBroker) -> None:
    """SPEC 1.12, 3.1.1"""
    client = await broker.open()
    await client.send({**CONNECT, "token": "t" * 8_192})
    await client.expect("error", name="too_large", id=1)
    await client.expect("bye", code=4000, name="protocol")
    assert await client.closed() == 4000


async def test_too_much_behind_a_connect_that_does_not_come_ends_the_connection(broker: RunningBroker) -> None:
    """SPEC 1.11, S2"""
    async with dialled(broker) as line:
        await line.until(b"\r\n\r\n")
        await line.stream.send_all(masked(0x01, b" " * 1000) + masked(0x00, b" " * 1000) * 70)
        seen = await line.until((4000).to_bytes(2, "big"))
    assert b'{"type":"bye","code":4000,"name":"protocol"}' in seen


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"type":"greet"}', '{"type":"connect","colour":"red"}'])
async def test_bad_first_packet_is_answered_and_ends_the_connection(broker: RunningBroker, text: str) -> None:
    """SPEC 1.12, 3.8.1"""
    client = await broker.open()
    await client.send_text(text)
    error = await client.expect("error")
    assert error["name"] in ("malformed", "unsupported")
    await client.expect("bye", code=4000)
    assert await client.closed() == 4000


async def test_connection_that_does_not_connect_in_time_is_closed(start_broker: StartBroker) -> None:
    """SPEC 1.12, S6"""
    broker = await start_broker(limits={"connect_timeout_ms": 50})
    client = await broker.open()
    await client.expect("bye", code=4106, name="connect_timeout")
    assert await client.closed() == 4106


async def test_packets_of_a_connection_are_handled_in_order(broker: RunningBroker) -> None:
    """SPEC 1.14, 8.3"""
    client = await broker.connect()
    for start in range(2, 202, 50):
        await client.send(
            *({"type": "publish", "id": n, "topic": f"t/{n % 3}", "data": n} for n in range(start, start + 50))
        )
    answers = [await client.expect("published") for _ in range(200)]
    assert [answer["id"] for answer in answers] == list(range(2, 202))
    assert [answer["pos"] for answer in answers] == list(range(1, 201))


async def test_silence_ends_the_connection(start_broker: StartBroker) -> None:
    """SPEC 1.15, 3.8.1"""
    broker = await start_broker(limits={"ping_ms": 50})
    client = await broker.connect()
    assert await client.closed() == 4105
    *pings, bye = client.packets
    assert {packet["type"] for packet in pings} <= {"ping"}
    assert (bye["type"], bye["code"], bye["name"]) == ("bye", 4105, "ping_timeout")


async def test_any_frame_is_a_sign_of_life(start_broker: StartBroker) -> None:
    """SPEC 1.15, 4.8.1: the fourth ping comes later than silence would allow."""
    broker = await start_broker(limits={"ping_ms": 700})
    client = await broker.connect()
    for sign in ('{"type":"pong"}', '{"type":"publish","topic":"a","data":1}', "nonsense"):
        while (packet := await client.receive())["type"] != "ping":
            assert packet["type"] == "error"
        await client.send_text(sign)
    await client.expect("error", name="malformed")
    await client.expect("ping")


async def test_connection_that_does_not_drain_is_closed(start_broker: StartBroker) -> None:
    """SPEC 1.16, 3.8.1: its requests make more than it reads, and the server reads no more of them."""
    limits = {"drain_timeout_ms": 100, "close_timeout_ms": 100, "max_outbox_bytes": 100_000}
    broker = await start_broker(limits=limits)
    publisher = await broker.connect()
    for n in range(40):
        await publisher.publish("big", [n, "x" * 20_000])
    request = masked(0x81, b'{"type":"history","topic":"big","limit":40}')
    async with dialled(broker) as line:
        await line.stream.send_all(masked(0x81, b'{"type":"connect"}'))
        with trio.fail_after(PATIENCE_SECONDS):
            await send_until_refused(line.stream, request * 100)
    await publisher.has_nothing_more()


async def send_until_refused(stream: trio.SocketStream, data: bytes) -> None:
    """Send and never read, until the other side has gone."""
    try:
        while True:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        return

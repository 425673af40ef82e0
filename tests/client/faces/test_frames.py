"""What a broker may do with WebSocket frames, in every face: cut texts into pieces, and break the rules (S33)."""

import json
import re
import struct
from collections.abc import AsyncIterator

import pytest
import triode

from tests.client.broker import Line
from tests.client.faces.face import Face, on_its_loop
from tests.client.faces.scenes import goodbye
from tests.client.faces.stage import Signal
from tests.client.play import message

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_RECEIVE_BYTES = 2_000


def frame(opcode: int, data: bytes, *, is_last: bool = True) -> bytes:
    """One frame as a server writes it."""
    head = bytes([opcode | (0x80 if is_last else 0)])
    length = bytes([len(data)]) if len(data) < 126 else struct.pack("!BH", 126, len(data))
    return head + length + data


def in_pieces(text: str, *pieces: bytes) -> bytes:
    """A text byte by byte, with other frames or empty pieces in the midst of it."""
    data = text.encode()
    frames = [frame(CONTINUATION, data[place : place + 1], is_last=False) for place in range(1, len(data) - 1)]
    first, last = frame(TEXT, data[:1], is_last=False), frame(CONTINUATION, data[-1:])
    return b"".join([first, *frames[:5], *pieces, *frames[5:], last])


@on_its_loop
async def test_text_in_pieces_is_one_text(face: Face) -> None:
    """Cut inside a character, with pings in between, and with pieces of nothing."""

    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        one = json.dumps(message(1, data="ä€𝄞"), ensure_ascii=False)
        stream = line.websocket._stream
        await stream.send_all(in_pieces(one, frame(PING, b"are you there"), frame(PONG, b"")))
        nothing = frame(CONTINUATION, b"", is_last=False) * 5_000
        await stream.send_all(in_pieces(json.dumps(message(2)), nothing))
        await line.hear("unsubscribe")
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client, client.subscribe("a/#") as messages:
        assert (await anext(messages)).data == "ä€𝄞"
        assert (await anext(messages)).data == 2


@pytest.mark.parametrize(
    ("bytes", "reason"),
    [
        (frame(TEXT, b"x" * 1_500, is_last=False) + frame(CONTINUATION, b"x" * 1_500), "max_receive_bytes"),
        (frame(TEXT, b'"\xff"'), ".+"),
        (frame(TEXT, b'"\xe2', is_last=False) + frame(CONTINUATION, b'\x82"'), ".+"),
        (frame(CONTINUATION, b"{}"), ".+"),
        (frame(TEXT, b"{", is_last=False) + frame(TEXT, b"}"), ".+"),
        (frame(PING, b"x" * 126), ".+"),
        (frame(3, b""), ".+"),
        (frame(CLOSE, b"\x03"), ".+"),
        (b"\x81\x82mask" + b"{}", ".+"),
        (b"\x81\x7f" + b"\xff" * 8, ".+"),
    ],
)
@on_its_loop
async def test_frames_against_the_rules_cost_the_connection_alone(face: Face, bytes: bytes, reason: str) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.websocket._stream.send_all(bytes)
        await line.until_closed()

    async with face.playing(scene, goodbye) as url:
        client = face.connect(url, max_receive_bytes=MAX_RECEIVE_BYTES)
        events = client.events()
        reasons = []
        async with client:
            async for event in events:
                assert isinstance(event, triode.StateChanged)
                reasons += [event.reason] if event.state is triode.State.WAITING else []
                if reasons and event.state is triode.State.CONNECTED:
                    break
        assert re.search(reason, reasons[0])


@on_its_loop
async def test_close_frame_counts_before_the_socket_is_closed(face: Face) -> None:
    """A proxy may keep the socket of a broker that has said goodbye."""
    is_over = Signal()

    async def first(line: Line) -> None:
        await line.accept()
        await line.websocket._stream.send_all(frame(CLOSE, struct.pack("!H", 4_200) + b"later"))
        await is_over.wait()

    async with face.playing(first, goodbye) as url:
        client = face.connect(url)
        events = client.events()
        async with client:
            seen = [event async for event in through(events, triode.State.CONNECTED, 2)]
            waiting = [event for event in seen if event.state is triode.State.WAITING]
            assert [(event.code, event.reason) for event in waiting] == [(4_200, "later")]
        is_over.set()


async def through(events: triode.Events, state: triode.State, times: int) -> AsyncIterator[triode.StateChanged]:
    """The changes up to the one that comes to `state` for the last of so many times."""
    async for event in events:
        assert isinstance(event, triode.StateChanged)
        yield event
        times -= event.state is state
        if not times:
            return

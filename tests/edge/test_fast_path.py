"""The fast path and the switching between it and wsproto mean exactly what wsproto alone means."""

from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.edge.frames import FASTEST, PORTABLE, Unmasking
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.edge.rig import BINARY, CLOSE, PING, PONG, TEXT, Rig, close_payload, frame


@attrs.define
class Meaning:
    """What a stream of frames amounts to."""

    messages: list[str | bytes] = attrs.field(factory=list)
    pongs: list[bytes] = attrs.field(factory=list)
    close: int | None = None  # the code we close or answer with; 1005 = a close frame without one


def by_wsproto(data: bytes) -> Meaning:
    """What wsproto says."""
    meaning = Meaning()
    server = Connection(ConnectionType.SERVER)
    server.receive_data(data)
    parts: list[Any] = []
    for event in server.events():
        match event:
            case TextMessage() | BytesMessage():
                parts.append(event.data)
                if event.message_finished:
                    joined = "".join(parts) if isinstance(event, TextMessage) else b"".join(parts)
                    meaning.messages.append(joined)
                    parts = []
            case Ping():
                meaning.pongs.append(bytes(event.payload))
            case CloseConnection():
                meaning.close = int(event.code)
                return meaning
    return meaning


def by_edge(data: bytes, splits: list[int], unmasking: Unmasking) -> Meaning:
    """What the edge does, when the bytes come in pieces cut at `splits`."""
    rig = Rig(unmasking=unmasking)
    try:
        client = rig.client()
        cuts = [0, *sorted({cut % (len(data) + 1) for cut in splits}), len(data)]
        for start, stop in pairwise(cuts):
            if client.is_closed or start == stop:
                continue
            try:
                client.send(data[start:stop])
            except BrokenPipeError:
                break  # it closed at an earlier piece
        meaning = Meaning(messages=rig.talkers[0].heard)
        for opcode, payload in client.frames():
            if opcode == PONG:
                meaning.pongs.append(payload)
            if opcode == CLOSE:
                meaning.close = int.from_bytes(payload[:2]) if payload else 1005
        assert rig.log.entries == []
        return meaning
    finally:
        rig.end()


payloads = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.sampled_from([125, 126, 127, 300, 4096, 4097, 65_535, 65_536]).map(lambda size: b"p" * size),
)
keys = st.binary(min_size=4, max_size=4)
plain = st.builds(frame, st.just(TEXT), st.text(max_size=200).map(str.encode), key=keys)
wild = st.builds(
    frame,
    st.sampled_from([0, TEXT, BINARY, PING, PONG]) | st.integers(0, 15),
    payloads,
    fin=st.booleans(),
    key=keys,
)
pings = st.builds(frame, st.just(PING), st.binary(max_size=125), key=keys)
fragmented = st.builds(
    lambda opcode, parts, ping: b"".join(
        frame(opcode if place == 0 else 0, part, fin=place == len(parts) - 1) + (ping if place else b"")
        for place, part in enumerate(parts)
    ),
    st.sampled_from([TEXT, BINARY]),
    st.lists(st.text(max_size=30).map(str.encode), min_size=2, max_size=5),
    st.just(b"") | pings,
)
closes = st.builds(
    frame,
    st.just(CLOSE),
    st.just(b"")
    | st.binary(max_size=3)
    | st.builds(close_payload, st.integers(900, 5100), st.text(max_size=10))
    | st.just(close_payload(1000) + b"\xff"),
    key=keys,
)
odd = st.sampled_from(
    [
        b"\xc1" + frame(TEXT, b"reserved bit")[1:],
        b"\xf1" + frame(TEXT, b"reserved bits")[1:],
        b"\x81\xfe\x00\x03abcdxyz",  # 3 in two bytes
        b"\x81\xff" + (200).to_bytes(8) + b"abcd" + b"x" * 200,
        b"\x81\x03abc",  # not masked
        b"\x89\x00",
        b"\x89\xfe\x00\x7eabcd" + b"x" * 126,  # a ping of 126
        b"\x09\x80abcd",  # a fragmented ping
    ]
)
pieces = st.one_of(plain, plain, plain, fragmented, pings, wild, closes, odd)


@pytest.mark.parametrize("unmasking", [FASTEST, PORTABLE], ids=["fastest", "portable"])
@given(stream=st.lists(pieces, max_size=8), splits=st.lists(st.integers(0, 5_000), max_size=8))
def test_edge_equals_wsproto_on_any_frames_in_any_pieces(
    unmasking: Unmasking, stream: list[bytes], splits: list[int]
) -> None:
    data = b"".join(stream)
    assert by_edge(data, splits, unmasking) == by_wsproto(data)


@given(stream=st.lists(st.one_of(plain, fragmented, pings), max_size=4), last=plain, cut=st.integers(1, 10_000))
def test_edge_equals_wsproto_on_a_stream_cut_anywhere(stream: list[bytes], last: bytes, cut: int) -> None:
    data = b"".join(stream) + last[: cut % len(last)]
    expected = by_wsproto(data)
    assert by_edge(data, [], FASTEST) == expected


CASES: list[tuple[bytes, Meaning]] = [
    (frame(TEXT, b"plain"), Meaning(["plain"])),
    (frame(TEXT) + frame(TEXT, b"x" * 65_536), Meaning(["", "x" * 65_536])),
    (frame(BINARY, b"\xff"), Meaning([b"\xff"])),
    (frame(TEXT, b"\xe2\x82", fin=False) + frame(PING, b"p") + frame(0, b"\xac"), Meaning(["€"], [b"p"])),
    (frame(TEXT, b"a\r\nb\rc\n", fin=False) + frame(0), Meaning(["a\r\nb\rc\n"])),
    (frame(PONG, b"unasked") + frame(TEXT, b"after"), Meaning(["after"])),
    (frame(TEXT, b"ok") + frame(TEXT, b"\xed\xa0\x80") + frame(TEXT, b"not"), Meaning(["ok"], [], 1007)),
    (frame(CLOSE, close_payload(4321)) + frame(TEXT, b"late"), Meaning([], [], 4321)),
    (frame(CLOSE), Meaning([], [], 1005)),
    (frame(CLOSE, close_payload(1006)), Meaning([], [], 1002)),
]


@pytest.mark.parametrize(("data", "meaning"), CASES)
def test_edge_says_the_same_split_at_every_byte(data: bytes, meaning: Meaning) -> None:
    assert by_wsproto(data) == meaning
    for cut in range(0, len(data), 1 + len(data) // 40):
        assert by_edge(data, [cut], FASTEST) == meaning
    assert by_edge(data[:60], list(range(60)), PORTABLE) == by_wsproto(data[:60])

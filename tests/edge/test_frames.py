"""Frames by hand: what is built is what wsproto reads, and only what is plain is taken for plain."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.edge.frames import (
    FASTEST,
    NO_STATUS,
    PORTABLE,
    Extent,
    Unmasking,
    batch_frames,
    binary_frame,
    close_frame,
    extent,
    is_plain,
    pong_frame,
    skip_to_close,
    text_frame,
)
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Pong, TextMessage

from tests.edge.rig import CLOSE, PING, TEXT, frame, mask

SIZES = (0, 1, 125, 126, 127, 65_535, 65_536)


def as_client(data: bytes) -> list[object]:
    """What a client makes of it."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    return list(client.events())


@pytest.mark.parametrize("size", SIZES)
def test_text_frame_reads_as_its_text(size: int) -> None:
    assert as_client(text_frame(b"x" * size)) == [TextMessage("x" * size)]


@pytest.mark.parametrize("size", SIZES)
def test_binary_frame_reads_as_its_bytes(size: int) -> None:
    assert as_client(binary_frame(b"\xff" * size)) == [BytesMessage(b"\xff" * size)]


def test_pong_frame_reads_as_a_pong() -> None:
    assert as_client(pong_frame(b"p" * 125)) == [Pong(b"p" * 125)]


def test_close_frame_reads_as_code_and_reason_cut_to_fit() -> None:
    assert as_client(close_frame(4105, "ping_timeout")) == [CloseConnection(4105, "ping_timeout")]
    assert as_client(close_frame(1002, "r" * 200)) == [CloseConnection(1002, "r" * 123)]
    assert as_client(close_frame(NO_STATUS)) == [CloseConnection(1005, "")]


@pytest.mark.parametrize("unmasking", [PORTABLE, FASTEST], ids=["portable", "fastest"])
@given(payload=st.binary(max_size=300), key=st.binary(min_size=4, max_size=4))
def test_unmasking_is_xor_with_the_repeated_key(unmasking: Unmasking, payload: bytes, key: bytes) -> None:
    assert unmasking.unmask(payload, key) == mask(payload, key)
    assert unmasking.unmask(bytearray(payload), bytearray(key)) == mask(payload, key)


@given(payloads=st.lists(st.integers(0, 40), min_size=1, max_size=30), limit=st.integers(60, 400))
def test_batch_frames_hold_every_packet_once_in_order_within_the_bound(payloads: list[int], limit: int) -> None:
    packets = [b'"%b"' % (b"p" * size) for size in payloads]
    found = []
    for event in as_client(batch_frames(packets, sum(map(len, packets)), limit)):
        assert isinstance(event, TextMessage)
        assert len(event.data) <= limit
        said = msgspec.json.decode(event.data)
        assert not isinstance(said, list) or len(said) > 1  # a lone packet goes unwrapped
        found += said if isinstance(said, list) else [said]
    assert found == [msgspec.json.decode(packet) for packet in packets]


def test_batch_frames_send_a_packet_that_fits_no_array_as_it_is() -> None:
    packets = [b"1", b"2" * 100, b"3"]
    assert as_client(batch_frames(packets, 102, 50)) == [
        TextMessage("1"),
        TextMessage("2" * 100),
        TextMessage("3"),
    ]


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (b"\x81", True),
        (frame(TEXT, b"x" * 125), True),
        (frame(TEXT, b"x" * 126)[:3], True),
        (frame(TEXT, b"x" * 70_000)[:9], True),
        (frame(TEXT, b"x" * 1000), True),
        (frame(TEXT, b"x" * 1001), False),
        (b"\x01", False),  # a first fragment
        (b"\xc1", False),  # a reserved bit
        (frame(PING)[:1], False),
        (b"\x81\x05", False),  # not masked
        (b"\x81\xfe\x00\x7d", False),  # 125 in two bytes
        (b"\x81\xff" + (65_535).to_bytes(8), False),
        (b"\x81\xff" + (2**63).to_bytes(8), False),
    ],
)
def test_plain_is_masked_text_of_minimal_length_within_the_bound(data: bytes, plain: bool) -> None:
    limit = 70_000 if len(data) < 1000 else 1000
    assert is_plain(data, limit) is plain


@given(opcode=st.sampled_from([0, 1, 2]), size=st.sampled_from(SIZES))
def test_extent_is_known_from_the_last_byte_of_the_length_on(opcode: int, size: int) -> None:
    data = frame(opcode, b"x" * size)
    known_from = 2 if size < 126 else 4 if size < 65_536 else 10
    assert extent(data[: known_from - 1]) is None
    assert extent(data[:known_from]) == Extent(len(data) - size, size)


def test_extent_takes_a_control_frame_that_says_it_is_long_as_it_stands() -> None:
    assert extent(b"\x89\xfe") == Extent(6, 126)


def test_skip_to_close_takes_frames_off_and_stops_at_the_close() -> None:
    buffer = bytearray(b"rest" + frame(TEXT, b"a") + frame(PING) + frame(CLOSE, b"\x03\xe8")[:-1])
    assert skip_to_close(buffer, 4) == 0
    assert len(buffer) == 7
    buffer += b"!"
    assert skip_to_close(buffer, 0) == -1


def test_skip_to_close_keeps_nothing_of_a_frame_that_is_skipped() -> None:
    buffer = bytearray(frame(TEXT, b"x" * 70_000)[:1000])
    assert skip_to_close(buffer, 0) == 70_000 + 14 - 1000
    assert buffer == b""
    assert skip_to_close(bytearray(b"x" * 10), 70_000) == 70_000 - 10

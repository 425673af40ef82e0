"""S3: permessage-deflate; what is agreed on, what is sent once for all, and bombs that do not go off."""

import json
import tracemalloc
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.config import Limits
from triode_broker.edge.deflate import Deflating, deflate, negotiate
from triode_broker.edge.door import Door
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.edge.rig import BINARY, CLOSE, HANDSHAKE, PING, PONG, TEXT, Client, Rig, frame, text

MakeRig = Callable[..., Rig]
OFFER = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
AGREED = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LIMITS = Limits()
RSV1 = 0x40


def packed(said: bytes, *, opcode: int = TEXT, fin: bool = True, first: bool = True) -> bytes:
    """A client's frame whose payload is already compressed."""
    data = bytearray(frame(opcode, said, fin=fin))
    data[0] |= RSV1 * first
    return bytes(data)


def compressed(said: str) -> bytes:
    """A client's compressed message."""
    return packed(deflate(said.encode()))


def answer(client: Client) -> bytes:
    """The head of the answer; what is behind it waits in the client."""
    head, _, client.buffer = client.receive().partition(b"\r\n\r\n")
    return head


@pytest.fixture
def deflating(make_rig: MakeRig) -> Rig:
    """An edge that compresses."""
    return make_rig(door=Door(compresses=True))


def taker(rig: Rig) -> Client:
    """A client that has agreed on it."""
    client = rig.client(OFFER)
    assert b"\r\nSec-WebSocket-Extensions: " + AGREED in answer(client)
    return client


def code_of(client: Client) -> int:
    """Of the last frame, a close; 0 where there is none."""
    frames = client.frames()
    return int.from_bytes(frames[-1][1][:2]) if frames and frames[-1][0] == CLOSE else 0


def inflated(data: bytes) -> str:
    """What a client that is not ours reads, no context kept."""
    extension = PerMessageDeflate()
    extension.finalize(AGREED.decode())
    websocket = Connection(ConnectionType.CLIENT, [extension])
    websocket.receive_data(data)
    return "".join(event.data for event in websocket.events() if isinstance(event, TextMessage))


# The agreement


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        ("permessage-deflate", AGREED),
        ("permessage-deflate; client_max_window_bits", AGREED),
        ("permessage-deflate; client_max_window_bits=9; server_no_context_takeover", AGREED),
        ("Permessage-Deflate ; client_no_context_takeover", AGREED),
        ("x-webkit-deflate-frame, permessage-deflate", AGREED),
        ("permessage-deflate; server_max_window_bits=15", AGREED + b"; server_max_window_bits=12"),
        ('permessage-deflate; server_max_window_bits="12"', AGREED + b"; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", AGREED),
        ("permessage-deflate; server_max_window_bits=11", b""),
        ("permessage-deflate; server_max_window_bits", b""),
        ("permessage-deflate; server_max_window_bits=16", b""),
        ("permessage-deflate; client_max_window_bits=7", b""),
        ("permessage-deflate; client_max_window_bits=012", b""),
        ("permessage-deflate; client_max_window_bits=", b""),
        ("permessage-deflate; server_no_context_takeover=1", b""),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", b""),
        ("permessage-deflate; unknown", b""),
        ("permessage-deflate;", b""),
        ("permessage-bzip2", b""),
        ("", b""),
        (";,;=,", b""),
    ],
)
def test_offers_are_met_or_declined_as_rfc_7692_says(offer: str, agreed: bytes) -> None:
    """SPEC 1.19"""
    assert negotiate(offer.encode()) == agreed


def test_nothing_is_agreed_on_unless_it_is_switched_on(rig: Rig) -> None:
    """SPEC 1.3, 1.19"""
    client = rig.client(OFFER)
    assert b"extensions" not in answer(client).lower()
    client.send(compressed("x"))
    assert code_of(client) == 1002


def test_who_offers_nothing_gets_nothing_compressed(deflating: Rig) -> None:
    """SPEC 1.19"""
    client = deflating.client()
    client.send(text("say 5000"))
    assert client.texts() == ["x" * 5000]
    client.send(compressed("x"))
    assert code_of(client) == 1002


# Out


def test_message_is_compressed_once_and_shared(deflating: Rig) -> None:
    """One object in every outbox: the core tells by `frame` who takes the same."""
    for _ in range(3):
        taker(deflating)
    first, *others = [talker.outbox.frame for talker in deflating.talkers]
    assert all(other is first for other in others)
    payload = json.dumps({"type": "message", "data": ["abc"] * 100}).encode()
    assert first(payload) is first(payload)
    assert len(first(payload)) < len(payload) / 5


def test_client_that_is_not_ours_reads_it(deflating: Rig) -> None:
    """SPEC 1.19"""
    client = taker(deflating)
    for size in (5_000, 9_000):
        client.send(text(f"say {size}"))
        data = client.receive()
        assert data[0] == 0x80 | RSV1 | TEXT
        assert len(data) < 100
        assert inflated(data) == "x" * size


def test_short_messages_and_those_that_do_not_shrink_go_as_they_are() -> None:
    """SPEC 1.19"""
    make = Deflating(100).frame
    assert make(b"x" * 99)[0] == 0x81
    assert make(b"x" * 100)[0] == 0x81 | RSV1
    assert make(bytes(range(256)))[0] == 0x81


def test_no_message_shows_in_the_length_of_another() -> None:
    """CRIME, BREACH: nothing is kept from one message to the next."""
    make = Deflating(1).frame
    secret, guess = b'{"secret":"d3adb33f"}' * 8, b'{"secret":"d3adb33f"}' * 9
    alone = make(guess)
    make(secret)
    assert make(guess) == alone


def test_who_takes_compressed_messages_is_sent_no_arrays(deflating: Rig) -> None:
    """SPEC 1.19: an array would have to be compressed for each."""
    client = taker(deflating)
    client.send(text("batch") + text("say 3") + text("say 4"))
    assert [payload for _, payload in client.frames()] == [b"xxx", b"xxxx"]


def test_control_frames_and_the_last_words_are_readable(deflating: Rig) -> None:
    client = taker(deflating)
    client.send(frame(PING, b"p" * 125) + text("leave 4200"))
    (pong, bye, closing) = client.frames()
    assert pong == (PONG, b"p" * 125)
    assert b'"code":4200' in bye[1]
    assert closing[0] == CLOSE


# In


@pytest.mark.parametrize("pieces", [1, 2, 7, 40])
@pytest.mark.parametrize("said", ["hello", "é" * 30_000, '{"type":"ping"}' * 50])
def test_compressed_message_is_read_in_whatever_fragments(deflating: Rig, said: str, pieces: int) -> None:
    """SPEC 1.19"""
    data = deflate(said.encode())
    step = -(-len(data) // pieces)
    parts = [data[place : place + step] for place in range(0, len(data), step)]
    client = taker(deflating)
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        opcode = 0 if number else TEXT
        client.send(packed(part, opcode=opcode, fin=is_last, first=not number), frame(PING))
    client.send(text("plain"))
    assert deflating.talkers[0].heard == [said, "plain"]


def test_compressed_message_is_read_byte_by_byte(deflating: Rig) -> None:
    client = taker(deflating)
    data = compressed("say 3") + text("plain") + compressed("more")
    client.send(*(data[place : place + 1] for place in range(len(data))))
    assert deflating.talkers[0].heard == ["say 3", "plain", "more"]


def test_blocks_that_say_they_are_the_last_and_empty_messages_are_read(deflating: Rig) -> None:
    """RFC 7692 7.2.3"""
    client = taker(deflating)
    client.send(packed(bytes.fromhex("f348cdc9c9070000")))
    client.send(packed(bytes.fromhex("00")), packed(b""), packed(deflate(b"x"), opcode=BINARY))
    assert deflating.talkers[0].heard == ["Hello", "", "", b"x"]


payloads = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda said: deflate(said.encode())),
    st.binary(max_size=60).map(deflate),
    st.builds(bytes.__add__, st.text(max_size=9).map(lambda said: deflate(said.encode())), st.binary(max_size=9)),
    st.text(max_size=60).map(lambda said: zlib.compress(said.encode(), wbits=-15)),
)


@given(payload=payloads)
def test_whole_frame_means_what_wsproto_says_it_does_in_two(payload: bytes) -> None:
    """The short way for frames that are plain but for being compressed, and the other one."""
    meanings = []
    for frames in ([packed(payload)], [packed(payload, fin=False), frame(0)]):
        rig = Rig(door=Door(compresses=True))
        try:
            client = taker(rig)
            client.send(*frames, text("after"))
            meanings.append((rig.talkers[0].heard, code_of(client), rig.log.entries))
        finally:
            rig.end()
    assert meanings[0] == meanings[1]


def bomb(size: int, *, level: int = 9) -> bytes:
    """Zeros, by the thousand for a byte."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = b"".join(compressor.compress(b" " * 1_000_000) for _ in range(size // 1_000_000))
    return (data + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("count", [1, 3])
def test_s3_bomb_is_not_inflated_beyond_the_bound(deflating: Rig, count: int) -> None:
    """SPEC 1.19: 60 MB in 60 KB."""
    clients = [taker(deflating) for _ in range(count)]
    data = packed(bomb(60_000_000))
    tracemalloc.start()
    try:
        for client in clients:
            client.send(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [code_of(client) for client in clients] == [1009] * count
    assert peak < 6 * LIMITS.max_frame_bytes
    assert all(talker.heard == [] for talker in deflating.talkers)


@pytest.mark.parametrize("pieces", [1, 2])
def test_s3_what_one_read_holds_is_inflated_in_turns(deflating: Rig, pieces: int) -> None:
    """60 messages of 60 KB in 6 KB: nobody waits for all of them, and all are heard, in order."""
    said = [f"{number} {'x' * 60_000}" for number in range(60)]
    client = taker(deflating)
    client.socket.sendall(b"".join(cut(each, pieces) for each in said))
    heard = deflating.talkers[0].heard
    for turns in range(1, 61):
        deflating.edge.turn(deflating.edge.poll(), deflating.now)
        assert len(heard) <= 2 * turns
    assert heard == said
    client.send(text("after"))
    assert heard[-1] == "after"


def cut(said: str, pieces: int) -> bytes:
    """A compressed message in so many frames."""
    data = deflate(said.encode())
    if pieces == 1:
        return packed(data)
    return packed(data[:9], fin=False) + packed(data[9:], opcode=0, first=False)


def test_s3_bomb_in_fragments_has_one_bound(deflating: Rig) -> None:
    data = bomb(3_000_000)
    client = taker(deflating)
    parts = [data[place : place + 100] for place in range(0, len(data), 100)]
    client.send(packed(parts[0], fin=False), *[frame(0, part, fin=False) for part in parts[1:]])
    assert code_of(client) == 1009


def test_s3_bomb_of_bombs_is_text_and_nothing_more(deflating: Rig) -> None:
    """Nothing is inflated twice."""
    client = taker(deflating)
    client.send(packed(deflate(deflate(b"x" * 100_000))))
    assert code_of(client) == 1007
    assert deflating.talkers[0].heard == []


def test_s3_message_at_the_bound_is_taken(make_rig: MakeRig) -> None:
    """SPEC 1.10"""
    rig = make_rig(Limits(max_frame_bytes=10_000), door=Door(compresses=True))
    client = taker(rig)
    client.send(compressed("x" * 10_000), compressed("x" * 10_001))
    assert rig.talkers[0].heard == ["x" * 10_000]
    assert code_of(client) == 1009


def test_s3_what_is_inflated_before_connect_counts_as_read(make_rig: MakeRig) -> None:
    """S2: many small bombs."""
    rig = make_rig(door=Door(compresses=True), is_connected=False)
    client = taker(rig)
    client.send(*[compressed("x" * 20_000)] * 6)
    assert sum(map(len, rig.talkers[0].heard)) <= LIMITS.max_before_connect_bytes
    assert code_of(client) in (1009, 4000)


def test_s3_bomb_before_connect_has_what_is_left(make_rig: MakeRig) -> None:
    """S2"""
    rig = make_rig(door=Door(compresses=True), is_connected=False)
    client = taker(rig)
    client.send(compressed("x" * 500_000))
    assert rig.talkers[0].heard == []
    assert code_of(client) == 1009


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([packed(b"\xff" * 50)], 1007),
        ([packed(b"\x06" + b"\xff" * 20)], 1007),
        ([packed(deflate(b"\xff\xfe" * 100))], 1007),
        ([packed(bytes.fromhex("f348cdc9c9070000") + b"more and more")], 1007),
        ([packed(b"", opcode=PING)], 1002),
        ([packed(b"\x03\xe8", opcode=CLOSE)], 1002),
        ([packed(deflate(b"x"), fin=False), packed(b"", opcode=0)], 1002),
        ([frame(TEXT, b"x", fin=False), packed(deflate(b"x"), opcode=0)], 1002),
        ([bytes((0xA1,)) + frame(TEXT, b"x")[1:]], 1002),
        ([packed(b"", fin=False)] + [frame(0, b"", fin=False)] * LIMITS.max_fragments, 1009),
    ],
    ids=[
        "no deflate",
        "no block",
        "no UTF-8",
        "more behind the last block",
        "ping",
        "close",
        "continuation",
        "continuation of a plain one",
        "another bit",
        "empty fragments",
    ],
)
def test_s3_what_is_wrong_ends_its_connection_alone(deflating: Rig, frames: Sequence[bytes], code: int) -> None:
    """SPEC 1.10, 1.19"""
    client, other = taker(deflating), taker(deflating)
    client.send(*frames)
    assert code_of(client) == code
    other.send(compressed("say 1"))
    assert other.texts() == ["x"]


def test_s3_client_that_keeps_its_context_in_spite_of_the_agreement_is_ended(deflating: Rig) -> None:
    """SPEC 1.19"""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    said = json.dumps(list(range(200))).encode()
    first, second = ((compressor.compress(said) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2))
    client = taker(deflating)
    client.send(packed(first), packed(second))
    assert deflating.talkers[0].heard == [said.decode()]
    assert code_of(client) == 1007


def test_s3_truncated_message_is_the_senders_loss(deflating: Rig) -> None:
    """What its beginning says is text, right or wrong; the bound holds, and nothing waits for the rest."""
    client = taker(deflating)
    data = deflate(json.dumps(list(range(2_000))).encode())
    for size in range(0, len(data), 97):
        client.send(packed(data[:size]))
        if code_of(client):
            client = taker(deflating)
    client.send(compressed("say 1"))
    assert client.texts() == ["x"]


def test_idle_connection_keeps_no_window(deflating: Rig) -> None:
    """It costs what one without compression does."""
    client = taker(deflating)
    client.send(compressed("say 1"))
    connection = deflating.talkers[0].outbox.connection
    assert connection._unusual is None
    assert not hasattr(connection._outbox, "__dict__")

"""S2, S4: what a client may make the edge hold, before connect and between two complete messages."""

import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from triode_broker.config import Limits

from tests.edge.rig import BINARY, CLOSE, HANDSHAKE, PING, PONG, TEXT, Client, Rig, close_payload, frame, text

LIMITS = Limits()


def code_of(client: Client) -> int:
    """The code of the last frame, a close; 0 where there is none."""
    frames = client.frames()
    return int.from_bytes(frames[-1][1][:2]) if frames and frames[-1][0] == CLOSE else 0


def test_s2_64_kib_may_come_before_connect_and_not_a_byte_more(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    room = LIMITS.max_before_connect_bytes - len(HANDSHAKE)
    filling = text("x" * (room - 8))
    assert len(filling) == room
    client.send(filling[:1000], filling[1000:])
    assert rig.talkers[0].heard == ["x" * (room - 8)]
    assert client.frames() == []
    client.send(text("y")[:1])
    bye, closing = client.frames()
    assert msgspec.json.decode(bye[1]) == {"type": "bye", "code": 4000, "name": "protocol"}
    assert closing == (CLOSE, close_payload(4000, "too much before connect"))


def test_s2_no_recv_reaches_beyond_the_limit(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    client.send(text("x" * 50_000))
    client.socket.send(b"\x81" * 60_000)
    rig.edge.turn(rig.edge.poll(), rig.now)
    assert rig.edge.statistics().bytes_in == LIMITS.max_before_connect_bytes + 1


@pytest.mark.parametrize(
    "flood",
    [
        text("x") * 20_000,
        frame(TEXT, b"x" * 500_000),
        frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 900 + text("x" * 90_000),
        frame(PING, b"p" * 125) * 255 + b"\x81" * 90_000,
    ],
)
def test_s2_memory_before_connect_is_bounded_whatever_comes(make_rig: Callable[..., Rig], flood: bytes) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    talker = rig.talkers[0]
    for place in range(0, 90_000, 10_000):
        client.send(flood[place : place + 10_000])
        assert len(talker.outbox.connection._buffer) <= LIMITS.max_before_connect_bytes
    assert talker.detached == 1
    assert sum(map(len, talker.heard)) < LIMITS.max_before_connect_bytes
    assert code_of(client) in (1002, 4000)


def test_s2_limit_ends_where_connect_succeeds(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    client.send(text("connect"), *[text("x" * 50_000)] * 4)
    assert len(rig.talkers[0].heard) == 5
    assert client.frames() == []


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
def test_1009_frame_that_announces_too_much_is_refused_by_its_header(rig: Rig, opcode: int, fin: bool) -> None:
    client = rig.client()
    header = bytes((128 * fin + opcode, 255)) + (LIMITS.max_frame_bytes + 1).to_bytes(8)
    client.send(text("say 1") + header + b"mask" + b"x" * 1000)
    frames = client.frames()
    assert frames[0] == (TEXT, b"x")
    assert frames[1][1][:2] == close_payload(1009)
    assert rig.talkers[0].detached == 1


def test_1009_where_frames_are_bounded_below_126_bytes(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(Limits(max_frame_bytes=20))
    client = rig.client()
    client.send(text("x" * 20), text("x" * 21))
    assert rig.talkers[0].heard == ["x" * 20]
    assert code_of(client) == 1009


def test_s4_fragments_have_a_budget_of_bytes_for_the_whole_message(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(Limits(max_frame_bytes=1000))
    client = rig.client()
    client.send(frame(BINARY, b"x" * 500, fin=False), frame(0, b"x" * 500))
    assert rig.talkers[0].heard == [b"x" * 1000]
    client.send(frame(TEXT, b"x" * 500, fin=False), frame(0, b"x" * 501, fin=False)[:8])
    assert code_of(client) == 1009


@pytest.mark.parametrize("payload", [b"", b"x", b"xx"])
def test_s4_empty_continuations_and_tiny_fragments_have_a_budget_of_frames(rig: Rig, payload: bytes) -> None:
    client = rig.client()
    most = LIMITS.max_fragments
    client.send(frame(TEXT, payload, fin=False) + frame(0, payload, fin=False) * (most - 2) + frame(0, payload))
    assert rig.talkers[0].heard == [payload.decode() * most]
    client.send(frame(TEXT, payload, fin=False) + frame(0, payload, fin=False) * (most - 1))
    assert client.frames() == []
    client.send(frame(0, payload, fin=False)[:2])
    assert code_of(client) == 1009


def test_s4_message_that_is_never_finished_holds_no_more_than_its_bytes(rig: Rig) -> None:
    clients = [rig.client() for _ in range(20)]
    fragments = [frame(TEXT, b"xy", fin=False)] + [frame(0, b"xy", fin=False)] * (LIMITS.max_fragments - 1)
    tracemalloc.start()
    try:
        for client in clients:
            for piece in b"".join(fragments), b"\x00":
                client.send(piece)
        held = sum(statistic.size for statistic in tracemalloc.take_snapshot().statistics("filename"))
    finally:
        tracemalloc.stop()
    assert held / 20 < 16 * 1024  # 2 KiB came, each character of its own


def test_s4_pings_in_between_do_not_renew_the_budget_of_fragments(rig: Rig) -> None:
    client = rig.client()
    step = frame(0, b"", fin=False) + frame(PING)
    client.send(frame(TEXT, b"x", fin=False) + (frame(0, b"", fin=False) * 10 + step) * 93 + step * 2)
    assert code_of(client) == 1009


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_s4_control_flood_is_closed_with_1008(rig: Rig, opcode: int) -> None:
    client, other = rig.client(), rig.client()
    client.send(frame(opcode, b"f") * LIMITS.max_control_frames)
    assert code_of(client) == 0
    client.send(frame(opcode, b"f") * 10)
    assert code_of(client) == 1008
    other.send(text("say 1"))
    assert other.texts() == ["x"]


def test_s4_control_frames_are_counted_between_two_pings_of_ours(rig: Rig) -> None:
    client = rig.client()
    for _ in range(5):
        client.send(frame(PING) * LIMITS.max_control_frames)
        rig.after(LIMITS.ping_ms / 1000 + 1)
    assert code_of(client) == 0


def test_s4_one_byte_at_a_time_costs_no_more_than_its_bytes(rig: Rig) -> None:
    client = rig.client()
    data = frame(TEXT, b"d" * 3_000) + frame(TEXT, "é".encode() * 1_000, fin=False) + frame(0)
    client.send(*(data[place : place + 1] for place in range(len(data))))
    assert rig.talkers[0].heard == ["d" * 3_000, "é" * 1_000]

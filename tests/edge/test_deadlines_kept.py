"""What falls due: connect, silence, pings; each within its time, on a clock that only the test moves."""

import socket
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from triode_broker.config import Limits

from tests.edge.rig import CLOSE, HANDSHAKE, PONG, TEXT, Client, Rig, close_payload, frame, text

PING_SECONDS = Limits().ping_ms / 1000


def closed_with(client: Client) -> int:
    """The code of a bye and of the close frame behind it, which are the last that came."""
    *_, (_, bye), (opcode, payload) = client.frames()
    assert opcode == CLOSE
    code = int.from_bytes(payload[:2])
    assert msgspec.json.decode(bye)["code"] == code
    return code


@pytest.mark.parametrize("greeting", [b"", HANDSHAKE[:-1]])
def test_s6_slow_handshake_is_dropped_after_connect_timeout(rig: Rig, greeting: bytes) -> None:
    client = rig.client(greeting)
    rig.after(4.75)
    assert rig.edge.statistics().connections == 1
    rig.after(0.25)
    assert client.receive() == b""
    assert client.is_closed
    assert rig.edge.statistics().connections == 0


def test_s6_handshake_that_drips_gains_no_time(rig: Rig) -> None:
    client = rig.client(b"")
    for place in range(21):
        client.send(HANDSHAKE[place : place + 1])
        rig.after(0.25)
        if client.receive() == b"" and client.is_closed:
            break
    assert rig.now == 1_005.0


def test_s2_websocket_that_does_not_connect_is_closed_after_connect_timeout(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    rig.after(2)
    client.send(text("hello"))
    rig.after(2.75)
    assert client.frames() == []
    rig.after(0.25)
    assert closed_with(client) == 4106
    assert rig.talkers[0].detached == 1


def test_websocket_that_connects_in_time_stays(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    client.send(text("connect"))
    rig.after(2 * PING_SECONDS - 1)
    assert [opcode for opcode, _ in client.frames()] == [TEXT]


def test_websocket_whose_connect_succeeds_later_stays_and_is_pinged(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    rig.talkers[0].is_connected = True  # as after a check that took its time elsewhere
    rig.after(6 + PING_SECONDS)
    assert client.texts() == ['{"type":"ping"}']


def test_ping_comes_every_ping_ms_to_whoever_shows_life(rig: Rig) -> None:
    client = rig.client()
    for _ in range(4):
        rig.after(PING_SECONDS)
        client.send(frame(PONG))
    assert 3 <= rig.talkers[0].keepalives <= 4
    assert set(client.texts()) == {'{"type":"ping"}'}


def test_silence_is_ended_after_two_to_two_and_a_half_times_ping_ms(rig: Rig) -> None:
    client = rig.client()
    rig.after(7)
    client.send(text("last words"), text("half a frame is no life")[:5])
    rig.after(2 * PING_SECONDS - 0.25)
    assert all(opcode == TEXT for opcode, _ in client.frames())
    client.send(b"x")
    rig.after(PING_SECONDS / 2)
    assert closed_with(client) == 4105


@pytest.mark.parametrize("sign", [text("x"), frame(PONG), frame(TEXT, b"x", fin=False)])
def test_any_complete_frame_is_life(rig: Rig, sign: bytes) -> None:
    client = rig.client()
    rig.after(1.9 * PING_SECONDS)
    client.send(sign)
    rig.after(1.9 * PING_SECONDS)
    assert all(opcode == TEXT for opcode, _ in client.frames())
    assert not client.is_closed


def test_pings_end_with_the_connection(rig: Rig) -> None:
    client = rig.client()
    client.send(frame(CLOSE, close_payload(1000)))
    rig.after(3 * PING_SECONDS)
    assert rig.talkers[0].keepalives == 0
    assert [opcode for opcode, _ in client.frames()] == [CLOSE]


def test_what_is_gone_does_not_pile_up_in_the_queues(rig: Rig) -> None:
    shared = rig.edge._shared
    for _ in range(1500):
        ours, theirs = socket.socketpair()
        rig.edge.adopt(theirs)
        ours.close()
        rig.turn()
    assert len(shared.connect_deadlines) == 1500
    rig.after(0.25)
    assert len(shared.connect_deadlines) == 0


def test_idle_connection_costs_at_most_1_kib(rig: Rig) -> None:
    """Of our objects: what the kernel keeps for a socket is not counted, nor is the application."""
    client = rig.client()
    client.send(text("say 1") + frame(PONG) + frame(TEXT, b"x", fin=False), frame(0))  # all paths were used once
    ends = [socket.socketpair() for _ in range(200)]
    applications = len(rig.talkers)
    tracemalloc.start()
    try:
        for ours, theirs in ends:
            rig.edge.adopt(theirs)
            ours.sendall(HANDSHAKE + frame(PONG) + frame(TEXT, b"x", fin=False) + frame(0) + text("x"))
            rig.turn()
        rig.after(PING_SECONDS)  # they have been pinged and wait
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
        for ours, _ in ends:
            ours.close()
    assert len(rig.talkers) == applications + 200
    ours_only = snapshot.filter_traces(
        [tracemalloc.Filter(True, "*/triode_broker/*"), tracemalloc.Filter(True, "*/socket.py")]
    )
    assert sum(statistic.size for statistic in ours_only.statistics("filename")) / 200 <= 1024

"""S1: mutated heads and frames, sent to one edge for a while; a second client stays alive all the time.

TRIODE_FUZZ_SECONDS sets how long (5 by default). The seed is printed and can be set with TRIODE_FUZZ_SEED.
Surprising: nothing is asserted about answers. What counts is that no exception passes its barrier, that nothing is
left behind, and that whoever behaves does not notice.
"""

import os
import random
import socket
import time
from collections.abc import Callable

import pytest
from triode_broker.config import Limits

from tests.edge.rig import BINARY, CLOSE, HANDSHAKE, PING, PONG, TEXT, Rig, close_payload, frame, text

pytestmark = pytest.mark.fuzz

SECONDS = float(os.environ.get("TRIODE_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("TRIODE_FUZZ_SEED", str(time.time_ns())))
LIMITS = Limits(max_frame_bytes=70_000, max_outbox_bytes=30_000, max_fragments=50, max_control_frames=50)
PER_EDGE = 500  # cases before what is left of an edge is counted

HEADS = [
    HANDSHAKE,
    HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: triode.v1.json\r\nOrigin: http://x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /page?a=b HTTP/1.0\r\n\r\n",
    b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
]
FRAMES = [
    text("hello"),
    text("say 2000"),
    text("say 40000"),
    text("leave 4100"),
    text("batch"),
    text("é" * 200),
    frame(TEXT, b"x" * 66_000),
    frame(BINARY, b"\x00\xff"),
    frame(TEXT, b"frag", fin=False) + frame(PING, b"p") + frame(0, b"ment"),
    frame(0, b"", fin=False),
    frame(PONG),
    frame(CLOSE, close_payload(1000, "bye")),
    frame(CLOSE),
]
BYTES = (0x00, 0x01, 0x7E, 0x7F, 0x80, 0x81, 0x88, 0x89, 0xC0, 0xFE, 0xFF, 0x0A, 0x0D, 0x20, 0x3A)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, doubled, cut out, or moved."""
    found = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(found) + 1)
        size = chance.choice((1, 1, 2, 8, 100))
        match chance.randrange(5):
            case 0:
                found[at : at + 1] = bytes((chance.choice(BYTES),))
            case 1:
                found[at:at] = chance.randbytes(size)
            case 2:
                del found[at : at + size]
            case 3:
                found[at:at] = found[at : at + size]
            case _:
                found[at : at + 1] = bytes((chance.randrange(256),))
    return bytes(found)


def one_case(rig: Rig, chance: random.Random) -> None:
    """One hostile connection, from its first byte to its end."""
    head = HANDSHAKE if chance.random() < 0.6 else mutated(chance.choice(HEADS), chance)
    body = b"".join(chance.choice(FRAMES) for _ in range(chance.randrange(6)))
    data = head + (mutated(body, chance) if chance.random() < 0.9 else chance.randbytes(300))
    client = rig.client(b"", send_buffer=chance.choice((0, 4096)))
    sizes = chance.choice(((1,), (7, 100), (10_000,), (100_000,)))
    while data and not client.is_closed:
        size = chance.choice(sizes)
        piece, data = data[:size], data[size:]
        try:
            client.send(piece)
        except OSError:
            break
        if chance.random() < 0.3:
            client.receive()
    match chance.randrange(3):
        case 0:
            client.socket.shutdown(socket.SHUT_WR)
        case 1:
            client.socket.close()
        case _:
            rig.after(0.25)
    rig.turn()


def one_edge(chance: random.Random, until: float) -> int:
    """A series of cases on one edge, beside a client that behaves. Returns how many."""
    rig = Rig(LIMITS, {"/": lambda target: (200, "text/plain", target.encode())})
    try:
        good = rig.client()
        cases = 0
        while cases < PER_EDGE and time.monotonic() < until:
            one_case(rig, chance)
            cases += 1
            good.send(text("say 3"))
            assert [said for said in good.texts() if said != '{"type":"ping"}'] == ["xxx"]
        assert rig.log.entries == []
        for hostile in rig.clients[1:]:
            hostile.socket.close()
        good.socket.close()
        rig.turn()
        assert rig.edge.statistics().connections == 0
        assert all(talker.detached == 1 for talker in rig.talkers)
        return cases
    finally:
        rig.end()


def fuzz(one_series: Callable[[random.Random, float], int]) -> None:
    """Series after series until the time is over; each says how many cases it had."""
    print(f"TRIODE_FUZZ_SEED={SEED}")  # noqa: T201  # how to repeat a failure
    chance = random.Random(SEED)
    until = time.monotonic() + SECONDS
    cases = 0
    while time.monotonic() < until:
        cases += one_series(chance, until)
    assert cases > 0


@pytest.mark.timeout(60 + 2 * SECONDS)
def test_s1_fuzzed_heads_and_frames_hurt_nobody_but_their_sender() -> None:
    fuzz(one_edge)

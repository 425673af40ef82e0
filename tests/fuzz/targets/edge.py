"""S1: heads and frames, to one edge; a second client stays alive all the time.

Nothing is asserted about answers. What counts is that no exception passes its barrier, that nothing is left
behind, and that whoever behaves does not notice.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from triode_broker.config import Limits
from triode_broker.edge.deflate import deflate
from triode_broker.edge.door import Door

from tests.edge.rig import BINARY, CLOSE, HANDSHAKE, PING, PONG, TEXT, Rig, close_payload, frame, text
from tests.fuzz.running import Run, Target
from tests.fuzz.targets.sending import leave, send_in_pieces

LIMITS = Limits(max_frame_bytes=70_000, max_outbox_bytes=30_000, max_fragments=50, max_control_frames=50)
HEADS = [
    HANDSHAKE,
    HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: triode.v1.json\r\nOrigin: http://x\r\n\r\n",
    HANDSHAKE[:-2] + b"Authorization: Bearer abc.def.ghi\r\nX-Forwarded-For: 1.2.3.4, ::1\r\n\r\n",
    HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /page?a=b HTTP/1.0\r\n\r\n",
    b"GET /ws?token=abc HTTP/1.1\r\nHost: x\r\nOrigin: null\r\n\r\n",
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


def compressed(said: bytes) -> bytes:
    """A client's text message, compressed."""
    whole = bytearray(frame(TEXT, deflate(said)))
    whole[0] |= 0x40
    return bytes(whole)


DEFLATING = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
SEEDS = [
    DEFLATING + compressed(b"hello " * 80),
    DEFLATING + compressed(bytes(69_000)) + text("hello"),
    *HEADS,
    *(HANDSHAKE + one for one in FRAMES),
    HANDSHAKE + b"".join(FRAMES[:6]),
]


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    page = {"/": lambda target: (200, "text/plain", target.encode())}
    rig = Rig(LIMITS, page, door=Door(takes_query_token=True, compresses=True))
    try:
        good = rig.client()

        def run(data: bytes, chance: random.Random) -> str:
            said = hostile(rig, data, chance)
            good.send(text("say 3"))
            assert [one for one in good.texts() if one != '{"type":"ping"}'] == ["xxx"]
            return said

        yield run
        assert "connection_failed" not in rig.log.events, rig.log.entries
        for one in rig.clients[1:]:
            one.socket.close()
        good.socket.close()
        rig.turn()
        assert rig.edge.statistics().connections == 0
        assert all(talker.detached == 1 for talker in rig.talkers)
    finally:
        rig.end()


def hostile(rig: Rig, data: bytes, chance: random.Random) -> str:
    """One connection, from its first byte to its end; what it was answered: the status, and how it was closed."""
    before = rig.edge.statistics().closes
    client = rig.client(b"", send_buffer=chance.choice((0, 4096)))
    heard = b""

    def read() -> None:
        nonlocal heard
        heard = heard or client.receive()[:200]

    send_in_pieces(client, data, chance, 5_000, read)
    leave(rig, client, chance)
    rig.turn()
    closes = rig.edge.statistics().closes
    return f"{heard.split(b' ')[1:2]} {[code for code in closes if closes[code] != before.get(code)]}"


EDGE = Target("edge", SEEDS, begin)

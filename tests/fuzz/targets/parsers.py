"""S1, S3, S5, S9: the small readers at the edge, each alone and so a hundred times as often as behind a socket.

An input begins with a letter that says whose it is: a PROXY header, the value of X-Forwarded-For, an Origin, what
a client offers of compression, a compressed message, a head with a token. Whoever reads it answers or refuses, in
time and space that the input's length bounds. Values of headers are ASCII: heads with others were refused before.
"""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from triode_broker.config import Limits
from triode_broker.edge.credentials import token_of
from triode_broker.edge.deflate import TooLong, deflate, inflate, negotiate
from triode_broker.edge.forwarded import Proxies
from triode_broker.edge.head import Refusal, read_head
from triode_broker.edge.origins import Origins, parse_origin
from triode_broker.edge.proxy import SIGNATURE, BadHeader, most_bytes, read_header

from tests.edge.rig import HANDSHAKE
from tests.fuzz.running import Run, Target

MAX_BYTES = 70_000
PROXIES = Proxies(["10.0.0.0/8", "2001:db8::/32"])
ORIGINS = Origins(["https://app.example.com", "http://[2001:db8::1]:8080"])
LIMITS = Limits()

SEEDS = [
    b"pPROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\nGET / HTTP/1.1\r\n\r\n",
    b"pPROXY TCP6 2001:db8::1 2001:db8::2 5000 443\r\n",
    b"pPROXY UNKNOWN whatever\r\n",
    b"p" + SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187]),
    b"p" + SIGNATURE + b"\x21\x21\x00\x29" + bytes(36) + b"\x20\x00\x05\x01\x00\x00\x00\x00",
    b"p" + SIGNATURE + b"\x20\x00\x00\x00",
    b"f203.0.113.9, 10.0.0.1, 2001:db8::7",
    b'f"[2001:db8::1]:443", unknown, ::ffff:192.0.2.1',
    b"ohttps://app.example.com",
    b"ohttp://[2001:db8::1]:8080",
    b"onull",
    b"ohttps://user@app.example.com:443.evil.example",
    b"npermessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=12",
    b'npermessage-deflate; server_no_context_takeover; x="a, b"',
    b"d" + deflate(b'{"type":"message","data":"' + b"abc" * 300 + b'"}'),
    b"d" + deflate(bytes(60_000)),
    b"d",
    b"t" + HANDSHAKE[:-2] + b"Authorization: Bearer abc.def.ghi\r\n\r\n",
    b"t" + HANDSHAKE.replace(b"/ws", b"/ws?token=a%2Eb.c&x=1"),
]


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    yield run


def run(data: bytes, chance: random.Random) -> str:
    reader = READERS.get(data[:1])
    if reader is None or (data[:1] in b"fon" and not data[1:].isascii()):
        return "nobody's"
    return f"{data[:1]!r} {reader(data[1:])}"


def proxy(data: bytes) -> str:
    try:
        header = read_header(data)
    except BadHeader as bad:
        return str(bad)[:40]
    if header is None:
        assert len(data) <= most_bytes(data)  # it is not waited for for ever
        return "more"
    assert 0 < header.size <= len(data)
    assert header.address.isprintable()
    return f"{bool(header.address)} {header.is_encrypted}"


def forwarded(data: bytes) -> str:
    address = PROXIES.client("10.0.0.1", data)
    assert address.isprintable()
    assert PROXIES.client("192.0.2.7", data) == "192.0.2.7"  # nobody's word but a proxy's
    return "own" if address == "10.0.0.1" else "told"


def origin(data: bytes) -> str:
    text = data.decode("latin-1")
    found = parse_origin(text)
    allowed = ORIGINS.allows(text, "broker.example", is_encrypted=True, is_local=False)
    if allowed:
        assert str(found) in ("https://app.example.com", "http://[2001:db8::1]:8080", "https://broker.example")
    return f"{found is not None} {allowed}"


def offer(data: bytes) -> str:
    return negotiate(data)[:60].decode("latin-1")


def compressed(data: bytes) -> str:
    try:
        message = inflate(data, MAX_BYTES)
    except TooLong:
        return "too long"
    except zlib.error:
        return "no"
    assert len(message) <= MAX_BYTES
    assert inflate(deflate(message), MAX_BYTES) == message
    return "yes" if message else "empty"


def token(data: bytes) -> str:
    try:
        request = read_head(data, LIMITS)
        if request is None:
            return "more"
        found = [token_of(request, takes_query_token=takes) for takes in (True, False)]
    except Refusal as refusal:
        return f"{refusal.status} {refusal.text[:30]}"
    assert all(one.isascii() and one.isprintable() and " " not in one for one in found)
    return f"{bool(found[0])} {bool(found[1])}"


READERS = {b"p": proxy, b"f": forwarded, b"o": origin, b"n": offer, b"d": compressed, b"t": token}
PARSERS = Target("parsers", SEEDS, begin, 5_000)

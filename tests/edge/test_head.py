"""Request heads: which become a WebSocket, which get a page, and which are refused with what (S5)."""

import base64
import contextlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.config import Limits
from triode_broker.edge.head import Refusal, Request, check_method, read_head, refusal_response, response, upgrade

from tests.edge.rig import HANDSHAKE

LIMITS = Limits()


def changed(old: str, new: str) -> bytes:
    """The good handshake with one thing changed."""
    assert old.encode() in HANDSHAKE
    return HANDSHAKE.replace(old.encode(), new.encode())


def added(*lines: str) -> bytes:
    """The good handshake with more headers."""
    return HANDSHAKE[:-2] + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def refused(data: bytes) -> Refusal:
    """How it is refused, by the head or by what it asks for."""
    with pytest.raises(Refusal) as caught:
        answered(data)
    return caught.value


def answered(data: bytes) -> bytes:
    """The whole way, from the head to the 101."""
    request = read_head(data, LIMITS)
    assert request is not None
    return upgrade(request)


def read(data: bytes) -> Request:
    """A good and whole head."""
    request = read_head(data, LIMITS)
    assert request is not None
    return request


def test_handshake_is_answered_with_the_key_of_rfc_6455_section_1_3() -> None:
    answer = upgrade(read(HANDSHAKE))
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_head_is_read_only_once_it_is_whole_and_no_byte_more_is_taken() -> None:
    for size in range(len(HANDSHAKE)):
        assert read_head(HANDSHAKE[:size], LIMITS) is None
    assert read(HANDSHAKE + b"\x81\x80 frames behind it \xff\xff").size == len(HANDSHAKE)


@pytest.mark.parametrize(
    "data",
    [
        added("Sec-WebSocket-Protocol: triode.v1.json"),
        added("Sec-WebSocket-Protocol: other, triode.v1.json"),
        added("Sec-WebSocket-Protocol: other", "Sec-WebSocket-Protocol: triode.v1.json"),
    ],
)
def test_subprotocol_that_was_offered_is_selected(data: bytes) -> None:
    assert b"\r\nSec-WebSocket-Protocol: triode.v1.json\r\n" in upgrade(read(data))


@pytest.mark.parametrize("offer", ["other", "triode.v1", "TRIODE.V1.JSON", "triode.v1.jsonx", ""])
def test_subprotocol_offers_without_ours_are_refused(offer: str) -> None:
    assert refused(added(f"Sec-WebSocket-Protocol: {offer}")).status == 400


@pytest.mark.parametrize(
    "data",
    [
        changed("Upgrade: websocket", "upgrade: WebSocket"),
        changed("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        changed("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        changed("/ws", "/ws?token=x"),
        added("Content-Length: 0"),
        added("Sec-WebSocket-Extensions: permessage-deflate"),
    ],
)
def test_handshake_may_look_different(data: bytes) -> None:
    assert upgrade(read(data)).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (changed("Upgrade: websocket", "Upgrade: h2c"), 426),
        (changed("-Version: 13", "-Version: 8"), 426),
        (changed("-Version: 13", "-Version: 13, 8"), 426),
        (changed("Connection: Upgrade", "Connection: close"), 400),
        (changed("HTTP/1.1", "HTTP/1.0"), 400),
        (changed("HTTP/1.1", "HTTP/2.0"), 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (changed("GET", "POST"), 405),
        (changed("GET", "HEAD"), 405),
        (changed("GET", "GET\tX"), 400),
        (changed("Host: broker.example\r\n", ""), 400),
        (added("Host: other.example"), 400),
        (added("Sec-WebSocket-Version: 13"), 400),
        (added("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", ""), 400),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ"), 400),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", base64.b64encode(b"x" * 17).decode()), 400),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ!=="), 400),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", "================dGhlIHN="), 400),
        (added("Content-Length: 5"), 400),
        (added("Content-Length: 5", "Content-Length: 6"), 400),
        (added("Content-Length: -1"), 400),
        (added("Transfer-Encoding: chunked"), 400),
        (added("Transfer-Encoding: chunked", "Content-Length: 0"), 400),
        (added("Transfer-Encoding: identity"), 501),
    ],
)
def test_handshake_that_is_wrong_is_refused_with(data: bytes, status: int) -> None:
    assert refused(data).status == status


def test_version_that_is_not_spoken_is_answered_with_the_one_that_is() -> None:
    assert ("Sec-WebSocket-Version", "13") in refused(changed("-Version: 13", "-Version: 25")).headers


@pytest.mark.parametrize("byte", [b"\x00", b"\x07", b"\x0b", b"\x1b", b"\x7f", b"\x80", b"\xc3\xa9", b"\xff"])
@pytest.mark.parametrize("place", [b"/ws", b"Host", b"broker", b"13"])
def test_s5_bytes_outside_printable_ascii_are_refused(byte: bytes, place: bytes) -> None:
    assert refused(HANDSHAKE.replace(place, place + byte)).status == 400


def test_s5_other_protocols_are_refused_before_their_head_ends() -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\nHost: x\n", b"\x81\x85"):
        with pytest.raises(Refusal) as caught:
            read_head(data, LIMITS)
        assert caught.value.status == 400


def test_s5_head_of_8_kib_is_read_and_a_longer_one_refused() -> None:
    room = LIMITS.max_head_bytes - len(added("X: "))
    assert read(added("X: " + "x" * room)).size == LIMITS.max_head_bytes
    assert refused(added("X: " + "x" * (room + 1))).status == 400
    with pytest.raises(Refusal):
        read_head(b"GET /" + b"x" * LIMITS.max_head_bytes, LIMITS)


def test_s5_64_headers_are_read_and_65_refused() -> None:
    few = [f"X-{number}: y" for number in range(LIMITS.max_headers - 5)]
    assert len(read(added(*few)).headers) == LIMITS.max_headers
    assert refused(added(*few, "X-More: y")).status == 400


@pytest.mark.parametrize(
    "head",
    [
        HANDSHAKE.replace(b"\r\n", b"\n"),
        HANDSHAKE.replace(b"\r\n", b"\n", 1),
        HANDSHAKE.replace(b"Host: ", b"Host : "),
        HANDSHAKE.replace(b"Host: broker.example", b"Host"),
        HANDSHAKE.replace(b"GET /ws HTTP/1.1\r\n", b"\r\n"),
        HANDSHAKE.replace(b" HTTP/1.1", b""),
        b"\r\n\r\n",
    ],
)
def test_s5_head_that_is_no_http_1_1_is_refused(head: bytes) -> None:
    assert refused(head).status == 400


@given(data=st.binary(max_size=400) | st.text(alphabet="GET /wsHTP1.: \r\n", max_size=200).map(str.encode))
def test_s1_head_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refusal):
        read_head(data + b"\r\n\r\n", LIMITS)


def test_path_is_the_target_without_its_query() -> None:
    request = read(changed("/ws", "/metrics?a=b?c"))
    assert (request.path, request.target) == ("/metrics", "/metrics?a=b?c")


def test_method_that_is_not_allowed_is_refused_with_those_that_are() -> None:
    request = read(b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(Refusal) as caught:
        check_method(request, ("GET", "HEAD"))
    assert caught.value.status == 405
    assert caught.value.headers == (("Allow", "GET, HEAD"),)


def parsed(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    """What an HTTP client makes of a response."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    return head, body


def test_response_is_whole_closes_and_is_neither_sniffed_nor_stored() -> None:
    head, body = parsed(response(200, "text/html; charset=utf-8", "<p>é".encode()))
    assert (head.status_code, body) == (200, "<p>é".encode())
    assert dict(head.headers) == {
        b"content-type": b"text/html; charset=utf-8",
        b"content-length": b"5",
        b"connection": b"close",
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
    }


def test_response_to_head_has_the_length_and_no_body() -> None:
    data = response(200, "text/plain", b"12345", "HEAD")
    head, body = parsed(data, "HEAD")
    assert (dict(head.headers)[b"content-length"], body) == (b"5", b"")
    assert data.endswith(b"\r\n\r\n")


def test_refusal_says_why_in_plain_text() -> None:
    head, body = parsed(refusal_response(refused(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")))
    assert head.status_code == 426
    assert dict(head.headers)[b"upgrade"] == b"websocket"
    assert b"new WebSocket" in body

"""The request head: h11 reads it, this module decides what becomes of it.

Pure: bytes and limits in, a request, a refusal or the bytes of a 101 out. Surprising: h11 is only started once the
whole head is here, so that no slow handshake holds one; and it is asked last, after the checks it leaves out
(bytes outside printable ASCII, bare line feeds, folded lines, a length beside chunks), and only where the head is
not plain (plain_head.py). Bodies are for services: whoever announces one to anybody else is refused.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import attrs
import h11
from triode_protocol.packets import SUBPROTOCOL

from triode_broker.config import Limits
from triode_broker.edge.plain_head import plain_head

_ALLOWED: Final = bytes(range(0x20, 0x7F)) + b"\r\n\t"
_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: What a handshake may say once only; other repeated headers are lists, by RFC 9110 section 5.3.
_ONCE: Final = frozenset({b"authorization", b"host", b"origin", b"sec-websocket-key", b"sec-websocket-version"})
_SUBPROTOCOL: Final = SUBPROTOCOL.encode()
_SELECTED: Final = b"Sec-WebSocket-Protocol: " + _SUBPROTOCOL + b"\r\n"
_VERSIONS: Final = (b"1.0", b"1.1")
_KEY_CHARACTERS: Final = 24  # 16 bytes in base64

Headers = Iterable[tuple[str, str]]


class Refusal(Exception):
    """A request that is not served: the status and what to tell whoever sent it."""

    def __init__(self, status: int, text: str, headers: Headers = ()) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = tuple(headers)


@attrs.define
class Request:
    """A well formed head; `size`: how many bytes it took; `http`: what reads the body, None: there is none."""

    method: str
    target: str
    http_version: bytes
    headers: dict[bytes, bytes]  # lower-case names; repeated ones joined by ", "
    size: int
    http: h11.Connection | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def tokens(self, name: bytes) -> list[bytes]:
        """The elements of a header that is a comma-separated list, in lower case."""
        return [token.strip() for token in self.headers.get(name, b"").lower().split(b",")]


def read_head(data: bytes | bytearray, limits: Limits) -> Request | None:
    """The request at the front of `data`, or None while its head is incomplete. Raises Refusal."""
    end = data.find(b"\r\n\r\n", 0, limits.max_head_bytes)
    head = bytes(data[: end + 4 if end >= 0 else limits.max_head_bytes])
    if head.translate(None, _ALLOWED):
        raise Refusal(400, "This is a plain HTTP/1.1 port: a request head has printable ASCII characters only.")
    if head.count(b"\n") != head.count(b"\r\n"):
        raise Refusal(400, "Lines of a request head end with CR LF.")
    if end < 0:
        if len(head) >= limits.max_head_bytes:
            raise Refusal(400, f"A request head has at most {limits.max_head_bytes} bytes.")
        return None
    if head.count(b"\r\n") - 2 > limits.max_headers:
        raise Refusal(400, f"A request has at most {limits.max_headers} headers.")
    plain = plain_head(head)
    return _parse(head) if plain is None else Request("GET", plain[0], b"1.1", plain[1], len(head))


def _parse(head: bytes) -> Request:
    if b"\r\n " in head or b"\r\n\t" in head:
        raise Refusal(400, "A header of a request has one line.")
    http = h11.Connection(h11.SERVER)
    http.receive_data(head)
    try:
        event = http.next_event()
    except h11.RemoteProtocolError as error:
        raise Refusal(error.error_status_hint, f"Not a valid HTTP/1.1 request: {error}.") from None
    if not isinstance(event, h11.Request):
        raise Refusal(400, "Not a valid HTTP/1.1 request.")
    if event.http_version not in _VERSIONS:
        raise Refusal(505, "This server speaks HTTP/1.1.")
    headers = _unite(event.headers)
    is_chunked = b"transfer-encoding" in headers
    if is_chunked and (b"content-length" in headers or event.http_version != b"1.1"):
        raise Refusal(400, "A request has a length or chunks, and chunks are HTTP/1.1.")
    has_body = is_chunked or bool(headers.get(b"content-length", b"0").strip(b"0"))
    body = http if has_body else None
    return Request(event.method.decode(), event.target.decode(), event.http_version, headers, len(head), body)


def _unite(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in headers:
            headers[name] = value
        elif name in _ONCE:
            raise Refusal(400, f"The header {name.decode()} must not be repeated.")
        else:
            headers[name] += b", " + value
    return headers


def check_no_body(request: Request) -> None:
    """Raise Refusal where there is one, and nobody to read it."""
    if request.http is not None:
        raise Refusal(400, f"{request.path} takes no body.")


def check_method(request: Request, allowed: tuple[str, ...]) -> None:
    """Raise Refusal unless the method is one of these."""
    if request.method not in allowed:
        text = f"{request.path} serves {' and '.join(allowed)} only."
        raise Refusal(405, text, [("Allow", ", ".join(allowed))])


def upgrade(request: Request, extension: bytes = b"") -> bytes:
    """The 101 that turns this request into a WebSocket (SPEC 1.1, 1.2), with this extension. Raises Refusal."""
    check_no_body(request)
    check_method(request, ("GET",))
    if b"websocket" not in request.tokens(b"upgrade"):
        text = f"{request.path} speaks WebSocket, subprotocol {SUBPROTOCOL}. In a browser: new WebSocket(url)."
        raise Refusal(426, text, [("Upgrade", "websocket")])
    if b"upgrade" not in request.tokens(b"connection"):
        raise Refusal(400, "A WebSocket handshake has the header Connection: Upgrade.")
    if request.http_version != b"1.1":
        raise Refusal(400, "A WebSocket handshake is an HTTP/1.1 request.")
    if request.headers.get(b"sec-websocket-version") != b"13":
        headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        raise Refusal(426, "This server speaks version 13 of WebSocket (RFC 6455).", headers)
    accept = _accept(request.headers.get(b"sec-websocket-key", b""))
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + _subprotocol(request) + _extensions(extension) + b"\r\n"
    )


def _accept(key: bytes) -> bytes:
    try:
        if len(key) != _KEY_CHARACTERS or len(base64.b64decode(key, validate=True)) != 16:
            raise ValueError
    except ValueError:  # binascii.Error is one
        raise Refusal(400, "Sec-WebSocket-Key must be 16 bytes in base64.") from None
    digest = hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def _subprotocol(request: Request) -> bytes:
    """SPEC 1.2: whoever offers subprotocols must offer ours; whoever offers none speaks it."""
    offers = request.headers.get(b"sec-websocket-protocol")
    if offers is None:
        return b""
    if _SUBPROTOCOL not in [offer.strip() for offer in offers.split(b",")]:
        raise Refusal(400, f"This server speaks the subprotocol {SUBPROTOCOL}; offer it, or none.")
    return _SELECTED


def _extensions(extension: bytes) -> bytes:
    return b"Sec-WebSocket-Extensions: " + extension + b"\r\n" if extension else b""


def readable(content_type: str) -> Headers:
    """Scripts are anybody's: a page of another site that loads one as a module has to be let read it."""
    return [("Access-Control-Allow-Origin", "*")] if content_type.startswith("text/javascript") else []


def response(status: int, content_type: str, body: bytes, method: str = "GET", headers: Headers = ()) -> bytes:
    """A whole response; the connection closes behind it. To HEAD the body is left out."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in (*headers, *readable(content_type))),
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else body)


def refusal_response(refusal: Refusal, method: str = "GET") -> bytes:
    """What a refused client gets to read."""
    body = refusal.text.encode() + b"\n"
    return response(refusal.status, "text/plain; charset=utf-8", body, method, refusal.headers)

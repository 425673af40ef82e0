"""Exchange: one HTTP request and its answer, as the operations of this room see it.

Knows no socket: the edge carries the bytes (`Carrier`, `Stream` and `Line` say what is asked of it). What goes
wrong is raised as a `Problem`, or as the protocol's own `Refused`, and becomes the JSON that an `error` packet
has (SPEC 5.1). The surprising decision: an answer that goes on (server-sent events, lines of JSON) is an `Outbox`
like that of a WebSocket, so whatever the core sends to one it can send to the other, with the same bound.
"""

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import cached_property
from math import ceil
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import attrs
import msgspec
from triode_protocol.codec import Refused
from triode_protocol.errors import RETRY, ErrorName

from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox

JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
#: What there is not: the one name of an error that packets do not have.
NOT_FOUND: Final = "not_found"
MAX_PARAMETERS: Final = 64  # of one query
#: What a browser says of a request that no page of another site has caused.
OWN_SITE: Final = (b"none", b"same-origin")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)  # nothing that could forge a line (S27)
#: The parameter that is a credential, where such are taken from URLs.
TOKEN: Final = "token"
_MAY_READ: Final = "Retry-After, WWW-Authenticate"

Headers = Iterable[tuple[str, str]]
#: The status of an answer that is an error, by its name; docs/http-api.md has the same table.
STATUS: Final[Mapping[str, int]] = {
    ErrorName.MALFORMED: 400,
    ErrorName.BAD_STATE: 409,
    ErrorName.UNSUPPORTED: 400,
    ErrorName.TOO_LARGE: 413,
    ErrorName.BAD_TOPIC: 400,
    ErrorName.UNAUTHORIZED: 401,
    ErrorName.TOKEN_EXPIRED: 401,
    ErrorName.REVOKED: 403,
    ErrorName.FORBIDDEN: 403,
    ErrorName.RATE_LIMITED: 429,
    ErrorName.QUOTA: 429,
    ErrorName.OVERLOADED: 503,
    ErrorName.INFLIGHT: 429,
    ErrorName.CONFLICT: 409,
    ErrorName.NO_SUCH_SUBSCRIPTION: 404,
    ErrorName.UNAVAILABLE: 503,
    ErrorName.TIMEOUT: 504,
    ErrorName.INTERNAL: 500,
    NOT_FOUND: 404,
}


class Guest(Protocol):
    """What an operation keeps with a connection for its next requests."""

    def leave(self) -> None:
        """The connection is gone. Must not raise."""


class Line(Protocol):
    """The connection under an exchange; the next requests come over it too."""

    guest: Guest | None  # told to leave when the connection is gone; who puts another one here ends the first

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """End it, behind the answer that is under way. Only marks; idempotent."""


class Application(Protocol):
    """Who feeds an answer that goes on: a `core.session.Session` is one. As `edge.application` says."""

    @property
    def is_answered(self) -> bool:
        """Whether nothing that it took in still waits for its answer."""

    def room(self, now_ms: int) -> None:
        """The outbox `wants_room` and has drained to half."""

    def keepalive(self, now_ms: int) -> None:
        """Every `ping_ms`."""

    def detach(self) -> None:
        """The connection takes no more output. Called exactly once."""


class Stream(Protocol):
    """An answer that goes on. Until `begin` nothing leaves; what is put meanwhile follows the head then.

    Its outbox is bounded as every outbox is. `outbox.connection` is the stream: `close(code)` ends the answer,
    with a `bye` put into the outbox for codes ≥ 4000; before `begin` it only says so in `close_code`.
    """

    @property
    def outbox(self) -> Outbox:
        """What waits to leave with it."""

    @property
    def close_code(self) -> int:
        """Of the close that was asked for; 0: none was."""

    def begin(self, status: int, headers: Headers, application: Application | None = None) -> None:
        """Send the head. From then on the stream lives as long as its connection, whatever becomes of the task.

        Without an application, whoever puts ends it with `end`.
        """

    async def woken(self) -> None:
        """Wait until somebody calls `outbox.connection.wake` or `close`; at once, where that has happened."""

    async def room(self) -> None:
        """Wait until the outbox is within its bound; at once, where it is."""

    def end(self) -> None:
        """Nothing is put any more: the answer is whole."""


class Carrier(Protocol):
    """One request and its answer, as the edge carries them."""

    method: str
    target: str
    origin: str  # of the page that asks, which may; "": no page does
    arrival: Arrival
    on_lost: Callable[[], None]  # to be set: called when nobody waits for the answer any more

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Lower-case names; repeated ones joined by ", "."""

    @property
    def line(self) -> Line:
        """What it came over."""

    async def receive(self) -> bytes:
        """The next piece of the body; b"": that was all of it. Raises Refused where it is broken or too large."""

    def take_any_length(self) -> None:
        """The body is a stream: of all lengths, and its time counts from piece to piece."""

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer."""

    def stream(self, frame: Callable[[bytes], bytes]) -> Stream:
        """An answer that goes on, of what `frame` makes of each payload. Pure, and one for all of a kind."""


class Problem(Exception):
    """Why a request is not served: a status, and the `error` that is its body."""

    def __init__(
        self,
        status: int,
        name: str,
        message: str,
        *,
        field: str = "",
        retry_after_ms: int = 0,
        headers: Headers = (),
    ) -> None:
        super().__init__(status, name, message)
        self.status = status
        self.name = name
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.headers = tuple(headers)

    @classmethod
    def of(cls, refused: Refused) -> "Problem":
        """As the protocol says it."""
        status = STATUS.get(refused.name, 500)
        return cls(
            status, refused.name, refused.message, field=refused.field, retry_after_ms=refused.retry_after_ms
        )

    def record(self) -> dict[str, Any]:
        """The `error` in an answer: name, message, retry, and what else there is to say."""
        told: dict[str, Any] = {"name": self.name, "message": self.message, "retry": RETRY.get(self.name, "never")}
        if self.field:
            told["field"] = self.field
        if self.retry_after_ms:
            told["retry_after_ms"] = self.retry_after_ms
        return told

    def answer(self) -> "Answer":
        """What goes back."""
        headers = list(self.headers)
        if self.retry_after_ms or self.status == 503:
            headers.append(("Retry-After", str(max(ceil(self.retry_after_ms / 1000), 1))))
        if self.status == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        return Answer(self.status, msgspec.json.encode({"error": self.record()}), JSON, headers)


@attrs.frozen
class Answer:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Headers = ()


def page_headers(origin: str) -> list[tuple[str, str]]:
    """What an answer needs for a page of that origin to read it; the edge lets no page ask that may not."""
    if not origin:
        return []
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", _MAY_READ),
        ("Vary", "Origin"),
    ]


class Request:
    """One request, as an operation is given it."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.method = carrier.method
        self.arrival = carrier.arrival
        self.line = carrier.line
        self.headers = carrier.headers
        self.path, _, self._query = carrier.target.partition("?")  # still percent-encoded

    @cached_property
    def id(self) -> str:
        """Of its lines in the log: what `X-Request-Id` says, where that can be one, or a new one."""
        said = self.headers.get(b"x-request-id", b"").decode("latin-1")
        return said if _REQUEST_ID.fullmatch(said) else secrets.token_hex(8)

    @cached_property
    def query(self) -> Mapping[str, list[str]]:
        """The parameters of the query, each with its values in order. Raises Problem."""
        try:
            query = parse_qs(
                self._query,
                keep_blank_values=True,
                strict_parsing=bool(self._query),
                max_num_fields=MAX_PARAMETERS,
                errors="strict",
            )
        except ValueError as error:  # UnicodeDecodeError is one
            raise Problem(400, ErrorName.MALFORMED, f"the query cannot be read: {error}") from None
        if query.get(TOKEN) == [self.arrival.token]:
            del query[TOKEN]  # it was taken for who asks, and is no parameter
        return query

    @property
    def content_type(self) -> str:
        """Of the body, without parameters, in lower case; "" where it is not said."""
        return self.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()

    @property
    def is_of_another_site(self) -> bool:
        """Whether a page has caused it that its browser does not name: by an image, a frame, a link."""
        return b"origin" not in self.headers and self.headers.get(b"sec-fetch-site", b"none") not in OWN_SITE

    async def body(self, max_bytes: int = 0) -> bytes:
        """All of it, within max_http_body_bytes and this. Raises Problem."""
        if max_bytes and self.body_bytes(0) > max_bytes:
            raise _too_large(max_bytes)
        pieces, size = [], 0
        async with aclosing(self._pieces()) as coming:
            async for piece in coming:
                pieces.append(piece)
                size += len(piece)
                if max_bytes and size > max_bytes:
                    raise _too_large(max_bytes)
        return b"".join(pieces)

    def body_bytes(self, unknown: int) -> int:
        """As the head has it; a body in chunks does not say."""
        said = self.headers.get(b"content-length", b"")
        return int(said) if said.isdigit() else unknown

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, however long. Raises Problem."""
        self._carrier.take_any_length()
        return self._pieces()

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            while piece := await self._carrier.receive():
                yield piece
        except Refused as refused:
            status = 408 if refused.name is ErrorName.TIMEOUT else STATUS[refused.name]
            raise Problem(status, refused.name, refused.message) from None

    @property
    def page_headers(self) -> list[tuple[str, str]]:
        """What has to stand beside the other headers of an answer that goes on."""
        return page_headers(self._carrier.origin)

    def stream(self, frame: Callable[[bytes], bytes]) -> Stream:
        """An answer that goes on; the operation that has begun it returns None."""
        return self._carrier.stream(frame)


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, ErrorName.TOO_LARGE, f"the body of this request has at most {max_bytes} bytes")

"""Exchange: one HTTP request and its answer, as whoever serves it holds them (`http.exchange.Carrier`).

Knows its conversation and bytes; what is asked is not its business. The surprising decision: the body waits here
in pieces, and only when somebody takes them is more read from the socket. So a request that nobody has looked at
yet holds next to nothing, however much its client sends (S2).
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from types import MethodType
from typing import TYPE_CHECKING, Final

import trio
from triode_protocol.codec import Refused, encode
from triode_protocol.errors import RETRY, ErrorName

from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.edge.addresses import Seat
from triode_broker.edge.application import Feeding
from triode_broker.edge.head import Refusal, Request

if TYPE_CHECKING:
    from triode_broker.edge.conversation import Conversation

#: Of a body, taken in and not asked for yet; beyond, nothing more is read.
WAITING_BYTES: Final = 65_536
#: Pieces of a body that may be as small as they like; of the others there is one in so many bytes at most.
MOST_PIECES: Final = 1_024
PIECE_BYTES: Final = 64
LAST_CHUNK: Final = b"0\r\n\r\n"
_UNSAFE: Final = frozenset("\r\n\0")

Headers = Iterable[tuple[str, str]]
Frame = Callable[[bytes], bytes]


def head_of(status: int, headers: Headers, *, keeps: bool) -> bytes:
    """Status line and headers of an answer. Raises ValueError for a header that would be more than one."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    for name, value in headers:
        if not _UNSAFE.isdisjoint(name) or not _UNSAFE.isdisjoint(value):
            raise ValueError("a header has one line")
        lines.append(f"{name}: {value}")
    lines.append("Connection: keep-alive" if keeps else "Connection: close")
    lines.append("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1")


#: What a refusal is called in the `error` that is its body, by status; others: malformed.
_NAMES: Final = {
    403: ErrorName.FORBIDDEN,
    408: ErrorName.TIMEOUT,
    429: ErrorName.RATE_LIMITED,
    500: ErrorName.INTERNAL,
    503: ErrorName.UNAVAILABLE,
}


def refusal_answer(refusal: Refusal, method: str) -> bytes:
    """A whole answer that says why, as the services say it; the last of its connection."""
    name = (
        "not_found" if refusal.status == HTTPStatus.NOT_FOUND else _NAMES.get(refusal.status, ErrorName.MALFORMED)
    )
    error = {"name": name, "message": refusal.text, "retry": RETRY.get(name, "never")}
    body = b"" if method == "HEAD" else encode({"error": error})
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *refusal.headers]
    return head_of(refusal.status, headers, keeps=False) + body


def chunked(frame: Frame) -> Frame:
    """What makes a chunk (RFC 9112 section 7.1) of what `frame` makes; nothing of nothing, which would end it.

    One object for all streams of a kind, as by it the core tells who takes the same items. A method is of one
    stream, and is not kept: it would keep that.
    """
    return _chunked(frame) if not isinstance(frame, MethodType) else _chunked.__wrapped__(frame)


@lru_cache(maxsize=16)
def _chunked(frame: Frame) -> Frame:

    def frame_chunk(payload: bytes) -> bytes:
        piece = frame(payload)
        return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""

    return frame_chunk


class Exchange:
    """One request. Made by its conversation, which is told of the answer."""

    __slots__ = (
        "_conversation",
        "_failure",
        "_is_bounded",
        "_news",
        "_pieces",
        "arrival",
        "body_bytes",
        "headers",
        "is_answered",
        "is_http_1_0",
        "is_whole",
        "keeps",
        "method",
        "on_lost",
        "origin",
        "pieces",
        "seat",
        "since",
        "stream_",
        "target",
        "waiting_bytes",
    )

    def __init__(
        self, conversation: "Conversation", request: Request, arrival: Arrival, origin: str, now: float
    ) -> None:
        self._conversation = conversation
        self.method = request.method
        self.target = request.target
        self.headers = request.headers
        self.origin = origin
        self.arrival = arrival
        self.on_lost: Callable[[], None] = _nothing  # called when nobody waits for the answer any more
        self.is_http_1_0 = request.http_version == b"1.0"
        self.keeps = not self.is_http_1_0 and b"close" not in request.tokens(b"connection")
        self.is_whole = request.http is None  # all of its body has come
        self.is_answered = False
        self.stream_: Stream | None = None
        self.seat: Seat | None = None  # where its address is counted, where that is not its connection's
        self.since = now  # of its time for the body
        self.waiting_bytes = self.body_bytes = self.pieces = 0
        self._pieces: list[bytes] = []
        self._is_bounded = True
        self._failure: Refused | None = None
        self._news: trio.Event | None = None

    @property
    def line(self) -> "Conversation":
        """What it came over."""
        return self._conversation

    # Called by the conversation

    def take(self, piece: bytes, most_bytes: int, now: float) -> None:
        """A piece of the body has come."""
        self.body_bytes += len(piece)
        self.pieces += 1
        if not self._is_bounded:
            self.since = now
        elif self.body_bytes > most_bytes:
            self.fail(Refused(ErrorName.TOO_LARGE, f"the body of a request has at most {most_bytes} bytes"))
            return
        if self.pieces > MOST_PIECES + self.body_bytes // PIECE_BYTES:
            self.fail(Refused(ErrorName.MALFORMED, "the body comes in too many small pieces"))
            return
        self._pieces.append(piece)
        self.waiting_bytes += len(piece)
        self._tell()

    def finish(self) -> None:
        """The body is whole."""
        self.is_whole = True
        self._tell()

    def fail(self, refused: Refused) -> None:
        """The body is broken: the next who asks for a piece is told."""
        self._failure = self._failure or refused
        self._pieces.clear()
        self.waiting_bytes = 0
        self.keeps = False
        self._tell()

    @property
    def waits_for_body(self) -> bool:
        """Whether it is the client that is waited for."""
        return not self.is_whole and not self.waiting_bytes and self._failure is None

    @property
    def has_failed(self) -> bool:
        """Whether nothing more of its body is wanted."""
        return self._failure is not None

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    # Called by whoever serves it

    async def receive(self) -> bytes:
        """The next piece of the body; b"": that was all. Raises Refused."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self.is_whole:
                return b""
            self._conversation.invite()
            self._news = trio.Event()
            await self._news.wait()
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self.waiting_bytes = 0
        self._conversation.taken()
        return piece

    def take_any_length(self) -> None:
        """The body is a stream."""
        self._is_bounded = False

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer; what was streamed and not begun is forgotten."""
        if self.is_answered:
            return
        head = [*headers] if status == HTTPStatus.NO_CONTENT else [*headers, ("Content-Length", str(len(body)))]
        data = head_of(status, head, keeps=self._conversation.keeps(self))
        if self.method != "HEAD" and status != HTTPStatus.NO_CONTENT:
            data += body
        self._conversation.reply(self, data)

    def stream(self, frame: Frame) -> "Stream":
        """An answer that goes on."""
        self.stream_ = Stream(self, self._conversation, frame)
        return self.stream_


class StreamOutbox(Outbox):
    """Of an answer: its packets stay items of their own, as arrays are joined for WebSockets only."""

    __slots__ = ()

    def hold_payloads(self) -> None:
        """What `frame` makes of a packet is made of every packet."""


class Stream:
    """An answer that goes on (`http.exchange.Stream`): the connection of its outbox, as the core sees it."""

    def __init__(self, exchange: Exchange, conversation: "Conversation", frame: Frame) -> None:
        self._exchange = exchange
        self._conversation = conversation
        self._news = trio.Event()
        self._rooms = trio.Event()
        self.has_begun = False
        self.close_code = 0
        self.application: Feeding | None = None
        self.is_chunked = not exchange.is_http_1_0
        self.outbox = conversation.make_outbox(self, chunked(frame) if self.is_chunked else frame)
        self.outbox.is_blocked = True  # nothing leaves before the head

    # Called by whoever serves it

    def begin(self, status: int, headers: Headers, application: Feeding | None = None) -> None:
        """Send the head, and from now on what is put."""
        self.application = application
        head = [*headers, ("Transfer-Encoding", "chunked")] if self.is_chunked else headers
        data = head_of(status, head, keeps=False)
        if self._exchange.method == "HEAD":
            self._exchange.keeps = False
            self._conversation.reply(self._exchange, data)
            self.detach()
            return
        self._conversation.go_on_with(self, data)
        if self.close_code:
            self._conversation.close(self.close_code)

    async def woken(self) -> None:
        """Wait for `wake` or `close`."""
        await self._news.wait()
        self._news = trio.Event()

    async def room(self) -> None:
        """Wait until the outbox is within its bound."""
        while self.outbox.is_over and not self.outbox.is_closed:
            self._rooms = trio.Event()
            self.outbox.wants_room = True
            self._conversation.watch()
            await self._rooms.wait()

    def end(self) -> None:
        """The answer is whole."""
        self._conversation.end()

    # Called by the conversation

    def has_room(self, now_ms: int) -> None:
        """The outbox wants room and has some."""
        if self.application is not None:
            self.application.room(now_ms)
        else:
            self.outbox.wants_room = False
        self._rooms.set()

    def detach(self) -> None:
        """Nothing of it leaves any more."""
        self.outbox.is_closed = True
        self._rooms.set()
        self._news.set()
        application, self.application = self.application, None
        if application is not None:
            application.detach()

    def write(self) -> None:
        """Its outbox has something."""
        self._conversation.write()

    def fail(self, error: Exception) -> None:
        """That could not be written."""
        self._conversation.fail(error)

    # `core.interfaces.Connection`

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """End it when the turn ends, with a bye. Idempotent; only marks."""
        if not self.close_code:
            self.close_code = int(code)
            self._news.set()
            if self.has_begun:
                self._conversation.close(code, reconnect_after_ms)

    def drop(self) -> None:
        """Gone at once."""
        if self.has_begun:
            self._conversation.drop()
        else:
            self.close(1006)

    def wake(self) -> None:
        """Call `room` of whoever feeds it, or tell whoever has not begun it yet."""
        self._news.set()
        if self.has_begun:
            self._conversation.wake()


def _nothing() -> None:
    """Nobody serves it yet."""

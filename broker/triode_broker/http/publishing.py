"""Publishing by HTTP: one message, many in one body, or a stream of lines, each with an answer of its own.

Knows the packets and the visitor who sends them. The surprising decision: a message of a batch that is refused
refuses nothing else. It is what a client would see that publishes them one by one over a WebSocket, in this order.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
import trio
from msgspec import UNSET, Meta, Raw, UnsetType
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.hops import Hop
from triode_protocol.packets import (
    ABSENT,
    MAX_KEY_BYTES,
    MAX_MESSAGE_ID_BYTES,
    Number,
    Publish,
    Published,
)

from triode_broker.http.checking import check_body
from triode_broker.http.desk import Desk
from triode_broker.http.exchange import LINES, Answer, Problem, Request
from triode_broker.http.operations import Asked, Operation
from triode_broker.http.visitor import Question, Visitor

MAX_BATCH: Final = 1_000
#: Messages of one request on their way at a time; a session has at most max_inflight_publishes.
WINDOW: Final = 64
_KEY_HEADER: Final = b"idempotency-key"
_TRACE_CONTEXT: Final = ("traceparent", "tracestate")


class Message(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A message for a topic (SPEC 3.4): exactly one of `data` and `b64`, or neither to delete a `key`."""

    topic: str
    data: Annotated[Raw, Meta(description="Any JSON.")] = ABSENT
    b64: Annotated[str | UnsetType, Meta(description="Bytes, in base64.")] = UNSET
    message_id: Annotated[
        str, Meta(description=f"Up to {MAX_MESSAGE_ID_BYTES} bytes; the same again is a duplicate.")
    ] = ""
    key: Annotated[str, Meta(description=f"Of a compacted topic; up to {MAX_KEY_BYTES} bytes.")] = ""
    headers: dict[str, str] = {}
    ttl_ms: Number | UnsetType = UNSET
    deliver_at_ms: Annotated[Number | UnsetType, Meta(description="Ms since 1970.")] = UNSET

    def packet(self, message_id: str = "") -> Publish:
        """As a client would send it; this id, where it has none of its own."""
        return Publish(
            self.topic,
            self.data,
            message_id=self.message_id or message_id,
            key=self.key,
            headers=self.headers,
            b64=ABSENT if self.b64 is UNSET else Raw(msgspec.json.encode(self.b64)),
            ttl_ms=0 if self.ttl_ms is UNSET else self.ttl_ms,
            deliver_at_ms=0 if self.deliver_at_ms is UNSET else self.deliver_at_ms,
        )


class TracedMessage(Message, forbid_unknown_fields=True, omit_defaults=True):
    """The same, of which may be asked what becomes of it."""

    trace: Annotated[bool, Meta(description="Answer with its hops, after 5 s at most (SPEC 4.12).")] = False


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Messages, published in this order."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_BATCH)]


class _LooseBatch(msgspec.Struct, forbid_unknown_fields=True):
    """The same, as it is read: each message is judged alone."""

    messages: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_BATCH)]


class Receipt(msgspec.Struct, omit_defaults=True):
    """Where a message is, and the level that it has reached (SPEC 4.5)."""

    log: Annotated[str, Meta(description="Absent while it is delayed, as are pos and offset.")] = ""
    pos: int = 0
    offset: int = 0
    level: str = ""
    duplicate: bool = False
    delayed: bool = False
    hops: Annotated[list[Hop], Meta(description="With `trace`: what became of it.")] = []
    end: Annotated[str, Meta(description="With `trace`: complete, incomplete or truncated.")] = ""

    @classmethod
    def of(cls, published: Published) -> "Receipt":
        """As a packet says it."""
        return cls(
            published.log,
            published.pos,
            published.offset,
            published.level,
            published.duplicate,
            published.delayed,
        )


class Failure(msgspec.Struct, omit_defaults=True):
    """Why there is none (SPEC 5.1)."""

    name: str
    message: str
    retry: str
    field: str = ""
    retry_after_ms: int = 0


class Failed(msgspec.Struct):
    """In place of a receipt."""

    error: Failure


class Results(msgspec.Struct):
    """Of each message in its place, a receipt or an error."""

    results: list[Receipt | Failed]


async def publish(asked: Asked) -> Receipt:
    """One message. Raises Refused, Problem."""
    visitor = await asked.desk.visitor(asked.request)
    message: TracedMessage = asked.body
    packet = message.packet(_key_of(asked.request))
    _carry(_trace_context(asked.request), packet)
    if not message.trace:
        with asked.desk.turn():
            question = visitor.ask(packet)
            asked.desk.flush()
        return Receipt.of(await question.answer())
    with asked.desk.turn():
        trace = visitor.trace(packet)
        asked.desk.flush()
    receipt = Receipt.of(await trace.question.answer())
    receipt.hops, receipt.end = await trace.hops()
    return receipt


def _key_of(request: Request) -> str:
    """`Idempotency-Key`, which may stand in quotes (a structured field is what it wants to be)."""
    key = request.headers.get(_KEY_HEADER, b"").decode("latin-1")
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


def _trace_context(request: Request) -> dict[str, str]:
    """W3C's `traceparent` of the request, and what belongs to it, as headers of messages."""
    if b"traceparent" not in request.headers:
        return {}
    found = {name: request.headers.get(name.encode(), b"").decode("latin-1") for name in _TRACE_CONTEXT}
    return {name: value for name, value in found.items() if value}


def _carry(context: dict[str, str], packet: Publish) -> Publish:
    """A message that has none of its own gets it."""
    if context and "traceparent" not in packet.headers:
        packet.headers = {**packet.headers, **context}
    return packet


async def publish_batch(asked: Asked) -> Answer:
    """Many. Raises Refused, Problem where it is about all of them."""
    desk: Desk = asked.desk
    visitor = await desk.visitor(asked.request)
    results: list[bytes] = []
    window, context = _window(desk), _trace_context(asked.request)
    messages = asked.body.messages
    for start in range(0, len(messages), window):
        if start:
            await trio.lowlevel.checkpoint()  # a long batch is a turn for every window of it
        with desk.turn():
            questions = [_ask(visitor, bytes(raw), context) for raw in messages[start : start + window]]
            desk.flush()
        results += [await _result(question) for question in questions]
    is_whole = not any(result.startswith(_ERROR) for result in results)
    return Answer(200 if is_whole else 207, b'{"results":[%b]}' % b",".join(results))


async def publish_stream(asked: Asked) -> None:
    """Lines, for as long as the client likes. Raises Refused, Problem before the first."""
    desk: Desk = asked.desk
    request = asked.request
    visitor = await desk.visitor(request)
    lines = _lines(request.chunks(), desk.node.limits.max_packet_bytes)
    stream = request.stream(bytes)
    stream.begin(200, [("Content-Type", LINES), ("X-Accel-Buffering", "no"), *request.page_headers])
    desk.flush()
    to_writer, questions = trio.open_memory_channel[Question](_window(desk))
    context = _trace_context(request)

    async def write() -> None:
        async with questions:
            async for question in questions:
                stream.outbox.put(await _result(question) + b"\n")
                if not questions.statistics().current_buffer_used:
                    desk.flush()
                await stream.room()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        async with to_writer:
            async for line in lines:
                with desk.turn():
                    question = line if isinstance(line, Question) else _ask(visitor, line, context)
                await to_writer.send(question)
    stream.end()


async def _lines(chunks: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[bytes | Question]:
    """The lines that are not empty; an error in place of one that is too long, or where the body breaks off."""
    rest = b""
    is_skipping = False
    try:
        async for chunk in chunks:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if not is_skipping and line.strip():
                    yield line if len(line) <= most_bytes else _settled(_too_long(most_bytes))
                is_skipping = False
            if len(rest) > most_bytes:
                if not is_skipping:
                    yield _settled(_too_long(most_bytes))
                is_skipping, rest = True, b""
        if rest.strip() and not is_skipping:
            yield rest
    except Problem as problem:
        yield _settled(problem)


def _too_long(most_bytes: int) -> Problem:
    return Problem(413, ErrorName.TOO_LARGE, f"a line has at most {most_bytes} bytes")


def _settled(problem: Problem) -> Question:
    question = Question()
    question.settle(problem)
    return question


def _ask(visitor: Visitor, raw: bytes, context: dict[str, str]) -> Question:
    """Have one message published; what is wrong with it is its answer."""
    try:
        message: Message = check_body(raw, Message)
        return visitor.ask(_carry(context, message.packet()))
    except Problem as problem:
        return _settled(problem)


_ERROR: Final = b'{"error":'


async def _result(question: Question) -> bytes:
    """The receipt, or the error, as JSON."""
    try:
        return msgspec.json.encode(Receipt.of(await question.answer()))
    except Problem as problem:
        return msgspec.json.encode({"error": problem.record()})
    except Refused as refused:
        return msgspec.json.encode({"error": Problem.of(refused).record()})


def _window(desk: Desk) -> int:
    return min(WINDOW, desk.node.limits.max_inflight_publishes)


_ERRORS: Final = (
    ErrorName.MALFORMED,
    ErrorName.UNSUPPORTED,
    ErrorName.TOO_LARGE,
    ErrorName.BAD_TOPIC,
    ErrorName.FORBIDDEN,
    ErrorName.RATE_LIMITED,
    ErrorName.QUOTA,
    ErrorName.OVERLOADED,
    ErrorName.CONFLICT,
    ErrorName.UNAVAILABLE,
    ErrorName.TIMEOUT,
)
_TAG: Final = "messages"

PUBLISHING: Final[tuple[Operation, ...]] = (
    Operation(
        "POST",
        "/v1/publish",
        "Publish a message",
        _TAG,
        publish,
        body=TracedMessage,
        answer=Receipt,
        errors=_ERRORS,
        description="The answer comes when the message has reached the level of its topic: in memory, on disk. "
        "The header Idempotency-Key is its `message_id` where the body has none: the same again within the "
        "window gets the first answer, marked `duplicate`.",
    ),
    Operation(
        "POST",
        "/v1/publish/batch",
        "Publish messages",
        _TAG,
        publish_batch,
        body=_LooseBatch,
        said_body=Batch,
        answer=Results,
        errors=_ERRORS,
        description=f"Up to {MAX_BATCH}, in order, each with its own result: 200 where all were published, 207 "
        "where some were not. One that is refused refuses no other.",
    ),
    Operation(
        "POST",
        "/v1/publish/stream",
        "Publish a stream of messages",
        _TAG,
        publish_stream,
        said_body=Message,
        answer=Receipt | Failed,
        content_type=LINES,
        answer_type=LINES,
        errors=_ERRORS,
        description="One message a line, one answer a line, in order. A bad line gets an error, and the stream "
        f"goes on. Up to {WINDOW} are on their way: who reads no answers is not read from either.",
    ),
)

"""Events: `GET /v1/events`, subscriptions for whoever has HTTP and no client of ours (SPEC 12.1-12.3).

Knows the session and its packets; what becomes of them on the wire is event_frames.py's business. The surprising
decision: nothing here delivers. There is a real session with real subscriptions behind the answer, so resuming,
gaps, permission, back-pressure and revocation are those of every client (S13), and a refusal comes while the
answer can still be a plain error.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

import msgspec
import trio
from msgspec import UNSET, Meta, UnsetType
from triode_protocol.codec import encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import ClientInfo, Connect, Error
from triode_protocol.positions import from_text

from triode_broker.core.errors import Disconnect
from triode_broker.core.session import Session
from triode_broker.http.event_frames import EventFrames
from triode_broker.http.exchange import STATUS, Problem, Request, Stream
from triode_broker.http.operations import Asked, Operation
from triode_broker.http.visitor import problem_of_close

MAX_TOPICS: Final = 32  # of one stream
MAX_POSITION_LOGS: Final = 64  # SPEC 2.5
#: Until every subscription is answered: another node may be asked, and a disk.
PATIENCE_SECONDS: Final = 20.0
#: When an EventSource comes back that was told nothing else: another time for each.
RETRY_MS: Final = (1_000, 5_000)
EVENT_STREAM: Final = "text/event-stream"
HEADERS: Final = (("Content-Type", EVENT_STREAM), ("X-Accel-Buffering", "no"))  # nginx: pass it on as it comes


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What to subscribe to, and from where; as `subscribe` has it (SPEC 3.2)."""

    topic: Annotated[
        list[str], Meta(min_length=1, max_length=MAX_TOPICS, description="A filter; may be repeated.")
    ]
    from_: Annotated[
        Literal["new", "earliest", "last"] | UnsetType, Meta(description="Where to start; default new.")
    ] = msgspec.field(name="from", default=UNSET)
    last: Annotated[int, Meta(ge=1, description="Start with the newest so many; of topics without wildcard.")] | (
        UnsetType
    ) = UNSET
    since: Annotated[int, Meta(ge=1, description="Start at that time: ms since 1970.")] | UnsetType = UNSET
    after: Annotated[str, Meta(description="Resume behind this position: the id of an event.")] | UnsetType = UNSET
    last_event_id: Annotated[str, Meta(description="The same as the header Last-Event-ID.")] | UnsetType = UNSET
    overflow: Literal["replay", "gap", "conflate", "disconnect"] | UnsetType = UNSET
    presence: Annotated[str, Meta(description='watch, or {"state": …} in JSON.')] | UnsetType = UNSET


async def events(asked: Asked) -> None:
    """Subscribe, and answer with what comes, for as long as both sides like. Raises Problem."""
    request, query = asked.request, asked.query
    options = _options(query, request)
    changed = _Bell()
    frames = EventFrames(
        len(query.topic),
        is_snapshot=options.get("from") == "last",
        retry_ms=random.randint(*RETRY_MS),  # spreads returns, hides nothing
        changed=changed.ring,
    )
    stream = request.stream(frames.frame)
    session = Session(asked.desk.node, stream.outbox, request.arrival)
    entrance = _Entrance(asked, session, stream, frames, changed)
    is_begun = False
    try:
        with trio.move_on_after(PATIENCE_SECONDS) as patience:
            await entrance.enter()
            await entrance.subscribe([{"filter": topic, **options} for topic in query.topic])
        if patience.cancelled_caught:
            raise Problem(504, ErrorName.TIMEOUT, "it takes too long to subscribe", retry_after_ms=1_000)
        stream.begin(200, [*HEADERS, *request.page_headers], session)
        is_begun = True
    finally:
        if not is_begun:
            session.detach()
            asked.desk.flush()
    changed.then = lambda: _end(frames, stream)
    asked.desk.flush()


def _end(frames: EventFrames, stream: Stream) -> None:
    """Rights that changed have taken the last subscription: whoever comes back is told why."""
    if frames.is_over:
        stream.outbox.connection.close(CloseCode.REVOKED)


class _Bell:
    """Rung when something has changed; heard by the task that waits, and later by a function."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self.then: Callable[[], None] = self._event.set

    def ring(self) -> None:
        """Something has changed."""
        self.then()

    async def heard(self) -> None:
        """Wait for it."""
        await self._event.wait()
        self._event = trio.Event()
        self.then = self._event.set


class _Entrance:
    """The part of a stream's life at which it can still be refused."""

    def __init__(self, asked: Asked, session: Session, stream: Stream, frames: EventFrames, bell: _Bell) -> None:
        self._desk = asked.desk
        self._session = session
        self._stream = stream
        self._frames = frames
        self._bell = bell

    async def enter(self) -> None:
        """Be let in, when its turn comes. Raises Problem."""
        self._say(Connect(client=ClientInfo("events"), resume=True))
        while not self._session.is_connected:
            self._check()
            await self._news()
            self._call(self._session.room)

    async def subscribe(self, subscriptions: list[dict[str, Any]]) -> None:
        """Until each is answered. Raises Problem for the first that is refused."""
        numbered = enumerate(subscriptions, 1)
        self._say([{"type": "subscribe", "id": sub, "sub": sub, **options} for sub, options in numbered])
        while not self._frames.is_answered:
            self._check()
            await self._news()
        self._check()

    async def _news(self) -> None:
        """Wait until something was answered, or the stream was woken or closed."""
        async with trio.open_nursery() as nursery:
            for wait in (self._bell.heard, self._stream.woken):
                nursery.start_soon(_first, wait, nursery.cancel_scope)

    def _say(self, packets: Any) -> None:
        self._call(self._session.receive_text, encode(packets).decode())

    def _call(self, serve: Callable[..., None], *values: Any) -> None:
        try:
            serve(*values, self._desk.now_ms())
        except Disconnect as end:
            self._stream.outbox.connection.close(end.code, end.reconnect_after_ms)
        finally:
            self._desk.flush()

    def _check(self) -> None:
        if self._frames.refused:
            raise _problem(self._frames.refused[0])
        if code := self._stream.close_code:
            raise problem_of_close(code)


async def _first(wait: Callable[[], Awaitable[None]], others: trio.CancelScope) -> None:
    await wait()
    others.cancel()


def _problem(error: Error) -> Problem:
    status = STATUS.get(error.name, 500)
    field = "topic" if error.field == "filter" else error.field
    return Problem(status, error.name, error.message, field=field, retry_after_ms=error.retry_after_ms)


def _options(query: EventsQuery, request: Request) -> dict[str, Any]:
    """The fields of `subscribe`, the same for every topic. Raises Problem."""
    options: dict[str, Any] = {}
    starts = {"from": query.from_, "last": query.last, "since": query.since, "after": query.after}
    given = [name for name, value in starts.items() if value is not UNSET]
    if len(given) > 1:
        raise _malformed(given[1], f"{' and '.join(given)} exclude each other")
    if text := _last_event_id(query, request):
        options["after"] = _position(text, "last_event_id")  # it has begun already: where does not matter any more
    elif query.after is not UNSET:
        options["after"] = _position(query.after, "after")
    elif query.from_ is not UNSET:
        options["from"] = query.from_
    elif given:
        options["from"] = {given[0]: starts[given[0]]}
    if query.overflow is not UNSET:
        options["overflow"] = query.overflow
    if query.presence is not UNSET:
        options["presence"] = _presence(query.presence)
    return options


def _last_event_id(query: EventsQuery, request: Request) -> str:
    """What an EventSource says itself counts before what stood in its URL from the beginning."""
    header = request.headers.get(b"last-event-id", b"").decode("latin-1")
    return header or ("" if query.last_event_id is UNSET else query.last_event_id)


def _position(text: str, field: str) -> dict[str, int]:
    try:
        position = from_text(text)
    except ValueError as error:
        raise _malformed(field, str(error)) from None
    if len(position) > MAX_POSITION_LOGS:
        raise _malformed(field, f"not a position: more than {MAX_POSITION_LOGS} logs")
    return position


def _presence(text: str) -> object:
    if text == "watch":
        return text
    try:
        return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(text)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _malformed("presence", 'presence is watch, or {"state": …} in JSON') from None


def _malformed(field: str, message: str) -> Problem:
    return Problem(400, ErrorName.MALFORMED, message, field=field)


OPERATIONS: Final = (
    Operation(
        "GET",
        "/v1/events",
        "Subscribe, and receive messages as server-sent events",
        "messages",
        events,
        query=EventsQuery,
        answer_type=EVENT_STREAM,
        errors=("bad_topic", "forbidden", "quota", "overloaded", "timeout"),
        description="The stream goes on until either side ends it. The id of an event is the position up to it: "
        "an EventSource that comes back sends it as Last-Event-ID, and nothing is lost without a gap event.",
    ),
)

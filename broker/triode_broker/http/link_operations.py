"""`POST /v1/link` and `POST /v1/link/{name}`: where the texts of a link come in (SPEC 12.4).

Knows requests and the links of this node; who the other nodes are it is told. The surprising
decision: whoever spreads requests over nodes need not know about links. The name of a link ends with the node that
has it, and another node passes the text on; whether it belongs to the link is judged where the link is.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.config import Limits
from triode_broker.core.session import Session
from triode_broker.http.events import EVENT_STREAM, HEADERS
from triode_broker.http.exchange import JSON, NOT_FOUND, Answer, Problem, Request
from triode_broker.http.links import Busy, Gone, Links, Misplaced, Owner, link_frame
from triode_broker.http.operations import Asked, Operation

MAX_NAME_CHARACTERS: Final = 160
#: What other nodes pass a text on by; and ask before a long one is read.
TAKE: Final = "link.take"
KNOW: Final = "link.know"
DONE: Final = Answer(204, content_type="")
BUSY_MS: Final = 100


class LinkQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which text it is."""

    n: int


class Passed(msgspec.Struct, forbid_unknown_fields=True):
    """One text, from the node that it came to, to the one that has its link."""

    name: str
    origin: str
    credential: str  # a digest
    n: int
    text: str


async def open_link(asked: Asked) -> None:
    """A session, and the stream of what it says. Raises Problem."""
    desk, request = asked.desk, asked.request
    links: Links = desk.links
    text = await _text_of_stranger(asked, links.node.limits)
    stream = request.stream(link_frame)
    session = Session(links.node, stream.outbox, request.arrival)
    link = links.open(_owner(request), session, stream)
    is_begun = False
    try:
        stream.begin(200, [*HEADERS, *request.page_headers], link)
        is_begun = True
    finally:
        if not is_begun:
            link.detach()
    if link.name in links.by_name:  # else its client is gone already
        link.serve(text)
        await link.enter()


async def send(asked: Asked) -> Answer:
    """One more text. Raises Problem, Refused."""
    desk, request = asked.desk, asked.request
    links: Links = desk.links
    name = asked.path["name"]
    if len(name) > MAX_NAME_CHARACTERS:
        raise _gone()
    limits, owner, number = links.node.limits, _owner(request), asked.query.n
    node = name.partition(".")[2]
    if name in links.by_name or node == links.node.name or desk.elsewhere is None:
        if not links.knows(name, owner):  # S2: nobody's body is read before it is known whose
            raise _gone()
        await _take(links, name, owner, number, await _text(request, limits.max_frame_bytes), waits=True)
        return DONE
    passed = Passed(name, owner.origin, owner.credential, number, "")
    try:
        if request.body_bytes(limits.max_frame_bytes) > limits.max_before_connect_bytes:
            await desk.elsewhere.ask(node, KNOW, msgspec.to_builtins(passed))
            passed.text = await _text(request, limits.max_frame_bytes)
        else:
            passed.text = await _text_of_stranger(asked, limits)
        await desk.elsewhere.ask(node, TAKE, msgspec.to_builtins(passed))
    except ValueError:
        raise _gone() from None
    return DONE


async def know(links: Links, parameters: Mapping[str, Any]) -> object:
    """Whether there is that link here, and it is theirs. Raises ValueError: it is not."""
    passed = msgspec.convert(parameters, Passed)
    if not links.knows(passed.name, Owner(passed.origin, passed.credential)):
        raise ValueError("there is no such link here")
    return {}


async def take(links: Links, parameters: Mapping[str, Any]) -> object:
    """A text that has come to another node. Raises Refused, or ValueError: there is no such link here.

    It never waits: as few calls of a node are answered at a time, a few links that nobody reads would keep all
    others out.
    """
    passed = msgspec.convert(parameters, Passed)
    try:
        owner = Owner(passed.origin, passed.credential)
        await _take(links, passed.name, owner, passed.n, passed.text, waits=False)
    except Problem as problem:
        if problem.name in (ErrorName.OVERLOADED, ErrorName.CONFLICT):
            raise Refused(
                ErrorName(problem.name), problem.message, retry_after_ms=problem.retry_after_ms
            ) from None
        raise ValueError(problem.message) from None
    return {}


async def _take(links: Links, name: str, owner: Owner, number: int, text: str, *, waits: bool) -> None:
    try:
        await links.take(name, owner, number, text, waits=waits)
    except Gone:
        raise _gone() from None
    except Misplaced:
        message = "a text before this one is missing: the link has ended"
        raise Problem(409, ErrorName.CONFLICT, message, field="n") from None
    except Busy:
        message = "this link takes nothing more in now: send this again"
        raise Problem(503, ErrorName.OVERLOADED, message, retry_after_ms=BUSY_MS) from None


def _gone() -> Problem:
    return Problem(404, NOT_FOUND, "there is no such link, or not any more: open another one")


def _owner(request: Request) -> Owner:
    arrival = request.arrival
    origin = request.headers.get(b"origin", b"").decode("latin-1")
    return Owner.of(origin, arrival.token, arrival.certificate)


async def _text_of_stranger(asked: Asked, limits: Limits) -> str:
    """What could be anybody's: it is short, and has the time of a handshake (S2, S6)."""
    with asked.aside(), trio.move_on_after(limits.connect_timeout_ms / 1000):
        return await _text(asked.request, limits.max_before_connect_bytes)
    raise Problem(408, ErrorName.TIMEOUT, f"the text has not come within {limits.connect_timeout_ms} ms")


async def _text(request: Request, max_bytes: int) -> str:
    body = await request.body(max_bytes)
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Problem(400, ErrorName.MALFORMED, "a text is UTF-8") from None


OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/link",
        "Open a session over HTTP, for clients where no WebSocket opens",
        "links",
        open_link,
        answer_type=EVENT_STREAM,
        errors=(ErrorName.TOO_LARGE, ErrorName.OVERLOADED),
        description="The body is what the first WebSocket message would be: `connect`, and what follows it. The "
        "answer brings an event `link` with the name to send more to, then every packet as an event, and at the "
        "end an event `close` with the close code.",
    ),
    Operation(
        "POST",
        "/v1/link/{name}",
        "Send packets on a link",
        "links",
        send,
        query=LinkQuery,
        status=204,
        errors=(NOT_FOUND, ErrorName.CONFLICT, ErrorName.TOO_LARGE, ErrorName.OVERLOADED),
        description="The body is what a WebSocket message would be: a packet, or an array of packets. `n` counts "
        f"these requests from 1. The body's type is {JSON}.",
    ),
)

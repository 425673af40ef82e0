"""Reading by HTTP: what a topic still holds, and who is on it.

Knows the packets that ask. The surprising decision: messages go out as the bytes in which every subscriber got
them: a page of history is cut from the log, not put together again.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType
from triode_protocol.errors import ErrorName
from triode_protocol.packets import History, HistoryRequest, Number, Presence, PresenceRequest
from triode_protocol.positions import from_text

from triode_broker.http.checking import malformed
from triode_broker.http.operations import Asked, Operation

_POSITION: Final = "A position: log.pos, several joined by ~."


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which messages; the newest, unless `after` says where to begin."""

    topic: str
    limit: Annotated[Number, Meta(description="At most so many.")] = 100
    last: Annotated[Number | UnsetType, Meta(description="The newest so many.")] = UNSET
    after: Annotated[str | UnsetType, Meta(description=f"Those behind it. {_POSITION}")] = UNSET
    before: Annotated[str | UnsetType, Meta(description=f"Those in front of it. {_POSITION}")] = UNSET


class StoredMessage(msgspec.Struct, omit_defaults=True):
    """A message as it is delivered (SPEC 4.3)."""

    type: str
    topic: str
    offset: int
    log: str
    pos: int
    ts: int
    user: str = ""
    data: Any = None
    b64: str = ""
    key: str = ""
    headers: dict[str, str] = {}
    message_id: str = ""


class HistoryPage(msgspec.Struct):
    """Messages, oldest first; whether they are all that was asked for; the position behind them (SPEC 4.7)."""

    messages: list[StoredMessage]
    complete: bool
    after: dict[str, int]


class Member(msgspec.Struct, omit_defaults=True):
    """Who is on a topic (SPEC 10.1)."""

    id: str
    state: Any
    user: str = ""


class Members(msgspec.Struct):
    """Who is on a topic, and whether every node was heard (SPEC 10.4)."""

    topic: str
    members: list[Member]
    complete: bool


class PresenceQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Of which topic."""

    topic: str


async def history(asked: Asked) -> Any:
    """A page of the past. Raises Refused, Problem."""
    query: HistoryQuery = asked.query
    packet = HistoryRequest(query.topic, limit=query.limit)
    if query.last is not UNSET:
        packet.last = query.last
    packet.after = _position(query.after, "after")
    packet.before = _position(query.before, "before")
    answer: History = await _ask(asked, packet)
    return {"messages": answer.messages, "complete": answer.complete, "after": answer.after}


async def presence(asked: Asked) -> Any:
    """Who is there. Raises Refused, Problem."""
    answer: Presence = await _ask(asked, PresenceRequest(asked.query.topic))
    return {"topic": answer.topic, "members": answer.members, "complete": answer.complete}


async def _ask(asked: Asked, packet: HistoryRequest | PresenceRequest) -> Any:
    visitor = await asked.desk.visitor(asked.request)
    question = visitor.ask(packet)
    asked.desk.flush()
    return await question.answer()


def _position(text: str | UnsetType, field: str) -> dict[str, int] | UnsetType:
    if text is UNSET:
        return UNSET
    try:
        return from_text(text)
    except ValueError as error:
        raise malformed(str(error), field) from None


_ERRORS: Final = (ErrorName.BAD_TOPIC, ErrorName.FORBIDDEN, ErrorName.RATE_LIMITED, ErrorName.INFLIGHT)
_TAG: Final = "messages"

READING: Final[tuple[Operation, ...]] = (
    Operation(
        "GET",
        "/v1/history",
        "What a topic still holds",
        _TAG,
        history,
        query=HistoryQuery,
        answer=HistoryPage,
        errors=(*_ERRORS, ErrorName.MALFORMED, ErrorName.UNAVAILABLE, ErrorName.TIMEOUT),
    ),
    Operation(
        "GET",
        "/v1/presence",
        "Who is on a topic",
        _TAG,
        presence,
        query=PresenceQuery,
        answer=Members,
        errors=_ERRORS,
    ),
)

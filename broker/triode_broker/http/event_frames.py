"""Event frames: what a session says, as server-sent events for whoever has no client of ours (SPEC 12.2, 12.3).

Pure: packets in, bytes of an event stream out; one per stream, as each event names the position up to it. The
surprising decision: the rules of a client (SPEC 4.3) are kept here, on the server. A page with an EventSource
keeps none: it has one string, the id of the last event, and gets from it what a client gets from its positions.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import msgspec
from msgspec import Raw
from triode_protocol.packets import Error

NOTHING: Final = b""
_COMMENT: Final = b":\n\n"  # in place of what says nothing to a page: every packet is some bytes
_ANYTHING: Final = Raw(b"")
#: Raw line ends: in JSON they stand between its words only, where a blank says the same.
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


class _Seen(msgspec.Struct, gc=False):
    """What is looked at of a packet."""

    type: str
    sub: int = 0
    log: str = ""
    pos: int = 0
    after: dict[str, int] = {}
    at: dict[str, int] = {}
    live: bool = False
    unavailable: list[str] = []
    message: Any = _ANYTHING
    reconnect_after_ms: int = 0


class _Delivery(msgspec.Struct, gc=False):
    message: Raw


class _Place(msgspec.Struct, gc=False):
    log: str
    pos: int


_seen: Final = msgspec.json.Decoder(_Seen)
_delivery: Final = msgspec.json.Decoder(_Delivery)
_place: Final = msgspec.json.Decoder(_Place)
_error: Final = msgspec.json.Decoder(Error)


def one_line(payload: bytes) -> bytes:
    """A packet as the data of one event: without line ends, which would end it (SPEC 12.2.2)."""
    return payload.translate(_LINE_ENDS) if b"\n" in payload or b"\r" in payload else payload


def _shard(log: str) -> str:
    """What SPEC 4.2.4 names a log by: the word before the dash."""
    return log.partition("-")[0]


@attrs.define(eq=False)
class _Standing:
    """One subscription, as a client would keep it (SPEC 4.10)."""

    is_snapshot: bool  # until its first caught_up it has no position that could be resumed from (R7)
    position: dict[str, int] | None = None  # None: not answered yet
    is_live: bool = False
    held: tuple[str, ...] = ()  # shards that are not reached: it goes on behind its place there

    def replace(self, position: Mapping[str, int]) -> None:
        """R1. A shard that has not moved may still be out of reach; if it is not, the next ping says so."""
        before, self.position = self.position or {}, dict(position)
        moved = {_shard(log) for log, pos in position.items() if before.get(log) != pos}
        self.held = tuple(shard for shard in self.held if shard not in moved)

    def reach(self, log: str, pos: int) -> None:
        """R4: a live one has had everything of this log up to there."""
        if self.is_live and self.position is not None and log in self.position:
            self.position[log] = max(self.position[log], pos)
            self.held = tuple(shard for shard in self.held if shard != _shard(log))

    def may_move(self, log: str) -> bool:
        """Whether what comes live of a log has come to it, too."""
        return self.is_live and _shard(log) not in self.held


class EventFrames:
    """Makes events of packets, for one stream with `count` subscriptions, numbered from 1.

    `changed` is called when one of them was answered, or is over. `retry_ms`: how long an EventSource waits until
    it comes back, where nobody says more.
    """

    def __init__(self, count: int, *, is_snapshot: bool, retry_ms: int, changed: Callable[[], None]) -> None:
        self._standings = {number: _Standing(is_snapshot) for number in range(1, count + 1)}
        self._changed = changed
        self._retry_ms = retry_ms
        self._parts: dict[str, str] | None = None  # of the text of the position, by log and in their order
        self.refused: list[Error] = []  # before the stream has begun: why it will not

    @property
    def is_answered(self) -> bool:
        """Whether every subscription has its position."""
        return all(standing.position is not None for standing in self._standings.values())

    @property
    def is_over(self) -> bool:
        """Whether no subscription is left."""
        return not self._standings

    def frame(self, payload: bytes) -> bytes:
        """The event of a packet; a comment where it says nothing to a page."""
        seen = _seen.decode(payload)
        return _FRAMES.get(seen.type, EventFrames._event)(self, seen, payload)

    # Live, and from the past

    def _message(self, seen: _Seen, payload: bytes) -> bytes:
        """R3, R4: once, to whichever of the live subscriptions it is new."""
        log, pos = seen.log, seen.pos
        is_new = False
        for standing in self._standings.values():
            position = standing.position
            if position is not None and position.get(log, -1) < pos and standing.may_move(log):
                is_new = True
                position[log] = pos
        if not is_new:
            return _COMMENT
        return self._moved(log) + b"data: " + one_line(payload) + b"\n\n"

    def _delivered(self, seen: _Seen, payload: bytes) -> bytes:
        """R2: what is around the message says nothing that its page could use."""
        message = bytes(_delivery.decode(payload).message)
        place = _place.decode(message)
        standing = self._standings.get(seen.sub)
        if standing is None or standing.position is None:
            return _COMMENT
        position = standing.position
        position[place.log] = max(position.get(place.log, 0), place.pos)
        return self._moved(place.log) + b"data: " + one_line(message) + b"\n\n"

    # What is said of subscriptions

    def _subscribed(self, seen: _Seen, payload: bytes) -> bytes:
        standing = self._standings[seen.sub]
        standing.position = dict(seen.after)
        standing.is_live = seen.live
        standing.held = tuple(seen.unavailable)
        if seen.live:
            standing.is_snapshot = False
        self._parts = None
        event = self._event(seen, payload)
        self._changed()
        return event

    def _stated(self, seen: _Seen, payload: bytes) -> bytes:
        """R1: catching_up, caught_up and gap say where it stands."""
        standing = self._standings.get(seen.sub)
        if standing is not None:
            standing.replace(seen.after)
            if seen.type != "gap":
                standing.is_live = seen.type == "caught_up"
                standing.is_snapshot = standing.is_snapshot and not standing.is_live
            self._parts = None
        return self._event(seen, payload)

    def _unsubscribed(self, seen: _Seen, payload: bytes) -> bytes:
        """It was taken away: what it had not had must not hold back the others."""
        self._standings.pop(seen.sub, None)
        self._parts = None
        self._changed()
        return self._event(seen, payload)

    def _refused(self, seen: _Seen, payload: bytes) -> bytes:
        self.refused.append(_error.decode(payload))
        self._changed()
        return self._event(seen, payload)

    # Of the connection

    def _connected(self, seen: _Seen, payload: bytes) -> bytes:
        self._changed()
        return b"retry: %d\n\n" % self._retry_ms

    def _bye(self, seen: _Seen, payload: bytes) -> bytes:
        """When to come back is another time for each, so that they do not come all at once (SPEC 5.3)."""
        wait_ms = seen.reconnect_after_ms or self._retry_ms
        return b"retry: %d\nevent: bye\ndata: %b\n\n" % (wait_ms, one_line(payload))

    def _ping(self, seen: _Seen, payload: bytes) -> bytes:
        """R4: a sign of life; an id without data moves the last one, and no event comes of it."""
        for standing in self._standings.values():
            for log, pos in seen.at.items():
                standing.reach(log, pos)
        self._parts = None
        return b":\n" + self._id() + b"\n"

    def _event(self, seen: _Seen, payload: bytes) -> bytes:
        return b"%bevent: %b\ndata: %b\n\n" % (self._id(), seen.type.encode(), one_line(payload))

    # The position

    def _moved(self, log: str) -> bytes:
        """The id, of which only one part may be another."""
        if self._parts is not None:
            if log not in self._parts:
                self._parts = None
            else:
                self._parts[log] = f"{log}.{self._least(log)}"
        return self._id()

    def _least(self, log: str) -> int:
        return min([one.position[log] for one in self._standings.values() if one.position and log in one.position])

    def _id(self) -> bytes:
        """Up to where every subscription has had everything; nothing while one of them cannot be resumed."""
        standings = self._standings.values()
        if not standings or any(one.position is None or one.is_snapshot for one in standings):
            return NOTHING
        if self._parts is None:
            logs = sorted({log for one in standings for log in one.position or ()})
            self._parts = {log: f"{log}.{self._least(log)}" for log in logs}
        return b"id: " + "~".join(self._parts.values()).encode() + b"\n"


_FRAMES: Final[dict[str, Callable[[EventFrames, _Seen, bytes], bytes]]] = {
    "message": EventFrames._message,
    "delivery": EventFrames._delivered,
    "subscribed": EventFrames._subscribed,
    "catching_up": EventFrames._stated,
    "caught_up": EventFrames._stated,
    "gap": EventFrames._stated,
    "unsubscribed": EventFrames._unsubscribed,
    "error": EventFrames._refused,
    "connected": EventFrames._connected,
    "bye": EventFrames._bye,
    "ping": EventFrames._ping,
}

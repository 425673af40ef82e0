"""Streams: one subscription as its client has to keep it over all its connections (SPEC 4.3, R1 to R7).

Fed with packets; tells what was handed to the application and what moved the position, in order. Used by the
recording clients to know where to resume, and by the checker to know what they were told.
"""

from typing import Literal

from attrs import define, field, frozen
from triode_protocol.topics import matches

from tests.history.events import Packet

Position = dict[str, int]


@frozen
class Seen:
    """A message, wherever it was seen."""

    t: int
    topic: str
    log: str
    pos: int
    offset: int
    message_id: str
    content: str
    key: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """Where it stands."""
        return self.log, self.pos


def seen(t: int, message: Packet) -> Seen:
    """A `message` packet, or the one in a `delivery`."""
    place = message["log"], message["pos"], message["offset"]
    return Seen(
        t, message["topic"], *place, message.get("message_id", ""), content_of(message), message.get("key", "")
    )


def content_of(packet: Packet) -> str:
    """The payload of a `publish` or `message`, for comparison."""
    return f"data {packet['data']!r}" if "data" in packet else f"b64 {packet.get('b64')}"


@frozen
class Step:
    """Something a subscription was told."""

    t: int
    line: int
    kind: Literal["subscribed", "moved", "gap", "handed", "lost"]
    before: Position  # its position until then
    after: Position
    message: Seen | None = None  # of what was handed over
    is_delivery: bool = False  # else a live `message`
    is_snapshot: bool = False
    prev: int = -1
    attempt: int = 0
    asked: Position | None = None  # at `subscribed`: what it had asked to resume after
    reason: str = ""
    is_live: bool = False  # at `subscribed` and `moved`: live from then on
    is_past: bool = False  # of a subscribe that asked for the past, and needs the right to it
    is_filtered: bool = False  # at `subscribed`: some topics may be kept from it without a word


@define
class Stream:
    """One subscription of one client."""

    who: str
    sub: int
    filter: str
    name: str = ""  # of the durable subscription or group: then it is acknowledged
    position: Position = field(factory=dict)
    is_live: bool = False
    is_snapshot: bool = False  # began with "last" and has not been caught up
    was_subscribed: bool = False
    is_past: bool = False  # as it was asked for on this connection
    steps: list[Step] = field(factory=list)
    line: int = 0
    _asked: Position | None = None

    def sent(self, line: int, subscribe: Packet) -> None:
        """It was asked for, on a new connection."""
        self.line = line
        self.is_live = False
        self._asked = subscribe.get("after")
        self.is_snapshot = subscribe.get("from") == "last"
        self.is_past = subscribe.get("from", "new") != "new"

    def lost(self, t: int) -> None:
        """Its connection is gone."""
        self.is_live = False
        self._step(t, "lost", self.position)

    def got(self, t: int, packet: Packet) -> None:
        """Any packet of its connection."""
        kind = packet["type"]
        if kind == "message":
            self._live_message(t, packet)
        elif kind == "ping":
            self._bookmark(t, packet.get("at", {}))
        elif packet.get("sub") != self.sub:  # R5
            return
        elif kind == "delivery":  # R2: never filtered by position
            details = {"prev": packet.get("prev", -1), "attempt": packet.get("attempt", 0)}
            self._hand_over(seen(t, packet["message"]), is_delivery=True, **details)
        elif kind in ("subscribed", "catching_up", "caught_up", "gap"):
            self._state(t, packet)
        elif kind == "unsubscribed":
            self.lost(t)

    def _live_message(self, t: int, packet: Packet) -> None:
        """R3."""
        is_new = self.position.get(packet["log"], 0) < packet["pos"]
        if self.is_live and not self.name and is_new and matches(self.filter, packet["topic"]):
            self._hand_over(seen(t, packet))

    def _hand_over(self, message: Seen, *, is_delivery: bool = False, prev: int = -1, attempt: int = 0) -> None:
        """R4."""
        top = max(self.position.get(message.log, 0), message.pos)
        after = self.position | {message.log: top}
        self.steps.append(
            Step(
                message.t,
                self.line,
                "handed",
                self.position,
                after,
                message,
                is_delivery,
                self.is_snapshot,
                prev,
                attempt,
                is_past=self.is_past,
            )
        )
        self.position = after

    def _state(self, t: int, packet: Packet) -> None:
        """R1: `after` replaces the position."""
        kind, after = packet["type"], dict(packet["after"])
        if kind == "gap":
            self._step(t, "gap", after, reason=packet["reason"])
            return
        self.is_live = packet["live"] if kind == "subscribed" else kind == "caught_up"
        if self.is_live:
            self.is_snapshot = False
        if kind == "subscribed":
            self.was_subscribed = True
            is_filtered = packet.get("filtered", False)
            self._step(t, "subscribed", after, asked=self._asked, is_live=self.is_live, is_filtered=is_filtered)
        else:
            self._step(t, "moved", after, is_live=self.is_live)
        self.is_past = self.is_past and not self.is_live

    def _bookmark(self, t: int, at: Position) -> None:
        """SPEC 4.8.1."""
        if self.is_live:
            after = {log: max(pos, at.get(log, 0)) for log, pos in self.position.items()}
            self._step(t, "moved", after, is_live=True)

    def _step(
        self,
        t: int,
        kind: Literal["subscribed", "moved", "gap", "lost"],
        after: Position,
        *,
        asked: Position | None = None,
        reason: str = "",
        is_live: bool = False,
        is_filtered: bool = False,
    ) -> None:
        step = Step(
            t,
            self.line,
            kind,
            self.position,
            after,
            asked=asked,
            reason=reason,
            is_live=is_live,
            is_past=self.is_past,
            is_filtered=is_filtered,
        )
        self.steps.append(step)
        self.position = after

    def again(self, start: Packet) -> Packet:
        """How to ask for it on the next connection (R7); `start` is how it was asked for first."""
        is_open = self.was_subscribed and not self.is_snapshot and not self.name
        return {"after": self.position} if is_open else start

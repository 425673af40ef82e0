"""What the client hands to programs: messages, gaps, places, changes of state. Values only.

Knows the packets of the protocol, no session. The surprising decision: `Message` is written by hand around the
decoded packet instead of as an attrs class: it is made for every message received, and copying twelve fields costs
three times what everything else about it does.
"""

import binascii
from enum import StrEnum
from typing import Any, ClassVar, Final

import msgspec
from attrs import field, frozen
from triode_protocol import packets
from triode_protocol.hops import Hop

_UNREAD: Final = object()
_NOTHING: Final = msgspec.Raw(b"")
_OVERHEAD_BYTES: Final = 512

Position = dict[str, int]
"""Where something stands: the last `pos` of each log. Plain JSON, so that it can be stored and passed on."""


class Message:
    """One message of a topic. Shared by all subscriptions that got it: treat it as read-only."""

    __slots__ = ("_data", "_packet", "attempt", "is_binary", "raw", "size")

    def __init__(self, packet: packets.Message, attempt: int = 0) -> None:
        self._packet = packet
        self._data: Any = _UNREAD
        #: Which delivery of it this is, from 1, where it came from the log; 0 for a live one.
        self.attempt = attempt
        #: The payload as the JSON text it was published as (UTF-8); for binary payloads the JSON string of base64.
        self.raw = bytes(packet.data)  # copied: a Raw keeps the whole frame alive
        packet.data = _NOTHING
        #: Whether it was published as bytes.
        self.is_binary = False
        if not self.raw and packet.b64:
            self.raw = bytes(packet.b64)
            packet.b64 = _NOTHING
            self.is_binary = True
        texts = len(packet.topic) + len(packet.key) + len(packet.message_id) + len(packet.user)
        #: What it takes in memory, about, in bytes.
        self.size = len(self.raw) + texts + _OVERHEAD_BYTES
        if packet.headers:
            self.size += sum(len(name) + len(value) for name, value in packet.headers.items())

    @property
    def data(self) -> Any:
        """The payload: the decoded JSON value, `bytes` for a binary one, None for none. Decoded at first use.

        Raises ValueError where a publisher got something past the broker that is no JSON or base64 after all.
        """
        if self._data is _UNREAD:
            self._data = self._decode()
        return self._data

    def _decode(self) -> Any:
        if not self.raw:
            return None
        if not self.is_binary:
            return msgspec.json.decode(self.raw)
        return binascii.a2b_base64(msgspec.json.decode(self.raw, type=str), strict_mode=True)

    @property
    def topic(self) -> str:
        """Where it was published."""
        return self._packet.topic

    @property
    def offset(self) -> int:
        """Its number in its topic, from 1."""
        return self._packet.offset

    @property
    def log(self) -> str:
        """The life of the sequence that `pos` counts in; opaque."""
        return self._packet.log

    @property
    def pos(self) -> int:
        """Its place in its log, rising over all topics."""
        return self._packet.pos

    @property
    def position(self) -> Position:
        """Its place as a position of its own, for `after=` and `before=` of history()."""
        return {self._packet.log: self._packet.pos}

    @property
    def ts(self) -> int:
        """When the broker accepted it: ms since 1970."""
        return self._packet.ts

    @property
    def key(self) -> str:
        """The publisher's key, or ""."""
        return self._packet.key

    @property
    def deletes_key(self) -> bool:
        """Whether it says that `key` is deleted (compacted topics only); it has no payload then."""
        return not self.raw and bool(self._packet.key)

    @property
    def headers(self) -> dict[str, str]:
        """The publisher's headers."""
        return self._packet.headers

    @property
    def message_id(self) -> str:
        """The publisher's message id, or ""."""
        return self._packet.message_id

    @property
    def user(self) -> str:
        """Who published it, as the broker knows; "" for anonymous."""
        return self._packet.user

    def __repr__(self) -> str:
        return f"<Message {self.topic} offset={self.offset} {self.log}.{self.pos} {self.raw[:64]!r}>"


@frozen
class Gap:
    """Messages are missing here; what follows comes after `after`.

    `reason`: "retention" (removed before they were read), "slow", "partition", "reset" (the log has a new life),
    "permission". `topic`, `from_offset` and `to_offset` are set where exactly one topic is concerned.
    """

    after: Position
    reason: str
    topic: str = ""
    from_offset: int = 0
    to_offset: int = 0
    size: ClassVar[int] = _OVERHEAD_BYTES


@frozen
class CaughtUp:
    """Everything the broker held for this subscription came before this; from here on it is live."""

    after: Position
    size: ClassVar[int] = _OVERHEAD_BYTES


@frozen
class Member:
    """Somebody on a topic: one subscription that is seen. `state`: what it says of itself; treat as read-only."""

    id: str
    state: Any = None
    user: str = ""


@frozen
class Joined:
    """A member is there, or has another state: one with a known id replaces what was known of it.

    `is_self`: it is the subscription that tells this.
    """

    topic: str
    member: Member
    is_self: bool = False
    size: ClassVar[int] = _OVERHEAD_BYTES


@frozen
class Left:
    """A member is gone; it may be one that was never heard of."""

    topic: str
    member: Member
    size: ClassVar[int] = _OVERHEAD_BYTES


@frozen
class Presence:
    """Who is on a topic. Not `complete`: a node of the broker did not answer, or they are too many."""

    topic: str
    members: tuple[Member, ...]
    complete: bool


Item = Message | Gap | CaughtUp | Joined | Left
"""What comes to a subscription, in order: `Messages.events()`."""


@frozen
class Published:
    """Where an acknowledged message went (G1). `level`: "memory", "disk", … is what it has reached.

    A `delayed` message is accepted for later: it gets its place when it is due, so here it has none (`log` is "").
    """

    log: str
    pos: int
    offset: int
    level: str
    duplicate: bool = False  # this message_id had been stored before; the place is the first one's
    message_id: str = ""
    delayed: bool = False

    @property
    def position(self) -> Position:
        """The place as a position, for `after=`; empty where there is none yet."""
        return {self.log: self.pos} if self.log else {}


@frozen
class Traced:
    """More of what became of a message published with `on_trace`.

    `hops`: `triode.Hop`, each with `hop` (what has happened), `node`, `at_us` and what there is to say.
    `end`: "" while more comes; then "complete", "incomplete" (something was still open after 5 s), "truncated"
    (too many hops), "lost" (the connection was) or "failed" (the message was not published).
    """

    message_id: str
    hops: tuple[Hop, ...]
    end: str = ""


@frozen
class HistoryPage:
    """Part of what a topic still holds, in order. `complete`: there is no more; else go on from `after`."""

    messages: tuple[Message, ...]
    complete: bool
    after: Position = field(factory=dict)


class State(StrEnum):
    """Of the client's connection (the table is in session.py)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    CLOSED = "closed"


@frozen
class StateChanged:
    """The connection entered `state`; `reason`, `code` (0 = none) and `initiator` say why it left the one before.

    `initiator`: "client", "server", "network" or "operator" (docs/disconnects.md); "" where nothing has ended.
    """

    state: State
    reason: str = ""
    code: int = 0
    delay_seconds: float = 0.0  # WAITING: until the next attempt
    url: str = ""  # CONNECTING: where to; WAITING: where from
    connection: str = ""  # CONNECTED: the broker's name for it
    node: str = ""  # CONNECTED: the broker's node
    initiator: str = ""


@frozen
class HandshakesRefused:
    """Three or more attempts in a row, one per URL at least, did not reach `connected`; the client goes on."""

    count: int
    reason: str


@frozen
class Notice:
    """The broker says what to prepare for."""

    draining: bool = False
    expires_in_ms: int = 0


@frozen
class Complaint:
    """An `error` that answers no request, as after a message sent without acknowledgement."""

    name: str
    message: str
    field: str = ""


@frozen
class HeldBack:
    """The broker asks for patience: nothing is published for so long, then what was refused is sent again."""

    name: str  # of the error: rate_limited, overloaded, inflight …
    message: str
    seconds: float


Event = StateChanged | HandshakesRefused | Notice | Complaint | HeldBack
"""What a client tells of its connection: `Client.events()`."""

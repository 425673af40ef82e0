"""The packets of protocol v1, one record each, told apart by `type` (SPEC 3 and 4).

Types and bounds only: what a packet means is decided in the broker's core and in the clients. The surprising
decision: an absent optional field of a client's packet is a value of its own type (0, "" or an empty `Raw`) and
never None, so that `null` is refused where the specification does not allow it, and so that the test for absence
on the hot path is a plain truth test. `data` stays the JSON text it came in (`msgspec.Raw`).

Unknown fields: refused in what clients send, ignored in what servers send (SPEC 1.7, 1.8).
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from triode_protocol.hops import Hop
from triode_protocol.positions import MAX_INTEGER, MAX_LOG_CHARACTERS

PROTOCOL = 1
SUBPROTOCOL = "triode.v1.json"
MAX_MESSAGE_ID_BYTES = 64
MAX_KEY_BYTES = 255

#: An identifier chosen by the client: 1…2^53−1.
Number = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
#: A count, a time in ms, or a place that may be "before the first": 0…2^53−1.
Whole = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
#: The last part because Python's `$` would let a line feed follow.
LogName = Annotated[str, Meta(pattern=rf"^[a-z0-9-]{{1,{MAX_LOG_CHARACTERS}}}$(?!\n)")]
#: {log: pos}; 64 entries are far more than any node has shards.
Position = Annotated[dict[LogName, Whole], Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=255)]
#: What names a durable subscription or a group; one level of a topic (SPEC 3.2).
Name = Annotated[str, Meta(min_length=1, max_length=64)]

ABSENT = Raw(b"")


class Start(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`from` as an object: exactly one of {"last": n} and {"since": ts} (ms since 1970, the server's clock).

    Both in one record, because a union of two untagged records cannot be decoded.
    """

    last: Annotated[int, Meta(ge=1, le=10_000)] = 0
    since: Whole = -1


From = Literal["new", "last", "earliest"] | Start
Overflow = Literal["replay", "gap", "conflate", "disconnect"]


class ClientInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """Who the program is, for the operator's eyes only."""

    name: Text = ""
    version: Text = ""


class Seen(Struct, forbid_unknown_fields=True):
    """`presence` as an object: watch and be seen, in this state (SPEC 10.1)."""

    state: Raw


class Will(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is published when the connection is lost (SPEC 10.7)."""

    topic: str
    data: Raw = ABSENT
    b64: Raw = ABSENT
    key: str = ""
    delay_ms: Whole = 0


class ClientPacket(Struct, tag_field="type", forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What a client may send."""


class Connect(ClientPacket, tag="connect"):
    """The first packet of a connection (SPEC 3.1)."""

    id: Number = 0
    token: str = ""
    client: ClientInfo = ClientInfo()
    capabilities: Annotated[list[Text], Meta(max_length=64)] = []
    replaces: Text = ""
    resume: bool = False
    will: Will | UnsetType = UNSET


class Subscribe(ClientPacket, tag="subscribe", rename={"from_": "from"}):
    """Asks for the messages of a filter (SPEC 3.2)."""

    sub: Number
    filter: str
    id: Number = 0
    from_: From = "new"
    after: Position | UnsetType = UNSET
    overflow: Overflow | UnsetType = UNSET  # "replay" unless given; not for acknowledged subscriptions
    presence: Literal["watch"] | Seen | UnsetType = UNSET
    durable: Name = ""
    shared: bool = False
    group: Name = ""
    window: Number = 0
    ack_wait_ms: Number = 0
    max_attempts: Number = 0


class Unsubscribe(ClientPacket, tag="unsubscribe"):
    """Ends a subscription (SPEC 3.3)."""

    sub: Number
    id: Number = 0


class Publish(ClientPacket, tag="publish"):
    """A message for a topic (SPEC 3.4); exactly one of `data` and `b64`.

    Neither, on a compacted topic, deletes its `key`.
    """

    topic: str
    data: Raw = ABSENT
    id: Number = 0
    message_id: str = ""
    key: str = ""
    headers: dict[str, str] = {}
    b64: Raw = ABSENT
    ttl_ms: Number = 0
    deliver_at_ms: Number = 0
    trace: bool = False


class Ack(ClientPacket, tag="ack"):
    """Confirms deliveries of an acknowledged subscription."""

    sub: Number
    log: LogName
    pos: Number | Annotated[list[Number], Meta(min_length=1, max_length=1024)] = 0
    upto: Number = 0
    id: Number = 0


class Nack(ClientPacket, tag="nack"):
    """Gives a delivery back."""

    sub: Number
    log: LogName
    pos: Number
    attempt: Number
    delay_ms: Whole = 0
    reject: bool = False
    id: Number = 0


class Extend(ClientPacket, tag="extend"):
    """Asks for more time with a delivery."""

    sub: Number
    log: LogName
    pos: Number
    attempt: Number
    ms: Number
    id: Number = 0


class HistoryRequest(ClientPacket, tag="history"):
    """Asks for messages that one topic still holds (SPEC 3.5)."""

    topic: str
    id: Number = 0
    after: Position | UnsetType = UNSET
    before: Position | UnsetType = UNSET
    last: Number = 0
    limit: Number = 100


class PresenceRequest(ClientPacket, tag="presence"):
    """Asks who is on a topic (SPEC 10.4)."""

    topic: str
    id: Number = 0


class Auth(ClientPacket, tag="auth"):
    """A fresh token for a live connection."""

    token: str
    id: Number = 0


class ClientPing(ClientPacket, tag="ping"):
    """Asks for a pong."""

    id: Number = 0


class ClientPong(ClientPacket, tag="pong"):
    """Answers the server's ping; any frame would do."""

    id: Number = 0


class Disconnect(ClientPacket, tag="disconnect"):
    """A clean goodbye."""

    id: Number = 0


class ServerPacket(Struct, tag_field="type", omit_defaults=True, gc=False):
    """What a server sends. Fields with a default are left out when they have it."""


class Reconnect(Struct):
    """Bounds of the client's backoff, in ms."""

    min_ms: int
    max_ms: int


class Limits(Struct, omit_defaults=True):
    """What the server announces in `connected` (SPEC 4.1). Of the rates, one that is absent has no bound."""

    max_packet_bytes: int
    max_frame_bytes: int
    max_subscriptions: int
    max_inflight_publishes: int
    dedupe_window_ms: int
    max_wildcard_subscriptions: int = 0
    publishes_per_second: int = 0  # of this connection
    bytes_per_second: int = 0
    requests_per_second: int = 0
    control_packets_per_second: int = 0
    rate_burst_ms: int = 0
    user_publishes_per_second: int = 0  # of all connections of its user
    user_bytes_per_second: int = 0
    user_max_connections: int = 0
    tenant_publishes_per_second: int = 0  # of all connections of its tenant
    tenant_bytes_per_second: int = 0
    tenant_max_connections: int = 0
    tenant_max_subscriptions: int = 0
    tenant_max_wildcard_subscriptions: int = 0


class Connected(ServerPacket, tag="connected"):
    """Answers connect (SPEC 4.1)."""

    connection: str
    node: str
    protocol: int
    capabilities: list[str]
    limits: Limits
    ping_ms: int
    reconnect: Reconnect
    id: int = 0
    expires_in_ms: int = 0


class Subscribed(ServerPacket, tag="subscribed"):
    """Answers subscribe: everything after `after` will come, or a gap will say what did not (SPEC 4.2)."""

    sub: int
    after: dict[str, int]
    live: bool
    id: int = 0
    unavailable: list[str] = []
    filtered: bool = False


class CatchingUp(ServerPacket, tag="catching_up"):
    """The subscription left live delivery and is served from the log (SPEC 4.4)."""

    sub: int
    after: dict[str, int]
    reason: str


class CaughtUp(ServerPacket, tag="caught_up"):
    """The subscription is live (again)."""

    sub: int
    after: dict[str, int]


class Message(ServerPacket, tag="message"):
    """A message, byte-identical for everybody who gets it (SPEC 4.3)."""

    topic: str
    offset: int
    log: str
    pos: int
    ts: int
    user: str = ""
    data: Raw = ABSENT
    b64: Raw = ABSENT
    key: str = ""
    headers: dict[str, str] = {}
    message_id: str = ""


class Delivery(ServerPacket, tag="delivery"):
    """A message for one subscription (SPEC 4.3)."""

    sub: int
    message: Raw
    attempt: int = 0
    prev: int = -1


class Gap(ServerPacket, tag="gap", rename={"from_": "from"}):
    """Messages are missing: after `after` delivery goes on (SPEC 4.6)."""

    sub: int
    after: dict[str, int]
    reason: str
    topic: str = ""
    from_: int = 0
    to: int = 0


class Unsubscribed(ServerPacket, tag="unsubscribed"):
    """Answers unsubscribe, or ends a subscription unasked: then with name, message and retry."""

    sub: int
    id: int = 0
    name: str = ""
    message: str = ""
    retry: str = ""


class Published(ServerPacket, tag="published"):
    """Acknowledges a publish: its place, and the level it has reached (SPEC 4.5)."""

    id: int
    log: str = ""  # without a place while `delayed`
    pos: int = 0
    offset: int = 0
    level: str = ""
    duplicate: bool = False
    delayed: bool = False


class Traced(ServerPacket, tag="traced"):
    """What became of a publish with `trace`; `end` stands in the last one of a publish (SPEC 4.12)."""

    id: int
    hops: list[Hop]
    end: str = ""


class History(ServerPacket, tag="history"):
    """Answers history (SPEC 4.7)."""

    messages: list[Raw]
    complete: bool
    after: dict[str, int]
    id: int = 0


class Present(Struct, omit_defaults=True):
    """A member of a topic, as it stands in the packets below."""

    id: str
    state: Raw
    user: str = ""


class Presence(ServerPacket, tag="presence"):
    """Answers presence: the members (`Present`) of one topic (SPEC 10.4)."""

    topic: str
    members: list[Raw]
    complete: bool
    id: int = 0


class Joined(ServerPacket, tag="joined"):
    """Somebody is on a topic, or has another state; with `sub`, it is that subscription itself (SPEC 10.2)."""

    topic: str
    member: Raw
    sub: int = 0


class Left(ServerPacket, tag="left"):
    """Somebody is on a topic no more (SPEC 10.2)."""

    topic: str
    member: Raw


class Acked(ServerPacket, tag="acked"):
    """Answers an ack, nack or extend that had an id."""

    id: int


class Authorized(ServerPacket, tag="authorized"):
    """Answers auth: the token is taken, and good for so long."""

    id: int = 0
    expires_in_ms: int = 0


class ServerPing(ServerPacket, tag="ping"):
    """A sign of life; `at`: every live subscription has had everything up to there (SPEC 4.8)."""

    at: dict[str, int] = {}


class ServerPong(ServerPacket, tag="pong"):
    """Answers the client's ping."""

    id: int = 0


class Notice(ServerPacket, tag="notice"):
    """Something the client may prepare for."""

    draining: bool = False
    expires_in_ms: int = 0


class Error(ServerPacket, tag="error"):
    """A request failed (SPEC 5.1)."""

    name: str
    message: str
    retry: str
    id: int = 0
    sub: int = 0
    field: str = ""
    retry_after_ms: int = 0


class Bye(ServerPacket, tag="bye"):
    """The server is about to close, and why (SPEC 5.3)."""

    code: int
    name: str
    reconnect_after_ms: int = 0
    urls: list[str] = []


CLIENT_PACKETS: tuple[type[ClientPacket], ...] = (
    Connect,
    Subscribe,
    Unsubscribe,
    Publish,
    Ack,
    Nack,
    Extend,
    HistoryRequest,
    PresenceRequest,
    Auth,
    ClientPing,
    ClientPong,
    Disconnect,
)
SERVER_PACKETS: tuple[type[ServerPacket], ...] = (
    Connected,
    Subscribed,
    CatchingUp,
    CaughtUp,
    Message,
    Delivery,
    Gap,
    Unsubscribed,
    Published,
    Traced,
    History,
    Presence,
    Joined,
    Left,
    Acked,
    Authorized,
    ServerPing,
    ServerPong,
    Notice,
    Error,
    Bye,
)

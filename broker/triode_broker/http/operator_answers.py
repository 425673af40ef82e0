"""What operators are answered, as records: for OpenAPI, and for the test that holds answers against them.

Nothing is made of these at run time; see `operator_records`. `unanswered` in any of them names nodes that have not
answered in time: what they have is missing.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Nodes = Annotated[list[str], Meta(description="Nodes that have not answered: what they have is missing.")]
More = Annotated[bool, Meta(description="There are more behind the last one: ask again with `after`.")]
Ms = Annotated[int, Meta(description="Milliseconds since 1970; 0: never.")]


class Connection(Struct):
    """One connection."""

    connection: str
    node: str
    address: str
    since_ms: Ms
    user: str
    tenant: str
    method: str
    token: str
    key: str
    issued_ms: Ms
    expires_ms: Ms
    subscriptions: int
    refused: int


class Connections(Struct):
    """One page of them, in order of their ids."""

    connections: list[Connection]
    more: More
    unanswered: Nodes


class Closed(Struct):
    """How many connections were closed."""

    closed: int
    unanswered: Nodes


class Subscription(Struct):
    """One open subscription. What its kind does not have is "" or 0."""

    connection: str
    node: str
    user: str
    tenant: str
    sub: int
    kind: Literal["plain", "durable", "shared", "group"]
    name: str
    filter: str
    state: Literal["opening", "live", "catching_up", "slow", "elsewhere"]
    overflow: str
    window: int
    in_flight: int
    outbox_bytes: int


class Subscriptions(Struct):
    """One page of them, in order of their connections and numbers."""

    subscriptions: list[Subscription]
    more: More
    unanswered: Nodes


class Topic(Struct):
    """One topic, as the owner of its shard knows it."""

    topic: str
    tenant: str
    published: int
    subscribers: int
    followers: int
    shard: str
    owner: str
    retained: int
    retained_bytes: int


class Topics(Struct):
    """The busiest."""

    topics: list[Topic]
    known: int
    unanswered: Nodes


class Reached(Struct):
    """Who would be told on one node."""

    live: int
    connections: int
    kept_out: int
    durable_count: int
    group_count: int
    durable: list[str]
    group: list[str]


class Publishers(Struct):
    """A row of the rules by which somebody may publish there, or may not."""

    role: str
    tenant: str
    filter: str
    but: str


class Route(Struct):
    """What would become of a message."""

    topic: str
    tenant: str
    rule: str
    storage: str
    retention: dict[str, int]
    ttl_seconds: int
    dedupe_seconds: int
    compact: bool
    shard: str
    log: str
    owner: str
    epoch: int
    is_reachable: bool
    publishers: list[Publishers]
    nodes: dict[str, Reached]
    unanswered: Nodes


class SlowConnection(Struct):
    """A connection for which something waits, and why."""

    connection: str
    address: str
    user: str
    tenant: str
    waiting_bytes: int
    max_bytes: int
    blocked: bool
    catching_up: bool
    paused_ms: int
    why: str
    node: str


class SlowConnections(Struct):
    """The most first."""

    connections: list[SlowConnection]
    unanswered: Nodes


class Revocation(Struct):
    """What refuses a credential."""

    kind: Literal["user", "token", "key"]
    value: str
    tenant: str
    at_ms: Ms
    until_ms: Annotated[int, Meta(description="Milliseconds since 1970; 0: for ever.")]
    also_new: bool


class Revocations(Struct):
    """What is in force."""

    revocations: list[Revocation]
    kept: Literal["disk", "memory", "failed"]


class Revoked(Struct):
    """What is in force now, where it is kept, and how many connections were closed."""

    revoked: Revocation
    closed: int
    kept: dict[str, str]
    unanswered: Nodes


class Unrevoked(Struct):
    """What is not in force any more."""

    unrevoked: Revocation
    kept: dict[str, str]
    unanswered: Nodes


class Durable(Struct):
    """A durable subscription or group in a few words."""

    name: str
    tenant: str
    kind: Literal["durable", "shared", "group"]
    filter: str
    members: int
    in_flight: int
    pending: int
    lag: int
    dead_letters: int
    home: str


class Durables(Struct):
    """All of them."""

    names: list[Durable]
    unanswered: Nodes


class DurableDetails(Struct):
    """Everything about one; at most 100 of its members and of what is pending."""

    name: str
    tenant: str
    kind: Literal["durable", "shared", "group"]
    filter: str
    members: list[dict[str, Any]]
    in_flight: int
    pending: list[dict[str, Any]]
    lag: int
    dead_letters: int
    ack_wait_ms: int
    max_attempts: int
    dead_letter_topic: str
    created_ms: Ms
    seen_ms: Ms
    positions: dict[str, dict[str, int]]
    gaps: dict[str, dict[str, Any]]
    member_count: int
    pending_count: int
    home: str


class Rewound(Struct):
    """Where it goes on."""

    name: str
    tenant: str
    after: dict[str, int]
    home: str


class Deleted(Struct):
    """What is left of it."""

    name: str
    tenant: str
    dead_letters: int
    home: str


class DeadCount(Struct):
    """A name with dead letters."""

    name: str
    tenant: str
    count: int
    home: str


class DeadCounts(Struct):
    """Those that have some."""

    names: list[DeadCount]
    unanswered: Nodes


class Letter(Struct):
    """One dead letter: why, where it came from, and what it was."""

    pos: int
    reason: str
    attempts: int
    topic: str
    log: str
    source_pos: int
    offset: int
    at_ms: Ms
    user: str
    key: str
    headers: dict[str, str]
    data: Any | UnsetType = UNSET
    b64: str | UnsetType = UNSET
    deletes: bool | UnsetType = UNSET


class Letters(Struct):
    """The oldest first."""

    letters: list[Letter]
    more: More
    home: str


class NotDone(Struct):
    """A letter for which it could not be done."""

    pos: int
    message: str


class Done(Struct):
    """For how many letters it was done, for which it was not, and why the others were left alone."""

    count: int
    refused: list[NotDone]
    stopped: str
    home: str


class Tenant(Struct):
    """What one node has counted for a tenant since its start."""

    name: str
    connections: int
    subscriptions: int
    publishes: int
    delivered: int
    received_bytes: int
    refused: int
    home: str


class Tenants(Struct):
    """One row for each tenant and node."""

    names: list[Tenant]
    unanswered: Nodes


class Cluster(Struct):
    """What all nodes say of each other."""

    asked: str
    cluster: str
    nodes: list[dict[str, Any]]
    missing: list[str]
    shards: list[dict[str, Any]]
    agreed: bool
    degraded: dict[str, list[str]]


class Figures(Struct):
    """What every node counts since its start, by node."""

    asked: str
    nodes: dict[str, dict[str, Any]]
    unanswered: Nodes


class OfNodes(Struct):
    """What the nodes that were asked say, by node."""

    nodes: dict[str, Any]
    unanswered: Nodes


class Draining(Struct):
    """How many clients are sent away, and in how much time."""

    connections: int
    seconds: float


class Ticket(Struct):
    """For the WebSocket of this listener, as the token of its `connect`."""

    token: str
    expires_in_ms: int


class Followed(Struct):
    """Something is followed from now on."""

    tap: Annotated[str, Meta(description="To be asked for, at this node; forgotten when nobody asks for 30 s.")]
    unanswered: Nodes


class Happened(Struct):
    """What has happened since the last time, by the clocks of the nodes."""

    events: list[dict[str, Any]]
    lost: Annotated[int, Meta(description="Events that were dropped because nobody asked soon enough.")]
    unanswered: Nodes


class FollowEnded(Struct):
    """Nothing is followed any more."""

    closed: str


class Webhook(Struct):
    """One webhook on one node. Counts are since the start of that node."""

    name: str
    node: str
    url: Annotated[str, Meta(description="Without what may be secret in it.")]
    tenant: str
    events: list[str]
    topics: list[str]
    state: Literal["starting", "waiting", "telling", "failing", "gone"]
    held: Annotated[int, Meta(description="Events in the request that is under way.")]
    lag: Annotated[int, Meta(description="Places of the logs it is behind; -1: another node knows.")]
    failures: Annotated[int, Meta(description="In a row.")]
    retry_at_ms: Ms
    last_error: str
    last_error_ms: Ms
    last_ok_ms: Ms
    delivered: int
    requests: int
    failed: int
    buried: Annotated[int, Meta(description="Events that are dead letters.")]
    gaps: Annotated[int, Meta(description="Times that events were lost.")]


class Webhooks(Struct):
    """By name and node."""

    webhooks: list[Webhook]
    unanswered: Nodes


class WebhookTest(Struct):
    """What the endpoint has answered."""

    name: str
    ok: bool
    status: Annotated[int, Meta(description="0: none.")]
    error: str
    ms: int

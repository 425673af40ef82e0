"""Every limit and default of the broker: name, unit, meaning. There is no second place for what can be set.

How much of something one turn of the loop takes at most (bytes of a read, records of a page) is no setting and
stands where it is used; bounds that the protocol itself fixes stand in `triode_protocol`.

Records only: reading files, environment and flags is the command line's business (`cli.settings`). The defaults
here are what the documentation and `triode serve --check` print.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

#: What JSON carries exactly everywhere; no setting means anything beyond.
MAX_INTEGER = 2**53 - 1
Positive = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
NotNegative = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Retention = Annotated[int, Meta(ge=-1, le=MAX_INTEGER)]


#: Allocations before the garbage collector looks, and how often it looks at all it knows (Python: 700, 10, 10).
GC_THRESHOLDS = (50_000, 20, 100)

#: The administration socket: its name in the data directory, and how long a Unix socket's path may be on Linux
#: (elsewhere a few bytes less).
SOCKET_NAME = "admin.sock"
MAX_SOCKET_PATH_BYTES = 107

#: What a `delivery` adds at most to the packet that was published, in bytes: place, times, names.
DELIVERY_OVERHEAD_BYTES = 1_024


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what one connection, one topic and one node may take."""

    # Packets and frames
    max_packet_bytes: Positive = 65_536  # of one packet of a client; beyond: `too_large`
    max_frame_bytes: Positive = 1_048_576  # of a WebSocket message, both directions; beyond: closed with 1009
    max_connect_bytes: Positive = 8_192  # of the connect packet; beyond: `too_large`, closed with 4000
    max_before_connect_bytes: Positive = (
        65_536  # all that is read until connect has succeeded; beyond: closed with 4000 (S2)
    )
    max_fragments: Positive = 1_024  # frames since the last complete message; beyond: closed with 1008 (S4)
    max_control_frames: Positive = 256  # WebSocket pings and pongs per ping_ms; beyond: closed with 1008 (S4)
    min_compressed_bytes: Positive = 256  # with `compression`: shorter packets go as they are

    # HTTP heads
    max_head_bytes: Positive = 8_192  # of an HTTP request; beyond: 400
    max_headers: Positive = 64  # of an HTTP request; beyond: 400

    # Presence and wills
    max_presence_state_bytes: Positive = 1_024  # of one member; beyond: `too_large`
    max_presence_members: Positive = 1_000  # of one topic on one node; beyond: `quota`
    max_presence_owed: Positive = 10_000  # members' changes kept for one slow connection; beyond: closed
    presence_debounce_ms: NotNegative = 1_000  # a lost connection's members stay so long
    max_will_delay_ms: NotNegative = 3_600_000  # beyond: `malformed`
    max_will_bytes: NotNegative = 16_777_216  # wills of lost connections that wait; beyond: published at once

    # Names
    max_topic_bytes: Annotated[int, Meta(ge=1, le=1_024)] = 255  # of a topic or filter; beyond: `bad_topic`
    max_topic_levels: Annotated[int, Meta(ge=1, le=16)] = 8  # of a topic or filter; beyond: `bad_topic`
    max_message_headers: NotNegative = 16  # of one message; beyond: `too_large`
    max_message_header_bytes: NotNegative = 4_096  # names and values of one message together; beyond: `too_large`

    # Connections
    max_connections: Positive = 100_000  # of this node; beyond: 503, or closed unheard
    max_subscriptions: Positive = 200  # of one connection; beyond: `quota`
    max_wildcard_subscriptions: Positive = 100  # of one connection; beyond: `quota`
    max_inflight_publishes: Positive = 256  # unacknowledged, of one connection; beyond: `inflight`
    max_outbox_bytes: Positive = (
        1_048_576  # waiting for one connection; beyond: nothing is read from it, its subscriptions leave live
    )
    max_conflated_bytes: Positive = (
        1_048_576  # newest messages kept for one slow `conflate` subscription; beyond: a gap
    )
    connect_timeout_ms: Positive = 5_000  # from accept to a successful connect; then closed with 4106
    close_timeout_ms: Positive = 5_000  # from our close frame to the peer's; then dropped
    drain_timeout_ms: Positive = 30_000  # an outbox over its bound; then closed with 4104
    ping_ms: Positive = 25_000  # between pings; silent for twice as long: closed with 4105

    # Credentials
    max_token_bytes: Positive = 8_192  # of a credential; beyond: `unauthorized`
    max_waiting_credentials: Positive = 1_024  # connections that wait for keys or a callout; beyond: unavailable
    max_callouts: Positive = 64  # asked at the same time; the others wait
    max_callout_bytes: Positive = 65_536  # of an answer
    max_callout_cache: Positive = 10_000  # answers that are kept

    # One network address; of IPv6 its first 64 bits. Not counted: this machine, trusted proxies
    max_address_connections: NotNegative = 10_000  # at once; 0 = max_connections. Many people share an address
    max_address_handshakes_per_second: NotNegative = 500  # 0 = as many as come
    max_address_handshake_burst: Positive = 5_000  # at once, after a quiet time

    # Storms of connects: what is beyond is told when to come back
    max_handshakes: NotNegative = (
        8_192  # connections that have not got through `connect`; beyond: 503; 0 = max_connections
    )
    max_connects_per_second: NotNegative = 2_000  # beyond: they wait; 0 = as many as come
    max_connect_burst: Positive = 5_000  # at once, after a quiet time
    max_connect_wait_ms: NotNegative = 2_000  # for its turn; clients that resume go first; then closed with 4102
    max_reconnect_after_ms: Positive = 60_000  # how far ahead those who are sent away are spread

    # Rates: how much is allowed stands in [[quotas]]; what is beyond is told when to come back
    rate_burst_ms: Positive = 1_000  # after a quiet time, what a rate allows in so long may come at once
    max_refused_packets: Positive = (
        20_000  # of one connection over its rates, in refused_window_ms; beyond: closed with 4102
    )
    refused_window_ms: Positive = 10_000  # in which refused packets are counted

    # Drain: the node is taken out of service
    drain_window_ms: NotNegative = 10_000  # over which clients are sent to the other nodes; 0 = at once
    drain_alone_ms: NotNegative = 1_000  # the same where there is no other node: they come back to this one
    drain_reconnect_ms: NotNegative = 1_000  # over which each is told to spread its return

    # Peers: links between nodes
    max_peer_outbox_bytes: Positive = 8_388_608  # waiting for one peer; beyond: it reads; twice as much: closed
    max_peer_message_bytes: Positive = (
        4_194_304  # of a WebSocket message between nodes; beyond: the link is closed
    )
    peer_ping_ms: Positive = 1_000  # between pings to a peer
    peer_silent_ms: Positive = 10_000  # a link without a message for so long is closed
    peer_closed_ms: Positive = 3_000  # a node that nobody has a link with for so long is dead

    # Reconnects, as announced to clients
    reconnect_min_ms: Positive = 250  # the first pause before a reconnect is at most so long
    reconnect_max_ms: Positive = (
        20_000  # no pause is longer; who has too many connections is told to come back after it
    )

    # Logs
    max_history_messages: Positive = 1_000  # in one history reply; beyond: not `complete`
    max_shard_bytes: Positive = 67_108_864  # messages held by one memory shard; beyond: the oldest go
    max_shard_topics: Positive = 16_384  # topics one memory shard remembers; beyond: the quietest are forgotten
    recent_bytes: NotNegative = 4_194_304  # each memory shard keeps at least its newest messages, for resumes:
    recent_seconds: NotNegative = 30  # ... so many bytes, for so long
    max_dedupe_bytes: NotNegative = (
        16_777_216  # message ids remembered by one shard; beyond: the oldest are forgotten
    )
    match_cache_values: Positive = (
        2_000_000  # topics' subscribers remembered, over all topics; about 25 bytes each
    )

    # Logs on disk, each durable shard
    commit_messages: Positive = 256  # in one transaction; what one turn of the loop took stays together
    max_uncommitted_bytes: Positive = 16_777_216  # accepted and not on disk yet; beyond: `overloaded`

    # Delayed messages, each shard
    max_delay_seconds: NotNegative = (
        2_592_000  # how far ahead `deliver_at_ms` may lie; beyond: `too_large`; 0 = not offered
    )
    max_delayed_bytes: NotNegative = 16_777_216  # that wait; beyond: `quota`

    # Acknowledged subscriptions
    max_consumers: NotNegative = 10_000  # names of durable subscriptions and groups on this node; beyond: `quota`
    max_consumer_members: Positive = 1_000  # connections that share one name; beyond: `quota`
    max_consumer_bytes: Positive = (
        4_194_304  # messages held in memory for one name, in flight and read ahead; beyond: the others wait
    )
    default_window: Positive = 64  # deliveries in flight to one member
    max_window: Positive = 1_024  # beyond: `malformed`
    default_ack_wait_ms: Positive = 30_000  # until a delivery that nobody settles comes again
    max_ack_wait_ms: Positive = 43_200_000  # also how far ahead nack and extend may reach; beyond: `malformed`
    default_max_attempts: Positive = 20  # of one delivery; then it is a dead letter
    max_attempts: Positive = 1_000  # beyond: `malformed`
    abandoned_seconds: Positive = 604_800  # a durable subscription without members is deleted after so long

    # Revocations
    max_revocations: Positive = 10_000  # kept at once; those of other nodes come on top


#: What a rule retains where it does not say, by storage class.
RETENTION = {
    "memory": {"retention_messages": 1_000, "retention_seconds": 300, "retention_bytes": 1_048_576},
    "disk": {"retention_messages": 1_000_000, "retention_seconds": 604_800, "retention_bytes": 1_073_741_824},
}
#: Stands for "what RETENTION says".
BY_STORAGE = -1


class TopicRule(Struct, frozen=True, forbid_unknown_fields=True):
    """The policy of the topics that `filter` matches; the first matching rule holds."""

    filter: str = "#"
    storage: Literal["memory", "disk"] = "memory"  # disk: acknowledged and delivered once flushed; needs `data`
    compact: bool = False  # only the newest message of each key is retained, whatever its age
    retention_messages: Retention = BY_STORAGE  # of a compacted topic: keys
    retention_seconds: Retention = BY_STORAGE
    retention_bytes: Retention = BY_STORAGE
    tombstone_seconds: NotNegative = 86_400  # a deleted key's mark on a compacted topic
    ttl_seconds: NotNegative = 0  # 0 = messages do not expire before retention ends
    max_payload_bytes: NotNegative = 0  # of `data` or `b64`; 0 = what max_packet_bytes allows
    dedupe_seconds: NotNegative = 300

    def __post_init__(self) -> None:
        for name, value in RETENTION[self.storage].items():
            if getattr(self, name) == BY_STORAGE:
                force_setattr(self, name, value)


#: Of `$dead/<name>`, where no rule says otherwise. A dead letter's key is the place of the message in its source,
#: `log.pos`: one letter for one message, and a tombstone takes it away again (`triode dead drop`, `retry`).
DEAD_LETTER_RULE = TopicRule(
    filter="$dead/#",
    storage="disk",
    compact=True,
    retention_messages=100_000,
    retention_bytes=268_435_456,
    dedupe_seconds=0,
)
#: Where the node has no disk.
DEAD_LETTER_RULE_IN_MEMORY = TopicRule(filter="$dead/#", compact=True, retention_seconds=604_800, dedupe_seconds=0)


class Auth(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may connect at all. Where nothing here, no `tokens`, no `permissions` is set, nobody is asked."""

    anonymous: bool = False  # clients without a credential come in, with the rights of the role "anonymous"
    api_keys_file: str = ""  # of `triode token key`: one line a key, hashed; "" = none
    query_token: bool = False  # also `?token=…` in the URL, which ends up in logs of others
    leeway_seconds: NotNegative = 60  # how far clocks of issuers may be off
    max_token_seconds: NotNegative = 86_400  # a token is good for at most so long, whatever it says; 0 = no bound
    notice_seconds: Positive = 60  # a client is told so long before its token expires
    certificates: bool = False  # a verified client certificate (`tls.client_ca`) is a credential
    callout_url: str = ""  # asked who a client is, by POST; "" = nobody is
    callout_secret_file: str = ""  # sent along as `Authorization: Bearer`, so that the answerer knows the broker
    callout_secret_env: str = ""  # the same in an environment variable
    callout_timeout_ms: Positive = 2_000
    callout_cache_seconds: NotNegative = 60  # an answer is kept, at most as long as it says; 0 = not at all
    callout_failures: Positive = 5  # in a row; then nobody is asked for `callout_pause_ms`
    callout_pause_ms: Positive = 5_000
    jwks_refresh_seconds: Positive = 300  # keys are fetched anew so often
    jwks_stale_seconds: Positive = 86_400  # keys that cannot be fetched anew go on for so long


#: "" is the one without a name; what else it may be called is what `core.tenants` needs.
TenantName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}\Z")]


class TokenKey(Struct, frozen=True, forbid_unknown_fields=True):
    """One key, or one URL with keys, that signs tokens (JWT). Its algorithm is fixed here, not by the token."""

    name: str = ""  # for the log
    algorithm: Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"] = "RS256"
    kid: str = ""  # tokens that name a key name this one; "" = any
    key_file: str = ""  # secret (HS…) or public key in PEM
    key_env: str = ""  # the same in an environment variable
    jwks_url: str = ""  # or fetched from there
    issuer: str = ""  # what `iss` must be; "" = anything
    audience: str = ""  # what `aud` must name; "" = anything
    user_claim: str = "sub"
    tenant_claim: str = "tenant"  # "" = tokens do not say
    tenant: TenantName = ""  # of tokens that name none
    roles_claim: str = "roles"  # a list of texts, or one with spaces; a path has dots; "" = tokens do not say
    permissions_claim: str = "permissions"  # {"publish": [filters], "deny_publish": …}; "" = tokens do not say


Filters = tuple[str, ...]


class Permission(Struct, frozen=True, forbid_unknown_fields=True):
    """What the clients of a role may do: filters with {user}, {tenant}, {claims.NAME} as levels; deny wins."""

    role: str = ""  # one of the claim `roles`, "anonymous", or "" = everybody who has a credential
    tenant: TenantName = ""  # of this tenant only; "" = of any
    publish: Filters = ()
    subscribe: Filters = ()
    presence: Filters = ()
    history: Filters = ()
    consume: Filters = ()
    deny_publish: Filters = ()
    deny_subscribe: Filters = ()
    deny_presence: Filters = ()
    deny_history: Filters = ()
    deny_consume: Filters = ()


#: Stands for "what a later row says that fits".
NOT_SAID = -1
Allowance = Annotated[int, Meta(ge=NOT_SAID)]


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """How much clients may do. Each value is that of the first row that fits a client and says it; 0 = no bound.

    What of a whole tenant is bounded stands in rows without `role` and `method`.
    """

    role: str = ""  # one that the client has, such as "anonymous"; "" = any client
    tenant: TenantName = ""  # of this tenant only; "" = of any
    method: Literal["", "open", "anonymous", "token", "key", "callout", "certificate"] = ""  # how it was let in

    # Of one connection
    publishes_per_second: Allowance = NOT_SAID
    bytes_per_second: Allowance = NOT_SAID  # of all that it sends; beyond, publishes and requests are refused
    requests_per_second: Allowance = NOT_SAID  # subscribe, history, presence, auth, what is no packet
    control_packets_per_second: Allowance = NOT_SAID  # ack, nack, extend, unsubscribe, ping, pong
    max_subscriptions: Allowance = NOT_SAID  # beside limits.max_subscriptions: the lower one holds
    max_wildcard_subscriptions: Allowance = NOT_SAID  # the same

    # Of all connections of one user together, on all nodes
    user_publishes_per_second: Allowance = NOT_SAID
    user_bytes_per_second: Allowance = NOT_SAID
    user_max_connections: Allowance = NOT_SAID

    # Of all connections of one tenant together, on all nodes
    tenant_publishes_per_second: Allowance = NOT_SAID
    tenant_bytes_per_second: Allowance = NOT_SAID
    tenant_max_connections: Allowance = NOT_SAID
    tenant_max_subscriptions: Allowance = NOT_SAID
    tenant_max_wildcard_subscriptions: Allowance = NOT_SAID


def _unbounded(method: Literal["open", "key", "certificate"]) -> Quota:
    return Quota("", "", method, 0, 0, 0, 0, 0, 0, 0, 0, 0)


#: Behind the rows of the settings. Programs that an operator gave a key or a certificate, and all clients where
#: nobody is asked who they are, have no bounds; everybody else may be a browser.
DEFAULT_QUOTAS = (
    *(_unbounded(method) for method in ("open", "key", "certificate")),
    Quota(
        publishes_per_second=1_000,
        bytes_per_second=1_048_576,
        requests_per_second=100,
        control_packets_per_second=5_000,
        user_publishes_per_second=2_000,
        user_bytes_per_second=2_097_152,
        user_max_connections=100,
    ),
)


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    """A listener's certificate; without one it speaks plain text."""

    certificate: str = ""  # PEM file, with the chain
    key: str = ""  # PEM file; "" = it stands in `certificate`
    client_ca: str = ""  # PEM file: certificates of the other side must be signed by one of these
    client_certificates: Literal["optional", "required"] = "optional"  # where there is a client_ca; nodes always


NodeName = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$")]
CLUSTER_PORT = 7401  # where `cluster_listen` names none
DEFAULT_CLUSTER_LISTEN = f"127.0.0.1:{CLUSTER_PORT}"  # where there are `seeds` and no `cluster_listen`
EVERYWHERE = ("", "0.0.0.0", "[::]")  # hosts that stand for all addresses of the machine
MAX_SHARDS = 64  # of one storage class
MAX_WORKERS = 256


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """What `triode serve` runs with.

    What follows from other fields is filled in where the record is made, so that every reader sees the same:
    `cluster_listen` where only seeds or only a host is given, `cluster_advertise` where it is one address,
    `durable_shards` where `durable` names the holders.
    """

    listen: str = "127.0.0.1:7400"
    advertise: str = ""  # ws:// or wss:// URL where clients reach this node, told to those of others; "" = unknown
    workers: Annotated[int, Meta(ge=0, le=MAX_WORKERS)] = 1  # processes, each a node; 0 = one per core
    node: NodeName = "n1"
    cluster: NodeName = "triode"  # nodes of another cluster are refused
    cluster_listen: str = ""  # where other nodes connect; "" = no cluster
    cluster_advertise: str = ""  # ws:// or wss:// URL where other nodes reach this one; "" = cluster_listen
    cluster_secret_file: str = ""  # what is in it every node proves to know; "" = none
    seeds: tuple[str, ...] = ()  # ws:// or wss:// URLs of other nodes' cluster_listen
    data: str = ""  # directory for what outlives the process; "" = none
    restored: bool = False  # the files under `data` come from a copy: go on with new logs
    create_store: bool = False  # make a missing durable shard without asking the other nodes of `durable`
    durable: tuple[NodeName, ...] = ()  # the node that holds d0, d1, …; none = this node holds all of its shards
    durable_shards: Annotated[int, Meta(ge=1, le=MAX_SHARDS)] = 1  # one file each; fixed when a cluster is created
    demo: bool = False  # publish this machine's figures on demo/host/#
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"  # auto: console on a terminal, else JSON lines
    memory_shards: Annotated[int, Meta(ge=1, le=MAX_SHARDS)] = 8  # fixed when a cluster is created
    insecure: bool = False  # start in spite of what is not safe; logged, and shown in health
    admin_socket: str = ""  # where `triode kick` and others ask; "" = admin.sock under `data`
    origins: tuple[str, ...] = ()  # pages that may connect beside the node's own, scheme://host[:port]; "*" = all
    proxy_protocol: bool = False  # connections to `listen` begin with a PROXY header, and are trusted proxies'
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For is believed
    compression: bool = False  # permessage-deflate, for clients that offer it
    tls: Tls = Tls()  # of `listen`
    cluster_tls: Tls = Tls()  # of `cluster_listen`, and what this node shows to others
    auth: Auth = Auth()
    tokens: tuple[TokenKey, ...] = field(default_factory=tuple)
    permissions: tuple[Permission, ...] = field(default_factory=tuple)
    limits: Limits = Limits()
    quotas: tuple[Quota, ...] = field(default_factory=tuple)
    topics: tuple[TopicRule, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.seeds and not self.cluster_listen:
            force_setattr(self, "cluster_listen", DEFAULT_CLUSTER_LISTEN)
        elif self.cluster_listen and has_no_port(self.cluster_listen):
            force_setattr(self, "cluster_listen", f"{self.cluster_listen}:{CLUSTER_PORT}")
        if not self.cluster_advertise and is_somewhere(self.cluster_listen):
            scheme = "wss" if self.cluster_tls.certificate else "ws"
            force_setattr(self, "cluster_advertise", f"{scheme}://{self.cluster_listen}")
        if self.durable:
            force_setattr(self, "durable_shards", len(self.durable))


def has_no_port(address: str) -> bool:
    """Whether this is a host alone: a name, an IPv4 address or an IPv6 address in brackets."""
    return ":" not in address or address.endswith("]")


def is_somewhere(address: str) -> bool:
    """Whether HOST:PORT can be dialled: it is not all addresses of a machine, nor a port yet to be had."""
    host, _, port = address.rpartition(":")
    return host not in EVERYWHERE and port != "0"


class Worker(Struct, frozen=True, forbid_unknown_fields=True):
    """Which process of a host a node is; told to each by their parent (`workers`), and no setting of its own.

    The default is the only process of its host.
    """

    number: NotNegative = 0  # from 0; only number 0 serves what the host has once: `admin.sock`
    count: Positive = 1  # more than one: `listen` and `cluster_listen` are bound with SO_REUSEPORT
    host: str = ""  # the `node` of the host's settings, which stands in its files; "" = this node's own name
    secret: str = ""  # of the cluster, where the parent made it: then there is no cluster_secret_file
    feed_token: str = ""  # of who feeds the demo from one of these processes: it may come to any of them

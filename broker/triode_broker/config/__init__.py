"""Every limit and default of the broker: name, unit, meaning. There is no second place for what can be set.

How much of something one turn of the loop takes at most (bytes of a read, records of a page) is no setting and
stands where it is used; bounds that the protocol itself fixes stand in `triode_protocol`.

Records only: reading files, environment and flags is the command line's business (`cli.settings`). The defaults
here are what the documentation and `triode serve --check` print. The sections stand in files of their own; all
import them from here.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from triode_broker.config.access import (
    DEFAULT_QUOTAS,
    NOT_SAID,
    Allowance,
    Auth,
    Filters,
    Permission,
    Quota,
    TenantName,
    Tls,
    TokenKey,
)
from triode_broker.config.limits import Limits
from triode_broker.config.numbers import MAX_INTEGER, NotNegative, Positive, Retention
from triode_broker.config.operating import Admin, Tracing, Webhook
from triode_broker.config.topics import (
    BY_STORAGE,
    DEAD_LETTER_RULE,
    DEAD_LETTER_RULE_IN_MEMORY,
    EVENTS_RULE,
    EVENTS_RULE_IN_MEMORY,
    RETENTION,
    TopicRule,
)

__all__ = [
    "BY_STORAGE",
    "CLUSTER_PORT",
    "DEAD_LETTER_RULE",
    "DEAD_LETTER_RULE_IN_MEMORY",
    "DEFAULT_CLUSTER_LISTEN",
    "DEFAULT_QUOTAS",
    "DELIVERY_OVERHEAD_BYTES",
    "EVENTS_RULE",
    "EVENTS_RULE_IN_MEMORY",
    "EVERYWHERE",
    "GC_THRESHOLDS",
    "MAX_INTEGER",
    "MAX_SHARDS",
    "MAX_SOCKET_PATH_BYTES",
    "MAX_WORKERS",
    "NOT_SAID",
    "RETENTION",
    "SOCKET_NAME",
    "Admin",
    "Allowance",
    "Auth",
    "Config",
    "Filters",
    "Limits",
    "NodeName",
    "NotNegative",
    "Permission",
    "Positive",
    "Quota",
    "Retention",
    "TenantName",
    "Tls",
    "TokenKey",
    "TopicRule",
    "Tracing",
    "Webhook",
    "Worker",
    "has_no_port",
    "is_somewhere",
]

#: Allocations before the garbage collector looks, and how often it looks at all it knows (Python: 700, 10, 10).
GC_THRESHOLDS = (50_000, 20, 100)

#: The administration socket: its name in the data directory, and how long a Unix socket's path may be on Linux
#: (elsewhere a few bytes less).
SOCKET_NAME = "admin.sock"
MAX_SOCKET_PATH_BYTES = 107

#: What a `delivery` adds at most to the packet that was published, in bytes: place, times, names.
DELIVERY_OVERHEAD_BYTES = 1_024


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

    listen: str = "127.0.0.1:7400"  # HOST:PORT for clients
    advertise: str = ""  # ws:// or wss:// URL where clients reach this node, told to those of others; "" = unknown
    workers: Annotated[int, Meta(ge=0, le=MAX_WORKERS)] = 1  # processes, each a node; 0 = one per core
    node: NodeName = "n1"  # its name in answers, logs and the cluster: another for each node
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
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # what is below is not logged
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
    admin: Admin = Admin()
    tracing: Tracing = Tracing()
    tokens: tuple[TokenKey, ...] = field(default_factory=tuple)
    permissions: tuple[Permission, ...] = field(default_factory=tuple)
    webhooks: tuple[Webhook, ...] = field(default_factory=tuple)
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

"""When a changed setting takes effect, for each of them: what a reload takes, and what waits for the next start.

Knows names of settings and nothing of who reads them. The surprising decision: what is not listed here waits. So
a setting that is new in this program waits too, until somebody has thought about it (S14).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args

from msgspec import Struct, StructMeta
from msgspec.structs import fields, force_setattr, replace

from triode_broker.config.limits import Limits

#: At once, for what is there too; for what begins from then on (connections, subscriptions, links); at the start.
Effect = Literal["reload", "new", "restart"]
EFFECTS: Final = get_args(Effect)

#: Limits that both sides of a connection were told or agreed on, or that are built into what runs: a connection
#: that is open would be cut by a change, or would cut itself.
_LIMITS_THAT_WAIT: Final = frozenset({
    "max_frame_bytes", "ping_ms",  # clients were told
    "max_peer_message_bytes", "peer_ping_ms", "peer_silent_ms", "peer_closed_ms",  # nodes count on them
    "max_callouts",  # as many connections to who is asked
})  # fmt: skip
_LIMITS_OF_THE_NEW: Final = frozenset({
    "max_packet_bytes", "max_fragments", "max_will_delay_ms", "max_peer_outbox_bytes",
    "max_wildcard_subscriptions", "max_subscriptions", "max_presence_state_bytes",
    "max_message_headers", "max_message_header_bytes",
    "default_window", "max_window", "default_ack_wait_ms", "max_ack_wait_ms", "default_max_attempts",
    "max_attempts", "max_consumer_bytes",
    "max_connections", "max_handshakes", "max_address_connections", "max_topic_bytes", "max_topic_levels",
    "max_delay_seconds", "max_consumers", "max_consumer_members", "max_presence_members", "max_revocations",
    "max_connect_bytes", "max_before_connect_bytes", "max_head_bytes", "max_headers", "max_conflated_bytes",
})  # fmt: skip


def _of_limit(name: str) -> Effect:
    if name in _LIMITS_THAT_WAIT:
        return "restart"
    return "new" if name in _LIMITS_OF_THE_NEW else "reload"


_LISTED: Final[Mapping[str, Effect]] = {
    **{f"limits.{one.name}": _of_limit(one.name) for one in fields(Limits)},
    "seeds": "reload",
    "log_level": "reload",
    "log_format": "reload",
    "insecure": "reload",
    "origins": "new",
    "trusted_proxies": "new",
    "compression": "new",
    "tokens": "reload",
    "permissions": "reload",
    "quotas": "reload",
    "webhooks": "reload",
    "topics": "reload",
    **dict.fromkeys(("tls.certificate", "tls.key", "tls.client_ca", "tls.client_certificates"), "new"),
    **dict.fromkeys(("cluster_tls.certificate", "cluster_tls.key", "cluster_tls.client_ca"), "new"),
    **dict.fromkeys(("auth.notice_seconds", "auth.query_token"), "new"),
    "auth.anonymous": "reload",
    "auth.api_keys_file": "reload",
    "auth.leeway_seconds": "reload",
    "auth.max_token_seconds": "reload",
    "auth.certificates": "reload",
    "auth.callout_secret_file": "reload",
    "auth.callout_secret_env": "reload",
    "auth.callout_timeout_ms": "reload",
    "auth.callout_cache_seconds": "reload",
    "auth.callout_failures": "reload",
    "auth.callout_pause_ms": "reload",
}


def effect_of(name: str) -> Effect:
    """When this setting takes effect, `limits.ping_ms` for one; of lists of rows, by their name."""
    return _LISTED.get(name, "restart")


def is_table(record: object) -> bool:
    """Whether this field's type, or its value, is a table of settings of its own."""
    return isinstance(record, StructMeta | Struct)


def names(record: type[Struct], prefix: str = "") -> Iterator[str]:
    """All settings, those of tables as `table.name`."""
    for one in fields(record):
        if is_table(one.type):
            yield from names(one.type, f"{prefix}{one.name}.")
        else:
            yield prefix + one.name


def value_of(config: Struct, name: str) -> Any:
    """Of one setting."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def put(config: Struct, changes: Mapping[str, Any]) -> Any:
    """The same settings with others in their places, by name."""
    direct: dict[str, Any] = {name: value for name, value in changes.items() if "." not in name}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        table, dot, rest = name.partition(".")
        if dot:
            nested.setdefault(table, {})[rest] = value
    for table, values in nested.items():
        direct[table] = put(getattr(config, table), values)
    return replace(config, **direct)


def alive(limits: Limits) -> Limits:
    """One node's own copy, which all its parts hold and read where they use it, and which `follow` changes."""
    return replace(limits)


def follow(living: Limits, read: Limits) -> list[str]:
    """The values of `read` in `living`, in one step; the names of those that are others now."""
    changed = [name for name in Limits.__struct_fields__ if getattr(living, name) != getattr(read, name)]
    for name in changed:
        force_setattr(living, name, getattr(read, name))
    return changed

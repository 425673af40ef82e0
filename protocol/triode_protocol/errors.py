"""Error names, close codes and gap reasons. Generated from registry.json: edit that, then
`make generate`."""

from enum import IntEnum, StrEnum
from typing import Final


class ErrorName(StrEnum):
    """What went wrong (SPEC 5.1)."""

    MALFORMED = "malformed"
    BAD_STATE = "bad_state"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    BAD_TOPIC = "bad_topic"
    UNAUTHORIZED = "unauthorized"
    TOKEN_EXPIRED = "token_expired"
    REVOKED = "revoked"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    OVERLOADED = "overloaded"
    INFLIGHT = "inflight"
    CONFLICT = "conflict"
    NO_SUCH_SUBSCRIPTION = "no_such_subscription"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class CloseCode(IntEnum):
    """Why the connection ends (SPEC 5.3)."""

    PROTOCOL = 4000
    AUTH_FAILED = 4001
    REVOKED = 4002
    FORBIDDEN_ORIGIN = 4003
    REPLACED = 4005
    KICKED = 4006
    SHUTDOWN = 4100
    INTERNAL = 4101
    OVERLOADED = 4102
    CONNECTION_LIMIT = 4103
    SLOW_CONSUMER = 4104
    PING_TIMEOUT = 4105
    CONNECT_TIMEOUT = 4106
    SENT_AWAY = 4107
    DRAINING = 4200
    TOKEN_EXPIRED = 4201


class GapReason(StrEnum):
    """Why messages are missing (SPEC 4.6)."""

    RETENTION = "retention"
    SLOW = "slow"
    PARTITION = "partition"
    RESET = "reset"
    PERMISSION = "permission"


#: What a client does about an error (SPEC 5.1).
RETRY: Final[dict[str, str]] = {
    "malformed": "never",
    "bad_state": "never",
    "unsupported": "never",
    "too_large": "never",
    "bad_topic": "never",
    "unauthorized": "reauth",
    "token_expired": "reauth",
    "revoked": "never",
    "forbidden": "never",
    "rate_limited": "backoff",
    "quota": "never",
    "overloaded": "backoff",
    "inflight": "backoff",
    "conflict": "never",
    "no_such_subscription": "never",
    "unavailable": "backoff",
    "timeout": "backoff",
    "internal": "backoff",
}

#: What a client does after a close: first code, last code, action (SPEC 5.3).
CLOSE_RANGES: Final = (
    (4000, 4099, "stop"),
    (4100, 4199, "backoff"),
    (4200, 4299, "once"),
)

#: Who ends a connection with it (docs/disconnects.md).
INITIATORS: Final[dict[int, str]] = {
    4000: "server",
    4001: "server",
    4002: "operator",
    4003: "server",
    4005: "client",
    4006: "operator",
    4100: "operator",
    4101: "server",
    4102: "server",
    4103: "server",
    4104: "server",
    4105: "network",
    4106: "server",
    4107: "operator",
    4200: "operator",
    4201: "server",
}

#: Why, in a sentence.
MEANINGS: Final[dict[int, str]] = {
    4000: "The client broke the protocol.",
    4001: "No valid credential.",
    4002: "The credential was withdrawn.",
    4003: "Pages of this origin may not connect.",
    4005: "Another connection named this one in `replaces`.",
    4006: "An operator has ended the connection.",
    4100: "The broker is going down.",
    4101: "A fault of the broker.",
    4102: "The broker cannot keep up.",
    4103: "Too many connections.",
    4104: "The client did not read what it was sent in time.",
    4105: "Nothing was heard from the client for two ping intervals.",
    4106: "No connect packet arrived in time.",
    4107: "An operator has ended the connection: come back later, maybe to another node.",
    4200: "This node is being taken out of service.",
    4201: "The token has expired: refresh it first.",
}

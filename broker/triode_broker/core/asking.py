"""What a subscribe must satisfy that asks for an acknowledged subscription (SPEC 9.1).

Pure checks on one packet; every refusal names its field.
"""

import attrs
from msgspec import UNSET
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Subscribe
from triode_protocol.topics import BadTopic, check_topic, is_reserved, is_wildcard, matches

from triode_broker.config import Limits
from triode_broker.core.awaiting import RETRY_QUEUE_MS
from triode_broker.core.dead_letters import topic_of
from triode_broker.core.events import HOOK, METHOD
from triode_broker.core.identity import BEHIND_A_NODE
from triode_broker.core.start import check_start
from triode_broker.core.tenants import name_inside, name_outside

MAX_NAME_BYTES = 64
#: History requests of one connection that wait for a disk; and reads of subscriptions, those that have ended
#: included, for each that it may have.
MAX_HISTORIES = 16
QUESTIONS_A_SUBSCRIPTION = 2


@attrs.frozen
class Asked:
    """The name a subscribe asks for."""

    name: str  # as the core knows it
    field: str  # the one it stood in: durable or group
    is_durable: bool
    is_shared: bool
    window: int


def is_acknowledged(packet: Subscribe) -> bool:
    """Whether a subscribe asks for acknowledgements. Raises Refused for fields that belong to one that does."""
    if packet.durable or packet.group:
        return True
    if packet.shared:
        raise Refused(ErrorName.MALFORMED, "shared needs durable", field="shared")
    for field in ("window", "ack_wait_ms", "max_attempts"):
        if getattr(packet, field):
            raise Refused(ErrorName.MALFORMED, f"{field} needs durable or group", field=field)
    return False


def check_asked(packet: Subscribe, limits: Limits, tenant: str = "") -> Asked:
    """What it asks for, within the limits, as a client says it. Raises Refused; the filter was checked."""
    _check_fields(packet)
    field = "durable" if packet.durable else "group"
    name = packet.durable or packet.group
    _check_name(name, field)
    for limited, limit in (
        ("window", limits.max_window),
        ("ack_wait_ms", limits.max_ack_wait_ms),
        ("max_attempts", limits.max_attempts),
    ):
        if getattr(packet, limited) > limit:
            raise Refused(ErrorName.MALFORMED, f"{limited} is at most {limit}", field=limited)
    check_start(packet, is_wildcard(packet.filter))
    if packet.from_ == "last":
        message = 'from "last" is not for acknowledged subscriptions'
        raise Refused(ErrorName.UNSUPPORTED, message, field="from")
    if matches(packet.filter, topic_of(name)):
        message = "it would be fed its own dead letters: choose another name"
        raise Refused(ErrorName.MALFORMED, message, field=field)
    is_durable = field == "durable"
    window = packet.window or limits.default_window
    return Asked(name_inside(tenant, name), field, is_durable, packet.shared or not is_durable, window)


def _check_fields(packet: Subscribe) -> None:
    if packet.durable and packet.group:
        raise Refused(ErrorName.MALFORMED, "give durable or group, not both", field="group")
    if packet.shared and not packet.durable:
        raise Refused(ErrorName.MALFORMED, "shared needs durable: a group is shared", field="shared")
    if packet.overflow is not UNSET:
        message = "overflow is not for acknowledged subscriptions: the server waits"
        raise Refused(ErrorName.MALFORMED, message, field="overflow")
    if packet.presence is not UNSET:
        raise Refused(ErrorName.MALFORMED, "presence is not for acknowledged subscriptions", field="presence")


def _check_name(name: str, field: str) -> None:
    try:
        check_topic(name, 1, MAX_NAME_BYTES)
    except BadTopic as error:
        raise Refused(ErrorName.MALFORMED, f"not a name: {error}", field=field) from None
    if is_reserved(name):
        raise Refused(ErrorName.MALFORMED, "a name does not begin with $", field=field)


def check_name(method: str, asked: Asked) -> None:
    """Raise Refused where a client asks for a name of the broker's own."""
    if name_outside(asked.name).startswith(HOOK) and method not in (METHOD, BEHIND_A_NODE):
        raise Refused(ErrorName.FORBIDDEN, f"names that begin with {HOOK} are the broker's own", field=asked.field)


def check_questions(count: int, limit: int) -> None:
    """Answers from a disk come later, whatever the outbox holds by then: so few are asked for at a time (G6)."""
    if count >= limit:
        message = "too many requests of this connection wait for the disk: wait for their answers"
        raise Refused(ErrorName.INFLIGHT, message, retry_after_ms=RETRY_QUEUE_MS)

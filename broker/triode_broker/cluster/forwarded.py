"""Forwarded: what both sides of a forwarded publish share (`cluster.forwarding`, `cluster.accepting`).

Pure. Knows neither side. The surprising decision: the window is no setting, for nodes agree on it: the owner keeps
as many answers as the entry node may ask for again, and whoever sends more is a broken peer.
"""

from typing import Protocol

from msgspec import Raw
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import ABSENT, Publish, Published

from triode_broker.cluster.frames import Answer, Forwarded, Frame, Refusal

#: Publishes of one shard that an entry node has accepted and not settled; the owner keeps as many answers.
WINDOW_MESSAGES = 4_096
#: Their bytes.
WINDOW_BYTES = 4_194_304
#: When a publisher may try again, in ms: a memory shard is claimed within seconds, a window drains in no time.
RETRY_OWNER_MS = 1_000
RETRY_WINDOW_MS = 100

MOVED = "moved"


class Link(Protocol):
    """What is needed of `cluster.link`: frames leave in order; on a closed link `put` does nothing."""

    def put(self, frame: Frame) -> None:
        """Send it, some time."""

    @property
    def is_full(self) -> bool:
        """Whether what can wait is to wait; much beyond that the link is closed."""


class Flushing(Protocol):
    """Something with frames to put, once in a turn."""

    def flush(self) -> None:
        """Put them."""


class RefusedThere(Refused):
    """The owner refused it: its words, and its advice whether to try again."""

    def __init__(self, refusal: Refusal) -> None:
        try:
            name = ErrorName(refusal.name)
        except ValueError:  # a newer node's
            name = ErrorName.INTERNAL
        super().__init__(name, refusal.message, field=refusal.field, retry_after_ms=refusal.retry_after_ms)
        self._retry = refusal.retry

    @property
    def retry(self) -> str:
        """What the client does about it."""
        return self._retry


def packet_of(forwarded: Forwarded, id: int) -> Publish:
    """The packet that travelled."""
    return Publish(
        forwarded.topic,
        Raw(forwarded.data) if forwarded.data else ABSENT,
        id,
        forwarded.message_id,
        forwarded.key,
        forwarded.headers,
        Raw(forwarded.b64) if forwarded.b64 else ABSENT,
        forwarded.ttl_ms,
        forwarded.deliver_at_ms,
    )


def answer_of(packet: Published) -> Answer:
    """The answer on its way back; the packet's id is the number."""
    return Answer(
        packet.id,
        packet.log,
        packet.pos,
        packet.offset,
        packet.level,
        packet.duplicate,
        packet.delayed,
    )


def too_many(limit: int) -> Refused:
    """Of one connection."""
    message = f"more than {limit} publishes in flight: wait for their answers"
    return Refused(ErrorName.INFLIGHT, message, retry_after_ms=RETRY_WINDOW_MS)


def unknown() -> Refused:
    """It was written, and nobody said what became of it (G2)."""
    message = "outcome unknown: send it again with the same message_id"
    return Refused(ErrorName.TIMEOUT, message, retry_after_ms=RETRY_OWNER_MS)


def overloaded() -> Refused:
    """The window is full."""
    message = "the node that owns this topic cannot keep up: publish more slowly"
    return Refused(ErrorName.OVERLOADED, message, retry_after_ms=RETRY_WINDOW_MS)


def unavailable() -> Refused:
    """It was never written, or surely not applied (G2)."""
    message = "the node that owns this topic is not reached"
    return Refused(ErrorName.UNAVAILABLE, message, retry_after_ms=RETRY_OWNER_MS)


def moving() -> Refused:
    """A hand-over takes too long."""
    message = "this topic is being handed over to another node"
    return Refused(ErrorName.OVERLOADED, message, retry_after_ms=RETRY_WINDOW_MS)

"""Topics of the broker's own: which rule holds for them, and how a message of the broker's own gets its place.

Dead letters are kept by the place they come from, events (`core.events`) in the order in which they happen. The
surprising decision: events have message ids. Several nodes may notice the same end of a node, and each of them
says so; the shard keeps one.
"""

from collections.abc import Callable
from typing import Final

from triode_protocol.packets import Publish, Published
from triode_protocol.topics import matches

from triode_broker.config import (
    DEAD_LETTER_RULE,
    DEAD_LETTER_RULE_IN_MEMORY,
    EVENTS_RULE,
    EVENTS_RULE_IN_MEMORY,
    TopicRule,
)
from triode_broker.core.dead_letters import name_of
from triode_broker.core.interfaces import Publisher
from triode_broker.core.message_ids import Remembered, check_same, digest_of
from triode_broker.core.policy import Policies
from triode_broker.core.record import Record
from triode_broker.core.shard import Topic
from triode_broker.core.tenants import is_own, outside

_EVENTS: Final = EVENTS_RULE.filter


def is_known(topic: str) -> bool:
    """Whether nodes publish there for each other: dead letters, events."""
    return bool(name_of(topic)) or (is_own(topic) and matches(_EVENTS, outside(topic)))


def rule_of(policies: Policies, name: str, *, is_on_disk: bool) -> TopicRule:
    """Of a topic of the core that is the broker's own: what the settings say, else what holds for its kind."""
    if matches(_EVENTS, outside(name)):
        return policies.of(name, EVENTS_RULE if is_on_disk else EVENTS_RULE_IN_MEMORY)
    return policies.of(name, DEAD_LETTER_RULE if is_on_disk else DEAD_LETTER_RULE_IN_MEMORY)


def accept(
    topic: Topic,
    packet: Publish,
    user: str,
    now_ms: int,
    publisher: Publisher,
    deliver: Callable[[Record], None],
) -> Published | None:
    """Give it its place, or have that done; None: the publisher is answered later. Raises Refused."""
    shard = topic.shard
    if shard.acceptor is not None:
        return shard.acceptor.accept(topic, packet, user, publisher, now_ms)
    remembered: Remembered | None = None
    if packet.message_id and topic.rule.dedupe_seconds:
        key = (topic.name, user, packet.message_id)
        if (first := shard.ids.find(key, now_ms)) is not None:
            check_same(first, digest_of(packet))
            return Published(packet.id, shard.log.name, first.pos, first.offset, shard.log.level, True)
        remembered = Remembered(key, digest_of(packet), 0, 0, now_ms + topic.rule.dedupe_seconds * 1000)
    record = shard.accept(topic, packet, user, now_ms, remembered)
    if remembered is not None:
        shard.ids.remember(remembered)
    deliver(record)
    return Published(packet.id, shard.log.name, record.pos, record.offset, shard.log.level)

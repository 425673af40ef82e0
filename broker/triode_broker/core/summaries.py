"""Summaries: what an operator sees of one name (`triode subs`). Reads, changes nothing."""

from itertools import chain, islice

from triode_broker.core.consumer import Consumer
from triode_broker.core.dead_letters import topic_of
from triode_broker.core.source import Source
from triode_broker.core.tenants import name_outside, outside, tenant_of_name

#: Pending messages and members that one answer tells of.
MAX_SHOWN = 100


def summary(consumer: Consumer) -> dict[str, object]:
    """One name in a few words. `lag` counts places of the logs, so also what the filter does not match."""
    return {
        "name": name_outside(consumer.name),
        "tenant": tenant_of_name(consumer.name),
        "kind": consumer.kind,
        "filter": outside(consumer.filter),
        "members": len(consumer.members),
        "in_flight": sum(len(member.held) for member in consumer.members),
        "pending": sum(len(source.items) + len(source.restored) for source in consumer.sources),
        "lag": sum(_lag(source) for source in consumer.sources),
        "dead_letters": consumer.letters,
    }


def details(consumer: Consumer) -> dict[str, object]:
    """Everything about one name; at most MAX_SHOWN of its members and of what is pending."""
    positions = {log: _position(source) for log, source in consumer.by_log.items()}
    gaps = {log: (source.gap_at, source.gap_reason) for log, source in consumer.by_log.items()}
    return {
        **summary(consumer),
        "ack_wait_ms": consumer.ack_wait_ms,
        "max_attempts": consumer.max_attempts,
        "dead_letter_topic": outside(topic_of(consumer.name)),
        "created_ms": consumer.created_ms,
        "seen_ms": consumer.seen_ms,
        "positions": positions,
        "gaps": {log: {"after": at, "reason": reason} for log, (at, reason) in gaps.items() if reason},
        "members": [
            {
                "connection": member.connection_id,
                "sub": member.number,
                "window": member.window,
                "in_flight": len(member.held),
            }
            for member in islice(consumer.members, MAX_SHOWN)
        ],
        "pending": _pending(consumer),
    }


def _lag(source: Source) -> int:
    return source.shard.log.head() - source.floor


def _position(source: Source) -> dict[str, int]:
    head = source.shard.log.head()
    return {"settled": source.floor, "taken": source.taken, "head": head, "lag": _lag(source)}


def _pending(consumer: Consumer) -> list[dict[str, object]]:
    """The oldest unsettled ones of each log: where, which attempt is next or under way, and who has it."""
    found: list[dict[str, object]] = []
    for log, source in consumer.by_log.items():
        places = sorted(chain(source.items, source.restored))
        for pos in places[: MAX_SHOWN - len(found)]:
            item = source.items.get(pos)
            found.append(
                {
                    "log": log,
                    "pos": pos,
                    "topic": outside(item.record.topic) if item is not None else "",
                    "attempt": item.attempt if item is not None else source.restored[pos].failed + 1,
                    "holder": item.holder.connection_id if item is not None and item.holder is not None else "",
                }
            )
    return found

"""The table of administration calls: durable subscriptions and groups, and dead letters.

Checks parameters, calls the core, says what it answers as plain data; formats nothing. Each call ends with a
flush, because what it caused (an `unsubscribed`, a delivery) waits in outboxes of the edge.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from triode_protocol.packets import Position, Start

from triode_broker.admin.asking import ask
from triode_broker.admin.dead import DeadLetters
from triode_broker.admin.listener import BadCall, Call
from triode_broker.core.consumer import Consumer
from triode_broker.core.consumers import Consumers
from triode_broker.core.dead_letters import topic_of
from triode_broker.core.item import State
from triode_broker.core.router import Router

MAX_PENDING = 1_000  # shown of one name


def make_calls(
    router: Router, consumers: Consumers, now_ms: Callable[[], int], flush: Callable[[], None]
) -> dict[str, Call]:
    """What the socket offers."""
    subs = Subscriptions(consumers, DeadLetters(router, now_ms), now_ms)
    letters = subs.letters
    plain: dict[str, Call] = {
        "subs.list": subs.list,
        "subs.show": subs.show,
        "subs.rewind": subs.rewind,
        "subs.delete": subs.delete,
        "dead.list": letters.list,
        "dead.retry": letters.retry,
        "dead.drop": letters.drop,
    }
    return {name: partial(_flushed, call, flush) for name, call in plain.items()}


async def _flushed(call: Call, flush: Callable[[], None], parameters: Mapping[str, Any]) -> object:
    try:
        return await call(parameters)
    finally:
        flush()


class Subscriptions:
    """Names for an operator's eyes."""

    def __init__(self, consumers: Consumers, letters: DeadLetters, now_ms: Callable[[], int]) -> None:
        self._consumers = consumers
        self.letters = letters
        self._now_ms = now_ms

    async def list(self, parameters: Mapping[str, Any]) -> object:
        """All names, in order."""
        consumers = [one for _, one in sorted(self._consumers.by_name.items())]
        return [{**_summary(one), "dead_letters": await self.letters.count(one.name)} for one in consumers]

    async def show(self, parameters: Mapping[str, Any]) -> object:
        """One name."""
        consumer = self._consumers.find(name_of(parameters))
        return {**_details(consumer), "dead_letters": await self.letters.count(consumer.name)}

    async def rewind(self, parameters: Mapping[str, Any]) -> object:
        """Go on from another place."""
        name, to = name_of(parameters), parameters.get("to")
        start: str | Start | dict[str, int]
        if to in ("earliest", "new"):
            start = str(to)
        elif isinstance(to, dict) and "after" in to:
            start = msgspec.convert(to["after"], Position)
        else:
            start = msgspec.convert(to, Start)
        question = partial(self._consumers.rewind, name, start, self._now_ms())
        after: dict[str, int] = await ask(question)
        return {"name": name, "after": after}

    async def delete(self, parameters: Mapping[str, Any]) -> object:
        """Forget a name."""
        name = name_of(parameters)

        def question(done: Callable[[bool], None]) -> None:
            self._consumers.delete(name, lambda: done(True))

        await ask(question)
        return {"name": name}


def name_of(parameters: Mapping[str, Any]) -> str:
    """The parameter `name`. Raises BadCall."""
    name = parameters.get("name")
    if not isinstance(name, str) or not name:
        raise BadCall("which name?")
    return name


def _summary(consumer: Consumer) -> dict[str, object]:
    sources = consumer.sources
    return {
        "name": consumer.name,
        "kind": consumer.kind,
        "filter": consumer.filter,
        "members": len(consumer.members),
        "in_flight": sum(len(member.held) for member in consumer.members),
        "pending": sum(len(source.items) + len(source.restored) for source in sources),
        "lag": sum(_lag(source.floor, source.shard.log.head()) for source in sources),
        "seen_ms": consumer.seen_ms,
        "dead_letter_topic": topic_of(consumer.name),
    }


def _lag(settled: int, head: int) -> int:
    """Positions behind the head of the log: its messages, whether or not the filter matches them."""
    return max(head - settled, 0)


def _details(consumer: Consumer) -> dict[str, object]:
    positions, gaps, pending = {}, {}, []
    for log, source in consumer.by_log.items():
        head = source.shard.log.head()
        positions[log] = {
            "settled": source.floor,
            "taken": source.taken,
            "head": head,
            "lag": _lag(source.floor, head),
        }
        if source.gap_reason:
            gaps[log] = {"reason": source.gap_reason, "after": source.gap_at}
        for pos, item in source.items.items():
            holder = item.holder.connection_id if item.holder is not None else ""
            state = State(item.state).name.lower()
            row = {"log": log, "pos": pos, "topic": item.record.topic, "attempt": item.attempt}
            pending.append({**row, "holder": holder, "state": state})
        for pos, (failed, _) in source.restored.items():
            row = {"log": log, "pos": pos, "topic": "", "attempt": failed + 1}
            pending.append({**row, "holder": "", "state": "resting"})
    return {
        **_summary(consumer),
        "ack_wait_ms": consumer.ack_wait_ms,
        "max_attempts": consumer.max_attempts,
        "created_ms": consumer.created_ms,
        "members": [
            {"connection": one.connection_id, "sub": one.number, "window": one.window, "in_flight": len(one.held)}
            for one in consumer.members
        ],
        "positions": positions,
        "gaps": gaps,
        "pending": pending[:MAX_PENDING],
    }

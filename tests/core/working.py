"""What tests of acknowledged subscriptions say and read: workers on a desk."""

from typing import Any

from triode_broker.config import Limits, TopicRule

from tests.core.desk import Desk, Line, Packet

#: Topics d/… are on disk, all others in memory.
DISK = TopicRule(filter="d/#", storage="disk")
LOG = "d0-life"
MEMORY = "m0-life"


def make_desk(*rules: TopicRule, shards: int = 1, **limits: Any) -> Desk:
    """A node with a disk."""
    return Desk(*rules, DISK, limits=Limits(**limits), shards=shards, durable=True)


def types(packets: list[Packet]) -> list[str]:
    """In order."""
    return [packet["type"] for packet in packets]


def given(packets: list[Packet]) -> list[tuple[int, int]]:
    """The deliveries: pos and attempt."""
    return [(one["message"]["pos"], one["attempt"]) for one in packets if one["type"] == "delivery"]


def data(packets: list[Packet]) -> list[Any]:
    """The deliveries: what they carry."""
    return [one["message"]["data"] for one in packets if one["type"] == "delivery"]


def work(desk: Desk, filter: str = "d/#", line: Line | None = None, sub: int = 1, **fields: Any) -> Line:
    """A line that is subscribed; its answer, and nothing behind it, is read."""
    line = line or desk.connect()
    ask(desk, line, filter, sub, **fields)
    return line


def ask(desk: Desk, line: Line, filter: str = "d/#", sub: int = 1, **fields: Any) -> list[Packet]:
    """Everything that comes of a subscribe."""
    packets = line.subscribe(sub, filter, **fields)
    if not packets:
        desk.commit()
        packets = line.drain()
    assert packets[0]["type"] == "subscribed", packets
    return packets


def durable(desk: Desk, name: str = "w", **fields: Any) -> Line:
    """A worker on a durable name."""
    return work(desk, durable=name, **fields)


def shared(desk: Desk, name: str = "w", **fields: Any) -> Line:
    """A worker on a shared name."""
    return work(desk, durable=name, shared=True, **fields)


def group(desk: Desk, name: str = "g", **fields: Any) -> Line:
    """A worker of a group on a topic in memory."""
    return work(desk, **{"filter": "m/#", "group": name, **fields})


def fill(desk: Desk, count: int, topic: str = "d/a", **fields: Any) -> None:
    """Messages that carry 0, 1, 2, …"""
    for number in range(count):
        answer = desk.publish(topic, number, **fields)
        assert answer["type"] == "published", answer


def ack(line: Line, pos: Any, log: str = LOG, sub: int = 1, **fields: Any) -> list[Packet]:
    """Acknowledge; what comes of it."""
    return line.ask({"type": "ack", "sub": sub, "log": log, "pos": pos, **fields})


def nack(line: Line, pos: int, attempt: int = 1, log: str = LOG, sub: int = 1, **fields: Any) -> list[Packet]:
    """Give back; what comes of it."""
    return line.ask({"type": "nack", "sub": sub, "log": log, "pos": pos, "attempt": attempt, **fields})


def extend(line: Line, pos: int, ms: int, attempt: int = 1, log: str = LOG, **fields: Any) -> list[Packet]:
    """Ask for more time; what comes of it."""
    return line.ask({"type": "extend", "sub": 1, "log": log, "pos": pos, "attempt": attempt, "ms": ms, **fields})


def cut(line: Line, code: int = 0) -> None:
    """The connection ends: lost, or with a close."""
    if code:
        line.close(code)
    line.session.detach()


def letters(desk: Desk, name: str = "w") -> list[Packet]:
    """The dead letters of a name."""
    line = desk.connect()
    (page,) = line.ask({"type": "history", "id": 1, "topic": f"$dead/{name}", "limit": 1_000})
    line.session.detach()
    found: list[Packet] = page["messages"]
    return found

"""W3C Trace Context in a message's headers passes unchanged, whatever way the message goes."""

from typing import Any

from triode_broker.config import TopicRule

from tests.core.desk import Desk, Packet

HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1,b=2"}
DISK = TopicRule("disk/#", storage="disk")


def heard(packets: list[Packet]) -> list[Any]:
    """The headers of messages and deliveries."""
    found = [packet.get("message", packet) for packet in packets]
    return [packet["headers"] for packet in found if packet["type"] == "message"]


def test_it_is_in_the_message_and_in_what_is_read_later() -> None:
    desk = Desk()
    live = desk.connect()
    live.subscribe(1, "a")
    desk.publish("a", 1, headers=HEADERS)
    assert heard(live.read()) == [HEADERS]
    late = desk.connect()
    assert heard(late.subscribe(1, "a", from_="earliest")) == [HEADERS]
    history = late.ask_one({"type": "history", "id": 3, "topic": "a", "last": 1})
    assert heard(history["messages"]) == [HEADERS]


def test_it_is_in_the_message_that_was_delayed() -> None:
    desk = Desk(DISK, durable=True)
    for topic in ("later", "disk/later"):
        live = desk.connect()
        live.subscribe(1, topic)
        desk.publish(topic, 1, headers=HEADERS, deliver_at_ms=desk.now_ms + 1_000)
        desk.now_ms += 2_000
        desk.router.tick(desk.now_ms)
        desk.commit()
        assert heard(live.drain()) == [HEADERS]


def test_it_is_in_deliveries_redeliveries_dead_letters_and_after_a_restart() -> None:
    desk = Desk(DISK, durable=True)
    member = desk.connect()
    member.subscribe(1, "disk/a", durable="work", max_attempts=2)
    desk.commit()
    member.drain()
    desk.publish("disk/a", 1, headers=HEADERS)
    seen = member.drain()
    for attempt in (1, 2):
        place = {field: seen[0]["message"][field] for field in ("log", "pos")}
        member.send({"type": "nack", "sub": 1, "attempt": attempt, **place})
        desk.commit()
        seen += member.drain() if attempt == 1 else []
    assert heard(seen) == [HEADERS, HEADERS]
    desk.restart()
    reader = desk.connect()
    letters = reader.ask_one({"type": "history", "id": 3, "topic": "$dead/work", "last": 1})
    (letter,) = heard(letters["messages"])
    assert HEADERS.items() <= letter.items()
    assert heard(reader.subscribe(1, "disk/a", from_="earliest")) == [HEADERS]

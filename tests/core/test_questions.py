"""Requests that a disk answers later: few at a time for one connection, whatever it sends in one frame (G6)."""

from triode_broker.core.asking import MAX_HISTORIES, QUESTIONS_A_SUBSCRIPTION

from tests.core.desk import Desk, Packet
from tests.core.working import make_desk


def late_desk() -> Desk:
    """A node whose disk answers when it is told to, with something to read."""
    desk = make_desk(max_frame_bytes=131_072, max_subscriptions=5)
    for number in range(40):
        desk.publish("d/a", "x" * 8_000 + str(number))
    desk.disk.is_late = True
    return desk


def names(packets: list[Packet]) -> list[str]:
    return [str(packet.get("name", packet["type"])) for packet in packets]


def test_history_requests_beyond_the_first_wait_their_turn_with_the_client() -> None:
    """SPEC 5.2.1: answers that come later cannot be held up, so their number and their size are."""
    desk = late_desk()
    line = desk.connect()
    line.send(*({"type": "history", "id": number, "topic": "d/a"} for number in range(1, 401)))
    refused = line.read()
    assert names(refused) == ["inflight"] * (400 - MAX_HISTORIES)
    assert all(packet["retry_after_ms"] for packet in refused)
    desk.disk.answer()
    items = line.take_items()
    assert len(items) == MAX_HISTORIES
    assert sum(map(len, items)) < 4 * desk.limits.max_frame_bytes
    (again,) = line.ask({"type": "history", "id": 500, "topic": "d/a"}) or [{}]
    desk.disk.answer()
    assert again == {}
    assert names(line.read()) == ["history"], "room again"


def test_subscribing_and_leaving_again_and_again_asks_for_no_more_than_that() -> None:
    """SPEC 5.2.1: what nobody waits for any more is still being read."""
    desk = late_desk()
    line = desk.connect()
    log = desk.disk.name
    most = QUESTIONS_A_SUBSCRIPTION * desk.limits.max_subscriptions
    for number in range(1, 100):
        line.send(
            {"type": "subscribe", "id": 2 * number, "sub": number, "filter": "d/a", "after": {log: 1}},
            {"type": "unsubscribe", "id": 2 * number + 1, "sub": number},
        )
    assert names(line.read()).count("inflight") == 99 - most
    assert line.outbox.questions == most
    desk.disk.answer()
    assert line.outbox.questions == 0
    line.send({"type": "subscribe", "id": 900, "sub": 200, "filter": "d/a", "from": "earliest"})
    desk.disk.answer()
    assert names(line.drain())[0] == "subscribed"

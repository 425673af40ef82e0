"""Several logs that answer later: a wildcard subscription becomes live although publishing never pauses."""

import pytest
from triode_broker.config import Limits

from tests.core.desk import Packet
from tests.core.test_late_logs import LateDesk, begin, types


def two_topics(desk: LateDesk) -> list[str]:
    """One in each log, in their order."""
    found: dict[str, str] = {}
    for number in range(100):
        found.setdefault(desk.router.shard_of(f"t{number}").log.name, f"t{number}")
    return [found[log.name] for log in desk.late]


def busy(limits: Limits | None = None) -> tuple[LateDesk, list[str]]:
    desk = LateDesk(shards=2, limits=limits)
    topics = two_topics(desk)
    for topic in topics * 3:
        desk.publish(topic)
    return desk, topics


def places(packets: list[Packet]) -> list[tuple[str, int]]:
    """Topic and offset of all messages, however they came."""
    messages = [packet.get("message", packet) for packet in packets]
    return [(one["topic"], one["offset"]) for one in messages if one["type"] == "message"]


def test_publishing_between_all_answers_does_not_keep_it_from_live() -> None:
    """G4: each message once, in order."""
    desk, topics = busy()
    line = begin(desk, "#", from_="earliest")
    packets: list[Packet] = []
    for _ in range(20):
        for log in desk.late:
            log.answer()
            for topic in topics:
                desk.publish(topic)
            packets += line.drain()
    assert types(packets).count("caught_up") == 1
    assert types(packets)[-1] == "message"
    for topic in topics:
        assert [offset for name, offset in places(packets) if name == topic] == list(range(1, 44))


def test_messages_of_a_log_that_is_not_read_to_its_end_are_not_taken_twice() -> None:
    desk, (first, second) = busy()
    line = begin(desk, "#", from_="earliest")
    desk.late[0].answer()  # where it begins
    desk.late[1].answer()
    desk.late[0].answer()  # its messages: it is joined
    desk.publish(second)
    desk.publish(first)
    packets = line.drain()
    assert places(packets) == [(first, 1), (first, 2), (first, 3), (first, 4)]
    assert packets[-1]["prev"] == 0
    desk.publish(first)
    assert "prev" not in line.drain()[0]
    desk.answer()
    packets = line.drain()
    assert places(packets) == [(second, 1), (second, 2), (second, 3), (second, 4)]
    assert packets[-1]["type"] == "caught_up"


def test_a_joined_log_is_read_again_where_there_was_no_room() -> None:
    desk, (first, second) = busy(limits=Limits(max_outbox_bytes=2_000))
    line = begin(desk, "#", from_="earliest")
    for log in (0, 1, 0):
        desk.late[log].answer()
    for _ in range(30):
        desk.publish(first)
    packets: list[Packet] = []
    while "caught_up" not in types(packets):
        packets += line.drain()
        desk.answer()
        packets += line.drain()
    assert [offset for name, offset in places(packets) if name == first] == list(range(1, 34))
    assert [offset for name, offset in places(packets) if name == second] == [1, 2, 3]


@pytest.mark.parametrize("ends", ["unsubscribe", "cut"])
def test_one_that_ends_before_it_is_live_is_offered_nothing_more(ends: str) -> None:
    desk, (first, _) = busy()
    line = begin(desk, "#", from_="earliest")
    desk.late[0].answer()
    desk.late[1].answer()
    desk.late[0].answer()
    line.drain()
    if ends == "unsubscribe":
        assert types(line.ask({"type": "unsubscribe", "id": 9, "sub": 1})) == ["unsubscribed"]
    else:
        line.session.detach()
    desk.publish(first)
    desk.answer()
    assert line.drain() == []
    assert desk.router.live_subscriptions == 0

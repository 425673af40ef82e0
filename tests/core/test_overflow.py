"""Slow subscribers: past its bound a subscription follows its own policy and hurts nobody else (G6, G7)."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_protocol.errors import CloseCode

from tests.core.desk import Desk, Line, Packet

LOG = "m0-life"
LIMITS = Limits(max_outbox_bytes=3_000)
BIG = "x" * 700  # three fit into an outbox, four do not


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def handed(packets: list[Packet]) -> list[int]:
    messages = (packet.get("message", packet) for packet in packets)
    return [message["pos"] for message in messages if message["type"] == "message"]


def listener(desk: Desk, filter: str = "a", **fields: Any) -> Line:
    line = desk.connect()
    line.subscribe(1, filter, **fields)
    return line


def fill(desk: Desk, count: int, topic: str = "a") -> None:
    for _ in range(count):
        desk.publish(topic, BIG)


def test_replay_is_the_default_and_catches_up_from_the_log() -> None:
    """SPEC 3.2.11, 4.4.1, I5, I6: nothing lost, nothing twice."""
    desk = Desk(limits=LIMITS)
    line = listener(desk)
    fill(desk, 6)
    packets = line.read()
    assert types(packets) == ["message", "message", "message", "catching_up"]
    assert packets[-1] == {"type": "catching_up", "sub": 1, "after": {LOG: 3}, "reason": "slow"}
    packets += line.drain()
    assert types(packets)[4:] == ["delivery", "delivery", "delivery", "caught_up"]
    assert packets[-1]["after"] == {LOG: 6}
    assert handed(packets) == [1, 2, 3, 4, 5, 6]
    desk.publish("a")
    assert types(line.drain()) == ["message"]


def test_replay_says_what_retention_took_meanwhile() -> None:
    """SPEC 3.2.11, 4.6.1."""
    desk = Desk(TopicRule(retention_messages=2), limits=Limits(max_outbox_bytes=3_000, recent_bytes=0))
    line = listener(desk)
    fill(desk, 8)
    packets = line.drain()
    assert types(packets)[3:] == ["catching_up", "gap", "delivery", "delivery", "caught_up"]
    assert (packets[4]["reason"], packets[4]["after"]) == ("retention", {LOG: 3})
    assert handed(packets) == [1, 2, 3, 7, 8]


def test_gap_says_what_it_leaves_out_and_goes_on_from_the_head() -> None:
    """SPEC 3.2.11, 4.6.1."""
    desk = Desk(limits=LIMITS)
    line = listener(desk, overflow="gap")
    fill(desk, 6)
    packets = line.drain()
    assert types(packets) == ["message", "message", "message", "catching_up", "gap", "caught_up"]
    assert packets[3]["after"] == {LOG: 3}
    assert packets[4] == {"type": "gap", "sub": 1, "after": {LOG: 6}, "reason": "slow", "topic": "a"}
    assert packets[5]["after"] == {LOG: 6}
    desk.publish("a")
    assert handed(line.drain()) == [7]


def test_gap_of_a_wildcard_names_no_topic() -> None:
    """SPEC 4.6.3."""
    desk = Desk(limits=LIMITS)
    line = listener(desk, "+", overflow="gap")
    fill(desk, 4)
    (gap,) = [packet for packet in line.drain() if packet["type"] == "gap"]
    assert "topic" not in gap


def test_gap_waits_for_room() -> None:
    desk = Desk(limits=LIMITS)
    line = listener(desk, overflow="gap")
    fill(desk, 4)
    line.room()
    assert line.outbox.wants_room, "the outbox is still full"
    assert types(line.drain())[-2:] == ["gap", "caught_up"]


def test_disconnect_ends_the_connection_with_4104() -> None:
    """SPEC 3.2.11."""
    desk = Desk(limits=LIMITS)
    line, other = listener(desk, overflow="disconnect"), listener(desk)
    fill(desk, 3)
    assert line.closed_with == 0
    other.drain()
    fill(desk, 1)
    assert line.closed_with == CloseCode.SLOW_CONSUMER
    fill(desk, 1)
    assert types(line.read()) == ["message"] * 3, "nothing more is put in"
    assert handed(other.drain()) == [4, 5]


def test_slow_connection_does_not_concern_others() -> None:
    """G7, SPEC 8.6."""
    desk = Desk(limits=LIMITS)
    slow, quick = listener(desk), listener(desk)
    found: list[int] = []
    for _ in range(10):
        fill(desk, 1)
        found += handed(quick.drain())
    assert found == list(range(1, 11))
    assert desk.router.statistics.overflows == 1
    assert handed(slow.drain()) == found


def test_delivered_counts_what_went_into_outboxes() -> None:
    desk = Desk(limits=LIMITS)
    listener(desk)
    listener(desk, "+")
    fill(desk, 4)
    assert (desk.router.delivered, desk.router.statistics.overflows) == (6, 2)


def test_many_that_stall_at_once_all_follow_their_policy() -> None:
    desk = Desk(limits=LIMITS)
    lines = [listener(desk, ("a", "+", "#")[number % 3]) for number in range(30)]
    fill(desk, 5)
    for line in lines:
        packets = line.drain()
        assert types(packets)[3] == "catching_up"
        assert handed(packets) == [1, 2, 3, 4, 5]


# Several subscriptions on one connection


def test_only_the_subscriptions_that_match_leave_live() -> None:
    """SPEC 3.2.11: each live subscription for which the message was refused, no other."""
    desk = Desk(limits=LIMITS)
    line = desk.connect()
    for sub, filter in enumerate(("a", "b", "#"), start=1):
        line.subscribe(sub, filter)
    fill(desk, 4)
    left = [packet["sub"] for packet in line.read() if packet["type"] == "catching_up"]
    assert left == [1, 3]
    assert desk.router.live_subscriptions == 1
    desk.publish("b")
    assert types(line.read()) == ["message"], "it is live still"


def test_smaller_message_still_fits_for_a_subscription_that_stayed() -> None:
    """SPEC 4.3.7: sub 1 is not live and ignores it; it gets its own by delivery."""
    desk = Desk(limits=LIMITS)
    line = desk.connect()
    line.subscribe(1, "a")
    line.subscribe(2, "b")
    fill(desk, 4)
    desk.publish("b", "small")
    packets = line.drain()
    assert types(packets) == ["message"] * 3 + ["catching_up", "message", "delivery", "caught_up"]
    assert (packets[4]["topic"], packets[5]["sub"], packets[5]["message"]["topic"]) == ("b", 1, "a")


def test_subscriptions_of_one_connection_follow_each_its_own_policy() -> None:
    """SPEC 3.2.11."""
    desk = Desk(limits=LIMITS)
    line = desk.connect()
    line.subscribe(1, "a", overflow="replay")
    line.subscribe(2, "a", overflow="gap")
    fill(desk, 5)
    packets = line.drain()
    told = {sub: types([one for one in packets if one.get("sub") == sub]) for sub in (1, 2)}
    assert told == {
        1: ["catching_up", "delivery", "delivery", "caught_up"],
        2: ["catching_up", "gap", "caught_up"],
    }


def test_one_subscription_that_wants_to_end_ends_the_connection() -> None:
    """SPEC 3.2.11: overflow disconnect is the connection's end, whatever the others want."""
    desk = Desk(limits=LIMITS)
    line = desk.connect()
    line.subscribe(1, "a", overflow="replay")
    line.subscribe(2, "+", overflow="disconnect")
    fill(desk, 4)
    assert line.closed_with == CloseCode.SLOW_CONSUMER


def test_position_of_the_other_logs_is_their_head() -> None:
    """SPEC 4.4.1, 2.5: a whole position; only in the log of the refused message is it before the head."""
    desk = Desk(limits=LIMITS, shards=2)
    line = listener(desk, "#")
    logs = {topic: desk.publish(topic)["log"] for topic in "abcdefgh"}
    a_log = logs["a"]
    (other_log,) = {log for log in logs.values() if log != a_log}
    line.drain()
    heads = desk.router.heads()
    fill(desk, 5)
    (left,) = [packet for packet in line.read() if packet["type"] == "catching_up"]
    assert left["after"] == {a_log: heads[a_log] + 3, other_log: heads[other_log]}
    assert handed(line.drain()) == [heads[a_log] + 4, heads[a_log] + 5]


# Bounds and ends


def test_outbox_stays_under_its_bound_but_for_state_packets() -> None:
    """G6, I13: messages never pass it."""
    desk = Desk(limits=LIMITS)
    line = listener(desk)
    for _ in range(50):
        fill(desk, 1)
    assert line.outbox.size <= 3_000 + 200


def test_replies_go_in_when_the_outbox_is_full() -> None:
    """G6, SPEC 1.16: never dropped."""
    desk = Desk(limits=LIMITS)
    line = listener(desk)
    fill(desk, 4)
    line.send({"type": "ping", "id": 5}, {"type": "unsubscribe", "id": 6, "sub": 1})
    assert types(line.read())[-2:] == ["pong", "unsubscribed"]


def test_message_larger_than_the_bound_still_arrives_by_replay() -> None:
    """SPEC 8.5: accepted is not dropped."""
    desk = Desk(limits=Limits(max_outbox_bytes=500))
    line = listener(desk)
    fill(desk, 2)
    packets = line.drain()
    assert types(packets) == ["catching_up", "delivery", "delivery", "caught_up"]


@pytest.mark.parametrize("overflow", ["replay", "gap"])
def test_unsubscribe_while_slow_ends_it(overflow: str) -> None:
    """SPEC 3.3.1."""
    desk = Desk(limits=LIMITS)
    line = listener(desk, overflow=overflow)
    fill(desk, 4)
    line.read()
    assert types(line.ask({"type": "unsubscribe", "sub": 1})) == ["unsubscribed"]
    desk.publish("a")
    assert line.drain() == []


@pytest.mark.parametrize("overflow", ["replay", "gap", "disconnect"])
def test_detach_while_slow_ends_it(overflow: str) -> None:
    desk = Desk(limits=LIMITS)
    line = listener(desk, overflow=overflow)
    fill(desk, 4)
    line.session.detach()
    line.take_items()
    line.session.room(desk.now_ms)
    fill(desk, 1)
    assert (line.take_items(), desk.router.live_subscriptions) == ([], 0)


def test_slow_again_after_catching_up_is_said_again() -> None:
    desk = Desk(limits=LIMITS)
    line = listener(desk)
    found: list[int] = []
    for _ in range(3):
        fill(desk, 5)
        packets = line.drain()
        assert types(packets).count("catching_up") == types(packets).count("caught_up") == 1
        found += handed(packets)
    assert found == list(range(1, 16))


# What the client sends while its outbox is over the bound


def history_request(id: int) -> Packet:
    return {"type": "history", "id": id, "topic": "a", "last": 10}


def test_rest_of_an_array_waits_while_the_outbox_is_over_its_bound() -> None:
    """G6, SPEC 1.16, 1.14: replies of 2 KiB to requests of 50 bytes must not pile up."""
    desk = Desk(limits=LIMITS)
    fill(desk, 3)
    line = desk.connect()
    line.send(*[history_request(number) for number in range(1, 8)])
    sizes = []
    answered: list[int] = []
    while line.outbox.items:
        sizes.append(line.outbox.size)
        answered += [packet["id"] for packet in line.read()]
        line.room()
    assert answered == [1, 2, 3, 4, 5, 6, 7]
    assert len(sizes) > 3
    assert max(sizes) < 3_000 + 2_500


def test_what_comes_while_packets_wait_waits_behind_them() -> None:
    """SPEC 1.14: the edge reads nothing then; what it had read already keeps its order."""
    desk = Desk(limits=LIMITS)
    fill(desk, 3)
    line = desk.connect()
    line.send(*[history_request(number) for number in range(1, 5)])
    line.send({"type": "ping", "id": 5})
    line.send({"type": "ping", "id": 6}, {"type": "ping", "id": 7})
    answered = [packet["id"] for packet in line.drain()]
    assert answered == [1, 2, 3, 4, 5, 6, 7]


def test_waiting_packets_are_served_with_the_rest_of_their_effects() -> None:
    desk = Desk(limits=LIMITS)
    fill(desk, 3)
    line = desk.connect()
    publish: Packet = {"type": "publish", "id": 9, "topic": "b", "data": 1}
    line.send(history_request(1), history_request(2), publish, {"type": "what", "id": 10}, {"type": "disconnect"})
    assert desk.logs[0].head() == 3, "not before there is room"
    assert types(line.drain()) == ["history", "history", "published", "error"]
    assert line.closed_with == 1000


def test_waiting_packets_go_with_their_connection() -> None:
    """SPEC 3.8.1."""
    desk = Desk(limits=LIMITS)
    fill(desk, 3)
    line = desk.connect()
    line.send(history_request(1), history_request(2), {"type": "publish", "topic": "b", "data": 1})
    line.session.detach()
    line.take_items()
    line.session.room(desk.now_ms)
    assert desk.logs[0].head() == 3

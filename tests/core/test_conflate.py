"""Overflow `conflate`: a slow subscription gets the newest message of each topic and key, in order (G7)."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_protocol.topics import matches

from tests.core.desk import Desk, Line, Packet
from tests.core.test_overflow import BIG, LIMITS, LOG, fill, handed, listener, types

NOTHING_HELD = TopicRule(retention_messages=0)
NOT_EVEN_RECENT = Limits(max_outbox_bytes=3_000, recent_bytes=0)


def conflating(desk: Desk, filter: str = "a", **fields: Any) -> Line:
    return listener(desk, filter, overflow="conflate", **fields)


def stall(desk: Desk, topic: str = "a") -> None:
    """Publish until the outbox of whoever reads nothing is full: pos 1 to 3 fit, 4 does not."""
    fill(desk, 4, topic)


def told_after_stall(line: Line) -> list[Packet]:
    """What comes once the client reads again."""
    packets = line.drain()
    index = types(packets).index("catching_up")
    return packets[index:]


def test_only_the_newest_of_a_topic_comes_and_then_it_is_live() -> None:
    """SPEC 3.2.11, 4.4.1: what was replaced was not due any more, no gap."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk)
    fill(desk, 9)
    catching_up, delivery, caught_up = told_after_stall(line)
    assert catching_up == {"type": "catching_up", "sub": 1, "after": {LOG: 3}, "reason": "slow"}
    assert (delivery["message"]["pos"], delivery["prev"], delivery["attempt"]) == (9, 3, 1)
    assert caught_up == {"type": "caught_up", "sub": 1, "after": {LOG: 9}}
    desk.publish("a")
    assert types(line.drain()) == ["message"]


def test_newest_of_each_key_comes_in_the_order_of_the_log() -> None:
    """I10: one that is replaced goes to the end."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk)
    stall(desk)
    for key in ("x", "y", "z", "x", ""):
        desk.publish("a", key, key=key)
    packets = told_after_stall(line)
    assert types(packets) == ["catching_up"] + ["delivery"] * 4 + ["caught_up"]
    messages = [packet["message"] for packet in packets[1:-1]]
    assert [message.get("key", "") for message in messages] == ["y", "z", "x", ""]
    assert handed(packets) == [6, 7, 8, 9]
    assert [packet.get("prev") for packet in packets[1:-1]] == [3, None, None, None]


def test_prev_reaches_over_what_was_conflated_away() -> None:
    """SPEC 4.3.4: counted in the topic, whatever the key."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk, "#")
    stall(desk)
    for key in "xyxy":
        desk.publish("b", key, key=key)
    deliveries = told_after_stall(line)[1:-1]
    found = [(one["message"]["topic"], one["message"]["offset"], one.get("prev")) for one in deliveries]
    assert found == [("a", 4, None), ("b", 3, 0), ("b", 4, None)]


def test_what_nobody_retains_is_conflated_too() -> None:
    """It asks no log."""
    desk = Desk(NOTHING_HELD, limits=NOT_EVEN_RECENT)
    line = conflating(desk)
    fill(desk, 9)
    packets = told_after_stall(line)
    assert (types(packets), handed(packets)) == (["catching_up", "delivery", "caught_up"], [9])


def test_reader_that_stays_slow_gets_the_newest_whenever_there_is_room() -> None:
    """I5, I6, I10: nothing twice, nothing older than what it had."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk, "#")
    stall(desk)
    for topic in "bcd":
        desk.publish(topic, BIG)
    line.take_items()
    line.room()
    packets = line.read()
    assert types(packets) == ["delivery", "delivery"], "half an outbox"
    assert line.outbox.wants_room
    for topic in "abcd":
        desk.publish(topic, BIG)
    packets += line.drain()
    assert [(one["message"]["topic"], one.get("prev")) for one in packets[:-1]] == [
        ("a", None),
        ("b", None),
        ("a", None),
        ("b", None),
        ("c", 0),
        ("d", 0),
    ]
    assert handed(packets) == [4, 5, 8, 9, 10, 11]
    assert packets[-1] == {"type": "caught_up", "sub": 1, "after": {LOG: 11}}


def test_room_without_room_waits_for_more() -> None:
    desk = Desk(limits=LIMITS)
    line = conflating(desk)
    stall(desk)
    line.room()
    assert line.outbox.wants_room
    assert types(line.read())[-1] == "catching_up"


def test_expired_messages_are_not_delivered() -> None:
    """SPEC 3.4.9, 4.3.4: no gap; and `prev` of what follows says nothing that is not so."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk)
    stall(desk)
    desk.publish("a", 1, key="short", ttl_ms=1_000)
    desk.publish("a", 2, key="long")
    for _ in range(3):
        desk.publish("b", BIG)
    desk.now_ms += 1_000
    packets = told_after_stall(line)
    assert [(one["message"]["offset"], one.get("prev")) for one in packets[1:-1]] == [(4, None), (6, 4)]


def test_topic_whose_only_message_has_expired_goes_on_with_a_prev_that_is_true() -> None:
    """I6: prev is at most what it had last."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk, "#")
    stall(desk)
    desk.publish("b", 1, ttl_ms=1_000)
    for topic in "cd":
        desk.publish(topic, BIG)
    desk.now_ms += 1_000
    line.take_items()
    line.room()
    assert types(line.read()) == ["delivery", "delivery"]
    desk.publish("b", 2)
    packets = line.drain()
    assert [(one["message"]["topic"], one.get("prev")) for one in packets[:-1]] == [("d", None), ("b", 0)]


def test_forgotten_topic_goes_on_with_a_prev_that_is_true() -> None:
    """SPEC 2.3, I6: its offsets skip."""
    desk = Desk(limits=Limits(max_outbox_bytes=3_000, max_shard_topics=1))
    line = conflating(desk, "a")
    stall(desk)
    assert handed(told_after_stall(line))[-1] == 4
    stall(desk, "a")
    line.take_items()
    line.room()
    assert types(line.drain()) == ["delivery", "caught_up"]
    for number in range(4):
        desk.publish(f"t/{number}")
    stall(desk, "a")
    desk.publish("a", "newest")
    (delivery,) = [one for one in line.drain() if one["type"] == "delivery"]
    assert delivery["message"]["offset"] == delivery["message"]["pos"]
    assert delivery["prev"] <= 8


# The bound


def test_past_its_bound_the_oldest_go_and_a_gap_says_so_before_the_next_message() -> None:
    """SPEC 3.2.11, 4.6.1; I13."""
    desk = Desk(limits=Limits(max_outbox_bytes=3_000, max_conflated_bytes=4_000))
    line = conflating(desk)
    stall(desk)
    for key in "uvwxyz":
        desk.publish("a", BIG, key=key)
    packets = told_after_stall(line)
    assert types(packets) == ["catching_up", "gap", "delivery", "delivery", "delivery", "caught_up"]
    gap = {"type": "gap", "sub": 1, "after": {LOG: 7}, "reason": "slow", "topic": "a"}
    assert (packets[1], handed(packets)) == (gap, [8, 9, 10])


def test_gap_of_a_wildcard_names_no_topic_and_keeps_what_other_logs_had() -> None:
    """SPEC 4.6.3."""
    desk = Desk(limits=Limits(max_outbox_bytes=3_000, max_conflated_bytes=2_000), shards=2)
    line = conflating(desk, "#")
    places = [desk.publish(topic, BIG) for topic in "abcdefgh"]
    gap = next(one for one in line.drain() if one["type"] == "gap")
    assert "topic" not in gap
    kept = [place for place in places if gap["after"][place["log"]] < place["pos"]]
    assert kept == places[-1:]


def test_gap_behind_a_delivery_does_not_take_the_position_back() -> None:
    """I5: the client may be cut off right behind it and resume."""
    desk = Desk(limits=Limits(max_outbox_bytes=3_000, max_conflated_bytes=3_000))
    line = conflating(desk, "#")
    stall(desk)
    desk.publish("b", BIG)
    line.take_items()
    line.room()
    assert handed(line.read()) == [4, 5]
    for key in "xyz":
        desk.publish("c", BIG, key=key)
    packets = line.drain()
    assert types(packets) == ["gap", "delivery", "delivery", "caught_up"]
    assert packets[0]["after"] == {LOG: 6}


def test_message_larger_than_the_bound_is_a_gap() -> None:
    desk = Desk(limits=Limits(max_outbox_bytes=3_000, max_conflated_bytes=500))
    line = conflating(desk)
    stall(desk)
    packets = told_after_stall(line)
    assert types(packets) == ["catching_up", "gap", "caught_up"]
    assert packets[1]["after"] == packets[2]["after"] == {LOG: 4}


# Beginning and end


@pytest.mark.parametrize("start", ["earliest", "last", {"since": 0}, {"last": 5}])
def test_past_is_read_like_any_other(start: Any) -> None:
    """Catching up from the log conflates nothing; only what is left live for does."""
    desk = Desk(limits=LIMITS)
    fill(desk, 5)
    line = desk.connect()
    packets = line.subscribe(1, "a", from_=start, overflow="conflate")
    assert handed(packets) == ([5] if start == "last" else [1, 2, 3, 4, 5])
    fill(desk, 7)
    assert handed(line.drain()) == [6, 7, 8, 12]


def test_cut_off_reader_resumes_from_the_log_behind_what_it_had() -> None:
    """I5: from where it was in the log, without conflation."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk)
    stall(desk)
    assert desk.router.live_subscriptions == 0
    line.session.detach()
    line.take_items()
    fill(desk, 3)
    assert line.read() == []
    other = desk.connect()
    packets = other.subscribe(1, "a", after={LOG: 3}, overflow="conflate")
    assert handed(packets) == [4, 5, 6, 7]
    assert desk.router.live_subscriptions == 1


def test_unsubscribe_while_it_conflates_is_the_end() -> None:
    """SPEC 3.3.1."""
    desk = Desk(limits=LIMITS)
    line = conflating(desk)
    stall(desk)
    line.take_items()
    assert types(line.ask({"type": "unsubscribe", "id": 3, "sub": 1})) == ["unsubscribed"]
    fill(desk, 2)
    assert line.drain() == []
    assert desk.router.live_subscriptions == 0


def test_subscriptions_of_one_connection_conflate_each_its_own() -> None:
    """G7: and one that replays beside them."""
    desk = Desk(limits=LIMITS)
    line = desk.connect()
    line.subscribe(1, "a", overflow="conflate")
    line.subscribe(2, "+", overflow="conflate")
    line.subscribe(3, "+", overflow="replay")
    fill(desk, 5)
    desk.publish("b", BIG)
    packets = line.drain()
    due = {sub: handed([one for one in packets if one.get("sub") == sub]) for sub in (1, 2, 3)}
    assert due == {1: [5], 2: [5, 6], 3: [4, 5, 6]}
    assert desk.router.live_subscriptions == 3


def test_durable_topics_conflate_what_is_committed() -> None:
    """I8: nothing is offered before; a batch may overflow in its middle."""
    desk = Desk(TopicRule(storage="disk"), limits=LIMITS, durable=True)
    line = conflating(desk)
    publisher = desk.connect()
    for _ in range(6):
        publisher.send({"type": "publish", "topic": "a", "data": BIG})
    assert line.read() == []
    desk.commit()
    publisher.send({"type": "publish", "topic": "a", "data": BIG})
    packets = told_after_stall(line)
    assert (packets[0]["after"], handed(packets)) == ({"d0-life": 3}, [6])
    assert packets[-1]["after"] == {"d0-life": 6}


# Against a model: what a client knows in the end is the newest of everything, whenever it read


@attrs.define
class Board:
    """What a reader has been told: the newest value of each topic and key."""

    values: dict[tuple[str, str], int] = attrs.field(factory=dict)
    had: dict[str, int] = attrs.field(factory=dict)  # per log
    offsets: dict[str, int] = attrs.field(factory=dict)  # per topic
    is_live: bool = True
    has_gap: bool = False

    def take(self, packet: Packet) -> None:
        if packet["type"] == "gap":
            self.has_gap = True
        elif "after" in packet:
            self.is_live = packet.get("live", packet["type"] == "caught_up")
        elif packet["type"] == "delivery":
            self.hand_over(packet["message"], packet.get("prev"))
        else:
            assert self.is_live
            self.hand_over(packet, packet["offset"] - 1)

    def hand_over(self, message: Packet, prev: int | None) -> None:
        topic, offset = message["topic"], message["offset"]
        assert message["pos"] > self.had.get(message["log"], 0), "I5, I10"
        last = self.offsets.get(topic, 0)
        prev = offset - 1 if prev is None else prev
        assert self.has_gap or prev <= last or offset == message["pos"], "I6"
        assert offset > last, "I7"
        self.had[message["log"]] = message["pos"]
        self.offsets[topic] = offset
        self.values[topic, message.get("key", "")] = message["data"]["n"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "a", "a/x", "b", "c/1", "c/2"]), st.sampled_from(["", "k", "l"])),
        st.tuples(st.just("read"), st.integers(1, 6)),
    ),
    min_size=20,
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from(["a", "a/#", "#", "+"]), st.integers(1, 2), st.sampled_from([1_500, 1_000_000]))
def test_in_the_end_the_newest_of_everything_has_come(
    steps: list[tuple[str, Any]], filter: str, shards: int, max_bytes: int
) -> None:
    """G4, G7, I5, I6, I7, I10: within the bound no gap; past it what is missing lies before one."""
    limits = Limits(max_outbox_bytes=1_200, max_conflated_bytes=max_bytes, max_shard_topics=2)
    desk = Desk(NOTHING_HELD, limits=limits, shards=shards)
    line, board = conflating(desk, filter), Board()
    newest: dict[tuple[str, str], int] = {}
    take = read_into(desk, line, board)
    for number, (what, more) in enumerate(steps):
        if what == "read":
            take(more)
        else:
            desk.publish(what, {"n": number, "x": "x" * 100}, key=more)
            if matches(filter, what):
                newest[what, more] = number
    while line.outbox.items or line.outbox.wants_room:
        take(10)
    assert board.is_live
    assert desk.router.live_subscriptions == 1
    assert board.values == newest or board.has_gap
    assert not (board.has_gap and max_bytes > 1_500)


def read_into(desk: Desk, line: Line, board: Board) -> Callable[[int], None]:
    """The edge: some packets are written; the session is told when there is room."""

    def read(count: int) -> None:
        outbox = line.outbox
        items, outbox.items = outbox.items[:count], outbox.items[count:]
        outbox.size -= sum(map(len, items))
        for packet in Line.decode(items):
            board.take(packet)
        if outbox.wants_room and outbox.has_room:
            line.session.room(desk.now_ms)

    return read

"""Deliveries to a durable subscription of one member; ack, nack and extend for everybody (G5, SPEC 9.2 to 9.4)."""

from typing import Any

import pytest

from tests.core.desk import Packet
from tests.core.working import (
    LOG,
    MEMORY,
    ack,
    ask,
    cut,
    data,
    durable,
    extend,
    fill,
    given,
    group,
    make_desk,
    nack,
    types,
    work,
)

#: What a store does, and what those hear who waited for it.
OUTCOMES = [("fill", "unavailable"), ("refuse", "unavailable"), ("fail", "timeout")]


def only_error(packets: list[Packet]) -> Packet:
    (error,) = packets
    assert error["type"] == "error"
    return error


# Deliveries


def test_deliveries_carry_the_message_and_follow_each_other() -> None:
    """SPEC 9.4.1, 4.3.4: no `prev` where nothing was skipped."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    first, second = line.drain()
    assert (first["sub"], first["attempt"], first["message"]["data"]) == (1, 1, 0)
    assert first["message"]["offset"] == 1
    assert "prev" not in second


def test_window_is_never_exceeded_and_filled_again() -> None:
    """SPEC 9.4.1."""
    desk = make_desk()
    line = durable(desk, window=2)
    fill(desk, 5)
    assert given(line.drain()) == [(1, 1), (2, 1)]
    assert given(ack(line, 1)) == [(3, 1)]
    assert given(ack(line, [2, 3])) == [(4, 1), (5, 1)]


def test_default_window_is_the_configured_one() -> None:
    """SPEC 9.1.5."""
    desk = make_desk(default_window=3)
    line = durable(desk)
    fill(desk, 5)
    assert len(line.drain()) == 3


def test_what_is_in_memory_for_a_name_is_bounded() -> None:
    """G6: the log is read as there is room."""
    desk = make_desk(max_consumer_bytes=2_000)
    line = durable(desk, window=100)
    consumer = desk.node.consumers.by_name["w"]
    for number in range(20):
        desk.publish("d/a", f"{number:0500}")
        assert consumer.held_bytes < 3_000
    packets = line.drain()
    assert len(packets) < 5
    seen = given(packets)
    while len(seen) < 20:
        packets = ack(line, [pos for pos, _ in given(packets)])
        assert consumer.held_bytes < 2_000 + 65_536
        assert packets
        seen += given(packets)
    assert seen == [(pos, 1) for pos in range(1, 21)]


def test_nobody_has_room_so_little_is_read_ahead() -> None:
    """G6."""
    desk = make_desk()
    line = work(desk, "m/a", group="g", window=1)
    desk.connect().send_text(
        "[" + ",".join(f'{{"type":"publish","topic":"m/a","data":{number}}}' for number in range(400)) + "]"
    )
    (source,) = desk.node.consumers.by_name["g"].sources
    assert (len(source.items), source.is_live) == (257, False)
    seen = data(line.drain())
    while len(seen) < 400:
        seen += data(ack(line, len(seen), MEMORY))
    assert seen == list(range(400))


def test_full_outbox_is_waited_for() -> None:
    """SPEC 9.1.2: the server waits; nothing is lost, no window is wasted."""
    desk = make_desk(max_outbox_bytes=2_000)
    line = durable(desk, window=100)
    fill(desk, 30)
    packets = line.read()
    assert line.outbox.wants_room
    assert len(packets) < 10
    packets += line.drain()
    assert given(packets) == [(pos, 1) for pos in range(1, 31)]


def test_room_that_is_none_yet_is_waited_for() -> None:
    """SPEC 1.16: the edge may call as soon as half is free; others of the connection may have taken it."""
    desk = make_desk(max_outbox_bytes=2_000)
    line = durable(desk, window=100)
    fill(desk, 30)
    line.room()
    assert line.outbox.wants_room
    before = len(line.outbox.items)
    line.room()
    assert len(line.outbox.items) == before
    line.drain()
    line.room()
    assert not line.outbox.wants_room


def test_several_logs_feed_one_name() -> None:
    """SPEC 9.4.1: in order of each log."""
    desk = make_desk(shards=3)
    line = durable(desk, filter="#")
    topics = ["m/a", "m/b", "m/c", "m/d", "d/a", "d/b"]
    for number in range(3):
        for topic in topics:
            desk.publish(topic, number)
    packets = line.drain()
    assert len(packets) == 18
    for log in {one["message"]["log"] for one in packets}:
        places = [one["message"]["pos"] for one in packets if one["message"]["log"] == log]
        assert places == list(range(1, len(places) + 1))
    cut(line)
    packets = ask(desk, desk.connect(), "#", durable="w")
    assert len(given(packets)) == 18


def test_long_stretch_without_a_match_is_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of the loop stays short."""
    monkeypatch.setattr("triode_broker.core.source.PAGE_RECORDS", 10)
    monkeypatch.setattr("triode_broker.core.consumer.PAGE_RECORDS", 10)
    desk = make_desk()
    for _ in range(50):
        desk.publish("m/x")
    desk.publish("m/a/1", "here")
    line = desk.connect()
    assert types(line.subscribe(1, "m/a/+", group="g", from_="earliest")) == ["subscribed"]
    other = desk.connect()
    assert types(other.subscribe(1, "m/a/+", group="g")) == ["subscribed"], "it asks for no second turn"
    cut(other)
    turns = 0
    while not (packets := line.drain()):
        desk.node.timers.tick(desk.now_ms)
        turns += 1
    assert data(packets) == ["here"]
    assert turns >= 4


def test_turn_that_was_asked_for_by_a_name_that_is_gone_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triode_broker.core.source.PAGE_RECORDS", 10)
    monkeypatch.setattr("triode_broker.core.consumer.PAGE_RECORDS", 10)
    desk = make_desk()
    for _ in range(50):
        desk.publish("m/x")
    desk.publish("m/a/1", "here")
    lines = [group(desk, name, filter="m/a/+", from_="earliest") for name in ("g", "h")]
    cut(lines[0])
    desk.node.consumers.delete("h", lambda: None)
    lines[1].drain()
    desk.wait(60_000)
    assert [line.drain() for line in lines] == [[], []]


def test_message_that_expires_before_its_turn_is_passed_over() -> None:
    """SPEC 9.4.7; what follows it says `prev` 0."""
    desk = make_desk()
    line = durable(desk, window=1)
    desk.publish("d/a", 0)
    desk.publish("d/a", 1, ttl_ms=1_000)
    desk.publish("d/a", 2)
    line.drain()
    desk.wait(1_000)
    (delivery,) = ack(line, 1)
    assert (delivery["message"]["data"], delivery["prev"]) == (2, 0)
    assert desk.node.consumers.by_name["w"].floors() == {LOG: 2}


def test_message_that_expires_while_it_is_worked_on_does_not_come_again() -> None:
    """SPEC 9.4.7."""
    desk = make_desk()
    line = durable(desk)
    desk.publish("d/a", 1, ttl_ms=1_000)
    line.drain()
    desk.wait(30_000)
    assert line.drain() == []


# ack


def test_ack_settles_one_several_and_all_up_to() -> None:
    """SPEC 9.2.1."""
    desk = make_desk()
    line = durable(desk)
    consumer = desk.node.consumers.by_name["w"]
    fill(desk, 6)
    line.drain()
    assert ack(line, 1) == []
    assert consumer.floors() == {LOG: 1}
    ack(line, [3, 3])
    assert consumer.floors() == {LOG: 1}
    line.ask({"type": "ack", "sub": 1, "log": LOG, "upto": 5})
    assert consumer.floors() == {LOG: 5}
    desk.wait(30_000)
    assert given(line.drain()) == [(6, 2)]


def test_upto_leaves_alone_what_came_again_and_may_not_have_been_seen() -> None:
    """SPEC 9.2.6: it may be on its way while the client says `upto`."""
    desk = make_desk()
    line = durable(desk)
    consumer = desk.node.consumers.by_name["w"]
    fill(desk, 5)
    line.drain()
    assert given(nack(line, 2)) == [(2, 2)]
    line.ask({"type": "ack", "sub": 1, "log": LOG, "upto": 4})
    assert consumer.floors() == {LOG: 1}
    assert list(consumer.by_log[LOG].items) == [2, 5]
    line.ask({"type": "ack", "sub": 1, "log": LOG, "upto": 4})  # settled already, and still not seen for certain
    assert list(consumer.by_log[LOG].items) == [2, 5]
    fill(desk, 1)
    assert given(line.drain()) == [(6, 1)]
    line.ask({"type": "ack", "sub": 1, "log": LOG, "upto": 6})  # came behind it, so it was seen
    assert consumer.floors() == {LOG: 6}


def test_upto_of_what_is_settled_settles_what_was_before_it() -> None:
    """SPEC 9.2.6."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    ack(line, 3)
    line.ask({"type": "ack", "sub": 1, "log": LOG, "upto": 3})
    assert desk.node.consumers.by_name["w"].floors() == {LOG: 3}


@pytest.mark.parametrize("fields", [{}, {"pos": 1, "upto": 1}], ids=str)
def test_ack_says_one_thing(fields: Packet) -> None:
    """SPEC 9.2.1."""
    desk = make_desk()
    line = durable(desk)
    error = only_error(line.ask({"type": "ack", "sub": 1, "log": LOG, "id": 5, **fields}))
    assert (error["name"], error["field"], error["id"], error["sub"]) == ("malformed", "pos", 5, 1)


def test_ack_of_a_durable_subscription_is_answered_once_it_is_on_disk() -> None:
    """SPEC 9.2.4."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    assert ack(line, 1, id=7) == []
    assert ack(line, 2, id=8) == []
    desk.commit()
    assert line.drain() == [{"type": "acked", "id": 7}, {"type": "acked", "id": 8}]


def test_ack_of_a_group_is_answered_at_once() -> None:
    """SPEC 9.2.4."""
    desk = make_desk()
    line = group(desk)
    fill(desk, 1, "m/a")
    line.drain()
    assert ack(line, 1, MEMORY, id=7) == [{"type": "acked", "id": 7}]


@pytest.mark.parametrize(
    ("how", "name"), [("fill", "unavailable"), ("refuse", "unavailable"), ("fail", "timeout")]
)
def test_ack_that_did_not_get_onto_the_disk_says_so(how: str, name: str) -> None:
    """SPEC 9.2.4, 5.2.2."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    desk.commit()
    ack(line, 1, id=7)
    getattr(desk.disk, how)()
    error = only_error(line.drain())
    assert (error["name"], error["id"], error["sub"], error["retry_after_ms"]) == (name, 7, 1, 1_000)


def test_answer_of_a_connection_that_is_gone_is_nobodys() -> None:
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    ack(line, 1, id=7)
    cut(line)
    desk.commit()
    assert line.drain() == []


@pytest.mark.parametrize("packet", [{"pos": 1}, {"pos": [1, 2]}, {"upto": 9}], ids=str)
def test_ack_of_what_is_settled_changes_nothing(packet: Packet) -> None:
    """SPEC 9.2.3."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    for _ in range(2):
        assert line.ask({"type": "ack", "sub": 1, "log": LOG, **packet}) == []
    assert line.ask({"type": "ack", "sub": 1, "log": "d0-before", **packet}) == [], "an earlier life"


def test_ack_of_what_was_not_delivered_here_is_a_conflict_and_changes_nothing() -> None:
    """SPEC 9.2.2."""
    desk = make_desk()
    line = durable(desk, window=1)
    fill(desk, 3)
    line.drain()
    for pos in (2, 9, [1, 2]):
        error = only_error(ack(line, pos, id=7))
        assert (error["name"], error["field"], error["id"]) == ("conflict", "pos", 7)
    assert desk.node.consumers.by_name["w"].floors() == {LOG: 0}


def test_late_ack_of_who_had_it_settles() -> None:
    """SPEC 9.2.2, 9.7.1: while it waits, and while another delivery is in force."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    nack(line, 1, delay_ms=5_000)
    ack(line, 1)
    desk.wait(30_000)
    assert given(line.drain()) == [(2, 2)]
    ack(line, 2)
    desk.wait(60_000)
    assert line.drain() == []


@pytest.mark.parametrize("kind", ["ack", "nack", "extend"])
def test_who_has_no_acknowledged_subscription_cannot_settle(kind: str) -> None:
    """SPEC 9.2.5, 9.3.4."""
    line = make_desk().connect()
    fields: dict[str, Any] = {"ack": {}, "nack": {"attempt": 1}, "extend": {"attempt": 1, "ms": 1}}
    packet = {"type": kind, "id": 5, "sub": 1, "log": LOG, "pos": 1, **fields[kind]}
    line.subscribe(2, "d/a")
    for sub in (1, 2):
        error = only_error(line.ask(packet | {"sub": sub}))
        assert (error["name"], error["field"], error["sub"]) == ("no_such_subscription", "sub", sub)


# nack and extend


def test_nack_brings_it_again_with_the_next_attempt() -> None:
    """SPEC 9.3.1, 9.4.2: before what is new."""
    desk = make_desk()
    line = durable(desk, window=1)
    fill(desk, 2)
    line.drain()
    assert given(nack(line, 1)) == [(1, 2)]
    assert given(nack(line, 1, 2)) == [(1, 3)]


def test_nack_with_a_delay_comes_when_it_is_over() -> None:
    """SPEC 9.3.1: others go on."""
    desk = make_desk()
    line = durable(desk, window=1)
    fill(desk, 2)
    line.drain()
    assert given(nack(line, 1, delay_ms=5_000)) == [(2, 1)]
    ack(line, 2)
    desk.wait(4_999)
    assert line.drain() == []
    desk.wait(1)
    assert given(line.drain()) == [(1, 2)]


def test_nack_and_extend_are_answered_like_ack() -> None:
    """SPEC 9.3.4."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    assert extend(line, 1, 5, id=7) == [{"type": "acked", "id": 7}]
    assert types(nack(line, 1, id=8)) == ["delivery"]
    desk.commit()
    assert line.drain() == [{"type": "acked", "id": 8}]


def test_only_the_delivery_in_force_can_be_given_back_or_extended() -> None:
    """SPEC 9.3.3."""
    desk = make_desk()
    line, other = (work(desk, durable="w", shared=True, window=1) for _ in range(2))
    fill(desk, 1)
    assert given(line.drain()) == [(1, 1)]
    for packets in (nack(other, 1), extend(other, 1, 9), nack(line, 2), nack(line, 1, log="m0-other")):
        error = only_error(packets)
        assert (error["name"], error["field"]) == ("conflict", "pos")
    for packets in (nack(line, 1, 2), extend(line, 1, 9, attempt=2)):
        error = only_error(packets)
        assert (error["name"], error["field"]) == ("conflict", "attempt")
    nack(line, 1, delay_ms=1_000)
    assert only_error(nack(line, 1))["name"] == "conflict", "it waits: nobody has it"


def test_times_are_bounded() -> None:
    """SPEC 9.3.3."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    assert only_error(nack(line, 1, delay_ms=43_200_001))["field"] == "delay_ms"
    error = only_error(extend(line, 1, 43_200_001))
    assert (error["name"], error["field"]) == ("malformed", "ms")


# Time


def test_unsettled_delivery_comes_again_when_its_time_is_over() -> None:
    """SPEC 9.4.3."""
    desk = make_desk()
    line = durable(desk, ack_wait_ms=1_000)
    fill(desk, 1)
    desk.wait(500)
    fill(desk, 1)
    line.drain()
    desk.wait(499)
    assert line.drain() == []
    desk.wait(1)
    assert given(line.drain()) == [(1, 2)]
    desk.wait(500)
    assert given(line.drain()) == [(2, 2)]


def test_wall_clock_that_jumps_brings_nothing_again() -> None:
    """Clock jumps: only the steady clock counts."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    desk.now_ms += 86_400_000
    desk.wait(0)
    desk.now_ms -= 2 * 86_400_000
    desk.wait(0)
    assert line.drain() == []


def test_extend_sets_the_time_anew() -> None:
    """SPEC 9.3.2: longer or shorter."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    extend(line, 1, 50_000)
    extend(line, 2, 1_000)
    desk.wait(1_000)
    assert given(line.drain()) == [(2, 2)]
    ack(line, 2)
    desk.wait(48_999)
    assert line.drain() == []
    desk.wait(1)
    assert given(line.drain()) == [(1, 2)]


def test_who_says_a_time_sets_it_for_the_name() -> None:
    """SPEC 9.1.5: the last who says it."""
    desk = make_desk()
    durable(desk, ack_wait_ms=1_000, max_attempts=7)
    consumer = desk.node.consumers.by_name["w"]
    durable(desk)
    assert (consumer.ack_wait_ms, consumer.max_attempts) == (1_000, 7)
    durable(desk, ack_wait_ms=2_000)
    assert (consumer.ack_wait_ms, consumer.max_attempts) == (2_000, 7)


def test_many_that_were_delayed_and_settled_meanwhile_are_forgotten() -> None:
    """Bounded memory: a delay may be twelve hours."""
    desk = make_desk()
    line = durable(desk)
    for pos in range(1, 400):
        desk.publish("d/a")
        line.drain()
        nack(line, pos, delay_ms=43_200_000)
        ack(line, pos)
    assert len(desk.node.consumers.by_name["w"]._delayed) < 80
    desk.wait(43_200_000)
    assert line.drain() == []


# Leaving


@pytest.mark.parametrize("code", [1000, 4002, 4005, 4006, 4100, 4107, 4200])
def test_clean_goodbye_does_not_count_as_an_attempt(code: int) -> None:
    """SPEC 9.4.4."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    cut(line, code)
    assert given(ask(desk, desk.connect(), durable="w")) == [(1, 1), (2, 1)]


@pytest.mark.parametrize("code", [0, 1001, 4104, 4105])
def test_lost_connection_counts_as_an_attempt(code: int) -> None:
    """SPEC 9.4.3."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    ack(line, 1)
    cut(line, code)
    assert given(ask(desk, desk.connect(), durable="w")) == [(2, 2)]


def test_disconnect_is_clean() -> None:
    """SPEC 9.4.4, 3.8."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.ask({"type": "disconnect"})
    line.session.detach()
    assert given(ask(desk, desk.connect(), durable="w")) == [(1, 1)]


def test_unsubscribe_is_clean_and_nothing_comes_behind_it() -> None:
    """SPEC 9.4.4, 3.3.1."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    assert line.ask({"type": "unsubscribe", "id": 3, "sub": 1}) == [{"type": "unsubscribed", "id": 3, "sub": 1}]
    fill(desk, 1)
    assert line.drain() == []
    assert given(ask(desk, line, sub=2, durable="w")) == [(1, 1), (2, 1), (3, 1)]


def test_taking_over_ends_the_member_before() -> None:
    """SPEC 9.1.7: what it had acknowledged does not come again, what it held counts as lost."""
    desk = make_desk()
    old = durable(desk)
    fill(desk, 3)
    old.drain()
    ack(old, 2)
    packets = ask(desk, desk.connect(), durable="w")
    assert given(packets) == [(1, 2), (3, 2)]
    (end,) = old.drain()
    assert (end["type"], end["sub"], end["name"], end["retry"]) == ("unsubscribed", 1, "conflict", "never")
    assert only_error(ack(old, 1))["name"] == "no_such_subscription"
    assert old.session.subscription_count == 0
    cut(old)
    fill(desk, 1)
    assert len(desk.node.consumers.by_name["w"].members) == 1


def test_taking_over_from_a_replaced_connection_is_clean() -> None:
    """SPEC 9.4.4, 3.1.4."""
    desk = make_desk()
    old = durable(desk)
    fill(desk, 1)
    old.drain()
    line = desk.connect(replaces=old.session.connection_id)
    assert given(ask(desk, line, durable="w")) == [(1, 1)]


def test_taking_over_from_who_still_waits_for_its_answer() -> None:
    """SPEC 9.1.7."""
    desk = make_desk()
    old, new = desk.connect(), desk.connect()
    old.subscribe(1, "d/#", durable="w")
    new.subscribe(1, "d/#", durable="w")
    error = only_error(old.drain())
    assert (error["name"], error["id"], error["sub"]) == ("conflict", 101, 1)
    desk.commit()
    assert types(new.drain()) == ["subscribed"]


def test_what_comes_again_follows_nothing_and_neither_does_the_next() -> None:
    """SPEC 4.3.4, I6: a reader is not made to look for a hole."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    (again,) = nack(line, 1)
    assert again["prev"] == 0
    fill(desk, 2)
    third, fourth = line.drain()
    assert third["prev"] == 0
    assert "prev" not in fourth


def test_more_topics_come_again_than_are_remembered() -> None:
    desk = make_desk(default_window=1_024, max_outbox_bytes=10_000_000, max_consumer_bytes=10_000_000)
    line = work(desk, "m/#", durable="w", window=1_024)
    for number in range(1_024):
        desk.publish(f"m/{number}")
    line.drain()
    cut(line)
    line = work(desk, "m/#", durable="w", window=1_024)
    line.drain()
    ack(line, [1, 2], MEMORY)
    desk.publish("m/new")
    desk.publish("m/new")
    line.drain()
    nack(line, 1_025, log=MEMORY)
    desk.publish("m/new")
    packets = ack(line, list(range(3, 1_000)), MEMORY)
    assert given(packets)
    assert {one["prev"] for one in packets} == {0}

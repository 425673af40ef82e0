"""What a subscribe with a name asks for, and what it gets: start, name, kind, bounds, first answer (SPEC 9.1)."""

import pytest
from triode_broker.config import TopicRule
from triode_broker.core.used_numbers import MAX_SCATTERED

from tests.core.desk import Desk, Packet
from tests.core.working import (
    LOG,
    MEMORY,
    ask,
    cut,
    data,
    durable,
    fill,
    group,
    make_desk,
    types,
    work,
)

#: What a store does, and what those hear who waited for it.
OUTCOMES = [("fill", "unavailable"), ("refuse", "unavailable"), ("fail", "timeout")]


def only_error(packets: list[Packet]) -> Packet:
    (error,) = packets
    assert error["type"] == "error"
    return error


def test_new_durable_subscription_is_answered_once_it_is_on_disk() -> None:
    """SPEC 9.1.6, G1: what is published behind the answer is not missed after a crash."""
    desk = make_desk()
    fill(desk, 2)
    line = desk.connect()
    assert line.subscribe(1, "d/#", durable="w") == []
    desk.commit()
    (answer,) = line.drain()
    assert answer == {"type": "subscribed", "id": 101, "sub": 1, "after": {LOG: 2}, "live": True}


def test_group_is_answered_at_once() -> None:
    """SPEC 9.1.6."""
    line = make_desk().connect()
    (answer,) = line.subscribe(1, "m/#", group="g")
    assert (answer["after"], answer["live"]) == ({MEMORY: 0}, True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"from_": "new"}, []),
        ({"from_": "earliest"}, [0, 1, 2]),
        ({"from_": {"since": 1_002_000}}, [2]),
        ({"filter": "d/a", "from_": {"last": 2}}, [1, 2]),
        ({"after": {LOG: 1}}, [1, 2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_late", [False, True])
def test_start_is_what_it_is_for_others(fields: Packet, expected: list[int], *, is_late: bool) -> None:
    """SPEC 9.1.3."""
    desk = make_desk()
    for number in range(3):
        desk.publish("d/a", number)
        desk.wait(1_000)
    desk.disk.is_late = is_late
    line = desk.connect()
    filter = fields.get("filter", "d/#")
    line.send({"type": "subscribe", "sub": 1, "filter": filter, "durable": "w"} | renamed(fields))
    desk.disk.answer()
    desk.commit()
    desk.disk.answer()
    packets = line.drain()
    assert types(packets) == ["subscribed", *["delivery"] * len(expected)]
    assert data(packets) == expected
    fill(desk, 1)
    desk.disk.answer()
    assert data(line.drain()) == [0]


def renamed(fields: Packet) -> Packet:
    return {name.removesuffix("_"): value for name, value in fields.items()}


def test_start_over_several_logs_waits_for_all_of_them() -> None:
    """SPEC 9.1.3."""
    desk = make_desk(shards=2)
    for topic in ("m/a", "m/b", "m/c", "d/a"):
        desk.publish(topic, topic)
    packets = ask(desk, desk.connect(), "#", durable="w", from_="earliest")
    assert sorted(data(packets)) == ["d/a", "m/a", "m/b", "m/c"]


def test_start_counts_for_a_new_name_only() -> None:
    """SPEC 9.1.4."""
    desk = make_desk()
    fill(desk, 3)
    durable(desk)
    assert types(ask(desk, desk.connect(), durable="w", from_="earliest")) == ["subscribed"]


@pytest.mark.parametrize("after", [{}, {LOG: 9}, {"other": 1}], ids=str)
def test_start_behind_a_position_that_is_none_is_a_reset(after: Packet) -> None:
    """SPEC 9.1.3, 3.2.9."""
    desk = make_desk()
    fill(desk, 1)
    packets = ask(desk, desk.connect(), durable="w", after=after)
    assert types(packets) == ["subscribed", "gap", "delivery"]
    assert (packets[1]["reason"], packets[1]["after"]) == ("reset", {LOG: 0})


def test_start_that_retention_has_cut_is_a_gap() -> None:
    """SPEC 9.6.1, 3.2.7."""
    desk = make_desk(TopicRule(filter="m/#", retention_messages=1), recent_bytes=0)
    fill(desk, 3, "m/a")
    packets = ask(desk, desk.connect(), "m/a", durable="w", from_={"since": 1})
    assert types(packets) == ["subscribed", "gap", "delivery"]
    assert (packets[1]["reason"], packets[1]["topic"]) == ("retention", "m/a")


@pytest.mark.parametrize(
    ("fields", "name", "field"),
    [
        ({"durable": "w", "group": "g"}, "malformed", "group"),
        ({"shared": True}, "malformed", "shared"),
        ({"group": "g", "shared": True}, "malformed", "shared"),
        ({"window": 1}, "malformed", "window"),
        ({"ack_wait_ms": 1}, "malformed", "ack_wait_ms"),
        ({"max_attempts": 1}, "malformed", "max_attempts"),
        ({"durable": "w", "overflow": "replay"}, "malformed", "overflow"),
        ({"group": "g", "overflow": "gap"}, "malformed", "overflow"),
        ({"group": "g", "presence": "watch"}, "malformed", "presence"),
        ({"group": "a/b"}, "malformed", "group"),
        ({"group": "+"}, "malformed", "group"),
        ({"durable": "a#"}, "malformed", "durable"),
        ({"durable": "$w"}, "malformed", "durable"),
        ({"durable": "ä" * 33}, "malformed", "durable"),
        ({"durable": ""}, "malformed", "durable"),
        ({"group": "x" * 65}, "malformed", "group"),
        ({"group": "g", "window": 1_025}, "malformed", "window"),
        ({"group": "g", "ack_wait_ms": 43_200_001}, "malformed", "ack_wait_ms"),
        ({"group": "g", "max_attempts": 1_001}, "malformed", "max_attempts"),
        ({"group": "g", "window": 0}, "malformed", "window"),
        ({"group": "g", "from": "last"}, "unsupported", "from"),
        ({"group": "g", "from": {"last": 2}}, "unsupported", "from"),
        ({"group": "g", "from": "earliest", "after": {}}, "malformed", "after"),
        ({"group": "g", "filter": "$dead/#"}, "malformed", "group"),
        ({"group": "g", "filter": "a//b"}, "bad_topic", "filter"),
    ],
    ids=str,
)
def test_subscribe_that_breaks_a_rule_is_refused_with_its_field(fields: Packet, name: str, field: str) -> None:
    """SPEC 9.1.1 to 9.1.5."""
    desk = make_desk()
    line = desk.connect()
    error = only_error(line.ask({"type": "subscribe", "id": 2, "sub": 1, "filter": "d/#", **fields}))
    assert (error["name"], error["field"], error["id"], error["sub"]) == (name, field, 2, 1)
    assert line.session.subscription_count == 0
    assert types(line.subscribe(1, "d/a")) == ["subscribed"], "no number is used up"


def test_durable_needs_a_disk() -> None:
    """SPEC 9.1.8."""
    line = Desk().connect()
    error = only_error(line.subscribe(1, "a", durable="w"))
    assert (error["name"], error["field"]) == ("unsupported", "durable")
    assert types(line.subscribe(1, "a", group="w")) == ["subscribed"]


@pytest.mark.parametrize("is_durable", [True, False])
def test_capabilities_say_what_is_there(*, is_durable: bool) -> None:
    """SPEC 7.2."""
    line = Desk(durable=is_durable).dial()
    (greeting,) = line.ask({"type": "connect", "id": 1})
    assert "group" in greeting["capabilities"]
    assert ("durable" in greeting["capabilities"]) == is_durable


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"durable": "w"}, {"group": "w"}, "durable"),
        ({"durable": "w"}, {"durable": "w", "shared": True}, "durable"),
        ({"durable": "w", "shared": True}, {"durable": "w"}, "shared"),
        ({"group": "w"}, {"durable": "w"}, "group"),
        ({"group": "w"}, {"group": "w", "filter": "d/+"}, "filter"),
    ],
    ids=str,
)
def test_name_is_one_thing_only(first: Packet, second: Packet, says: str) -> None:
    """SPEC 9.1.1, 9.1.4: the message says what is different."""
    desk = make_desk()
    work(desk, **first)
    line = desk.connect()
    packet = {"type": "subscribe", "id": 2, "sub": 1, "filter": "d/#", **second}
    error = only_error(line.ask(packet))
    assert (error["name"], error["field"]) == ("conflict", "group" if "group" in second else "durable")
    assert says in error["message"]
    assert "d/#" not in error["message"], "SPEC 11.4.3: it may be a filter that this client is forbidden"


def test_names_are_bounded() -> None:
    """SPEC 9.1.8."""
    desk = make_desk(max_consumers=1)
    durable(desk, "w")
    error = only_error(desk.connect().subscribe(1, "d/#", group="g"))
    assert (error["name"], error["field"]) == ("quota", "group")


def test_acknowledged_subscriptions_count_as_subscriptions() -> None:
    """SPEC 3.2.12."""
    desk = make_desk(max_subscriptions=2, max_wildcard_subscriptions=1)
    line = group(desk)
    assert only_error(line.subscribe(2, "m/+", group="h"))["name"] == "quota"
    assert types(line.subscribe(2, "m/a", group="h")) == ["subscribed"]
    assert only_error(line.subscribe(3, "m/a"))["name"] == "quota"
    assert only_error(line.subscribe(1, "m/a", group="h"))["name"] == "conflict"
    line.ask({"type": "unsubscribe", "sub": 1})
    assert types(line.subscribe(3, "m/+")) == ["subscribed"]


def test_store_that_takes_nothing_keeps_no_new_name() -> None:
    """SPEC 9.1, G2: surely nothing was kept."""
    desk = make_desk()
    desk.disk.fill()
    error = only_error(desk.connect().subscribe(1, "d/#", durable="w"))
    assert (error["name"], error["retry_after_ms"]) == ("unavailable", 1_000)
    desk.disk.drain()
    durable(desk)


@pytest.mark.parametrize(
    ("how", "name"), [("fill", "unavailable"), ("refuse", "unavailable"), ("fail", "timeout")]
)
def test_new_name_that_did_not_get_onto_the_disk_is_none(how: str, name: str) -> None:
    """SPEC 9.1.6."""
    desk = make_desk()
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w")
    getattr(desk.disk, how)()
    error = only_error(line.drain())
    assert (error["name"], error["id"], error["sub"]) == (name, 101, 1)
    assert line.session.subscription_count == 0
    assert "w" not in desk.node.consumers.by_name


def test_two_who_wait_for_a_name_are_both_answered() -> None:
    desk = make_desk()
    lines = [desk.connect(), desk.connect()]
    for line in lines:
        assert line.subscribe(1, "d/#", durable="w", shared=True) == []
    desk.commit()
    assert [types(line.drain()) for line in lines] == [["subscribed"], ["subscribed"]]


def test_who_leaves_before_the_answer_leaves_no_name_behind() -> None:
    desk = make_desk()
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w")
    cut(line)
    desk.commit()
    assert line.drain() == []
    assert (desk.node.consumers.by_name, desk.disk.disk.values) == ({}, {})


def test_who_leaves_before_the_log_says_where_it_starts_leaves_no_name_behind() -> None:
    desk = make_desk()
    fill(desk, 1)
    desk.disk.is_late = True
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w", from_="earliest")
    assert types(line.ask({"type": "unsubscribe", "sub": 1})) == ["unsubscribed"]
    desk.disk.answer()
    desk.commit()
    assert line.drain() == []
    assert desk.node.consumers.by_name == {}


def test_number_that_cannot_be_remembered_makes_no_name() -> None:
    """SPEC 3.2.1: what is refused has done nothing."""
    desk = make_desk()
    line = desk.connect()
    for number in range(MAX_SCATTERED):
        line.ask({"type": "subscribe", "sub": 10 + 2 * number, "filter": "m/a"})
        line.ask({"type": "unsubscribe", "sub": 10 + 2 * number})
    error = only_error(line.subscribe(99_999, "m/a", group="g"))
    assert (error["name"], error["field"]) == ("quota", "sub")
    assert desk.node.consumers.by_name == {}

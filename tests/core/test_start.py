"""How subscriptions start: from new, from what is held, from a position they had (SPEC 3.2, 4.2; G4)."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule

from tests.core.desk import Desk, Packet

LOG = "m0-life"


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def handed(packets: list[Packet]) -> list[int]:
    """The pos of each message, delivered or live."""
    messages = (packet.get("message", packet) for packet in packets)
    return [message["pos"] for message in messages if message["type"] == "message"]


def desk_with(*topics: str, rules: tuple[TopicRule, ...] = (), **fields: Any) -> Desk:
    """A message on each topic, 10 ms apart."""
    desk = Desk(*rules, **fields)
    for topic in topics:
        desk.publish(topic)
        desk.now_ms += 10
    return desk


# New


def test_new_is_live_at_once_behind_everything() -> None:
    """SPEC 3.2.3, 4.2.1, 4.2.2."""
    desk = desk_with("a", "b")
    line = desk.connect()
    subscribed = {"type": "subscribed", "id": 101, "sub": 1, "after": {LOG: 2}, "live": True}
    assert line.subscribe(1, "a", from_="new") == [subscribed]
    desk.publish("a")
    assert handed(line.drain()) == [3]


def test_position_is_whole_from_the_first_moment() -> None:
    """SPEC 2.5, 4.2.1: one entry for a topic, one for each covered log for a wildcard, also without messages."""
    desk = Desk(shards=3)
    line = desk.connect()
    (exact,) = line.subscribe(1, "never/used")
    (wildcard,) = line.subscribe(2, "never/#")
    assert list(exact["after"].values()) == [0]
    assert wildcard["after"] == {"m0-life": 0, "m1-life": 0, "m2-life": 0}


def test_subscribe_without_id_is_answered_without_id() -> None:
    """SPEC 1.13."""
    (answer,) = Desk().connect().ask({"type": "subscribe", "sub": 1, "filter": "a"})
    assert (answer["type"], "id" in answer) == ("subscribed", False)


# What is held


def test_earliest_gets_everything_held_then_is_live() -> None:
    """SPEC 3.2.4, 4.4.2."""
    desk = desk_with("a", "b", "a")
    line = desk.connect()
    answers = line.subscribe(1, "a", from_="earliest")
    assert types(answers) == ["subscribed", "delivery", "delivery", "caught_up"]
    assert (answers[0]["after"], answers[0]["live"]) == ({LOG: 0}, False)
    assert (handed(answers), answers[-1]["after"]) == ([1, 3], {LOG: 3})
    desk.publish("a")
    assert handed(line.drain()) == [4]


def test_earliest_of_an_empty_topic_goes_live_at_once() -> None:
    desk = desk_with("b")
    answers = desk.connect().subscribe(1, "a", from_="earliest")
    assert types(answers) == ["subscribed", "caught_up"]
    assert answers[0]["after"] == answers[1]["after"] == {LOG: 1}


def test_earliest_has_no_gap_for_what_retention_took_before() -> None:
    """SPEC 3.2.4: it asks for what is held, also where one topic holds less than another."""
    rules = (TopicRule(filter="a", retention_messages=2), TopicRule(filter="b", retention_messages=0))
    desk = desk_with("c", "a", "a", "b", "a", "b", rules=rules, limits=Limits(recent_bytes=0))
    assert handed(desk.connect().subscribe(1, "a", from_="earliest")) == [3, 5]
    answers = desk.connect().subscribe(1, "#", from_="earliest")
    assert types(answers) == ["subscribed", "delivery", "delivery", "delivery", "caught_up"]
    assert handed(answers) == [1, 3, 5]


def test_delivery_wraps_the_message_in_its_own_bytes() -> None:
    """SPEC 4.3.3: whatever JSON it was."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    publisher = desk.connect()
    publisher.send_text('{"type":"publish","topic":"a","data":{"n": 1.50, "n": 1e400, "s":"\\u00e4"}}')
    (live,) = line.take_items()
    other = desk.connect()
    other.send({"type": "subscribe", "sub": 3, "filter": "a", "from": "earliest"})
    _, delivery, _ = other.take_items()
    assert delivery == b'{"type":"delivery","sub":3,"attempt":1,"message":%b}' % live


def test_last_is_a_snapshot_of_each_topic_in_order() -> None:
    """SPEC 3.2.5, 4.3.4: without prev; then live."""
    desk = desk_with("a/1", "a/2", "b", "a/1", "a/3")
    line = desk.connect()
    answers = line.subscribe(1, "a/+", from_="last")
    assert types(answers) == ["subscribed", "delivery", "delivery", "delivery", "caught_up"]
    assert handed(answers) == [2, 4, 5]
    assert not [answer for answer in answers if "prev" in answer]
    assert answers[0]["after"] == answers[-1]["after"] == {LOG: 5}
    desk.publish("a/9")
    assert handed(line.drain()) == [6]


def test_last_over_several_logs_is_in_order_of_pos_inside_each() -> None:
    desk = desk_with(*[f"t/{number % 12}" for number in range(40)], shards=3)
    answers = desk.connect().subscribe(1, "t/+", from_="last")
    places: dict[str, list[int]] = {}
    for answer in answers[1:-1]:
        places.setdefault(answer["message"]["log"], []).append(answer["message"]["pos"])
    assert sum(map(len, places.values())) == 12
    assert all(found == sorted(found) for found in places.values())
    assert answers[0]["after"] == desk.router.heads()


@pytest.mark.parametrize(("last", "found"), [(1, [5]), (2, [3, 5]), (3, [1, 3, 5]), (10_000, [1, 3, 5])])
def test_last_n_is_the_newest_n(last: int, found: list[int]) -> None:
    """SPEC 3.2.6."""
    desk = desk_with("a", "b", "a", "b", "a", "b")
    answers = desk.connect().subscribe(1, "a", from_={"last": last})
    assert handed(answers) == found
    assert types(answers)[-1] == "caught_up"
    assert "gap" not in types(answers)


@pytest.mark.parametrize("filter", ["a/#", "+"])
def test_last_n_of_a_wildcard_is_unsupported(filter: str) -> None:
    """SPEC 3.2.6."""
    (error,) = Desk().connect().subscribe(1, filter, from_={"last": 3})
    assert (error["name"], error["field"], error["sub"], error["id"]) == ("unsupported", "from", 1, 101)


@pytest.mark.parametrize(("passed_ms", "found"), [(0, [1, 3]), (1, [3]), (20, [3]), (21, []), (9_999, [])])
def test_since_gets_what_is_at_least_as_young(passed_ms: int, found: list[int]) -> None:
    """SPEC 3.2.7."""
    desk = desk_with("a", "b", "a")
    answers = desk.connect().subscribe(1, "a", from_={"since": 1_000_000 + passed_ms})
    assert handed(answers) == found
    assert "gap" not in types(answers)


def test_since_the_beginning_of_time_is_everything() -> None:
    desk = desk_with("a", "a")
    assert handed(desk.connect().subscribe(1, "#", from_={"since": 0})) == [1, 2]


def test_since_says_what_retention_took() -> None:
    """SPEC 3.2.7, 4.6.1, 4.6.3: once, before the first message."""
    desk = desk_with("a", "a", "a", "a", rules=(TopicRule(retention_messages=2),), limits=Limits(recent_bytes=0))
    answers = desk.connect().subscribe(1, "a", from_={"since": 1_000_000})
    assert types(answers) == ["subscribed", "gap", "delivery", "delivery", "caught_up"]
    assert answers[1] == {"type": "gap", "sub": 1, "after": {LOG: 2}, "reason": "retention", "topic": "a"}
    assert "gap" not in types(desk.connect().subscribe(1, "a", from_={"since": 1_000_020}))


BAD_STARTS: list[tuple[Packet, str, str]] = [
    ({"from": {}}, "malformed", "from"),
    ({"from": {"last": 1, "since": 5}}, "malformed", "from"),
    ({"from": {"last": 0}}, "malformed", "from"),
    ({"from": {"last": 10_001}}, "malformed", "from"),
    ({"from": {"since": -1}}, "malformed", "from"),
    ({"from": {"since": 1, "x": 1}}, "unsupported", "x"),
    ({"from": 7}, "malformed", "from"),
    ({"from": None}, "malformed", "from"),
    ({"from": "earliest", "after": {LOG: 0}}, "malformed", "after"),
    ({"from": {"last": 1}, "after": {}}, "malformed", "after"),
]


@pytest.mark.parametrize(("fields", "name", "field"), BAD_STARTS)
def test_start_that_is_none_is_refused(fields: Packet, name: str, field: str) -> None:
    """SPEC 3.2.6, 3.2.7, 3.2.8."""
    desk = desk_with("a")
    (error,) = desk.connect().ask({"type": "subscribe", "id": 2, "sub": 1, "filter": "a", **fields})
    assert (error["name"], error["field"], error["sub"], error["id"]) == (name, field, 1, 2)
    assert desk.router.live_subscriptions == 0


def test_after_with_from_new_resumes() -> None:
    """SPEC 3.2.8: "new" is the default and says nothing."""
    desk = desk_with("a", "a")
    assert handed(desk.connect().subscribe(1, "a", from_="new", after={LOG: 1})) == [2]


# Resuming


def test_resume_gets_what_came_since() -> None:
    """SPEC 3.2.8, 4.3.3."""
    desk = desk_with("a", "b", "a", "a")
    line = desk.connect()
    answers = line.subscribe(1, "a", after={LOG: 1})
    assert types(answers) == ["subscribed", "delivery", "delivery", "caught_up"]
    assert answers[0] == {"type": "subscribed", "id": 101, "sub": 1, "after": {LOG: 1}, "live": False}
    assert handed(answers) == [3, 4]
    assert answers[-1] == {"type": "caught_up", "sub": 1, "after": {LOG: 4}}


def test_resume_at_the_head_is_live_at_once() -> None:
    """SPEC 4.2.2."""
    desk = desk_with("a", "b")
    (answer,) = desk.connect().subscribe(1, "a", after={LOG: 2})
    assert (answer["type"], answer["live"], answer["after"]) == ("subscribed", True, {LOG: 2})


def test_resume_before_the_first_message_gets_all() -> None:
    """SPEC 2.5: 0 means nothing yet."""
    desk = desk_with("a", "a")
    answers = desk.connect().subscribe(1, "a", after={LOG: 0})
    assert handed(answers) == [1, 2]
    assert "gap" not in types(answers)


def test_resume_of_a_wildcard_resumes_every_log() -> None:
    """SPEC 2.5, I10."""
    topics = [f"t/{number}" for number in range(20)]
    desk = desk_with(*topics, shards=3)
    position = desk.router.heads()
    later = [desk.publish(topic) for topic in topics]
    answers = desk.connect().subscribe(1, "t/+", after=position)
    assert types(answers) == ["subscribed", *["delivery"] * 20, "caught_up"]
    for log in position:
        found = [answer["message"]["pos"] for answer in answers[1:-1] if answer["message"]["log"] == log]
        assert found == [answer["pos"] for answer in later if answer["log"] == log]


def test_resume_drops_entries_of_logs_that_are_not_there() -> None:
    """SPEC 3.2.9: unknown, or not covered by the filter."""
    desk = desk_with("a")
    (answer,) = desk.connect().subscribe(1, "a", after={LOG: 1, "m0-earlier": 99, "d7-x": 3})
    assert (answer["live"], answer["after"]) == (True, {LOG: 1})


@pytest.mark.parametrize("after", [{}, {"m0-earlier": 1}, {LOG: 4}, {LOG: 2**53 - 1}])
def test_resume_without_a_place_in_the_log_is_a_reset(after: dict[str, int]) -> None:
    """SPEC 3.2.9, 4.6.2: never "new"; the oldest held comes."""
    desk = desk_with("a", "b", "a")
    answers = desk.connect().subscribe(1, "a", after=after)
    assert types(answers) == ["subscribed", "gap", "delivery", "delivery", "caught_up"]
    assert answers[0]["after"] == {LOG: 0}
    assert answers[1] == {"type": "gap", "sub": 1, "after": {LOG: 0}, "reason": "reset", "topic": "a"}
    assert handed(answers) == [1, 3]


def test_position_beyond_the_head_is_a_reset_for_that_client_alone() -> None:
    """SPEC 3.2.9."""
    desk = desk_with("a")
    other = desk.connect()
    other.subscribe(1, "a")
    desk.connect().subscribe(1, "a", after={LOG: 50})
    assert other.drain() == []


def test_reset_of_an_empty_log_is_said_too() -> None:
    """SPEC 3.2.9: the client had messages of a log that is gone."""
    answers = Desk().connect().subscribe(1, "a", after={"m0-earlier": 7})
    assert types(answers) == ["subscribed", "gap", "caught_up"]
    assert answers[1]["reason"] == "reset"


def test_reset_of_one_log_of_a_wildcard_is_one_gap_without_topic() -> None:
    """SPEC 3.2.9, 4.6.3: the other logs resume where they were."""
    desk = desk_with(*[f"t/{number}" for number in range(12)], shards=2)
    heads = desk.router.heads()
    answers = desk.connect().subscribe(1, "t/+", after={"m0-life": heads["m0-life"]})
    assert types(answers)[:2] == ["subscribed", "gap"]
    assert answers[1] == {
        "type": "gap",
        "sub": 1,
        "after": {"m0-life": heads["m0-life"], "m1-life": 0},
        "reason": "reset",
    }
    assert handed(answers) == list(range(1, heads["m1-life"] + 1))


def test_reset_says_once_what_retention_took_as_well() -> None:
    """SPEC 4.6.1: one gap is enough for both."""
    desk = desk_with("a", "a", "a", rules=(TopicRule(retention_messages=1),), limits=Limits(recent_bytes=0))
    answers = desk.connect().subscribe(1, "a", after={"m0-earlier": 7})
    assert types(answers) == ["subscribed", "gap", "delivery", "caught_up"]


def test_resume_behind_retention_is_a_gap() -> None:
    """SPEC 3.2.10, 4.6.2: and goes on with the oldest held."""
    desk = desk_with(*"aaaaa", rules=(TopicRule(retention_messages=2),), limits=Limits(recent_bytes=0))
    answers = desk.connect().subscribe(1, "a", after={LOG: 1})
    assert types(answers) == ["subscribed", "gap", "delivery", "delivery", "caught_up"]
    assert (answers[1]["reason"], answers[1]["after"]) == ("retention", {LOG: 1})
    assert handed(answers) == [4, 5]
    assert "gap" not in types(desk.connect().subscribe(1, "a", after={LOG: 3}))


def test_short_absence_is_bridged_where_nothing_is_retained() -> None:
    """Every log keeps its newest messages for resumes."""
    desk = desk_with("a", "a", "a", rules=(TopicRule(retention_messages=0),))
    answers = desk.connect().subscribe(1, "a", after={LOG: 1})
    assert types(answers) == ["subscribed", "delivery", "delivery", "caught_up"]
    assert handed(answers) == [2, 3]


def test_several_subscriptions_resume_each_for_itself() -> None:
    """SPEC 4.3.3: a delivery names its sub."""
    desk = desk_with("a", "a")
    line = desk.connect()
    line.send(
        {"type": "subscribe", "sub": 1, "filter": "a", "after": {LOG: 1}},
        {"type": "subscribe", "sub": 2, "filter": "+", "after": {LOG: 0}},
    )
    deliveries = [
        (packet["sub"], packet["message"]["pos"]) for packet in line.drain() if packet["type"] == "delivery"
    ]
    assert deliveries == [(1, 2), (2, 1), (2, 2)]

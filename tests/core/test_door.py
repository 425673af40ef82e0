"""What each packet needs rights for, asked before anything else is looked at (SPEC 11.4, G10, S13, S29-30)."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.identity import OPEN
from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName

from tests.core.desk import Desk, Line, Packet
from tests.core.gatekeeper import Guarded, error_of


def forbidden(line: Line, packet: Packet, field: str) -> None:
    """It is answered with that error, and nothing comes of it."""
    error = error_of(line.ask({"id": 9, **packet}))
    assert (error["name"], error["id"], error["field"], error["retry"]) == ("forbidden", 9, field, "never")
    assert error.get("sub", 0) == packet.get("sub", 0)


def publish(topic: str, **fields: Any) -> Packet:
    return {"type": "publish", "topic": topic, "data": 1, **fields}


def subscribe(filter: str, **fields: Any) -> Packet:
    return {"type": "subscribe", "sub": 1, "filter": filter, **fields}


# Each packet


def test_publish_needs_its_topic() -> None:
    """SPEC 11.4.1."""
    guarded = Guarded()
    line = guarded.allow("alice", publish="rooms/# a", deny_publish="rooms/secret/#")
    for topic in ("a", "rooms/1", "rooms/1", "a"):
        assert line.ask_one({"id": 2, **publish(topic)})["type"] == "published"
    for topic in ("rooms/secret/1", "b", "b"):
        forbidden(line, publish(topic), "topic")
    assert error_of(line.ask({"id": 2, **publish("b/+")}))["name"] == "bad_topic"
    assert [log.head() for log in guarded.desk.logs] == [4]


def test_publish_without_an_id_is_refused_all_the_same() -> None:
    line = Guarded().allow("alice", subscribe="#")
    assert error_of(line.ask(publish("a")))["name"] == "forbidden"


@pytest.mark.parametrize("fields", [{"data": "x" * 100}, {"ttl_ms": 5}, {"key": ""}, {"deliver_at_ms": 2**50}])
def test_who_may_not_publish_learns_nothing_of_the_topics_rules(fields: dict[str, Any]) -> None:
    """What the topic would refuse is not told to who may not know it."""
    rule = TopicRule(filter="a", compact=True, max_payload_bytes=10)
    line = Guarded(rule).allow("alice", publish="b")
    forbidden(line, publish("a", **fields), "topic")


def test_subscribe_needs_some_of_its_filter() -> None:
    """SPEC 11.4.1, 11.4.2, 4.2.5."""
    line = Guarded().allow("alice", subscribe="rooms/1 news/#", deny_subscribe="news/x/#")
    forbidden(line, subscribe("rooms/2"), "filter")
    forbidden(line, subscribe("news/x/+"), "filter")
    forbidden(line, subscribe("$dead/#"), "filter")
    assert line.subscribe(1, "rooms/1") == [
        {"type": "subscribed", "id": 101, "sub": 1, "after": {"m0-life": 0}, "live": True}
    ]
    (subscribed,) = line.subscribe(2, "rooms/#")
    assert subscribed["filtered"] is True, "forbidden ones have used up no number, and this is let in in part"


def test_the_past_needs_history_too() -> None:
    """SPEC 11.4.2: what goes on after a position needs no more than it had."""
    guarded = Guarded()
    publisher = guarded.allow("bob", publish="#")
    publisher.ask({"id": 2, **publish("a/1")}, {"id": 3, **publish("a/2")})
    line = guarded.allow("alice", subscribe="a/# b", history="a/1")
    for start in ("last", "earliest", {"last": 1}, {"since": 5}):
        forbidden(line, subscribe("b", **{"from": start}), "from")
    subscribed, message, gap, caught_up = line.subscribe(1, "a/#", from_="earliest")
    assert (gap["reason"], caught_up["type"]) == ("permission", "caught_up"), "from here on subscribe is enough"
    assert (subscribed["filtered"], message["message"]["topic"]) == (True, "a/1")
    assert [packet["type"] for packet in line.subscribe(2, "a/2", after={"m0-life": 0})] == [
        "subscribed",
        "delivery",
        "caught_up",
    ]


def test_presence_needs_its_own_right() -> None:
    """SPEC 11.4.1: for all of the filter, because who is there is told to everybody who watches."""
    line = Guarded().allow("alice", subscribe="#", presence="rooms/1 news/#")
    forbidden(line, subscribe("rooms/2", presence="watch"), "presence")
    forbidden(line, subscribe("rooms/+", presence="watch"), "presence")
    forbidden(line, subscribe("rooms/2", presence={"state": 1}), "presence")
    forbidden(line, {"type": "presence", "topic": "rooms/2"}, "topic")
    assert line.ask_one({"type": "presence", "id": 2, "topic": "rooms/1"})["members"] == []
    assert line.subscribe(1, "news/+", presence="watch")[0]["type"] == "subscribed"


def test_history_needs_its_topic() -> None:
    """SPEC 11.4.1."""
    line = Guarded().allow("alice", subscribe="#", history="a")
    forbidden(line, {"type": "history", "topic": "b"}, "topic")
    forbidden(line, {"type": "history", "topic": "$dead/x"}, "topic")
    assert line.ask_one({"type": "history", "id": 2, "topic": "a"})["messages"] == []


def test_acknowledged_subscription_needs_all_of_its_filter() -> None:
    """SPEC 11.4.1: members of a name are interchangeable. Its past is its own."""
    line = Guarded().allow("alice", consume="jobs/#", deny_consume="jobs/x", subscribe="#")
    forbidden(line, subscribe("other", group="g"), "filter")
    forbidden(line, subscribe("jobs/#", group="g"), "filter")
    assert line.subscribe(1, "jobs/a", group="g", from_="earliest")[0]["type"] == "subscribed"


def test_who_is_forbidden_a_name_learns_nothing_of_it() -> None:
    """SPEC 11.4.3, S13: neither that it is there nor where; but bad requests are bad."""
    guarded = Guarded(durable=True)
    bob = guarded.allow("bob", consume="#")
    bob.send(subscribe("jobs/#", durable="billing"))
    guarded.desk.commit()
    line = guarded.allow("alice", consume="mine/#")
    for name in ("billing", "nobodys"):
        forbidden(line, subscribe("jobs/#", durable=name), "filter")
    assert error_of(line.ask(subscribe("jobs/#/x", durable="billing")))["name"] == "bad_topic"


def test_a_will_is_a_publish() -> None:
    """SPEC 11.1.4, 11.4.1, S29-30: the connection ends, and the rule of its topic stays unknown."""
    guarded = Guarded(TopicRule(filter="b", compact=True))
    guarded.gate.know("alice", filters={"publish": "a"})
    connect = {"type": "connect", "id": 9, "token": "alice"}
    line = guarded.desk.dial()
    forbidden(line, {**connect, "will": {"topic": "b", "data": 1}}, "topic")
    assert line.closed_with == CloseCode.AUTH_FAILED
    line = guarded.desk.dial()
    assert error_of(line.ask({**connect, "will": {"topic": "b/#", "data": 1}}))["name"] == "bad_topic"
    assert line.closed_with == CloseCode.PROTOCOL
    assert guarded.enter("alice", will={"topic": "a", "data": 1}).session.is_connected


# Where nobody is asked


def test_open_brokers_forbid_nothing() -> None:
    desk = Desk()
    line = desk.connect()
    assert line.session.identity is OPEN
    assert line.subscribe(1, "$anything/#")[0].get("filtered", False) is False
    assert line.subscribe(2, "$dead/#", from_="earliest")[0]["type"] == "subscribed"


# Answers that come later


def test_an_answer_is_judged_by_the_rules_of_its_moment() -> None:
    """SPEC 11.4.4, G10, I12: not by those of the question."""
    guarded = Guarded(TopicRule(storage="disk"), durable=True)
    line = guarded.allow("alice", history="a", publish="a", presence="a")
    line.send({"id": 2, **publish("a")})
    guarded.desk.commit()
    line.drain()
    guarded.desk.disk.is_late = True
    line.send({"type": "history", "id": 3, "topic": "a"})
    line.session.become(guarded.gate.know("less", "alice", filters={"publish": "a"}))
    assert not line.session.is_answered
    guarded.desk.disk.questions.popleft()()
    error = error_of(line.drain())
    assert (error["name"], error["id"]) == ("forbidden", 3)
    assert line.session.is_answered


def test_limits_come_behind_rights() -> None:
    line = Guarded(limits=Limits(max_subscriptions=1)).allow("alice", subscribe="a")
    line.subscribe(1, "a")
    forbidden(line, {**subscribe("b"), "sub": 2}, "filter")


def test_refusals_of_the_gate_are_not_forbidden() -> None:
    guarded = Guarded()
    guarded.gate.known["t"] = Refused(ErrorName.FORBIDDEN, "not from there")
    line = guarded.desk.dial()
    assert error_of(line.ask({"type": "connect", "token": "t"}))["name"] == "forbidden"
    assert line.closed_with == CloseCode.AUTH_FAILED

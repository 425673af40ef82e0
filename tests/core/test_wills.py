"""What is published for a client whose connection is lost (SPEC 10.7-10.10)."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.identity import Identity
from triode_broker.core.revocations import Revocation

from tests.core.desk import Desk, Line, Packet

WILL: Packet = {"topic": "status/ann", "data": "gone"}


def lose(desk: Desk, line: Line, code: int = 0) -> None:
    """The line breaks, or the connection was closed with this code."""
    if code:
        line.close(code)
    line.session.detach()
    desk.wait()


def published(desk: Desk, topic: str = "status/ann") -> list[Any]:
    answer = desk.connect().ask_one({"type": "history", "id": 5, "topic": topic})
    return [message["data"] for message in answer["messages"]]


def test_will_is_published_when_the_connection_is_lost() -> None:
    """SPEC 10.7: like a publish of the client."""
    desk = Desk()
    watcher = desk.connect()
    watcher.subscribe(1, "status/#")
    ann = desk.connect(will=WILL)
    ann.session.identity, ann.session.user = Identity("ann"), "ann"
    assert watcher.drain() == []
    lose(desk, ann)
    (message,) = watcher.drain()
    assert (message["type"], message["topic"], message["data"]) == ("message", "status/ann", "gone")
    assert desk.node.wills.published == 1


@pytest.mark.parametrize(
    ("code", "is_due"),
    [
        (1000, False), (4002, False), (4005, False), (4100, False), (4200, False),
        (1001, True), (4006, True), (4104, True), (4105, True), (4107, True),
    ],
)  # fmt: skip
def test_will_is_for_connections_that_are_lost(code: int, is_due: bool) -> None:
    """SPEC 10.8"""
    desk = Desk()
    lose(desk, desk.connect(will=WILL), code)
    assert published(desk) == ["gone"] * is_due


def test_will_is_not_published_after_a_goodbye() -> None:
    """SPEC 10.8, 3.7.1"""
    desk = Desk()
    ann = desk.connect(will=WILL)
    ann.send({"type": "disconnect"})
    lose(desk, ann)
    assert published(desk) == []


def test_connection_without_a_will_has_none() -> None:
    desk = Desk()
    lose(desk, desk.connect())
    assert (desk.node.wills.published, len(desk.node.wills)) == (0, 0)


def test_will_waits_for_its_delay() -> None:
    """SPEC 10.9"""
    desk = Desk()
    lose(desk, desk.connect(will=WILL | {"delay_ms": 5_000}))
    desk.wait(4_999)
    assert published(desk) == []
    assert desk.node.wills.size > 0
    desk.wait(1)
    assert published(desk) == ["gone"]
    assert desk.node.wills.size == 0


def test_will_that_waits_is_not_published_for_who_was_revoked_meanwhile() -> None:
    """SPEC 10.8; G10, S13"""
    desk = Desk()
    ann, bob = desk.connect(will=WILL | {"delay_ms": 5_000}), desk.connect(will=WILL | {"delay_ms": 5_000})
    for line, user in ((ann, "ann"), (bob, "bob")):
        line.session.identity, line.session.user = Identity(user), user
        lose(desk, line)
    desk.node.revocations.add(Revocation("user", "ann", desk.now_ms, 0))
    desk.wait(5_000)
    assert (desk.node.wills.published, desk.node.wills.refused) == (1, 1)


def test_will_of_a_client_that_comes_back_is_not_published() -> None:
    """SPEC 10.9: within the delay; the new connection has the will that it brings."""
    desk = Desk()
    ann = desk.connect(will=WILL | {"delay_ms": 5_000})
    lose(desk, ann)
    desk.wait(4_000)
    again = desk.connect(replaces=ann.session.connection_id, will=WILL | {"data": "gone again", "delay_ms": 10})
    desk.wait(10_000)
    assert published(desk) == []
    lose(desk, again)
    desk.wait(10)
    assert published(desk) == ["gone again"]


def test_will_of_a_connection_that_is_replaced_is_not_published() -> None:
    """SPEC 10.8: though it was being closed for another reason."""
    desk = Desk()
    ann = desk.connect(will=WILL)
    ann.close(4105)
    desk.connect(replaces=ann.session.connection_id)
    lose(desk, ann)
    assert published(desk) == []


def test_will_is_not_cancelled_by_another_identity() -> None:
    """SPEC 3.1.4"""
    desk = Desk()
    ann = desk.connect(will=WILL | {"delay_ms": 5_000})
    lose(desk, ann)
    desk.node.wills.cancel(ann.session.connection_id, Identity("eve"))
    desk.wait(5_000)
    assert published(desk) == ["gone"]


def test_will_deletes_a_key() -> None:
    """SPEC 10.7, 3.4.17"""
    desk = Desk(TopicRule(filter="devices", compact=True))
    desk.publish("devices", "on", key="lamp")
    watcher = desk.connect()
    watcher.subscribe(1, "devices")
    lose(desk, desk.connect(will={"topic": "devices", "key": "lamp"}))
    (message,) = watcher.drain()
    assert message["key"] == "lamp"
    assert "data" not in message


@pytest.mark.parametrize(
    ("will", "name", "field"),
    [
        ({"topic": "a/+", "data": 1}, "bad_topic", "topic"),
        ({"topic": "$sys/a", "data": 1}, "bad_topic", "topic"),
        ({"topic": "a"}, "malformed", "data"),
        ({"topic": "a", "data": 1, "b64": "AAEC"}, "malformed", "b64"),
        ({"topic": "a", "b64": "no"}, "malformed", "b64"),
        ({"topic": "a", "data": 1, "key": "k" * 256}, "malformed", "key"),
        ({"topic": "a", "data": 1, "delay_ms": 3_600_001}, "malformed", "delay_ms"),
        ({"topic": "a", "data": 1, "delay_ms": -1}, "malformed", "will"),
        ({"topic": "small", "data": "12345"}, "too_large", "data"),
        ({"topic": "state", "data": 1}, "malformed", "key"),
        ({"topic": "a", "data": 1, "ttl": 1}, "unsupported", "ttl"),
        ("gone", "malformed", "will"),
    ],
)
def test_bad_will_is_refused_and_the_connection_with_it(will: Any, name: str, field: str) -> None:
    """SPEC 10.7: so nobody finds out when it is too late."""
    rules = (TopicRule(filter="small", max_payload_bytes=5), TopicRule(filter="state", compact=True))
    desk = Desk(*rules)
    line = desk.dial()
    (error,) = line.ask({"type": "connect", "id": 1, "will": will})
    assert (error["name"], error["field"], error["id"]) == (name, field, 1)
    assert line.closed_with == 4000
    lose(desk, line)
    assert desk.node.wills.published == desk.node.wills.refused == 0


def test_wills_that_wait_are_bounded() -> None:
    """SPEC 10.9: one too many is published at once."""
    desk = Desk(limits=Limits(max_will_bytes=2_100))
    for name in ("a", "b", "c"):
        lose(desk, desk.connect(will=WILL | {"data": name, "delay_ms": 5_000}))
    assert published(desk) == ["c"]
    desk.wait(5_000)
    assert published(desk) == ["c", "a", "b"]


def test_will_for_a_topic_on_disk_is_counted_at_commit() -> None:
    """G1"""
    desk = Desk(TopicRule(filter="status/#", storage="disk"), durable=True)
    lose(desk, desk.connect(will=WILL))
    assert desk.node.wills.published == 0
    desk.commit()
    assert desk.node.wills.published == 1


def test_will_that_is_refused_then_is_counted() -> None:
    """There is nobody to tell."""
    desk = Desk(TopicRule(filter="status/#", storage="disk"), durable=True)
    ann = desk.connect(will=WILL)
    desk.router.stop_storing()
    lose(desk, ann)
    assert (desk.node.wills.published, desk.node.wills.refused) == (0, 1)

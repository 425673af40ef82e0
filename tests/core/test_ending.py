"""A node that is about to end: its disk takes nothing more, and what was accepted is answered (G1, G2)."""

from triode_broker.config import TopicRule

from tests.core.desk import Desk

ON_DISK = TopicRule(filter="d/#", storage="disk")


def test_what_was_accepted_is_answered_and_nothing_more_is_taken() -> None:
    desk = Desk(ON_DISK, durable=True)
    line = desk.connect()
    assert line.ask({"type": "publish", "id": 1, "topic": "d/a", "data": 1}) == []
    desk.router.stop_storing()
    refused = line.ask_one({"type": "publish", "id": 2, "topic": "d/a", "data": 2})
    assert (refused["name"], refused["message"]) == ("unavailable", "this node is shutting down")
    assert refused["retry_after_ms"] > 0
    desk.commit()
    (published,) = line.drain()
    assert (published["id"], published["pos"]) == (1, 1)
    assert desk.publish("m", 1)["level"] == "memory"


def test_topics_of_its_own_are_known() -> None:
    desk = Desk(ON_DISK, durable=True)
    line = desk.connect()
    line.subscribe(1, "d/a", durable="worker")
    desk.commit()
    known = [desk.router.own_topics]
    desk.publish("d/a", 1)
    line.drain()
    line.send({"type": "nack", "sub": 1, "log": desk.disk.name, "pos": 1, "attempt": 1, "reject": True})
    desk.commit()
    known.append(desk.router.own_topics)
    desk.restart()
    known.append(desk.router.own_topics)
    assert known == [(), ("$dead/worker",), ("$dead/worker",)]

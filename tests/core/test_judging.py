"""Open subscriptions when the rights of their client change: each ends, is told, or goes on (SPEC 11.5, G10)."""

from typing import Any

import pytest
from triode_broker.config import TopicRule

from tests.core.desk import Line, Packet
from tests.core.gatekeeper import Guarded

Packets = list[Packet]


def change(guarded: Guarded, line: Line, **filters: str) -> Packets:
    """Other rights for a connected client; what it is told of, its answer left out."""
    answer, *packets = guarded.allow("new", line, **filters).drain()
    assert answer == {"type": "authorized", "id": 77}
    return packets


def client(*rules: Any, **filters: str) -> tuple[Guarded, Line]:
    guarded = Guarded(*rules)
    return guarded, guarded.allow("alice", None, **filters)


def publish(guarded: Guarded, *topics: str) -> None:
    line = guarded.allow("bob", publish="#")
    for topic in topics:
        assert line.ask_one({"type": "publish", "id": 1, "topic": topic, "data": topic})["type"] == "published"


def ended(sub: int) -> Packet:
    return {"type": "unsubscribed", "sub": sub, "name": "forbidden", "message": "$", "retry": "never"}


def unworded(packets: Packets) -> Packets:
    return [packet | {"message": "$"} if packet["type"] == "unsubscribed" else packet for packet in packets]


def test_what_is_allowed_nowhere_ends_and_the_others_go_on() -> None:
    """SPEC 11.5.1: one by one, and without a gap."""
    guarded, line = client(subscribe="a b c/#")
    for number, filter in enumerate(("a", "b", "c/+"), 1):
        line.subscribe(number, filter)
    assert unworded(change(guarded, line, subscribe="a c/#")) == [ended(2)]
    publish(guarded, "a", "b", "c/1")
    assert [packet["data"] for packet in line.drain()] == ["a", "c/1"]
    assert line.session.subscription_count == 2
    assert line.session.wildcards == 1
    assert line.ask_one({"type": "unsubscribe", "id": 3, "sub": 2})["name"] == "no_such_subscription"


def test_equal_rights_change_nothing() -> None:
    """SPEC 11.5.3."""
    guarded, line = client(subscribe="a/1 b/#")
    line.subscribe(1, "a/+")
    line.subscribe(2, "b/+")
    assert change(guarded, line, subscribe="a/1 b/# z") == []
    line.session.become(line.session.identity)
    assert line.drain() == []
    publish(guarded, "a/1", "a/2", "b/1")
    assert [packet["data"] for packet in line.drain()] == ["a/1", "b/1"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("a/#", "a/1", ["a/1"]),
        ("a/1", "a/#", ["a/1", "a/2", "a/3"]),
        ("a/1 a/2", "a/2 a/3", ["a/2", "a/3"]),
    ],
)
def test_other_topics_are_a_gap_at_the_position_and_delivery_goes_on(
    before: str, after: str, told: list[str]
) -> None:
    """SPEC 11.5.2."""
    guarded, line = client(subscribe=before)
    line.subscribe(1, "a/+")
    publish(guarded, "a/1")
    line.drain()
    (gap,) = change(guarded, line, subscribe=after)
    assert gap == {"type": "gap", "sub": 1, "after": {"m0-life": 1}, "reason": "permission"}
    publish(guarded, "a/1", "a/2", "a/3")
    assert [packet["data"] for packet in line.drain()] == told


def test_what_catches_up_goes_on_by_the_new_rights() -> None:
    guarded, line = client(TopicRule(retention_messages=100), subscribe="a/#", history="a/#")
    publish(guarded, *["a/1", "a/2"] * 5)
    line.outbox.size = line.outbox.limit  # nothing fits
    line.subscribe(1, "a/+", from_="earliest")
    line.outbox.size = line.outbox.limit
    line.send({"type": "subscribe", "sub": 2, "filter": "a/+", "from": "earliest"})
    line.session.become(guarded.gate.know("new", "alice", filters={"subscribe": "a/1", "history": "a/#"}))
    packets = line.drain()
    topics = [packet["message"]["topic"] for packet in packets if packet["type"] == "delivery"]
    assert "a/1" in topics
    assert "gap" in [packet["type"] for packet in packets]


def test_what_is_live_has_nothing_to_do_with_the_past() -> None:
    """SPEC 11.5.2: history is needed for the way to live."""
    guarded, line = client(subscribe="a/# b", history="a/# b")
    line.subscribe(1, "a/+", from_="last")
    line.subscribe(2, "b", from_="earliest")
    assert change(guarded, line, subscribe="a/#  b") == []
    publish(guarded, "a/1", "b")
    assert [packet["data"] for packet in line.drain()] == ["a/1", "b"]


def test_who_was_seen_is_seen_no_more() -> None:
    """SPEC 11.5.1: a subscription with presence needs that right, too."""
    guarded, line = client(subscribe="a b", presence="a b")
    watcher = guarded.allow("bob", subscribe="a", presence="a")
    watcher.subscribe(1, "a", presence="watch")
    line.subscribe(1, "a", presence={"state": 1})
    line.subscribe(2, "b", presence="watch")
    watcher.drain()
    assert unworded(change(guarded, line, subscribe="a b", presence="b")) == [ended(1)]
    assert [packet["type"] for packet in watcher.drain()] == ["left"]


def test_acknowledged_ones_end_and_what_they_hold_goes_to_others() -> None:
    """SPEC 11.5.1: at once."""
    guarded, line = client(consume="jobs/# other")
    other = guarded.allow("bob", consume="jobs/#")
    line.subscribe(1, "jobs/+", group="g", window=1)
    line.subscribe(2, "other", group="h")
    publish(guarded, "jobs/1")
    assert [packet["type"] for packet in line.drain()] == ["delivery"]
    other.subscribe(1, "jobs/+", group="g")
    assert unworded(change(guarded, line, consume="jobs/1 other")) == [ended(1)]
    (delivery,) = other.drain()
    assert (delivery["message"]["data"], delivery["attempt"]) == ("jobs/1", 1), "as if it had unsubscribed"
    assert line.session.subscription_count == 1


def test_one_that_waits_for_its_answer_is_refused() -> None:
    guarded = Guarded(durable=True)
    line = guarded.allow("alice", consume="#")
    assert line.subscribe(1, "jobs", durable="w") == []
    (error,) = change(guarded, line, consume="other")
    assert (error["type"], error["name"], error["id"], error["sub"]) == ("error", "forbidden", 101, 1)
    guarded.desk.commit()
    assert line.drain() == []


def test_publishes_go_by_the_new_rights_at_once() -> None:
    guarded, line = client(publish="#")
    packet = {"type": "publish", "id": 2, "topic": "a", "data": 1}
    assert line.ask_one(packet)["type"] == "published"
    assert change(guarded, line, publish="b") == []
    assert line.ask_one(packet)["name"] == "forbidden"
    assert change(guarded, line, publish="a/# #") == []
    assert line.ask_one(packet)["type"] == "published"


def test_tenants_are_judged_by_their_own_words() -> None:
    """S23."""
    guarded = Guarded()
    guarded.gate.know("t", "alice", tenant="acme", filters={"subscribe": "a/1", "publish": "#"})
    line = guarded.enter("t")
    (subscribed,) = line.subscribe(1, "a/+")
    assert subscribed["filtered"]
    line.send(*({"type": "publish", "topic": f"a/{number}", "data": number} for number in (1, 2)))
    assert [packet["topic"] for packet in line.drain()] == ["a/1"]
    guarded.gate.know("new", "alice", tenant="acme", filters={"subscribe": "a/2", "publish": "#"})
    answer, gap = line.ask({"type": "auth", "id": 2, "token": "new"})
    assert (answer["type"], gap["reason"]) == ("authorized", "permission")
    line.send(*({"type": "publish", "topic": f"a/{number}", "data": number} for number in (1, 2)))
    assert [packet["topic"] for packet in line.drain()] == ["a/2"]


@pytest.mark.parametrize("rights", [{"subscribe": "x"}, {"consume": "other"}])
def test_what_one_gives_back_goes_to_no_other_that_ends(rights: dict[str, str]) -> None:
    """S13, G10: a client that is twice in a group gets nothing of it once it may not consume any more."""
    guarded, line = client(consume="jobs")
    for sub in (1, 2, 3):
        line.subscribe(sub, "jobs", group="g", window=1)
    publish(guarded, "jobs")
    assert [packet["type"] for packet in line.drain()] == ["delivery"]
    assert unworded(change(guarded, line, **rights)) == [ended(1), ended(2), ended(3)]


def test_who_may_not_watch_any_more_does_not_hear_that_it_is_seen_no_more() -> None:
    """S13, G10: also where it is seen by one subscription and watches by another."""
    guarded, line = client(subscribe="a", presence="a")
    line.subscribe(1, "a", presence={"state": 1})
    line.subscribe(2, "a", presence="watch")
    line.subscribe(3, "a")
    line.drain()
    assert unworded(change(guarded, line, subscribe="a")) == [ended(1), ended(2)]

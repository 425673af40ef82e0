"""History: pages of what one topic holds, oldest first, in both directions (SPEC 3.5, 4.7)."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core import history

from tests.core.desk import Desk, Line, Packet

LOG = "m0-life"


def desk_with(count: int, *rules: TopicRule, **limits: int) -> Desk:
    """Messages on a at odd places, on b at even ones."""
    desk = Desk(*rules, limits=Limits(**limits))
    for number in range(count):
        desk.publish("ab"[number % 2], number)
    return desk


def ask(line: Line, **fields: Any) -> Packet:
    answer = line.ask_one({"type": "history", "id": 5, "topic": "a", **fields})
    assert (answer["type"], answer["id"]) == ("history", 5)
    return answer


def places(answer: Packet) -> list[int]:
    return [message["pos"] for message in answer["messages"]]


def test_history_is_the_messages_as_they_were_delivered() -> None:
    """SPEC 3.5.1, 4.7.1."""
    desk = desk_with(0)
    line = desk.connect()
    line.subscribe(1, "a")
    desk.publish("a", {"x": 1}, key="k")
    messages = line.drain()
    assert ask(line) == {"type": "history", "id": 5, "messages": messages, "complete": True, "after": {LOG: 1}}


def test_history_changes_nothing() -> None:
    """SPEC 3.5.1."""
    desk = desk_with(4)
    line = desk.connect()
    assert ask(line) == ask(line)
    assert desk.logs[0].head() == 4


def test_history_without_id_is_answered_without_id() -> None:
    """SPEC 1.13."""
    answer = desk_with(1).connect().ask_one({"type": "history", "topic": "a"})
    assert (answer["type"], "id" in answer) == ("history", False)


def test_history_of_an_unused_topic_is_empty_and_complete() -> None:
    """SPEC 4.7.3."""
    answer = ask(desk_with(4).connect(), topic="never")
    assert (answer["messages"], answer["complete"], answer["after"]) == ([], True, {LOG: 4})


def test_history_asks_the_log_of_its_topic() -> None:
    """SPEC 3.5.1: the other entries do not count."""
    desk = Desk(shards=3)
    logs = {topic: desk.publish(topic)["log"] for topic in "abcdefgh"}
    line = desk.connect()
    everywhere = dict.fromkeys([log.name for log in desk.logs], 0)
    for topic, log in logs.items():
        answer = ask(line, topic=topic, after=everywhere)
        assert [message["topic"] for message in answer["messages"]] == [topic]
        assert list(answer["after"]) == [log]


@pytest.mark.parametrize(
    ("fields", "found", "is_complete"),
    [
        ({}, [1, 3, 5, 7, 9], True),
        ({"last": 2}, [7, 9], True),
        ({"last": 99}, [1, 3, 5, 7, 9], True),
        ({"last": 99, "limit": 5}, [1, 3, 5, 7, 9], True),
        ({"limit": 2}, [7, 9], True),
        ({"last": 3, "limit": 2}, [7, 9], False),
        ({"before": {LOG: 7}}, [1, 3, 5], True),
        ({"before": {LOG: 7}, "limit": 2}, [3, 5], True),
        ({"before": {LOG: 8}, "limit": 2}, [5, 7], True),
        ({"before": {LOG: 1}}, [], True),
        ({"before": {LOG: 0}}, [], True),
        ({"before": {LOG: 99}, "limit": 1}, [9], True),
        ({"before": {}}, [1, 3, 5, 7, 9], True),
        ({"after": {LOG: 0}}, [1, 3, 5, 7, 9], True),
        ({"after": {LOG: 5}}, [7, 9], True),
        ({"after": {LOG: 10}}, [], True),
        ({"after": {LOG: 1}, "limit": 2}, [3, 5], False),
        ({"after": {LOG: 5}, "limit": 2}, [7, 9], True),
        ({"after": {LOG: 11}}, [1, 3, 5, 7, 9], False),
        ({"after": {"m0-earlier": 3}}, [1, 3, 5, 7, 9], False),
        ({"after": {}}, [1, 3, 5, 7, 9], False),
    ],
)
def test_history_finds_what_is_asked_for(fields: Packet, found: list[int], is_complete: bool) -> None:
    """SPEC 3.5.2, 4.7.1, 4.7.3."""
    answer = ask(desk_with(10).connect(), **fields)
    assert (places(answer), answer["complete"]) == (found, is_complete)
    assert answer["after"][LOG] >= 0


@pytest.mark.parametrize(
    "fields",
    [
        {"after": {LOG: 1}, "before": {LOG: 5}},
        {"after": {LOG: 1}, "last": 1},
        {"before": {LOG: 1}, "last": 1},
        {"after": {}, "before": {}, "last": 1},
    ],
)
def test_history_with_two_beginnings_is_malformed(fields: Packet) -> None:
    """SPEC 3.5.2."""
    error = desk_with(2).connect().ask_one({"type": "history", "id": 5, "topic": "a", **fields})
    assert (error["name"], error["id"]) == ("malformed", 5)


@pytest.mark.parametrize(
    "fields", [{"last": 0}, {"limit": 0}, {"last": "5"}, {"limit": 2**53}, {"after": {LOG: -1}}]
)
def test_history_out_of_bounds_is_malformed(fields: Packet) -> None:
    """SPEC 3.5, 1.9."""
    error = desk_with(2).connect().ask_one({"type": "history", "id": 5, "topic": "a", **fields})
    assert (error["name"], error["field"]) == ("malformed", next(iter(fields)))


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_reading_forwards_finds_everything_once(limit: int) -> None:
    """SPEC 4.7.2."""
    line = desk_with(20).connect()
    found: list[int] = []
    after: dict[str, int] = {LOG: 0}
    is_complete = False
    while not is_complete:
        answer = ask(line, after=after, limit=limit)
        found += places(answer)
        after, is_complete = answer["after"], answer["complete"]
    assert (found, after) == (list(range(1, 20, 2)), {LOG: 20})


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_reading_backwards_finds_everything_once(limit: int) -> None:
    """SPEC 4.7.2: before the place of the first message one has."""
    line = desk_with(20).connect()
    found: list[int] = []
    answer = ask(line, limit=limit)
    while answer["messages"]:
        found = places(answer) + found
        answer = ask(line, before={LOG: found[0]}, limit=limit)
    assert found == list(range(1, 20, 2))


def test_reading_on_from_the_end_finds_what_came_since() -> None:
    """SPEC 4.7.2."""
    desk = desk_with(3)
    line = desk.connect()
    end = ask(line)["after"]
    desk.publish("a")
    assert places(ask(line, after=end)) == [4]


def test_server_has_a_limit_of_its_own() -> None:
    """SPEC 3.5.3, 4.7.3."""
    line = desk_with(12, max_history_messages=4).connect()
    answer = ask(line, last=9, limit=9)
    assert (places(answer), answer["complete"]) == ([5, 7, 9, 11], False)
    answer = ask(line, after={LOG: 0}, limit=9)
    assert (places(answer), answer["complete"], answer["after"]) == ([1, 3, 5, 7], False, {LOG: 7})


def test_reply_fits_into_one_frame() -> None:
    """SPEC 3.5.3, 1.10: whatever the messages weigh, reading on finds them all."""
    desk = Desk(limits=Limits(max_frame_bytes=10_000, max_packet_bytes=5_000))
    for number in range(30):
        desk.publish("a", "x" * (number * 37 % 3_000))
    line = desk.connect()
    found: list[int] = []
    after, is_complete = {LOG: 0}, False
    while not is_complete:
        line.send({"type": "history", "id": 5, "topic": "a", "after": after})
        (reply,) = line.take_items()
        assert len(reply) <= 10_000
        (answer,) = line.decode([reply])
        found += places(answer)
        after, is_complete = answer["after"], answer["complete"]
    assert found == list(range(1, 31))


def test_newest_that_do_not_fit_into_a_frame_are_the_newest_and_not_complete() -> None:
    """SPEC 4.7.2, 4.7.3: with the oldest of them, as it was, paging backwards skipped the rest."""
    desk = Desk(limits=Limits(max_frame_bytes=10_000, max_packet_bytes=5_000))
    for _ in range(10):
        desk.publish("a", "x" * 3_000)
    line = desk.connect()
    answer = ask(line, last=5)
    assert (places(answer), answer["complete"], answer["after"]) == ([9, 10], False, {LOG: 10})
    answer = ask(line, before={LOG: 9}, limit=3)
    assert (places(answer), answer["complete"], answer["after"]) == ([7, 8], False, {LOG: 8})


@pytest.mark.parametrize("limit", [3, 100])
def test_reading_backwards_by_frames_finds_everything_once(limit: int) -> None:
    """SPEC 3.5.3, 4.7.2: whatever the messages weigh."""
    desk = Desk(limits=Limits(max_frame_bytes=10_000, max_packet_bytes=5_000))
    for number in range(30):
        desk.publish("a", "x" * (number * 37 % 3_000))
    line = desk.connect()
    found: list[int] = []
    before = {LOG: 31}
    while before[LOG] > 1:
        line.send({"type": "history", "id": 5, "topic": "a", "before": before, "limit": limit})
        (reply,) = line.take_items()
        assert len(reply) <= 10_000
        (answer,) = line.decode([reply])
        found = places(answer) + found
        before = {LOG: found[0]}
    assert found == list(range(1, 31))


def test_history_forwards_looks_at_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """S8, SPEC 4.7.2: a page that had expired altogether is empty, not complete, and one reads on."""
    monkeypatch.setattr(history, "PAGE_RECORDS", 5)
    desk = Desk()
    desk.publish("a")
    for _ in range(9):
        desk.publish("a", ttl_ms=10)
    desk.publish("a")
    desk.now_ms += 10
    line = desk.connect()
    found = []
    after, is_complete = {LOG: 1}, False
    while not is_complete:
        answer = ask(line, after=after)
        found.append(places(answer))
        after, is_complete = answer["after"], answer["complete"]
    assert found == [[], [11]]


def test_what_retention_took_is_not_complete() -> None:
    """SPEC 4.7.3."""
    desk = desk_with(10, TopicRule(retention_messages=2), recent_bytes=0)
    line = desk.connect()
    answer = ask(line, after={LOG: 1})
    assert (places(answer), answer["complete"]) == ([7, 9], False)
    assert ask(line, after={LOG: 5})["complete"]
    assert ask(line, last=2)["complete"]


def test_expired_messages_are_not_in_the_history() -> None:
    """SPEC 3.4.9."""
    desk = Desk()
    desk.publish("a")
    desk.publish("a", ttl_ms=10)
    desk.publish("a")
    line = desk.connect()
    assert places(ask(line)) == [1, 2, 3]
    desk.now_ms += 10
    assert places(ask(line, last=2)) == [1, 3]
    answer = ask(line, after={LOG: 0})
    assert (places(answer), answer["complete"]) == ([1, 3], True)

"""Back-pressure (G6): a publisher faster than the disk is told so; memory stays flat, nothing accepted is lost."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from triode_broker.config import Limits, TopicRule
from triode_broker.core.awaiting import RETRY_QUEUE_MS, RETRY_STORE_MS, Awaiting
from triode_broker.core.shard import Topic
from triode_protocol.packets import Publish

from tests.core.desk import Desk, Line, Packet
from tests.core.test_overflow import handed, types

LOG = "d0-life"
ON_DISK = TopicRule(storage="disk")


def make_desk(**limits: Any) -> Desk:
    return Desk(ON_DISK, limits=Limits(**limits), durable=True)


def publish(line: Line, id: int = 0, data: Any = 1, topic: str = "a", **fields: Any) -> None:
    """Send one, wait for nothing."""
    head: Packet = {"type": "publish", "topic": topic, "data": data, **fields}
    line.send(head | ({"id": id} if id else {}))


def outcomes(packets: list[Packet]) -> list[tuple[int, str]]:
    """Which publish came to what."""
    return [(one.get("id", 0), one.get("name", "published")) for one in packets]


# The window of one connection


def test_publishes_over_the_window_are_inflight_until_some_are_answered() -> None:
    """SPEC 3.4.12, G6."""
    desk = make_desk(max_inflight_publishes=3)
    line = desk.connect()
    for id in range(1, 6):
        publish(line, id)
    refused = line.drain()
    assert outcomes(refused) == [(4, "inflight"), (5, "inflight")]
    assert {one["retry_after_ms"] for one in refused} == {RETRY_QUEUE_MS}
    assert {one["retry"] for one in refused} == {"backoff"}
    desk.commit()
    assert outcomes(line.drain()) == [(1, "published"), (2, "published"), (3, "published")]
    publish(line, 6)
    desk.commit()
    assert outcomes(line.drain()) == [(6, "published")]
    assert desk.disk.head() == 4, "what was refused was not stored"


def test_window_counts_publishes_without_id_repetitions_and_delayed_ones_too() -> None:
    """SPEC 3.4.12: all that has its outcome before it."""
    desk = make_desk(max_inflight_publishes=4)
    line = desk.connect()
    publish(line)
    publish(line, message_id="m")
    publish(line, message_id="m")
    publish(line, deliver_at_ms=desk.now_ms + 10)
    assert line.session.inflight == 4
    publish(line)
    assert outcomes(line.drain()) == [(0, "inflight")]
    desk.commit()
    assert (line.session.inflight, desk.disk.head()) == (0, 2)


def test_window_is_of_one_connection_and_of_topics_on_disk() -> None:
    """G6, G7: memory topics are answered at once."""
    rules = (TopicRule(filter="memory"), ON_DISK)
    desk = Desk(*rules, limits=Limits(max_inflight_publishes=1), durable=True)
    line, other = desk.connect(), desk.connect()
    publish(line, 1)
    publish(line, 2)
    publish(line, 3, topic="memory")
    publish(other, 4)
    assert outcomes(line.drain()) == [(2, "inflight"), (3, "published")]
    desk.commit()
    assert (outcomes(line.drain()), outcomes(other.drain())) == ([(1, "published")], [(4, "published")])


def test_refused_publish_sent_again_later_is_stored_once() -> None:
    """G2, I9: its message_id was not used up."""
    desk = make_desk(max_inflight_publishes=1)
    line = desk.connect()
    publish(line, 1, message_id="a")
    publish(line, 2, message_id="b")
    desk.commit()
    publish(line, 3, message_id="b")
    desk.commit()
    answers = line.drain()
    assert outcomes(answers) == [(2, "inflight"), (1, "published"), (3, "published")]
    assert "duplicate" not in answers[-1]


# All that waits for the disk


def test_more_uncommitted_than_the_bound_is_overloaded_for_everybody() -> None:
    """G6, SPEC 5.1; I13."""
    desk = make_desk(max_uncommitted_bytes=10_000)
    lines = [desk.connect() for _ in range(10)]
    for round in range(5):
        for line in lines:
            publish(line, round + 1, "x" * 500)
    assert 10_000 <= desk.disk.uncommitted_bytes < 11_000, "at most one message more"
    refused = [one for line in lines for one in line.drain()]
    assert {(one["name"], one["retry"], one["retry_after_ms"]) for one in refused} == {
        ("overloaded", "backoff", RETRY_QUEUE_MS)
    }
    desk.commit()
    stored = [one for line in lines for one in line.drain()]
    assert len(stored) + len(refused) == 50
    assert desk.disk.head() == len(stored)
    publish(lines[0], 9)
    publish(lines[0], 10, deliver_at_ms=desk.now_ms + 10)
    desk.commit()
    assert outcomes(lines[0].drain()) == [(9, "published"), (10, "published")]


def test_delayed_publish_is_overloaded_like_any_other() -> None:
    desk = make_desk(max_uncommitted_bytes=1)
    line = desk.connect()
    publish(line, 1)
    publish(line, 2, deliver_at_ms=desk.now_ms + 10)
    assert outcomes(line.drain()) == [(2, "overloaded")]
    assert desk.router.delayed.count == 0


def test_repetition_of_what_is_stored_is_answered_though_the_disk_cannot_keep_up() -> None:
    """G2: it asks nothing of the disk."""
    desk = make_desk(max_uncommitted_bytes=1)
    line = desk.connect()
    publish(line, 1, message_id="m")
    desk.commit()
    publish(line, 2)
    publish(line, 3, message_id="m")
    publish(line, 4)
    answers = line.drain()
    assert outcomes(answers) == [(1, "published"), (3, "published"), (4, "overloaded")]
    assert (answers[1]["pos"], answers[1]["duplicate"]) == (1, True)


@pytest.fixture
def traced() -> Iterator[None]:
    """Python's memory is counted."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_memory_stays_flat_under_a_publisher_that_never_waits() -> None:
    """G6, I13: a disk that commits nothing, a hundred times what may wait for it."""
    desk = make_desk(max_uncommitted_bytes=100_000, max_inflight_publishes=10_000)
    line = desk.connect()

    def push(count: int) -> None:
        for number in range(count):
            publish(line, 1, "x" * 1_000, message_id=f"m{number}")
            line.take_items()
        desk.dirty.clear()

    push(100)
    full, _ = tracemalloc.get_traced_memory()
    push(10_000)
    now, _ = tracemalloc.get_traced_memory()
    assert now - full < 50_000, "10,000,000 were pushed"
    assert desk.disk.uncommitted_bytes < 102_000


# A store that takes nothing


@pytest.mark.parametrize(("state", "word"), [("full", "full"), ("failed", "restart")])
def test_store_that_takes_nothing_makes_durable_topics_unavailable_and_no_others(state: Any, word: str) -> None:
    """G2, G6: surely not stored; reads go on."""
    desk = Desk(TopicRule(filter="memory"), ON_DISK, durable=True)
    desk.publish("a", "before")
    desk.disk.state = state
    answer = desk.publish("a")
    assert (answer["name"], answer["retry_after_ms"]) == ("unavailable", RETRY_STORE_MS)
    assert word in answer["message"]
    assert desk.publish("memory")["type"] == "published"
    (history,) = desk.connect().ask({"type": "history", "id": 1, "topic": "a"})
    assert [message["data"] for message in history["messages"]] == ["before"]


@pytest.mark.parametrize(
    ("failure", "name"), [("fill", "timeout"), ("fail", "timeout"), ("refuse", "unavailable")]
)
def test_publishes_in_a_commit_that_came_to_nothing_are_answered_and_heard_by_nobody(
    failure: str, name: str
) -> None:
    """G2, I8: repetitions too; and nobody was told of them before."""
    desk = make_desk()
    line, reader = desk.connect(), desk.connect()
    reader.subscribe(1, "#")
    publish(line, 1, message_id="m")
    publish(line, 2, message_id="m")
    publish(line, 3)
    publish(line)
    getattr(desk.disk, failure)()
    assert sorted(outcomes(line.drain())) == [(0, name), (1, name), (2, name), (3, name)]
    assert (line.session.inflight, reader.drain()) == (0, [])


@pytest.mark.parametrize("failure", ["", "fill"])
def test_broker_publishes_for_itself_and_hears_nothing(failure: str) -> None:
    """`Publisher` None: its repetition neither."""
    desk = make_desk()
    reader = desk.connect()
    reader.subscribe(1, "a")
    for _ in range(2):
        assert desk.router.publish(Publish("a", Raw(b"1"), message_id="m"), "", desk.now_ms) is None
    if failure:
        desk.disk.fill()
    else:
        desk.commit()
    assert handed(reader.drain()) == ([] if failure else [1])


def test_repetition_without_id_is_not_answered() -> None:
    """SPEC 3.4.4."""
    desk = make_desk()
    line = desk.connect()
    publish(line, 1, message_id="m")
    publish(line, message_id="m")
    publish(line, 2, message_id="m")
    desk.commit()
    answers = line.drain()
    assert outcomes(answers) == [(1, "published"), (2, "published")]
    assert answers[0] | {"id": 2, "duplicate": True} == answers[1]
    assert line.session.inflight == 0


def test_same_id_with_another_content_is_a_conflict_before_the_commit_too() -> None:
    """SPEC 3.4.6."""
    desk = make_desk()
    line = desk.connect()
    publish(line, 1, message_id="m")
    publish(line, 2, "other", message_id="m")
    assert outcomes(line.drain()) == [(2, "conflict")]


def test_commit_in_two_parts_fails_in_its_second() -> None:
    """What is behind a failure comes to nothing, what is before stays."""
    desk = make_desk()
    line = desk.connect()
    publish(line, 1)
    desk.disk.commit()
    publish(line, 2)
    desk.disk.fail()
    assert outcomes(line.drain()) == [(1, "published"), (2, "timeout")]
    assert desk.disk.head() == 1


def test_failure_told_in_two_parts_answers_all() -> None:
    """What was in the write is unknown, what waited behind it was refused; numbers are free behind the last."""
    desk = make_desk()
    line = desk.connect()
    shard = desk.router.covered("a")[0]
    awaiting = Awaiting(shard, desk.disk, desk.limits, lambda record: None)
    for id in (1, 2, 3):
        packet = Publish("a", Raw(b"1"), id)
        topic = Topic("a", ON_DISK, shard, id - 1)
        assert awaiting.accept(topic, packet, "", line.session, desk.now_ms) is None
    awaiting.told(1, "unknown")
    assert shard.pos == 3
    awaiting.told(3, "refused")
    assert shard.pos == 0
    assert outcomes(line.drain()) == [(1, "timeout"), (2, "unavailable"), (3, "unavailable")]


def test_id_that_made_room_for_others_may_come_to_nothing() -> None:
    """G2: no room for ids at all, for instance."""
    desk = make_desk(max_dedupe_bytes=0)
    line = desk.connect()
    publish(line, 1, message_id="m")
    desk.disk.fill()
    assert outcomes(line.drain()) == [(1, "timeout")]


def test_numbers_of_a_commit_that_came_to_nothing_are_given_again() -> None:
    """G3, I6: no hole in the offsets, and the id is free."""
    desk = make_desk()
    desk.publish("a")
    line = desk.connect()
    publish(line, 1, message_id="m")
    publish(line, 2)
    desk.disk.fill()
    assert outcomes(line.drain()) == [(1, "timeout"), (2, "timeout")]
    desk.disk.drain()
    publish(line, 3, message_id="m")
    desk.commit()
    (answer,) = line.drain()
    assert (answer["pos"], answer["offset"], "duplicate" in answer) == (2, 2, False)


def test_connection_that_is_gone_is_answered_nothing_and_its_messages_go_on() -> None:
    """SPEC 3.8.1; accepted is accepted."""
    desk = make_desk()
    line, reader = desk.connect(), desk.connect()
    reader.subscribe(1, "a")
    publish(line, 1)
    publish(line, 2, deliver_at_ms=desk.now_ms + 5)
    line.session.detach()
    line.take_items()
    desk.dirty.clear()
    desk.commit()
    assert line.outbox.items == []
    assert handed(reader.drain()) == [1]
    publish_and_lose(desk)
    assert desk.router.delayed.count == 1


def publish_and_lose(desk: Desk) -> None:
    """A second connection whose publishes fail when it is gone."""
    line = desk.connect()
    publish(line, 1)
    line.session.detach()
    line.take_items()
    desk.disk.fill()
    assert line.outbox.items == []


# Against a model

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 2), st.integers(1, 400)),
        st.tuples(st.just("publish"), st.integers(0, 2), st.integers(1, 400)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["fill", "drain"]), st.just(0), st.just(0)),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_publish_has_one_outcome_and_what_was_acknowledged_is_there(steps: list[Any]) -> None:
    """G1, G2, G3, G6; I1, I2, I4, I15: over windows, bounds and full disks."""
    desk = make_desk(max_uncommitted_bytes=2_000, max_inflight_publishes=4)
    lines = [desk.connect() for _ in range(3)]
    asked: list[tuple[int, int]] = []
    answered: dict[tuple[int, int], Packet] = {}

    def hear() -> None:
        for index, line in enumerate(lines):
            for packet in line.drain():
                key = (index, packet["id"])
                assert key not in answered, "one outcome"
                answered[key] = packet

    for number, (step, index, size) in enumerate(steps, start=1):
        if step == "publish":
            asked.append((index, number))
            publish(lines[index], number, [index, number, "x" * size])
            assert desk.disk.uncommitted_bytes < 3_000, "I13"
            assert lines[index].session.inflight <= 4
        elif step == "drain" or desk.disk.state == "ok":
            getattr(desk.disk, step)()
        hear()
    desk.disk.drain()
    desk.commit()
    hear()
    assert set(answered) == set(asked), "I15"
    desk.restart()
    (history,) = desk.connect().ask({"type": "history", "id": 1, "topic": "a", "limit": 1_000})
    stored = {tuple(one["data"][:2]): one["pos"] for one in history["messages"]}
    acknowledged = {key: one["pos"] for key, one in answered.items() if one["type"] == "published"}
    assert acknowledged == stored, "I1, I2, I3"
    for index in range(3):
        places = [stored[key] for key in asked if key in stored and key[0] == index]
        assert places == sorted(places), "I4"
    assert [one["offset"] for one in history["messages"]] == list(range(1, len(stored) + 1)), "I6"
    assert types([one for one in answered.values() if one["type"] != "published"]).count("error") == len(
        asked
    ) - len(stored)

"""Delayed delivery (`deliver_at_ms`): accepted now, in its place when it is due, whatever happens between."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_broker.core import delayed
from triode_broker.core.delayed import DELAYED_OVERHEAD_BYTES

from tests.core.desk import Desk, Line, Packet
from tests.core.test_overflow import handed, types

LOG, DISK_LOG = "m0-life", "d0-life"
ON_DISK = TopicRule(filter="disk/#", storage="disk")
TOPICS = ("a", "disk/a")  # one in memory, one on disk


def make_desk(*rules: TopicRule, **fields: Any) -> Desk:
    return Desk(*rules, ON_DISK, durable=True, **fields)


def level_of(topic: str) -> str:
    return "disk" if topic.startswith("disk") else "memory"


def pass_time(desk: Desk, passed_ms: int) -> None:
    """What the server does: sleep, tick, and its disk commits."""
    desk.now_ms += passed_ms
    while (due := desk.router.next_due_ms) is not None and due <= desk.now_ms:
        desk.router.tick(desk.now_ms)
        if desk.disk.state != "ok":
            return
        desk.commit()


def delay(desk: Desk, topic: str, ahead_ms: int, data: Any = 1, **fields: Any) -> Packet:
    return desk.publish(topic, data, deliver_at_ms=desk.now_ms + ahead_ms, **fields)


def history(desk: Desk, topic: str) -> list[Packet]:
    (answer,) = desk.connect().ask({"type": "history", "id": 1, "topic": topic})
    messages: list[Packet] = answer["messages"]
    return messages


def data_of(desk: Desk, topic: str) -> list[Any]:
    return [message["data"] for message in history(desk, topic)]


# Accepting


@pytest.mark.parametrize("topic", TOPICS)
def test_delayed_publish_is_answered_without_a_place(topic: str) -> None:
    """G1, SPEC 3.4, 4.5."""
    desk = make_desk()
    answer = delay(desk, topic, 5_000)
    assert answer == {"type": "published", "id": 9, "level": level_of(topic), "delayed": True}
    assert history(desk, topic) == []
    assert (desk.router.delayed.count, desk.router.next_due_ms) == (1, desk.now_ms + 5_000)


@pytest.mark.parametrize("topic", TOPICS)
def test_message_gets_its_place_and_time_when_it_is_due(topic: str) -> None:
    """G1, SPEC 2.7: and goes to who is subscribed then."""
    desk = make_desk()
    line = desk.connect()
    delay(desk, topic, 5_000, "late", key="k", headers={"h": "v"}, message_id="m-1")
    line.subscribe(1, topic)
    desk.publish(topic, "early")
    assert types(line.drain()) == ["message"]
    pass_time(desk, 4_999)
    assert line.drain() == []
    pass_time(desk, 1)
    log = LOG if topic == "a" else DISK_LOG
    assert line.drain() == [
        {
            "type": "message",
            "topic": topic,
            "offset": 2,
            "log": log,
            "pos": 2,
            "ts": desk.now_ms,
            "data": "late",
            "key": "k",
            "headers": {"h": "v"},
            "message_id": "m-1",
        }
    ]
    assert (desk.router.delayed.count, desk.router.delayed.size, desk.router.next_due_ms) == (0, 0, None)
    if topic != "a":
        assert desk.disk.disk.values == {}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("ahead_ms", [0, -1, -999_999])
def test_time_that_has_come_is_an_ordinary_publish(topic: str, ahead_ms: int) -> None:
    desk = make_desk()
    answer = delay(desk, topic, ahead_ms)
    assert (answer["pos"], "delayed" in answer) == (1, False)
    assert desk.router.delayed.count == 0


@pytest.mark.parametrize("topic", TOPICS)
def test_without_id_there_is_no_answer(topic: str) -> None:
    """SPEC 3.4.4."""
    desk = make_desk()
    line = desk.connect()
    line.send({"type": "publish", "topic": topic, "data": 1, "deliver_at_ms": desk.now_ms + 10})
    desk.commit()
    assert line.drain() == []
    pass_time(desk, 10)
    assert data_of(desk, topic) == [1]


@pytest.mark.parametrize("topic", TOPICS)
def test_time_to_live_counts_from_delivery(topic: str) -> None:
    """SPEC 3.4.9."""
    desk = make_desk()
    delay(desk, topic, 10_000, ttl_ms=1_000)
    pass_time(desk, 10_000)
    assert data_of(desk, topic) == [1]
    desk.now_ms += 1_000
    assert data_of(desk, topic) == []


@pytest.mark.parametrize("topic", TOPICS)
def test_same_time_is_delivered_in_the_order_of_acceptance(topic: str) -> None:
    """G3; and earlier times first."""
    desk = make_desk()
    for number, ahead_ms in enumerate([50, 50, 20, 50, 20]):
        delay(desk, topic, ahead_ms, number)
    pass_time(desk, 50)
    assert data_of(desk, topic) == [2, 4, 0, 1, 3]


@pytest.mark.parametrize("fields", [{"b64": "AAEC"}, {"data": {"n": [1, 2.0]}}])
@pytest.mark.parametrize("topic", TOPICS)
def test_payload_comes_as_it_was_sent(topic: str, fields: Packet) -> None:
    """SPEC 1.9, 3.4.3; across a restart too."""
    desk = make_desk()
    packet = {"type": "publish", "id": 1, "topic": topic, "deliver_at_ms": desk.now_ms + 5, **fields}
    line = desk.connect()
    line.send(packet)
    desk.commit()
    if topic != "a":
        desk.restart()
    pass_time(desk, 5)
    (message,) = history(desk, topic)
    assert {name: message[name] for name in fields} == fields


def test_too_far_ahead_is_refused() -> None:
    """SPEC 3.4: a bound of the node, like those of key and headers."""
    desk = Desk(limits=Limits(max_delay_seconds=10))
    assert delay(desk, "a", 10_000)["delayed"] is True
    answer = delay(desk, "a", 10_001)
    assert (answer["name"], answer["field"], answer["retry"]) == ("too_large", "deliver_at_ms", "never")


@pytest.mark.parametrize("ahead_ms", [-1, 1])
def test_node_without_delays_says_so(ahead_ms: int) -> None:
    """SPEC 1.7, 7.2: and does not list the capability."""
    desk = Desk(limits=Limits(max_delay_seconds=0))
    answer = delay(desk, "a", ahead_ms)
    assert (answer["name"], answer["field"]) == ("unsupported", "deliver_at_ms")
    capabilities = desk.dial().ask_one({"type": "connect", "id": 1})["capabilities"]
    assert "delay" not in capabilities
    assert "delay" in Desk().dial().ask_one({"type": "connect", "id": 1})["capabilities"]


@pytest.mark.parametrize("topic", TOPICS)
def test_delayed_messages_of_a_shard_are_bounded_in_bytes(topic: str) -> None:
    """G6, I13: what is refused is not stored; there is room again when some are delivered."""
    desk = make_desk(limits=Limits(max_delayed_bytes=3 * (DELAYED_OVERHEAD_BYTES + 100)))
    answers = [delay(desk, topic, 10 + number, "x" * 90, message_id=f"m{number}") for number in range(4)]
    assert [one.get("delayed", one.get("name")) for one in answers] == [True, True, True, "quota"]
    assert (answers[3]["field"], answers[3]["retry"]) == ("deliver_at_ms", "never")
    assert desk.router.delayed.count == 3
    assert 3 * DELAYED_OVERHEAD_BYTES < desk.router.delayed.size <= desk.limits.max_delayed_bytes
    assert delay(desk, "disk/b" if topic == "a" else "b", 10)["delayed"] is True, "another shard"
    again = delay(desk, topic, 10, "x" * 90, message_id="m0")
    assert again["duplicate"] is True, "known already: nothing more to keep"
    pass_time(desk, 10)
    assert delay(desk, topic, 10, "x" * 90, message_id="m3")["delayed"] is True


def test_tick_is_short_and_the_next_one_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delayed, "TICK_MESSAGES", 2)
    desk = Desk()
    for number in range(5):
        delay(desk, "a", 10, number)
    desk.now_ms += 10
    desk.router.tick(desk.now_ms)
    assert len(data_of(desk, "a")) == 2
    assert desk.router.next_due_ms == desk.now_ms
    for _ in range(2):
        desk.router.tick(desk.now_ms)
    assert data_of(desk, "a") == [0, 1, 2, 3, 4]
    assert desk.router.next_due_ms is None


def test_earlier_time_wakes_who_sleeps_until_the_next() -> None:
    """What `delayed.sooner` is for."""
    desk = Desk()
    woken: list[int | None] = []
    desk.router.delayed.sooner = lambda: woken.append(desk.router.next_due_ms)
    start = desk.now_ms
    for ahead_ms in (50, 70, 20):
        delay(desk, "a", ahead_ms)
    assert woken == [start + 50, start + 20]


def test_topic_that_was_forgotten_meanwhile_gets_its_message() -> None:
    """SPEC 2.3."""
    desk = Desk(limits=Limits(max_shard_topics=1))
    desk.publish("a", 0)
    delay(desk, "a", 10)
    for number in range(3):
        desk.publish(f"t/{number}")
    line = desk.connect()
    line.subscribe(1, "a")
    desk.now_ms += 10
    desk.router.tick(desk.now_ms)
    (message,) = line.drain()
    assert message["offset"] == message["pos"] == 5


def test_delete_of_a_key_may_be_delayed() -> None:
    """SPEC 3.4: on a compacted topic."""
    desk = Desk(TopicRule(filter="state", compact=True))
    desk.publish("state", 1, key="k")
    line = desk.connect()
    line.subscribe(1, "state")
    packet = {"type": "publish", "id": 1, "topic": "state", "key": "k", "deliver_at_ms": desk.now_ms + 10}
    assert line.ask_one(packet)["delayed"] is True
    desk.now_ms += 10
    desk.router.tick(desk.now_ms)
    (message,) = line.drain()
    assert (message["key"], "data" in message) == ("k", False)


# Deduplication


@pytest.mark.parametrize("topic", TOPICS)
def test_publish_sent_again_is_delayed_once(topic: str) -> None:
    """G2, I9: and once it is delivered, its place is known."""
    desk = make_desk()
    fields = {"deliver_at_ms": desk.now_ms + 5_000, "message_id": "m"}
    assert "duplicate" not in desk.publish(topic, 1, **fields)
    again = desk.publish(topic, 1, **fields)
    level = level_of(topic)
    assert again == {"type": "published", "id": 9, "level": level, "duplicate": True, "delayed": True}
    pass_time(desk, 5_000)
    third = desk.publish(topic, 1, **fields)
    assert (third["pos"], third["offset"], third["duplicate"], "delayed" in third) == (1, 1, True, False)
    assert data_of(desk, topic) == [1]
    desk.now_ms += 300_000
    assert "duplicate" not in desk.publish(topic, 1, **fields), "the window is over"


@pytest.mark.parametrize("topic", TOPICS)
def test_repetition_that_comes_when_it_is_due_but_not_delivered_yet_is_one(topic: str) -> None:
    """G2: sent again, its time has come meanwhile, and no tick has."""
    desk = make_desk()
    fields = {"deliver_at_ms": desk.now_ms + 5_000, "message_id": "m"}
    desk.publish(topic, 1, **fields)
    desk.now_ms += 5_000
    assert desk.publish(topic, 1, **fields)["delayed"] is True
    pass_time(desk, 0)
    assert data_of(desk, topic) == [1]


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("other", [{"data": 2}, {"key": "k"}, {"deliver_at_ms": 1_005_001}, {"deliver_at_ms": 1}])
def test_same_id_with_another_content_is_a_conflict(topic: str, other: Packet) -> None:
    """SPEC 3.4.6: the time of delivery is part of the content."""
    desk = make_desk()
    fields = {"data": 1, "deliver_at_ms": 1_005_000, "message_id": "m"}
    desk.publish(topic, **fields)
    answer = desk.publish(topic, **(fields | other))
    assert (answer["name"], answer["field"]) == ("conflict", "message_id")


@pytest.mark.parametrize("topic", TOPICS)
def test_message_delivered_after_its_window_is_not_remembered(topic: str) -> None:
    """G2: the window counts from the publish."""
    desk = make_desk(TopicRule(filter="a", dedupe_seconds=1))
    fields = {"deliver_at_ms": desk.now_ms + 400_000, "message_id": "m"}
    desk.publish(topic, 1, **fields)
    desk.now_ms += 350_000
    desk.router.trim(desk.now_ms)
    assert "duplicate" not in desk.publish(topic, 1, **fields)
    pass_time(desk, 50_000)
    assert data_of(desk, topic) == [1, 1]


def test_topic_without_deduplication_delays_each() -> None:
    desk = Desk(TopicRule(dedupe_seconds=0))
    for _ in range(2):
        assert "duplicate" not in delay(desk, "a", 10, message_id="m")
    assert desk.router.delayed.count == 2


# On disk


def publish_later(desk: Desk, line: Line, ahead_ms: int, data: Any = 1, **fields: Any) -> None:
    """Send and commit nothing."""
    at_ms = desk.now_ms + ahead_ms
    line.send({"type": "publish", "id": 4, "topic": "disk/a", "data": data, "deliver_at_ms": at_ms, **fields})


def test_answer_comes_when_it_is_on_disk() -> None:
    """G1: never before."""
    desk = make_desk()
    line = desk.connect()
    publish_later(desk, line, 10)
    assert line.drain() == []
    assert (line.session.inflight, desk.router.next_due_ms) == (1, None)
    desk.disk.commit()
    assert types(line.drain()) == ["published"]
    assert (line.session.inflight, desk.router.next_due_ms) == (0, desk.now_ms + 10)


def test_repetition_before_the_commit_waits_for_it() -> None:
    """G1, G2."""
    desk = make_desk()
    line, other = desk.connect(), desk.connect()
    publish_later(desk, line, 10, message_id="m")
    at_ms = desk.now_ms + 10
    other.send({"type": "publish", "topic": "disk/a", "data": 1, "deliver_at_ms": at_ms, "message_id": "m"})
    publish_later(desk, line, 10, message_id="m")
    assert (line.session.inflight, other.session.inflight) == (2, 1)
    desk.commit()
    answers = line.drain()
    assert [one.get("duplicate", False) for one in answers] == [False, True]
    assert [one["delayed"] for one in answers] == [True, True]
    assert (line.session.inflight, other.session.inflight, other.drain()) == (0, 0, [])


def test_broker_itself_may_delay() -> None:
    """Nobody waits for the answer; sent again, neither."""
    desk = make_desk()
    (packet,) = triode_publish("disk/a", desk.now_ms + 10)
    for _ in range(2):
        assert desk.router.publish(packet, "", desk.now_ms) is None
    desk.commit()
    pass_time(desk, 10)
    assert data_of(desk, "disk/a") == [1]


def triode_publish(topic: str, at_ms: int) -> Any:
    from triode_protocol.codec import decode

    text = json.dumps({"type": "publish", "topic": topic, "data": 1, "deliver_at_ms": at_ms, "message_id": "m"})
    return decode(text, 10_000)


def test_message_that_is_due_is_stored_and_forgotten_in_one_transaction() -> None:
    """I8, I9: a crash before the commit delivers it after the restart, one behind it does not."""
    for is_committed in (False, True):
        desk = make_desk()
        delay(desk, "disk/a", 10)
        line = desk.connect()
        line.subscribe(1, "#")
        desk.now_ms += 10
        desk.router.tick(desk.now_ms)
        assert line.drain() == [], "I8: not before it is on disk"
        if is_committed:
            desk.disk.commit()
            assert handed(line.drain()) == [1]
        desk.restart()
        assert desk.router.delayed.count == (0 if is_committed else 1)
        pass_time(desk, 0)
        assert data_of(desk, "disk/a") == [1]


def test_restart_delivers_what_fell_due_meanwhile_in_order() -> None:
    """G1, I1."""
    desk = make_desk()
    for number, ahead_ms in enumerate([30, 20, 20, 900, 20] + [30] * 8):
        delay(desk, "disk/a", ahead_ms, number)
    size = desk.router.delayed.size
    desk.now_ms += 500
    desk.restart()
    assert (desk.router.delayed.count, desk.router.delayed.size) == (13, size)
    pass_time(desk, 0)
    assert data_of(desk, "disk/a") == [1, 2, 4, 0, *range(5, 13)]
    assert {message["ts"] for message in history(desk, "disk/a")} == {desk.now_ms}
    delay(desk, "disk/a", 400, "new")
    pass_time(desk, 400)
    assert data_of(desk, "disk/a")[-2:] == [3, "new"], "numbered behind those of the life before"


def test_other_values_of_the_log_are_left_alone() -> None:
    desk = make_desk()
    desk.disk.save("cursor/x", lambda: b"not one of these")
    desk.commit()
    desk.restart()
    assert desk.router.delayed.count == 0


def test_deduplication_of_a_delayed_message_survives_a_restart() -> None:
    """G2, I9: with what remains of its window."""
    desk = make_desk()
    fields = {"deliver_at_ms": desk.now_ms + 200_000, "message_id": "m"}
    desk.publish("disk/a", 1, **fields)
    desk.now_ms += 100_000
    desk.restart()
    assert desk.publish("disk/a", 1, **fields)["delayed"] is True
    assert desk.publish("disk/a", 2, **fields)["name"] == "conflict"
    pass_time(desk, 100_000)
    desk.restart()
    again = desk.publish("disk/a", 1, **fields)
    assert (again["pos"], again["duplicate"]) == (1, True)
    desk.now_ms += 100_000
    assert "duplicate" not in desk.publish("disk/a", 1, **fields)


def test_id_used_again_since_its_window_counts_after_a_restart() -> None:
    """G2: the younger one."""
    desk = make_desk()
    delay(desk, "disk/a", 900_000, "first", message_id="m")
    desk.now_ms += 400_000
    fields = {"message_id": "m"}
    second = desk.publish("disk/a", "second", **fields)
    desk.restart()
    again = desk.publish("disk/a", "second", **fields)
    assert (again["pos"], again["duplicate"]) == (second["pos"], True)
    pass_time(desk, 500_000)
    assert data_of(desk, "disk/a") == ["second", "first"]


@pytest.mark.parametrize(
    ("failure", "name"), [("fill", "timeout"), ("fail", "timeout"), ("refuse", "unavailable")]
)
def test_message_that_could_not_be_kept_is_refused_and_nowhere(failure: str, name: str) -> None:
    """G2: its repetition too, and its id is free."""
    desk = make_desk()
    line = desk.connect()
    publish_later(desk, line, 10, message_id="m")
    publish_later(desk, line, 10, message_id="m")
    getattr(desk.disk, failure)()
    assert [one["name"] for one in line.drain()] == [name, name]
    assert (line.session.inflight, desk.router.delayed.count, desk.router.delayed.size) == (0, 0, 0)
    publish_later(desk, line, 10, message_id="m")
    assert [one["name"] for one in line.drain()] == ["unavailable"]
    desk.disk.state = "ok"
    desk.commit()
    assert desk.disk.disk.values == {}, "not kept by the commit behind it either"
    assert "duplicate" not in delay(desk, "disk/a", 10, message_id="m")


def test_id_whose_window_ends_while_its_message_is_being_kept_is_free() -> None:
    """G2: a disk that takes longer than the window; each is answered for itself."""
    desk = make_desk(TopicRule(filter="disk/#", storage="disk", dedupe_seconds=1))
    line = desk.connect()
    publish_later(desk, line, 5_000, "first", message_id="m")
    desk.now_ms += 1_000
    publish_later(desk, line, 4_000, "second", message_id="m")
    assert line.session.inflight == 2
    desk.commit()
    assert [(one["delayed"], "duplicate" in one) for one in line.drain()] == [(True, False)] * 2
    pass_time(desk, 5_000)
    assert data_of(desk, "disk/a") == ["first", "second"]


def test_failure_without_message_id_is_told_too() -> None:
    desk = make_desk()
    line = desk.connect()
    publish_later(desk, line, 10)
    desk.disk.fill()
    assert [one["name"] for one in line.drain()] == ["timeout"]


def test_what_is_due_while_the_disk_is_full_is_tried_again_until_it_is_stored() -> None:
    """G6: nothing accepted is dropped."""
    desk = make_desk()
    fields = {"deliver_at_ms": desk.now_ms + 10, "message_id": "m"}
    desk.publish("disk/a", 1, **fields)
    delay(desk, "disk/a", 10, 2)
    desk.now_ms += 10
    desk.router.tick(desk.now_ms)
    desk.disk.fill()  # in the very commit that should have stored them
    assert desk.router.next_due_ms == desk.now_ms + 1_000
    assert desk.router.delayed.count == 2
    assert desk.publish("disk/a", 1, **fields)["delayed"] is True, "its id is remembered still"
    for _ in range(3):
        desk.now_ms += 1_000
        desk.router.tick(desk.now_ms)
        assert desk.router.next_due_ms == desk.now_ms + 1_000
    desk.disk.drain()
    desk.commit()  # what was to be forgotten in the lost transaction
    desk.restart()
    assert desk.router.delayed.count == 2, "is kept"
    pass_time(desk, 1_000)
    assert data_of(desk, "disk/a") == [1, 2]
    assert desk.publish("disk/a", 1, **fields)["pos"] == 1
    assert (desk.router.delayed.count, desk.disk.disk.values) == (0, {})


def test_store_that_failed_in_the_delivery_delivers_after_the_restart() -> None:
    """I8, I9."""
    desk = make_desk()
    delay(desk, "disk/a", 10)
    desk.now_ms += 10
    desk.router.tick(desk.now_ms)
    desk.disk.fail()
    pass_time(desk, 1_000)
    assert desk.router.delayed.count == 1
    desk.restart()
    pass_time(desk, 0)
    assert data_of(desk, "disk/a") == [1]


def test_topic_that_is_in_memory_after_a_restart_gets_what_its_disk_kept() -> None:
    """The operator changed its rule."""
    desk = make_desk()
    delay(desk, "disk/a", 10)
    desk._rules = (TopicRule(filter="disk/#"),)
    desk.restart()
    line = desk.connect()
    line.subscribe(1, "disk/a")
    pass_time(desk, 10)
    (message,) = line.drain()
    assert message["log"] == "m0-life1"
    desk.commit()
    assert desk.disk.disk.values == {}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 5), st.integers(1, 4_000)),
        st.tuples(st.just("publish"), st.integers(0, 5), st.integers(1, 4_000)),
        st.tuples(st.just("time"), st.integers(1, 3_000), st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["fill", "fail", "kill"]), st.just(0), st.just(0)),
        st.tuples(st.just("drain"), st.just(0), st.just(0)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_what_was_acknowledged_is_delivered_once_and_not_before_its_time(
    steps: list[tuple[str, int, int]],
) -> None:
    """I1, I2, I8, I9: over crashes, full disks and failures, each message having an id of its own."""
    desk = make_desk()
    line = desk.connect()
    due: dict[int, int] = {}
    acknowledged: set[int] = set()
    for serial, (step, _, ahead_ms) in enumerate(steps):
        if step == "publish":
            due[serial] = desk.now_ms + ahead_ms
            at_ms = due[serial]
            packet = {"type": "publish", "id": serial + 1, "topic": "disk/a", "data": serial}
            line.send(packet | {"deliver_at_ms": at_ms, "message_id": f"m{serial}"})
        elif step == "time":
            desk.now_ms += steps[serial][1]
            desk.router.tick(desk.now_ms)
        elif step == "kill" or desk.disk.state == "failed":
            desk.restart()
            line = desk.connect()
        elif step == "drain":
            desk.disk.drain()
        elif desk.disk.state == "ok":
            getattr(desk.disk, step)()
        acknowledged |= {one["id"] - 1 for one in line.drain() if one["type"] == "published"}
    desk.restart()
    for _ in range(10):
        pass_time(desk, 1_000)
    found = [(message["data"], message["ts"]) for message in history(desk, "disk/a")]
    numbers = [number for number, _ in found]
    assert len(set(numbers)) == len(numbers), "I9"
    assert acknowledged <= set(numbers) <= set(due), "I1, I2"
    assert all(ts >= due[number] for number, ts in found)
    assert (desk.router.delayed.count, desk.router.delayed.size, desk.disk.disk.values) == (0, 0, {})

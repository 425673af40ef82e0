"""Dead letters: what could not be processed is a message that can be read (G5, SPEC 9.8)."""

import json
from typing import Any

import msgspec
import pytest
from triode_broker.config import DEAD_LETTER_RULE, DEAD_LETTER_RULE_IN_MEMORY, Limits, TopicRule

from tests.core.desk import Desk
from tests.core.working import (
    DISK,
    LOG,
    MEMORY,
    ack,
    ask,
    cut,
    data,
    durable,
    fill,
    given,
    group,
    letters,
    make_desk,
    nack,
    shared,
    types,
    work,
)


def rejected(desk: Desk, **fields: Any) -> list[dict[str, Any]]:
    """The letters of one message that a worker rejects."""
    line = durable(desk)
    desk.publish("d/a", **fields)
    line.drain()
    nack(line, 1, reject=True)
    desk.commit()
    return letters(desk)


def test_rejected_message_is_a_letter_with_its_origin() -> None:
    """SPEC 9.8.2, 9.3.1."""
    desk = make_desk()
    desk.wait(500)
    (letter,) = rejected(desk, data={"x": [1]}, key="k", headers={"h": "v"}, message_id="m1")
    assert (letter["topic"], letter["data"], letter["key"]) == ("$dead/w", {"x": [1]}, f"{LOG}.1")
    assert letter["headers"] == {
        "h": "v",
        "triode-dead-reason": "rejected",
        "triode-dead-topic": "d/a",
        "triode-dead-key": "k",
        "triode-dead-log": LOG,
        "triode-dead-pos": "1",
        "triode-dead-offset": "1",
        "triode-dead-attempts": "1",
        "triode-dead-at": "1000500",
    }
    assert "message_id" not in letter


def test_origin_of_a_letter_cannot_be_forged() -> None:
    """SPEC 9.8.2, S16: `triode-dead-key` and `triode-dead-deletes` are the broker's word, or not there."""
    desk = make_desk()
    forged = {"triode-dead-deletes": "true", "triode-dead-key": "evil", "triode-dead-x": "y", "h": "v"}
    (letter,) = rejected(desk, data="precious", headers=forged)
    headers = letter["headers"]
    assert headers["h"] == "v"
    assert not headers.keys() & {"triode-dead-deletes", "triode-dead-key", "triode-dead-x"}


def test_letter_of_a_letter_tells_its_own_origin() -> None:
    """SPEC 9.8.2: of the letter, whose key is a place, and which deletes nothing."""
    desk = make_desk(TopicRule(filter="d/c", storage="disk", compact=True))
    first, second = durable(desk), durable(desk, "v", filter="$dead/w")
    desk.connect().send({"type": "publish", "topic": "d/c", "key": "k"})
    desk.commit()
    first.drain()
    nack(first, 1, reject=True)
    desk.commit()
    ((pos, _),) = given(second.drain())
    nack(second, pos, reject=True)
    desk.commit()
    (letter,) = letters(desk, "v")
    assert (letter["headers"]["triode-dead-topic"], letter["headers"]["triode-dead-key"]) == (
        "$dead/w",
        f"{LOG}.1",
    )
    assert "triode-dead-deletes" not in letter["headers"]


def test_letter_carries_binary_data_and_few_headers_where_there_were_none() -> None:
    """SPEC 9.8.2."""
    desk = make_desk()
    line = durable(desk)
    publisher = desk.connect()
    publisher.send({"type": "publish", "topic": "d/a", "b64": "AAEC"})
    desk.commit()
    line.drain()
    nack(line, 1, reject=True)
    desk.commit()
    (letter,) = letters(desk)
    assert (letter["b64"], "data" in letter) == ("AAEC", False)
    assert "triode-dead-key" not in letter["headers"]


def test_letter_of_a_deletion_is_none_itself() -> None:
    """SPEC 3.4.17: without data it would delete the letter."""
    desk = make_desk(TopicRule(filter="d/c", storage="disk", compact=True))
    line = durable(desk)
    desk.connect().send({"type": "publish", "topic": "d/c", "key": "k"})
    desk.commit()
    line.drain()
    nack(line, 1, reject=True)
    desk.commit()
    (letter,) = letters(desk)
    assert (letter["data"], letter["headers"]["triode-dead-deletes"]) == (None, "true")


def test_message_that_fails_too_often_is_a_letter() -> None:
    """SPEC 9.4.5: whatever made it fail."""
    desk = make_desk()
    line = durable(desk, max_attempts=3)
    fill(desk, 1)
    assert given(line.drain()) == [(1, 1)]
    assert given(nack(line, 1)) == [(1, 2)]
    desk.wait(30_000)
    assert given(line.drain()) == [(1, 3)]
    cut(line)
    desk.commit()
    (letter,) = letters(desk)
    assert letter["headers"]["triode-dead-reason"] == "max_attempts"
    assert letter["headers"]["triode-dead-attempts"] == "3"
    assert given(ask(desk, desk.connect(), durable="w")) == []


def test_clean_goodbye_makes_no_letter() -> None:
    """SPEC 9.4.4."""
    desk = make_desk()
    line = durable(desk, max_attempts=1)
    fill(desk, 1)
    cut(line, 1000)
    desk.commit()
    assert letters(desk) == []
    assert given(ask(desk, desk.connect(), durable="w")) == [(1, 1)]


def test_letter_and_settled_state_are_on_disk_together_or_not_at_all() -> None:
    """SPEC 9.8.1."""
    for is_committed in (False, True):
        desk = make_desk()
        line = durable(desk)
        fill(desk, 1)
        line.drain()
        desk.commit()
        nack(line, 1, reject=True)
        if is_committed:
            desk.disk.commit()
        desk.restart()
        assert len(letters(desk)) == is_committed
        assert given(ask(desk, desk.connect(), durable="w")) == ([] if is_committed else [(1, 2)])


def test_reject_is_answered_once_its_letter_is_on_disk() -> None:
    """SPEC 9.3.4."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    assert nack(line, 1, reject=True, id=7) == []
    desk.commit()
    assert line.drain() == [{"type": "acked", "id": 7}]


@pytest.mark.parametrize("is_committing", [False, True], ids=["refused", "lost"])
def test_letter_that_the_store_does_not_take_is_tried_again(*, is_committing: bool) -> None:
    """G6: nothing is dropped, however long the disk is full."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    desk.commit()
    if not is_committing:
        desk.disk.fill()
    nack(line, 1, reject=True)
    if is_committing:
        desk.disk.fill()
    desk.wait(1_000)
    assert ack(line, 2) == []
    desk.disk.drain()
    desk.commit()
    assert letters(desk) == []
    assert desk.node.consumers.by_name["w"].floors() == {LOG: 0}
    desk.wait(1_000)
    desk.commit()
    assert len(letters(desk)) == 1
    assert desk.node.consumers.by_name["w"].floors() == {LOG: 3}
    assert line.drain() == []


def test_rejected_message_is_no_job_again_after_a_restart_though_its_letter_was_not_taken() -> None:
    """SPEC 9.3.1, 9.8.2: it is written then, and says why."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    desk.commit()
    desk.disk.fill()
    nack(line, 1, reject=True)
    desk.disk.drain()
    desk.commit()
    for _ in range(2):  # nobody asks for it: what was kept is kept again
        desk.restart()
        desk.node.consumers.by_name["w"].changed()
        desk.commit()
    line = desk.connect()
    assert given(ask(desk, line, durable="w", max_attempts=9)) == []
    desk.wait(0)
    desk.commit()
    (letter,) = letters(desk)
    assert letter["headers"]["triode-dead-reason"] == "rejected"
    assert letter["headers"]["triode-dead-attempts"] == "1"
    assert line.drain() == []


def test_place_that_was_kept_without_reasons_is_read() -> None:
    """A file of an earlier version: what had failed too often is a letter, as it was there."""
    desk = make_desk()
    durable(desk, max_attempts=1)
    fill(desk, 1)
    desk.commit()
    values = desk.disk.disk.values
    *fields, places = msgspec.msgpack.decode(values["consumer/w"])
    assert [len(place) for place in places.values()] == [7]
    values["consumer/w"] = msgspec.msgpack.encode([*fields, {log: place[:6] for log, place in places.items()}])
    desk.restart()
    assert given(ask(desk, desk.connect(), durable="w")) == []
    desk.wait(0)
    desk.commit()
    (letter,) = letters(desk)
    assert letter["headers"]["triode-dead-reason"] == "max_attempts"


def test_letter_under_way_outlives_the_members() -> None:
    """SPEC 9.8.1: one letter, whoever comes and goes meanwhile."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    desk.commit()
    nack(line, 1, reject=True)
    cut(line)
    line = desk.connect()
    assert given(line.subscribe(1, "d/#", durable="w")) == [(2, 2)]
    desk.commit()
    assert len(letters(desk)) == 1
    consumer = desk.node.consumers.by_name["w"]
    assert ack(line, 2) == []
    assert consumer.held_bytes == 0


def test_letter_that_is_lost_while_nobody_is_there_is_tried_again() -> None:
    """G6."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    desk.commit()
    nack(line, 1, reject=True)
    cut(line)
    desk.disk.fill()
    desk.disk.drain()
    desk.commit()
    assert letters(desk) == []
    desk.wait(1_000)
    desk.commit()
    assert len(letters(desk)) == 1
    assert given(ask(desk, desk.connect(), durable="w")) == []


def test_name_that_was_deleted_wants_no_letter_again() -> None:
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    desk.commit()
    nack(line, 1, reject=True)
    desk.node.consumers.delete("w", lambda: None)
    desk.disk.fill()
    desk.disk.drain()
    desk.commit()
    desk.wait(5_000)
    desk.commit()
    assert letters(desk) == []


def test_ack_of_what_is_a_letter_by_now_is_too_late_and_fine() -> None:
    """SPEC 9.2.3."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    nack(line, 1, reject=True)
    assert ack(line, 1) == []
    desk.commit()
    assert len(letters(desk)) == 1


def test_key_goes_on_behind_its_letter() -> None:
    """SPEC 9.5.3: in order, so not before it is settled."""
    desk = make_desk()
    line = shared(desk)
    fill(desk, 3, key="k")
    line.drain()
    desk.commit()
    assert nack(line, 1, reject=True) == []
    desk.commit()
    assert given(line.drain()) == [(2, 1), (3, 1)]


def test_group_without_a_disk_has_letters_in_memory() -> None:
    """SPEC 9.8.1: of the level of the state."""
    desk = Desk()
    line = group(desk)
    fill(desk, 2, "m/a")
    line.drain()
    nack(line, 1, log=MEMORY, reject=True)
    (letter,) = letters(desk, "g")
    assert letter["log"] == MEMORY
    cut(line, 0)
    assert len(letters(desk, "g")) == 1


def test_lost_member_of_a_group_may_leave_letters() -> None:
    """SPEC 9.4.5: also with the last member of a group."""
    desk = Desk()
    line = group(desk, max_attempts=1)
    other = group(desk)
    fill(desk, 4, "m/a")
    cut(line)
    assert len(letters(desk, "g")) == 2
    other.drain()
    cut(other)
    assert len(letters(desk, "g")) == 4
    assert desk.node.consumers.by_name == {}


def test_letters_live_at_the_home_of_their_name() -> None:
    """cluster.md, Homes: state and letters are one transaction."""
    router = Desk(shards=8).router
    for name in ("w", "worker", "x" * 64):
        assert router.covered(f"$dead/{name}") == (router.home_of(name),)


def test_letters_are_a_topic_like_others_to_subscribers() -> None:
    """SPEC 9.8.3, 6.4."""
    desk = make_desk()
    lines = [desk.connect() for _ in range(3)]
    for line, filter in zip(lines, ("$dead/w", "$dead/+", "#"), strict=True):
        line.subscribe(1, filter)
    rejected(desk, data=1)
    exact, wild, hash = [[one["topic"] for one in line.drain()] for line in lines]
    assert (exact, wild, hash) == (["$dead/w"], ["$dead/w"], ["d/a"])
    packets = desk.connect().subscribe(1, "$dead/#", from_="last")
    assert types(packets) == ["subscribed", "delivery", "caught_up"]


def test_letters_can_be_worked_on_under_another_name() -> None:
    """SPEC 9.1.2: but not under their own."""
    desk = make_desk()
    line = work(desk, "$dead/w", group="undertakers")
    rejected(desk, data=1)
    assert data(line.drain()) == [1]
    (error,) = desk.connect().subscribe(1, "$dead/w", durable="w", shared=True)
    assert error["name"] == "malformed"


def test_clients_do_not_publish_letters() -> None:
    """SPEC 6.5: not even where there are some."""
    desk = make_desk()
    rejected(desk, data=1)
    assert desk.publish("$dead/w", 1)["name"] == "bad_topic"
    desk.restart()
    assert desk.publish("$dead/w", 1)["name"] == "bad_topic"


def test_letters_go_on_counting_after_a_restart() -> None:
    """G3: offsets of one topic."""
    desk = make_desk()
    (first,) = rejected(desk, data=1)
    desk.restart()
    line = durable(desk)
    desk.publish("d/a", 2)
    (delivery,) = line.drain()
    nack(line, delivery["message"]["pos"], reject=True)
    desk.commit()
    assert [letter["offset"] for letter in letters(desk)] == [1, 2]
    assert first["offset"] == 1


def test_rule_of_letters_is_the_configured_one_or_bounded() -> None:
    """DEAD_LETTER_RULE."""
    own = TopicRule(filter="$dead/#", storage="disk", retention_messages=7)
    for desk, expected in (
        (Desk(), DEAD_LETTER_RULE_IN_MEMORY),
        (Desk(DISK, durable=True), DEAD_LETTER_RULE),
        (Desk(own, DISK, durable=True), own),
    ):
        assert desk.router._own_rule("$dead/w") == expected
        assert expected.retention_bytes
        assert expected.retention_messages


def test_letter_of_the_largest_message_is_written() -> None:
    """SPEC 9.8.2: the limits on publishes are on what clients publish."""
    desk = Desk(DISK, limits=Limits(), durable=True)
    headers = {f"h{number}": "x" * 200 for number in range(16)}
    (letter,) = rejected(desk, data="x" * 60_000, headers=headers)
    assert len(letter["headers"]) == 16 + 7
    assert len(json.dumps(letter)) > 60_000


def test_letter_that_comes_while_the_node_ends_is_written_after_its_next_start() -> None:
    """SPEC 9.8.1, G2: a node that ends takes nothing for its disk any more."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    desk.router.stop_storing()
    assert desk.publish("d/a", 1)["name"] == "unavailable"
    nack(line, 1, reject=True)
    desk.commit()
    assert desk.router.own_topics == ("$dead/w",)
    desk.restart()
    line = durable(desk)
    desk.wait(0)
    desk.commit()
    assert (line.drain(), len(letters(desk))) == ([], 1)

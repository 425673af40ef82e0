"""What an operator sees of names, and does with them: list, show, rewind, delete (`triode subs`)."""

from typing import Any

import pytest
from triode_broker.core import summaries
from triode_broker.core.errors import Refused
from triode_protocol.packets import Start

from tests.core.desk import Desk
from tests.core.working import (
    LOG,
    MEMORY,
    ack,
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


def rewind(desk: Desk, start: Any, name: str = "w") -> list[dict[str, int]]:
    """Rewind, commit; the answers."""
    answers: list[dict[str, int]] = []
    desk.node.consumers.rewind(name, start, desk.now_ms, answers.append)
    desk.commit()
    return answers


# list and show


def test_list_has_every_name_in_a_few_words() -> None:
    desk = make_desk()
    assert desk.node.consumers.list() == []
    line = shared(desk)
    group(desk)
    fill(desk, 3)
    line.drain()
    ack(line, 1)
    first, second = desk.node.consumers.list()
    assert (first["name"], first["kind"], first["filter"], first["members"]) == ("g", "group", "m/#", 1)
    assert second == {
        "name": "w",
        "tenant": "",
        "kind": "shared",
        "filter": "d/#",
        "members": 1,
        "in_flight": 2,
        "pending": 2,
        "lag": 2,
        "dead_letters": 0,
    }


def test_show_says_everything_of_one_name() -> None:
    desk = make_desk()
    line = durable(desk, window=2, max_attempts=5, after={})
    fill(desk, 4)
    line.drain()
    nack(line, 1, reject=True)
    desk.commit()
    shown = desk.node.consumers.show("w")
    assert (shown["kind"], shown["ack_wait_ms"], shown["max_attempts"]) == ("durable", 30_000, 5)
    assert (shown["dead_letter_topic"], shown["dead_letters"]) == ("$dead/w", 1)
    assert shown["positions"] == {LOG: {"settled": 1, "taken": 5, "head": 5, "lag": 4}}
    assert shown["gaps"] == {LOG: {"after": 0, "reason": "reset"}}
    connection = line.session.connection_id
    assert shown["members"] == [{"connection": connection, "sub": 1, "window": 2, "in_flight": 2}]
    assert shown["pending"] == [
        {"log": LOG, "pos": 2, "topic": "d/a", "attempt": 1, "holder": line.session.connection_id},
        {"log": LOG, "pos": 3, "topic": "d/a", "attempt": 1, "holder": line.session.connection_id},
        {"log": LOG, "pos": 4, "topic": "d/a", "attempt": 1, "holder": ""},
    ]


def test_show_of_an_absent_name_knows_places_and_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many."""
    monkeypatch.setattr(summaries, "MAX_SHOWN", 2)
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    cut(line)
    desk.wait(500)
    shown = desk.node.consumers.show("w")
    assert (shown["pending"], shown["members"], shown["seen_ms"]) == (
        [{"log": LOG, "pos": pos, "topic": "", "attempt": 2, "holder": ""} for pos in (1, 2)],
        [],
        1_000_000,
    )


@pytest.mark.parametrize("call", ["show", "rewind", "delete"])
def test_name_that_is_none_is_said_to_be_none(call: str) -> None:
    consumers = make_desk().node.consumers
    calls: dict[str, Any] = {
        "show": lambda: consumers.show("w"),
        "rewind": lambda: consumers.rewind("w", "new", 1, print),
        "delete": lambda: consumers.delete("w", print),
    }
    with pytest.raises(Refused, match="no durable subscription or group w"):
        calls[call]()


# rewind


@pytest.mark.parametrize(
    ("start", "expected", "after"),
    [
        ("earliest", [0, 1, 2, 3], 0),
        ("new", [], 4),
        (Start(since=1_002_000), [2, 3], 2),
        ({LOG: 1}, [1, 2, 3], 1),
        ({LOG: 99}, [], 4),
        ({}, [0, 2, 3], 0),
    ],
    ids=str,
)
def test_rewind_goes_on_from_another_place_with_the_members_there_are(
    start: Any, expected: list[int], after: int
) -> None:
    desk = make_desk()
    line = durable(desk)
    for number in range(4):
        desk.publish("d/a", number)
        desk.wait(1_000)
    line.drain()
    ack(line, 2)
    assert rewind(desk, start) == [{LOG: after}]
    packets = line.drain()
    assert data(packets) == expected
    assert {one["attempt"] for one in packets} <= {1}
    fill(desk, 1)
    assert data(line.drain()) == [0]


def test_rewind_survives_a_restart_and_forgets_what_was_pending() -> None:
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    nack(line, 2, delay_ms=5_000)
    rewind(desk, "new")
    desk.wait(60_000)
    assert line.drain() == []
    desk.restart()
    line = durable(desk)
    assert line.drain() == []


def test_rewind_with_a_late_log_and_nobody_there() -> None:
    desk = make_desk()
    cut(durable(desk))
    fill(desk, 2)
    desk.disk.is_late = True
    answers: list[dict[str, int]] = []
    desk.node.consumers.rewind("w", "earliest", desk.now_ms, answers.append)
    desk.commit()
    assert answers == []
    desk.disk.answer()
    desk.commit()
    assert answers == [{LOG: 0}]


def test_rewind_of_a_name_that_is_deleted_meanwhile_is_answered_and_harms_no_new_one() -> None:
    desk = make_desk()
    cut(durable(desk))
    fill(desk, 2)
    desk.disk.is_late = True
    answers: list[dict[str, int]] = []
    desk.node.consumers.rewind("w", "earliest", desk.now_ms, answers.append)
    desk.node.consumers.delete("w", lambda: None)
    durable(desk)
    desk.disk.answer()
    desk.commit()
    assert answers == [{LOG: 0}]
    desk.restart()
    assert [one["name"] for one in desk.node.consumers.list()] == ["w"]


def test_rewind_of_a_group_is_answered_at_once() -> None:
    desk = make_desk()
    line = group(desk)
    fill(desk, 2, "m/a")
    line.drain()
    answers: list[dict[str, int]] = []
    desk.node.consumers.rewind("g", "earliest", desk.now_ms, answers.append)
    assert answers == [{MEMORY: 0}]
    assert given(line.drain()) == [(1, 1), (2, 1)]


def test_rewind_of_one_log_leaves_the_others_where_they_are() -> None:
    desk = make_desk()
    line = work(desk, "#", durable="w", shared=True)
    desk.publish("d/a", "disk", key="k")
    desk.publish("d/a", "disk", key="k")
    desk.publish("m/a", "memory")
    line.drain()
    ack(line, 1, MEMORY)
    rewind(desk, {MEMORY: 0})
    packets = line.drain()
    assert sorted(data(packets)) == ["disk", "disk", "memory"]
    assert {one["attempt"] for one in packets} == {1}, "given back"


@pytest.mark.parametrize("is_written", [False, True])
def test_rewind_while_a_dead_letter_is_under_way(*, is_written: bool) -> None:
    """What becomes of the letter is nothing to the name any more."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    desk.commit()
    nack(line, 1, reject=True)
    desk.node.consumers.rewind("w", "new", desk.now_ms, lambda position: None)
    if not is_written:
        desk.disk.fill()
        desk.disk.drain()
    desk.commit()
    desk.wait(5_000)
    desk.commit()
    assert len(letters(desk)) == is_written
    assert line.drain() == []


def test_rewind_to_an_unknown_log_is_refused() -> None:
    desk = make_desk()
    durable(desk)
    with pytest.raises(Refused, match="d0-old is not a log of w"):
        rewind(desk, {"d0-old": 1})


def test_rewind_while_a_page_is_read_forgets_that_page() -> None:
    desk = make_desk()
    cut(durable(desk))
    fill(desk, 3)
    desk.disk.is_late = True
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w")
    rewind(desk, {LOG: 2})
    desk.disk.answer()
    assert given(line.drain()) == [(3, 1)]


# delete


def test_deleted_name_is_gone_for_members_and_for_the_next_start() -> None:
    desk = make_desk()
    line = durable(desk)
    fill(desk, 1)
    line.drain()
    done: list[str] = []
    desk.node.consumers.delete("w", lambda: done.append("deleted"))
    (end,) = line.drain()
    assert (end["type"], end["name"], end["retry"]) == ("unsubscribed", "no_such_subscription", "never")
    assert line.session.subscription_count == 0
    assert done == []
    desk.commit()
    assert done == ["deleted"]
    fill(desk, 1)
    desk.wait(60_000)
    assert line.drain() == []
    cut(line)
    desk.restart()
    assert desk.node.consumers.list() == []


def test_deleted_name_gets_nothing_more_from_anywhere() -> None:
    """Not from the router, nor from a late log, nor when its dead letter is written."""
    desk = make_desk()
    line = durable(desk, window=1)
    fill(desk, 5)
    line.drain()
    nack(line, 1, reject=True)
    desk.disk.is_late = True
    other = desk.connect()
    other.subscribe(1, "d/#", group="g", from_="earliest")
    for name in ("w", "g"):
        desk.node.consumers.delete(name, lambda: None)
    line.drain()
    other.drain()
    desk.commit()
    desk.disk.answer()
    fill(desk, 1)
    desk.wait(120_000)
    assert (line.drain(), other.drain()) == ([], [])
    assert desk.router._tree.size == 0


def test_deleted_group_is_gone_at_once() -> None:
    desk = make_desk()
    line = group(desk)
    done: list[str] = []
    desk.node.consumers.delete("g", lambda: done.append("deleted"))
    assert (done, types(line.drain())) == (["deleted"], ["unsubscribed"])


def test_deleted_name_may_be_made_anew() -> None:
    desk = make_desk()
    cut(durable(desk))
    fill(desk, 1)
    desk.node.consumers.delete("w", lambda: None)
    line = durable(desk, filter="m/#")
    desk.commit()
    assert line.drain() == []
    desk.restart()
    assert [one["filter"] for one in desk.node.consumers.list()] == ["m/#"]


def test_name_deleted_while_it_waits_for_the_disk_is_not_answered_twice() -> None:
    desk = make_desk()
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w")
    desk.node.consumers.delete("w", lambda: None)
    (error,) = line.drain()
    assert (error["type"], error["name"]) == ("error", "no_such_subscription")
    desk.commit()
    assert line.drain() == []

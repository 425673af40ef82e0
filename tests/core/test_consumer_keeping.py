"""What stays of a durable subscription: over restarts, absence, losses and new lives of a log (SPEC 9.4, 9.6)."""

from typing import Any

import pytest
from triode_broker.config import TopicRule

from tests.core.desk import Desk, Packet
from tests.core.working import (
    LOG,
    MEMORY,
    ack,
    ask,
    cut,
    data,
    durable,
    fill,
    given,
    make_desk,
    nack,
    shared,
    types,
    work,
)

#: Forgets all but the newest two.
SHORT = TopicRule(filter="m/#", retention_messages=2)


def again(desk: Desk, filter: str = "d/#", **fields: Any) -> list[Packet]:
    """What comes to who asks for the name anew."""
    return ask(desk, desk.connect(), filter, durable="w", **fields)


# Restart and absence


def test_settled_stays_settled_and_the_rest_comes_again_after_a_restart() -> None:
    """SPEC 9.4.8."""
    desk = make_desk()
    line = durable(desk, window=4)
    fill(desk, 6)
    line.drain()
    ack(line, [1, 3])
    desk.commit()
    desk.restart()
    packets = again(desk)
    assert packets[0]["after"] == {LOG: 1}
    assert given(packets) == [(2, 2), (4, 2), (5, 2), (6, 2)]


def test_what_was_not_on_disk_may_come_again() -> None:
    """SPEC 9.2.4."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    desk.commit()
    ack(line, 1)
    desk.restart()
    assert given(again(desk)) == [(1, 2), (2, 2)]


def test_settings_survive_a_restart() -> None:
    """SPEC 9.1.5."""
    desk = make_desk()
    shared(desk, ack_wait_ms=1_234, max_attempts=7)
    desk.commit()
    before = desk.node.consumers.show("w")
    desk.restart()
    after = desk.node.consumers.show("w")
    for field in ("name", "kind", "filter", "ack_wait_ms", "max_attempts", "created_ms"):
        assert before[field] == after[field]


def test_delay_survives_absence_and_restart() -> None:
    """SPEC 9.3.1: not before its time, by whatever clock is left."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    nack(line, 1, delay_ms=50_000)
    ack(line, 2)
    cut(line)
    desk.wait(10_000)
    line = durable(desk)
    assert given(line.drain()) == []
    cut(line, 1000)
    desk.commit()
    desk.steady_ms = 3
    desk.restart()
    line = desk.connect()
    assert given(ask(desk, line, durable="w")) == [(3, 2)]
    ack(line, 3)
    desk.wait(39_999)
    assert line.drain() == []
    desk.wait(1)
    assert given(line.drain()) == [(1, 2)]


def test_attempts_count_over_restarts_up_to_the_dead_letter() -> None:
    """SPEC 9.4.5, 9.4.8: an attempt that a crash ended was one."""
    desk = make_desk()
    durable(desk, max_attempts=2)
    fill(desk, 1)
    for attempt in (1, 2):
        line = desk.connect()
        packets = ask(desk, line, durable="w") if attempt > 1 else []
        assert given(packets) == ([(1, 2)] if attempt > 1 else [])
        desk.commit()
        desk.restart()
    line = desk.connect()
    assert given(ask(desk, line, durable="w")) == []
    desk.wait(0)
    desk.commit()
    assert line.drain() == []
    assert desk.node.consumers.show("w")["dead_letters"] == 1


def test_absent_name_keeps_places_and_not_messages() -> None:
    """Bounded memory: ten thousand names may be absent."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 50)
    line.drain()
    ack(line, 2)
    cut(line, 1000)
    consumer = desk.node.consumers.by_name["w"]
    assert (consumer.held_bytes, [len(source.items) for source in consumer.sources]) == (0, [0])
    fill(desk, 1)
    assert desk.router._tree.size == 0
    assert [pos for pos, _ in given(again(desk))] == [1, *range(3, 52)]


def test_what_was_read_ahead_only_is_not_kept() -> None:
    """The state on disk is small: one page may hold hundreds."""
    desk = make_desk()
    line = durable(desk, window=1)
    fill(desk, 20)
    line.drain()
    desk.commit()
    desk.restart()
    (source,) = desk.node.consumers.by_name["w"].sources
    assert (source.restored, source.restored_upto) == ({1: (1, 0, "")}, 1)
    assert given(again(desk, window=50)) == [(1, 2), *((pos, 1) for pos in range(2, 21))]


def test_message_that_expired_meanwhile_is_passed_over() -> None:
    """SPEC 9.4.7."""
    desk = make_desk()
    line = durable(desk)
    desk.publish("d/a", 0, ttl_ms=1_000)
    desk.publish("d/a", 1)
    line.drain()
    cut(line)
    desk.wait(1_000)
    packets = again(desk)
    assert types(packets) == ["subscribed", "delivery"]
    assert data(packets) == [1]


def test_long_list_of_what_is_pending_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triode_broker.core.source.PAGE_BYTES", 500)
    desk = make_desk()
    line = durable(desk)
    fill(desk, 40)
    line.drain()
    ack(line, list(range(2, 30)))
    cut(line)
    packets = again(desk)
    assert given(packets) == [(1, 2), *((pos, 2) for pos in range(30, 41))]
    fill(desk, 1)
    assert desk.node.consumers.by_name["w"].sources[0].is_live


def test_state_is_encoded_once_for_a_batch() -> None:
    """Thousands of acknowledgements a second share a few commits."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 60)
    line.drain()
    desk.commit()
    encoded = [0]
    encode = desk.node.consumers._encode

    def counting(consumer: Any) -> bytes:
        encoded[0] += 1
        return encode(consumer)

    desk.node.consumers._encode = counting  # type: ignore[method-assign]  # counts, and is the same
    for pos in range(1, 41):
        ack(line, pos)
    desk.commit()
    assert encoded == [1]


def test_nothing_is_written_while_nothing_changes() -> None:
    desk = make_desk()
    durable(desk)
    desk.commit()
    desk.wait(120_000)
    assert not desk.disk.is_dirty


def test_full_disk_forgets_no_acknowledgement_once_there_is_room() -> None:
    """SPEC 3.4.14: no restart is needed."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 2)
    line.drain()
    desk.commit()
    ack(line, 1)
    desk.disk.fill()
    desk.disk.drain()
    desk.commit()
    desk.restart()
    assert given(again(desk)) == [(2, 2)]


def test_late_answers_of_the_store_to_who_has_left_are_nobodys() -> None:
    """G4: whoever asks anew gets everything once."""
    desk = make_desk()
    fill(desk, 5)
    desk.disk.is_late = True
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w", from_="earliest")
    desk.disk.answer()
    desk.commit()
    line.drain()
    assert desk.disk.questions
    cut(line)
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w")
    assert len(desk.disk.questions) == 2
    desk.disk.answer()
    assert given(line.drain()) == [(pos, 1) for pos in range(1, 6)]


def test_store_is_asked_once_at_a_time() -> None:
    desk = make_desk()
    line = durable(desk)
    cut(line)
    fill(desk, 3)
    desk.disk.is_late = True
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w")
    line.room()
    fill(desk, 1)
    assert len(desk.disk.questions) == 1
    desk.disk.answer()
    assert len(given(line.drain())) == 4


# Gaps


def test_lost_messages_are_a_gap_until_a_later_one_is_acknowledged() -> None:
    """SPEC 9.6.1: told at each attach, and kept over a restart."""
    desk = make_desk(SHORT, recent_bytes=0)
    line = work(desk, "m/#", durable="w")
    cut(line)
    fill(desk, 5, "m/a")
    line = desk.connect()
    packets = ask(desk, line, "m/#", durable="w")
    assert types(packets) == ["subscribed", "gap", "delivery", "delivery"]
    gap = packets[1]
    assert (gap["sub"], gap["reason"], gap["after"], "topic" in gap) == (1, "retention", {MEMORY: 0}, False)
    packets = ask(desk, desk.connect(), "m/#", durable="w")
    assert types(packets) == ["subscribed", "gap", "delivery", "delivery"]
    line = desk.connect()
    ask(desk, line, "m/#", durable="w")
    ack(line, 4, MEMORY)
    cut(line)
    assert types(ask(desk, desk.connect(), "m/#", durable="w")) == ["subscribed", "delivery"]


def test_members_who_are_there_are_told_of_a_gap_when_it_is_met() -> None:
    """SPEC 9.6.1."""
    desk = make_desk(SHORT, recent_bytes=0, max_consumer_bytes=300)
    first = work(desk, "m/#", durable="w", shared=True, window=1)
    second = work(desk, "m/#", durable="w", shared=True, window=1)
    fill(desk, 8, "m/a")
    assert (data(first.drain()), data(second.drain())) == ([0], [1])
    packets = ack(first, 1, MEMORY)
    assert types(packets) == ["gap", "delivery"]
    assert data(packets) == [6]
    assert types(second.drain()) == ["gap"]


def test_gap_that_is_met_before_all_are_welcome_is_told_to_each_once() -> None:
    """SPEC 9.6.1: both waited for the name to be on disk."""
    desk = make_desk(SHORT, recent_bytes=0)
    fill(desk, 1, "m/a")
    lines = [desk.connect(), desk.connect()]
    for line in lines:
        line.subscribe(1, "m/#", durable="w", shared=True, after={MEMORY: 0})
    fill(desk, 4, "n/a")
    desk.logs[0].trim(desk.now_ms + 1_000_000)
    desk.commit()
    assert [types(line.drain()).count("gap") for line in lines] == [1, 1]


def test_pending_message_that_was_lost_is_a_gap() -> None:
    """SPEC 9.6.1: it was due, and is gone."""
    desk = make_desk(SHORT, recent_bytes=0)
    line = work(desk, "m/#", durable="w")
    fill(desk, 2, "m/a")
    line.drain()
    ack(line, 2, MEMORY)
    cut(line)
    fill(desk, 2, "m/a")
    packets = ask(desk, desk.connect(), "m/#", durable="w")
    assert types(packets) == ["subscribed", "gap", "delivery", "delivery"]
    assert data(packets) == [0, 1]


def test_settled_messages_that_are_lost_are_none() -> None:
    """SPEC 9.6.1: nothing that was due is missing."""
    desk = make_desk(TopicRule(filter="m/a", retention_messages=1), recent_bytes=0)
    line = work(desk, "m/#", durable="w")
    fill(desk, 1, "m/b")
    fill(desk, 2, "m/a")
    line.drain()
    ack(line, [2, 3], MEMORY)
    cut(line)
    desk.wait(1_000)
    packets = ask(desk, desk.connect(), "m/#", durable="w")
    assert types(packets) == ["subscribed", "delivery"]


def test_gap_is_kept_over_a_restart() -> None:
    """SPEC 9.6.1."""
    desk = make_desk()
    fill(desk, 2)
    line = desk.connect()
    ask(desk, line, durable="w", after={LOG: 7})
    desk.commit()
    desk.restart()
    packets = again(desk)
    assert (types(packets)[1], packets[1]["reason"], packets[1]["after"]) == ("gap", "reset", {LOG: 0})


def test_memory_that_began_anew_is_a_reset() -> None:
    """SPEC 9.6.1, 2.8: a log in memory ends with the process."""
    desk = make_desk()
    line = work(desk, "m/#", durable="w")
    fill(desk, 3, "m/a")
    line.drain()
    desk.commit()
    desk.restart()
    fill(desk, 1, "m/a")
    packets = ask(desk, desk.connect(), "m/#", durable="w")
    assert types(packets) == ["subscribed", "gap", "delivery"]
    assert (packets[1]["reason"], packets[1]["after"]) == ("reset", {"m0-life1": 0})


def test_new_life_of_the_disk_goes_on_with_its_numbers_and_is_a_reset() -> None:
    """SPEC 2.8, 9.6.1: positions carry over."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    ack(line, [1, 2])
    desk.commit()
    desk.restart("d0-next")
    packets = again(desk)
    assert types(packets) == ["subscribed", "gap", "delivery"]
    assert (packets[1]["reason"], packets[1]["after"]) == ("reset", {"d0-next": 3})
    assert given(packets) == [(3, 2)]


@pytest.mark.parametrize("is_taken", [False, True], ids=["nothing in between", "joined in between"])
def test_new_life_is_one_reset_over_further_restarts(*, is_taken: bool) -> None:
    """SPEC 9.4.8: only the first start of a life knows the one before; nothing settled comes again later."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    ack(line, [1, 2])
    desk.commit()
    desk.restart("d0-next")
    if is_taken:
        again(desk)
    desk.disk.commit()
    for _ in range(2):
        desk.restart()
        assert desk.node.consumers.by_name["w"].floors() == {"d0-next": 2}
    packets = again(desk)
    assert types(packets) == ["subscribed", "gap", "delivery"]
    assert (packets[1]["reason"], packets[1]["after"]) == ("reset", {"d0-next": 3})
    assert given(packets) == [(3, 3 if is_taken else 2)]


def test_reset_of_a_position_beyond_the_log_is_kept_though_the_log_grows_past_it() -> None:
    """SPEC 3.2.9: the position is not believed at a later start either."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    ack(line, [1, 2, 3])
    desk.commit()
    del desk.disk.disk.records[1:]
    desk.restart()
    fill(desk, 4)
    desk.restart()
    packets = again(desk)
    assert types(packets) == ["subscribed", "gap", *["delivery"] * 5]
    assert given(packets)[0] == (1, 1)


def test_position_beyond_the_log_is_a_reset() -> None:
    """SPEC 3.2.9: a file that lost its end."""
    desk = make_desk()
    line = durable(desk)
    fill(desk, 3)
    line.drain()
    ack(line, [1, 2, 3])
    desk.commit()
    del desk.disk.disk.records[1:]
    desk.restart()
    packets = again(desk)
    assert types(packets) == ["subscribed", "gap", "delivery"]
    assert given(packets) == [(1, 1)]


# Abandoned names


def test_name_without_members_is_deleted_after_its_time() -> None:
    """SPEC 9.1.9: counted while the node runs, by its steady clock."""
    desk = make_desk(abandoned_seconds=600)
    line = durable(desk)
    fill(desk, 1)
    for _ in range(20):
        desk.wait(60_000)
    assert "w" in desk.node.consumers.by_name, "it has a member"
    cut(line)
    desk.commit()
    desk.now_ms += 86_400_000
    for _ in range(10):
        desk.wait(60_000)
    assert "w" in desk.node.consumers.by_name
    desk.wait(60_000)
    assert "w" not in desk.node.consumers.by_name
    desk.commit()
    desk.restart()
    assert "w" not in desk.node.consumers.by_name


def test_absence_is_written_down_now_and_then() -> None:
    """SPEC 9.1.9: a node that restarts often forgets little of it."""
    desk = make_desk(abandoned_seconds=7_200)
    cut(durable(desk))
    desk.commit()
    for _ in range(61):
        desk.wait(60_000)
    desk.commit()
    desk.restart()
    assert desk.node.consumers.by_name["w"].absent_ms >= 3_540_000


def test_group_is_never_kept() -> None:
    """SPEC 9.1.9."""
    desk = make_desk()
    line = work(desk, "d/#", group="g")
    fill(desk, 1)
    ack(line, 1)
    desk.commit()
    assert [name for name in desk.disk.disk.values if name.startswith("consumer/")] == []

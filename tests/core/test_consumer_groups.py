"""Several members of a name: each message to one of them, those of a key together and in order (G5, SPEC 9.5)."""

import pytest
from triode_broker.core.roster import Member, Roster
from triode_broker.core.skips import Skips
from triode_broker.core.timers import Alarm, Timers

from tests.core.desk import Desk, Line, Packet
from tests.core.working import (
    LOG,
    MEMORY,
    ack,
    ask,
    cut,
    data,
    fill,
    given,
    group,
    make_desk,
    nack,
    shared,
    types,
    work,
)


def held(line: Line) -> list[int]:
    """The places a line was given, in order."""
    return [pos for pos, _ in given(line.drain())]


def publish(desk: Desk, key: str = "", topic: str = "m/a", value: object = 1) -> None:
    desk.publish(topic, value, **({"key": key} if key else {}))


# Sharing


def test_each_message_goes_to_one_member_in_turn() -> None:
    """SPEC 9.5.1."""
    desk = make_desk()
    lines = [group(desk) for _ in range(3)]
    fill(desk, 9, "m/a")
    assert [held(line) for line in lines] == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]


def test_member_with_most_room_is_first() -> None:
    """G5: fair by free window."""
    desk = make_desk()
    small, large = group(desk, window=2), group(desk, window=6)
    fill(desk, 8, "m/a")
    assert held(large) == [1, 2, 3, 4, 6, 8]
    assert held(small) == [5, 7]


def test_shared_deliveries_say_nothing_of_what_lies_before() -> None:
    """SPEC 9.5.4."""
    desk = make_desk()
    line = shared(desk)
    fill(desk, 2)
    assert [one["prev"] for one in line.drain()] == [0, 0]


def test_what_a_leaver_held_goes_to_the_others_at_once() -> None:
    """SPEC 9.5.2."""
    desk = make_desk()
    first, second = shared(desk), shared(desk)
    fill(desk, 4)
    assert (held(first), held(second)) == ([1, 3], [2, 4])
    cut(first)
    assert given(second.drain()) == [(1, 2), (3, 2)]
    cut(second, 1000)
    assert given(ask(desk, desk.connect(), durable="w", shared=True)) == [(1, 2), (2, 1), (3, 2), (4, 1)]


def test_joiner_takes_part_from_then_on() -> None:
    """SPEC 9.5.2."""
    desk = make_desk()
    first = group(desk, window=1)
    fill(desk, 3, "m/a")
    second = desk.connect()
    assert held(first) == [1]
    assert given(ask(desk, second, "m/#", group="g", window=1)) == [(2, 1)]
    assert given(ack(second, 2, MEMORY)) == [(3, 1)]


def test_group_ends_with_its_last_member() -> None:
    """SPEC 9.1.9: nothing is remembered."""
    desk = make_desk()
    line = group(desk)
    fill(desk, 2, "m/a")
    line.drain()
    cut(line)
    assert desk.node.consumers.by_name == {}
    assert desk.router._tree.size == 0, "nobody is offered anything"
    desk.wait(60_000)
    line = work(desk, "n/#", group="g")
    assert line.drain() == []


def test_one_connection_may_be_two_members() -> None:
    desk = make_desk()
    line = group(desk)
    work(desk, "m/#", line, sub=2, group="g")
    fill(desk, 4, "m/a")
    assert [one["sub"] for one in line.drain()] == [1, 2, 1, 2]
    assert ack(line, [1, 2], MEMORY) == [], "what was given to this connection"


@pytest.mark.parametrize(("code", "attempt"), [(0, 2), (1000, 1)], ids=["lost", "clean"])
def test_lost_connection_of_several_members_is_one_attempt(code: int, attempt: int) -> None:
    """SPEC 9.4.3: what one of them held is not given to the next of the same dead connection."""
    desk = make_desk()
    line = desk.connect()
    for sub in range(1, 6):
        shared(desk, line=line, sub=sub, max_attempts=3, window=2)
    fill(desk, 1)
    fill(desk, 2, key="k")
    assert len(line.drain()) == 3
    other = shared(desk, sub=9, window=2)
    cut(line, code)
    assert given(other.drain()) == [(1, attempt), (2, attempt)]
    assert given(ack(other, [1, 2], sub=9)) == [(3, 1)], "taken back behind another of its key"
    desk.commit()
    assert desk.node.consumers.show("w")["dead_letters"] == 0


def test_members_are_bounded() -> None:
    """SPEC 9.1.8."""
    desk = make_desk(max_consumer_members=2)
    group(desk)
    group(desk)
    (error,) = desk.connect().subscribe(1, "m/#", group="g")
    assert (error["name"], error["field"]) == ("quota", "group")


def test_member_whose_connection_is_full_is_passed_by() -> None:
    """G7: slow members hurt nobody else."""
    desk = make_desk(max_outbox_bytes=2_000)
    slow, quick = group(desk, window=50), group(desk, window=50)
    seen: list[Packet] = []
    for number in range(30):
        desk.publish("m/a", number)
        seen += quick.drain()
        ack(quick, [one["message"]["pos"] for one in seen], MEMORY)
    slow_ones = slow.read()
    assert 0 < len(slow_ones) < 10
    assert len(slow_ones) + len(seen) == 30
    slow.room()
    fill(desk, 2, "m/a")
    assert len(slow.drain()) > 0


def test_who_had_it_on_another_connection_may_not_settle_it() -> None:
    """SPEC 9.2.2: only who was given it, now or before."""
    desk = make_desk()
    first, second = shared(desk, window=1), shared(desk, window=1)
    fill(desk, 1)
    first.drain()
    (error,) = ack(second, 1)
    assert error["name"] == "conflict"
    nack(first, 1)
    first.drain()
    second.drain()
    ack(first, 1)
    desk.wait(60_000)
    assert (first.drain(), second.drain()) == ([], [])


def test_connections_that_had_it_and_are_gone_are_forgotten() -> None:
    """Memory follows open connections, however many come and go while a message stays unsettled."""
    desk = make_desk()
    stuck = group(desk, window=1)
    fill(desk, 3, "m/a")
    assert held(stuck) == [1]
    first = group(desk)
    nack(first, 2, log=MEMORY)
    first.ask({"type": "unsubscribe", "id": 3, "sub": 1})
    for code in (1000, 0) * 3:
        line = desk.connect()
        assert len(given(ask(desk, line, "m/#", group="g", max_attempts=50))) == 2
        nack(line, 2, attempt=desk.node.consumers.by_name["g"].sources[0].items[2].attempt, log=MEMORY)
        cut(line, code)
    items = desk.node.consumers.by_name["g"].sources[0].items.values()
    assert [len(item.earlier) for item in items] == [0, 1, 1], "the one that is still connected"


# Keys


def test_messages_of_a_key_stay_with_one_member_while_one_is_unsettled() -> None:
    """SPEC 9.5.3; others go round."""
    desk = make_desk()
    first, second = group(desk), group(desk)
    for key in ("k", "k", "", "k", "l"):
        publish(desk, key)
    assert held(first) == [1, 2, 4]
    assert held(second) == [3, 5]


def test_drained_key_moves_on() -> None:
    """G5: drained before it moves."""
    desk = make_desk()
    first, second = group(desk, window=2), group(desk, window=2)
    publish(desk, "k")
    publish(desk, "k")
    assert held(first) == [1, 2]
    ack(first, 1, MEMORY)
    publish(desk, "k")
    assert held(first) == [3]
    ack(first, [2, 3], MEMORY)
    publish(desk)
    publish(desk, "k")
    assert sorted(held(first) + held(second)) == [4, 5]


def test_key_is_one_of_its_topic() -> None:
    """SPEC 9.5.3."""
    desk = make_desk()
    first, second = group(desk), group(desk)
    publish(desk, "k", "m/a")
    publish(desk, "k", "m/b")
    assert (held(first), held(second)) == ([1], [2])


def test_key_waits_for_the_window_of_its_member_and_others_do_not() -> None:
    """G5: a blocked key blocks nobody."""
    desk = make_desk()
    first, second = group(desk, window=1), group(desk, window=1)
    for key in ("k", "k", "l", "k", ""):
        publish(desk, key)
    assert (held(first), held(second)) == ([1], [3])
    assert given(ack(second, 3, MEMORY)) == [(5, 1)]
    assert given(ack(first, 1, MEMORY)) == [(2, 1)]
    assert given(ack(first, 2, MEMORY)) == [(4, 1)]


def test_key_that_waited_for_a_full_member_goes_to_another_when_it_is_free() -> None:
    desk = make_desk()
    first = group(desk, window=2)
    publish(desk, "k")
    publish(desk, "l")
    publish(desk, "k")
    assert held(first) == [1, 2]
    second = group(desk, window=3)
    assert held(second) == []
    assert ack(first, 1, MEMORY) == []
    assert held(second) == [3]


def test_key_waits_for_the_connection_of_its_member_and_others_do_not() -> None:
    """SPEC 9.5.3, 9.1.2: told of room too early, it goes on waiting; with room, the key goes on in order."""
    desk = make_desk(max_outbox_bytes=2_000)
    slow = group(desk, window=50)
    for number in range(8):
        publish(desk, "k", value=number)
    quick = group(desk, window=50)
    publish(desk, value="other")
    assert data(quick.drain()) == ["other"]
    slow.room()
    assert slow.outbox.wants_room
    first = data(slow.read())
    assert len(first) < 8
    slow.room()
    assert first + data(slow.drain()) == list(range(8))
    assert quick.drain() == []


def test_failed_message_of_a_key_takes_those_behind_it_along() -> None:
    """SPEC 9.5.3: in order, and what is taken back does not count."""
    desk = make_desk()
    line = group(desk)
    for _ in range(4):
        publish(desk, "k")
    line.drain()
    ack(line, 1, MEMORY)
    assert given(nack(line, 2, log=MEMORY)) == [(2, 2), (3, 1), (4, 1)]


def test_key_comes_again_in_order_with_its_member_while_an_earlier_one_is_unsettled() -> None:
    """SPEC 9.5.3."""
    desk = make_desk()
    first, second = group(desk), group(desk)
    for _ in range(3):
        publish(desk, "k")
    first.drain()
    assert given(nack(first, 2, log=MEMORY)) == [(2, 2), (3, 1)]
    assert held(second) == []


def test_delay_holds_the_whole_key() -> None:
    """G5: and nobody else."""
    desk = make_desk()
    line = group(desk)
    for key in ("k", "k", "l"):
        publish(desk, key)
    line.drain()
    assert nack(line, 1, log=MEMORY, delay_ms=5_000) == []
    publish(desk, "k")
    publish(desk, "l")
    assert held(line) == [5]
    desk.wait(5_000)
    assert given(line.drain()) == [(1, 2), (2, 1), (4, 1)]


def test_timeout_of_a_key_brings_it_again_in_order() -> None:
    """SPEC 9.5.3: the first has failed, those behind it are taken back."""
    desk = make_desk()
    line = group(desk)
    for _ in range(3):
        publish(desk, "k")
    line.drain()
    desk.wait(30_000)
    assert given(line.drain()) == [(1, 2), (2, 1), (3, 1)]


@pytest.mark.parametrize(("code", "attempt"), [(0, 2), (1000, 1)])
def test_key_of_a_lost_member_goes_on_in_order_with_another(code: int, attempt: int) -> None:
    """SPEC 9.5.3, 9.4.4."""
    desk = make_desk()
    first, second = group(desk), group(desk)
    for _ in range(3):
        publish(desk, "k")
    first.drain()
    cut(first, code)
    assert given(second.drain()) == [(1, attempt), (2, 1), (3, 1)]


def test_acknowledged_while_it_waits_in_its_key() -> None:
    """SPEC 9.7.1: an ack from a connection that had it settles what waits."""
    desk = make_desk()
    line = group(desk)
    for _ in range(3):
        publish(desk, "k")
    line.drain()
    nack(line, 1, log=MEMORY, delay_ms=5_000)
    assert given(ack(line, [1, 3], MEMORY)) == [(2, 1)]
    ack(line, 2, MEMORY)
    desk.wait(60_000)
    assert line.drain() == []


def test_keys_mean_nothing_to_a_name_of_one_member() -> None:
    """SPEC 9.5.3 is for members."""
    desk = make_desk()
    line = work(desk, "m/#", durable="w")
    for _ in range(3):
        publish(desk, "k")
    line.drain()
    assert given(nack(line, 1, log=MEMORY)) == [(1, 2)]


def test_keys_survive_a_restart_in_order() -> None:
    """SPEC 9.4.8, 9.5.3."""
    desk = make_desk()
    line = shared(desk)
    for _ in range(3):
        publish(desk, "k", "d/a")
    line.drain()
    ack(line, 1)
    desk.commit()
    desk.restart()
    first = desk.connect()
    packets = ask(desk, first, durable="w", shared=True)
    second = shared(desk)
    assert given(packets) == [(2, 2), (3, 2)]
    publish(desk, "k", "d/a", 9)
    assert (data(first.drain()), held(second)) == ([9], [])
    assert packets[1]["message"]["log"] == LOG


def test_rows_follow_what_is_free() -> None:
    """The roster on its own: most free places first, in turn among equals."""
    roster = Roster()
    desk = make_desk()
    group(desk)
    (member,) = desk.node.consumers.by_name["g"].members

    def another(window: int) -> Member:
        made = Member(member.consumer, 1, window, member.outbox, "c", member.publisher, lambda number: None)
        roster.place(made)
        return made

    assert roster.pick() is None
    one, two, big = another(2), another(2), another(5)
    assert roster.pick() is big
    big.is_stalled = True
    roster.place(big)
    assert roster.pick() is one
    one.window = 1
    roster.place(one)
    assert roster.pick() is two
    two.window = 0
    roster.place(two)
    assert roster.pick() is one


def test_ack_of_what_is_ready_takes_it_out() -> None:
    """SPEC 9.7.1: given back, ready for anybody who can take it, and acknowledged by who had it."""
    desk = make_desk(max_outbox_bytes=2_000)
    line = group(desk, window=50)
    fill(desk, 7, "m/a")
    assert not line.outbox.has_room
    line.send({"type": "nack", "sub": 1, "log": MEMORY, "pos": 1, "attempt": 1})
    line.send({"type": "ack", "sub": 1, "log": MEMORY, "pos": 1})
    assert [pos for pos, _ in given(line.drain())] == list(range(1, 8))
    desk.wait(30_000)
    assert [pos for pos, _ in given(line.drain())] == list(range(2, 8))


def test_skips_are_bounded() -> None:
    """Where too many topics came again, every delivery says that it follows nothing."""
    desk = make_desk()
    line = work(desk, "m/#", durable="w")
    fill(desk, 1, "m/a")
    consumer = desk.node.consumers.by_name["w"]
    (item,) = consumer.sources[0].items.values()
    line.drain()
    skips = Skips()
    assert skips.prev(item) == -1
    for number in range(1_030):
        skips.note(f"t/{number}")
    assert skips.prev(item) == 0


def test_timers_ring_in_order_and_wake_who_sleeps_too_long() -> None:
    now = [0]
    woken: list[int] = []
    timers = Timers(lambda: now[0], lambda: woken.append(now[0]))
    rung: list[str] = []
    assert (timers.next_due_ms, timers.now_ms) == (None, 0)
    timers.at(100, lambda at: rung.append(f"late {at}"))
    timers.at(50, lambda at: rung.append(f"early {at}"))
    timers.at(70, lambda at: timers.at(0, lambda at: rung.append("next tick")))
    assert len(woken) == 2
    assert (timers.next_due_ms, len(rung)) == (50, 0)
    now[0] = 200
    timers.tick(7_000)
    assert rung == ["early 7000", "late 7000"]
    assert timers.now_ms == 7_000
    timers.tick(7_000)
    assert rung[2:] == ["next tick"]
    timers.hear(9_000)
    assert timers.now_ms == 9_000
    Timers(lambda: 0).at(1, lambda at: None)  # nobody sleeps


def test_dropped_timer_does_not_ring_not_even_in_the_tick_that_drops_it() -> None:
    timers = Timers(lambda: 50)
    rung: list[str] = []

    def drop_all(at: int) -> None:
        for one in (now, later, *many):
            timers.drop(one)

    timers.at(10, drop_all)
    now = timers.at(20, lambda at: rung.append("now"))
    timers.at(30, lambda at: rung.append("kept"))
    later = timers.at(60, lambda at: rung.append("later"))
    many = [timers.at(99, lambda at: rung.append("many")) for _ in range(100)]
    timers.at(40, lambda at: timers.drop(timers.at(70, lambda at: rung.clear())))
    timers.tick(0)
    assert rung == ["kept"]
    assert len(timers) < 100


def test_alarm_keeps_one_call_however_often_it_is_set_earlier() -> None:
    now = [0]
    timers = Timers(lambda: now[0])
    rung: list[int] = []
    alarm = Alarm(timers, lambda at: rung.append(now[0]))
    for due_ms in range(100_000, 90_000, -1):
        alarm.by(due_ms)
    assert len(timers) < 200
    alarm.by(95_000)
    assert alarm.due_ms == 90_001
    now[0] = 90_001
    timers.tick(0)
    assert (rung, alarm.due_ms) == ([90_001], 0)
    alarm.by(now[0] + 5)
    alarm.by(now[0] + 1)
    assert alarm.due_ms == 90_011, "not more often than every 10 ms"
    alarm.stop()
    alarm.stop()
    now[0] = 200_000
    timers.tick(0)
    assert rung == [90_001]


def test_times_that_fall_hold_little_memory() -> None:
    """SPEC 9.3: `extend` and `nack` with ever shorter times, and names that come and go."""
    desk = make_desk()
    line = group(desk)
    fill(desk, 1, "m/a")
    line.drain()
    for number in range(1_000):
        line.ask({"type": "extend", "sub": 1, "log": MEMORY, "pos": 1, "attempt": 1, "ms": 29_999 - number})
    assert len(desk.node.timers) < 150
    for number in range(200):
        ask(desk, line, "n/#", sub=2 + number, group=f"n{number}")
        desk.publish("n/a", number)
        line.drain()
        line.ask({"type": "unsubscribe", "id": 1, "sub": 2 + number})
    assert len(desk.node.timers) < 150


def test_many_short_extensions_are_few_looks() -> None:
    """SPEC 9.3.2: who asks for 1 ms at a time does not have everything looked at each ms."""
    desk = make_desk()
    line = group(desk)
    fill(desk, 2, "m/a")
    line.drain()
    dues: set[int | None] = set()
    for _ in range(100):
        line.ask({"type": "extend", "sub": 1, "log": MEMORY, "pos": 1, "attempt": 1, "ms": 1})
        dues.add(desk.node.timers.next_due_ms)
        desk.steady_ms += 1
        line.ask({"type": "extend", "sub": 1, "log": MEMORY, "pos": 1, "attempt": 1, "ms": 9})
        desk.wait()
    assert len(dues) <= 12
    assert line.drain() == []
    desk.wait(19)
    assert given(line.drain()) == [(1, 2)]


def test_types_of_what_a_member_gets() -> None:
    """SPEC 9.1.6: never caught up, never a message."""
    desk = make_desk()
    line = desk.connect()
    packets = line.subscribe(1, "m/#", group="g")
    fill(desk, 2, "m/a")
    assert types(packets + line.drain()) == ["subscribed", "delivery", "delivery"]

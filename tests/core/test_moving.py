"""What subscribers see when a shard gets another log, or its owner is lost and found (G4, G8, SPEC 4.2, 4.6)."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.nowhere import Nowhere
from triode_broker.core.record import Record
from triode_broker.log.memory import MemoryLog
from triode_protocol.packets import Published, Start

from tests.core.desk import Desk, Line, Packet
from tests.core.far import Far
from tests.core.test_joining_logs import busy
from tests.core.test_late_logs import LateDesk, begin


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def data(packets: list[Packet]) -> list[Any]:
    messages = [packet.get("message", packet) for packet in packets]
    return [one["data"] for one in messages if one["type"] == "message"]


def two_topics(desk: Desk) -> tuple[str, str]:
    """One in each of two shards."""
    found: dict[str, str] = {}
    for number in range(100):
        found.setdefault(desk.router.shard_of(f"t{number}").name, f"t{number}")
    return found["m0"], found["m1"]


def stall(line: Line, desk: Desk, far: Far) -> None:
    """Fill its outbox until it leaves live."""
    while "catching_up" not in "".join(str(item) for item in line.outbox.items):
        far.write("a", '"' + "x" * 200 + '"')


def test_a_message_of_another_nodes_shard_reaches_live_subscribers() -> None:
    desk = Desk()
    far = Far(desk)
    line = desk.connect()
    (answer,) = line.subscribe(1, "a")
    assert answer["after"] == {"m0-far": 0}
    assert answer["live"] is True
    far.write("a", 1)
    assert data(line.drain()) == [1]


def test_a_publish_to_another_nodes_shard_is_handed_on() -> None:
    desk = Desk()
    far = Far(desk)
    line = desk.connect()
    assert line.ask({"type": "publish", "id": 2, "topic": "a", "data": 7}) == []
    assert line.ask({"type": "publish", "topic": "a", "data": 8, "deliver_at_ms": desk.now_ms + 9}) == []
    assert far.acceptor.taken == [("a", b"7"), ("a", b"8")]
    far.acceptor.is_reached = False
    (refused,) = line.ask({"type": "publish", "id": 3, "topic": "a", "data": 9})
    assert (refused["name"], refused["retry"]) == ("unavailable", "backoff")


def test_a_new_log_is_a_reset_to_live_subscribers_and_they_get_its_first_message() -> None:
    """G4: for a new log delivery goes on with its first."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    desk.publish("a", 1)
    far = Far(desk)
    far.write("a", 2)
    packets = line.drain()
    assert types(packets) == ["message", "gap", "message"]
    assert packets[1] == {"type": "gap", "sub": 1, "after": {"m0-far": 0}, "reason": "reset", "topic": "a"}
    assert data(packets) == [1, 2]


def test_a_new_log_that_holds_messages_already_is_read_from_its_first() -> None:
    desk = Desk()
    far = Far(desk)
    line = desk.connect()
    line.subscribe(1, "a")
    log = MemoryLog("m0-again", desk.limits)
    source = Far(Desk(), name="m0-again")
    for number in range(3):
        source.write("a", number)
    log = source.log
    desk.router.follow_owner(far.shard, log, far.acceptor)
    packets = line.drain()
    assert types(packets) == ["catching_up", "gap", "delivery", "delivery", "delivery", "caught_up"]
    assert packets[0]["after"] == {"m0-again": 0}
    assert packets[-1]["after"] == {"m0-again": 3}


def test_what_this_node_owns_anew_counts_from_one() -> None:
    desk = Desk()
    desk.publish("a", 1)
    desk.publish("a", 2)
    line = desk.connect()
    line.subscribe(1, "a")
    shard = desk.router.shards[0]
    desk.router.own(shard, MemoryLog("m0-mine", desk.limits))
    answer = desk.publish("a", 3)
    assert (answer["log"], answer["pos"], answer["offset"]) == ("m0-mine", 1, 1)
    packets = line.drain()
    assert types(packets) == ["gap", "message"]


def test_a_sealed_shard_takes_nothing_and_can_still_be_read() -> None:
    desk = Desk()
    desk.publish("a", 1)
    far = Far(Desk())
    far.acceptor.is_reached = False
    desk.router.disown(desk.router.shards[0], far.acceptor)
    assert desk.publish("a", 2)["name"] == "unavailable"
    (history,) = desk.connect().ask({"type": "history", "id": 1, "topic": "a"})
    assert data(history["messages"]) == [1]


def test_a_subscription_that_catches_up_is_reset_too() -> None:
    desk = Desk(limits=Limits(max_outbox_bytes=4_000, max_packet_bytes=500, max_frame_bytes=4_000))
    far = Far(desk)
    line = desk.connect()
    line.subscribe(1, "a")
    stall(line, desk, far)
    far.move("m0-next")
    far.write("a", 5)
    packets = line.drain()
    gap = next(packet for packet in packets if packet["type"] == "gap")
    assert (gap["after"], gap["reason"]) == ({"m0-next": 0}, "reset")
    assert data(packets)[-1] == 5
    assert packets[-1]["type"] in ("caught_up", "message")


@pytest.mark.parametrize("overflow", ["conflate", "gap"])
def test_other_policies_of_a_slow_subscriber_survive_a_new_log(overflow: str) -> None:
    desk = Desk(limits=Limits(max_outbox_bytes=4_000, max_packet_bytes=500, max_frame_bytes=4_000))
    far = Far(desk)
    line = desk.connect()
    line.subscribe(1, "a", overflow=overflow)
    stall(line, desk, far)
    far.move("m0-next")
    far.write("a", 5)
    packets = line.drain()
    far.write("a", 6)
    packets += line.drain()
    gap = next(packet for packet in packets if packet["type"] == "gap")
    assert "m0-next" in gap["after"]
    assert data(packets)[-1] == 6
    assert packets[-2]["type"] == "caught_up"


def test_an_interrupted_shard_is_read_on_from_where_each_one_was() -> None:
    desk = Desk(TopicRule(filter="b", retention_messages=1), limits=Limits(recent_bytes=0))
    far = Far(desk)
    line, other = desk.connect(), desk.connect()
    line.subscribe(1, "a")
    other.subscribe(1, "b")
    far.write("a", 1)
    for number in (2, 3):
        far.write("a", number, is_heard=False)
        far.write("b", number, is_heard=False)
    desk.router.interrupt(far.shard, 1)
    packets = line.drain()
    assert data(packets) == [1, 2, 3]
    assert "gap" not in types(packets)
    packets = other.drain()
    assert data(packets) == [3]
    assert "gap" in types(packets)


def test_a_conflating_reader_is_interrupted_too() -> None:
    desk = Desk(limits=Limits(max_outbox_bytes=4_000, max_packet_bytes=500, max_frame_bytes=4_000))
    far = Far(desk)
    line = desk.connect()
    line.subscribe(1, "a", overflow="conflate")
    stall(line, desk, far)
    far.write("a", 4, is_heard=False)
    desk.router.interrupt(far.shard, far.log.head() - 1)
    packets = line.drain()
    assert data(packets)[-1] == 4
    assert packets[-1]["type"] == "caught_up"


class Barrier:
    """Covers when told to; some shards are not reached."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.covered: list[str] = []

    def cover(self, filter: str, shards: Any, position: Any, then: Any) -> None:
        self.covered.append(filter)
        self.waiting.append(then)

    def uncover(self, filter: str, shards: Any) -> None:
        self.covered.remove(filter)

    def answer(self, *unavailable: str) -> None:
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then(list(unavailable))


def guarded(**limits: Any) -> tuple[Desk, Barrier, Far]:
    """Two shards, the first of them far away."""
    desk = Desk(shards=2, limits=Limits(**limits))
    far = Far(desk)
    barrier = Barrier()
    desk.router.coverage = barrier
    return desk, barrier, far


def test_subscribed_waits_until_the_owners_know() -> None:
    desk, barrier, far = guarded()
    line = desk.connect()
    assert line.subscribe(1, "#") == []
    far.write(two_topics(desk)[0], 1)
    barrier.answer()
    (answer,) = line.drain()
    assert answer["after"] == {"m0-far": 1, "m1-life": 0}
    assert "unavailable" not in answer
    line.ask({"type": "unsubscribe", "id": 3, "sub": 1})
    assert barrier.covered == []


def test_a_subscription_that_ends_before_its_owners_know_is_not_answered() -> None:
    desk, barrier, _ = guarded()
    line = desk.connect()
    line.subscribe(1, "#")
    assert types(line.ask({"type": "unsubscribe", "id": 3, "sub": 1})) == ["unsubscribed"]
    barrier.answer()
    assert line.drain() == []
    assert barrier.covered == []


def test_a_shard_that_is_not_reached_is_named_and_a_gap_precedes_its_first_message() -> None:
    """SPEC 4.2: the others are served meanwhile."""
    desk, barrier, far = guarded()
    near, away = two_topics(desk)[1], two_topics(desk)[0]
    line = desk.connect()
    line.subscribe(1, "#")
    barrier.answer("m0")
    (answer,) = line.drain()
    assert (answer["after"], answer["unavailable"], answer["live"]) == ({"m1-life": 0}, ["m0"], True)
    desk.publish(near, 1)
    barrier.answer()
    desk.node.moving.back(far.shard)
    far.write(away, 2)
    packets = line.drain()
    assert types(packets) == ["message", "gap", "message"]
    assert (packets[1]["after"], packets[1]["reason"]) == ({"m0-far": 0, "m1-life": 1}, "partition")


def test_a_position_in_a_shard_that_is_not_reached_is_kept_and_goes_on_there_without_a_gap() -> None:
    """SPEC 4.2.4: nothing is missing; a restart of the owner is nothing to who resumes meanwhile."""
    desk, barrier, far = guarded()
    away = two_topics(desk)[0]
    for number in range(4):
        far.write(away, number)
    line = desk.connect()
    line.subscribe(1, "#", after={"m0-far": 2, "m1-life": 0})
    barrier.answer("m0")
    (answer,) = line.drain()
    assert (answer["after"], answer["unavailable"]) == ({"m0-far": 2, "m1-life": 0}, ["m0"])
    desk.node.moving.back(far.shard)
    packets = line.drain()
    assert types(packets) == ["catching_up", "delivery", "delivery", "caught_up"]
    assert packets[0]["after"] == {"m0-far": 2, "m1-life": 0}
    assert data(packets) == [2, 3]


def test_who_had_all_of_a_shard_that_is_not_reached_goes_on_without_a_word() -> None:
    desk, barrier, far = guarded()
    away = two_topics(desk)[0]
    far.write(away, 0)
    line = desk.connect()
    line.subscribe(1, "#", after={"m0-far": 1, "m1-life": 0})
    barrier.answer("m0")
    line.drain()
    barrier.answer()
    desk.node.moving.back(far.shard)
    assert line.drain() == []
    far.write(away, 1)
    (message,) = line.drain()
    assert (message["type"], message["data"]) == ("message", 1)


def test_the_newest_of_a_shard_that_is_lost_before_they_were_sent_are_a_gap() -> None:
    """They are not behind the position at which it goes on."""
    desk, barrier, far = guarded()
    away = two_topics(desk)[0]
    far.write(away, 0)
    read = far.log.read
    far.log.read = lambda *arguments: None  # type: ignore[method-assign]  # the answer is withheld
    line = desk.connect()
    line.subscribe(1, "#", from_="last")
    barrier.answer()
    desk.node.moving.lost(far.shard)
    assert types(line.drain()) == ["subscribed", "caught_up"]
    far.log.read = read  # type: ignore[method-assign]  # the answer is withheld
    desk.node.moving.back(far.shard)
    (gap,) = line.drain()
    assert (gap["type"], gap["after"], gap["reason"]) == ("gap", {"m0-far": 1, "m1-life": 0}, "partition")


def test_a_new_log_of_a_shard_that_is_not_reached_is_told_when_it_is() -> None:
    desk, barrier, far = guarded()
    line = desk.connect()
    line.subscribe(1, "#")
    barrier.answer("m0")
    line.drain()
    far.move("m0-next", is_reached=False)
    assert line.drain() == []
    desk.node.moving.back(far.shard)
    (gap,) = line.drain()
    assert (gap["type"], gap["after"], gap["reason"]) == ("gap", {"m0-next": 0, "m1-life": 0}, "partition")


def test_where_its_only_shard_is_not_reached_there_is_nothing_to_begin_with() -> None:
    desk, barrier, _ = guarded()
    line = desk.connect()
    line.subscribe(1, two_topics(desk)[0], from_="earliest")
    barrier.answer("m0")
    packets = line.drain()
    assert types(packets) == ["subscribed", "caught_up"]
    assert (packets[0]["after"], packets[0]["unavailable"]) == ({}, ["m0"])


def test_a_ping_says_nothing_of_a_log_that_a_subscription_does_without() -> None:
    """SPEC 4.8: it would move the position over what is still to come."""
    desk, barrier, far = guarded()
    away = two_topics(desk)[0]
    for number in range(4):
        far.write(away, number)
    line = desk.connect()
    line.subscribe(1, "#", after={"m0-far": 2, "m1-life": 0})
    barrier.answer("m0")
    line.drain()
    line.session.keepalive(desk.now_ms)
    assert line.drain() == [{"type": "ping"}]
    desk.node.moving.back(far.shard)
    line.drain()
    line.session.keepalive(desk.now_ms)
    assert line.drain() == [{"type": "ping", "at": {"m0-far": 4}}]


@pytest.mark.parametrize("had", [{"m0-old": 2}, {"m0-far": 9}])
def test_a_position_of_another_life_is_a_reset_when_the_shard_is_back(had: dict[str, int]) -> None:
    desk, barrier, far = guarded()
    away = two_topics(desk)[0]
    far.write(away, 0)
    line = desk.connect()
    line.subscribe(1, "#", after=had | {"m1-life": 0})
    barrier.answer("m0")
    line.drain()
    desk.node.moving.back(far.shard)
    packets = line.drain()
    assert types(packets) == ["catching_up", "gap", "delivery", "caught_up"]
    assert (packets[1]["after"], packets[1]["reason"]) == ({"m0-far": 0, "m1-life": 0}, "reset")


def test_who_catches_up_goes_on_without_a_shard_that_is_lost() -> None:
    """What was asked of it is nobody's any more; the other logs are not held up."""
    desk, barrier, far = guarded()
    away, near = two_topics(desk)
    for number in range(3):
        far.write(away, number)
    desk.publish(near, 7)
    asked: list[Any] = []
    read = far.log.read
    far.log.read = lambda *arguments: asked.append(arguments)  # type: ignore[method-assign]  # the answer is withheld
    line = desk.connect()
    line.subscribe(1, "#", from_="earliest")
    barrier.answer()
    desk.node.moving.lost(far.shard)
    packets = line.drain()
    assert types(packets) == ["subscribed", "delivery", "caught_up"]
    assert packets[-1]["after"] == {"m0-far": 0, "m1-life": 1}
    read(*asked[0])  # its late answer
    assert line.drain() == []
    far.log.read = read  # type: ignore[method-assign]  # the answer is withheld
    desk.node.moving.back(far.shard)
    packets = line.drain()
    assert data(packets) == [0, 1, 2]
    assert types(packets) == ["catching_up", "delivery", "delivery", "delivery", "caught_up"]
    assert packets[-1]["after"] == {"m0-far": 3, "m1-life": 1}


def test_a_shard_can_come_back_while_others_are_caught_up() -> None:
    desk, barrier, far = guarded(max_outbox_bytes=4_000, max_packet_bytes=500, max_frame_bytes=4_000)
    away, near = two_topics(desk)
    for _ in range(30):
        desk.publish(near, "x" * 300)
    line = desk.connect()
    line.subscribe(1, "#", after={"m1-life": 0, "m0-far": 0})
    barrier.answer("m0")
    far.write(away, 7, is_heard=False)
    desk.node.moving.back(far.shard)
    packets = line.drain()
    assert sum(packet["type"] == "delivery" for packet in packets) == 31
    assert packets[-1]["after"] == {"m0-far": 1, "m1-life": 30}


def test_a_conflating_reader_takes_a_shard_in_again() -> None:
    desk, barrier, far = guarded(max_outbox_bytes=4_000, max_packet_bytes=500, max_frame_bytes=4_000)
    away, near = two_topics(desk)
    line = desk.connect()
    line.subscribe(1, "#", overflow="conflate")
    barrier.answer("m0")
    line.drain()
    while "catching_up" not in "".join(str(item) for item in line.outbox.items):
        desk.publish(near, "x" * 200)
        barrier.answer()
    desk.node.moving.back(far.shard)
    far.write(away, 7)
    packets = line.drain()
    assert "gap" in types(packets)
    assert 7 in data(packets)


def test_what_the_owner_is_asked_while_it_moves_is_a_reset() -> None:
    """A start that is being looked for in the log of before."""
    desk = Desk()
    far = Far(desk)
    far.write("a", 1)
    asked: list[Any] = []
    far.log.seek = lambda *arguments: asked.append(arguments[-1])  # type: ignore[method-assign]  # the answer is withheld
    barrier = Barrier()
    desk.router.coverage = barrier
    line = desk.connect()
    line.subscribe(1, "a", from_="earliest")
    barrier.answer()
    (done,) = asked
    place: list[Any] = []
    MemoryLog("m0-x", desk.limits).seek("a", Start(), desk.now_ms, place.append)
    far.move("m0-next")
    far.write("a", 5)
    done(place[0])
    packets = line.drain()
    assert packets[0]["after"] == {"m0-next": 0}
    assert data(packets) == [5]


def test_what_is_asked_of_a_shard_that_is_lost_meanwhile_leaves_it_out() -> None:
    desk, barrier, far = guarded()
    asked: list[Any] = []
    far.log.seek = lambda *arguments: asked.append(arguments[-1])  # type: ignore[method-assign]  # the answer is withheld
    line = desk.connect()
    line.subscribe(1, "#", from_="earliest")
    barrier.answer()
    desk.node.moving.lost(far.shard)
    place: list[Any] = []
    MemoryLog("m0-x", desk.limits).seek("#", Start(), desk.now_ms, place.append)
    asked[0](place[0])
    packets = line.drain()
    assert packets[0]["unavailable"] == ["m0"]
    assert packets[-1]["type"] == "caught_up"


def test_the_history_of_a_shard_that_is_not_reached_is_unavailable() -> None:
    desk = Desk()
    far = Far(desk, is_reached=False)
    (answer,) = desk.connect().ask({"type": "history", "id": 4, "topic": "a"})
    assert (answer["name"], answer["id"]) == ("unavailable", 4)
    desk.node.moving.back(far.shard)
    (answer,) = desk.connect().ask({"type": "history", "id": 4, "topic": "a"})
    assert answer["type"] == "history"


def test_a_shard_that_nobody_owns_has_nothing_and_no_place() -> None:
    desk = Desk()
    Far(desk).lose()
    log = desk.router.shards[0].log
    found: list[Any] = []
    log.read("#", 3, 10, 10, 0, found.append)
    log.read_back("a", 3, 10, 10, 0, lambda *answer: found.append(answer))
    log.seek("#", Start(), 0, found.append)
    log.trim(0)
    assert (found[0].upto, found[0].records, found[1], found[2].pos) == (3, [], ([], False), 0)
    assert (log.name, log.head(), desk.router.heads()) == ("", 0, {})
    with pytest.raises(AssertionError, match="nobody owns"):
        log.append(None, None)  # type: ignore[arg-type]  # it must not get that far


def test_a_delayed_message_whose_shard_moves_is_handed_to_its_owner() -> None:
    desk = Desk()
    desk.publish("a", 1, deliver_at_ms=desk.now_ms + 100)
    far = Far(desk)
    far.acceptor.is_reached = False
    desk.router.tick(desk.now_ms + 200)
    assert desk.router.delayed.count == 1
    far.acceptor.is_reached = True
    desk.router.tick(desk.now_ms + 5_000)
    assert far.acceptor.taken == [("a", b"1")]
    assert desk.router.delayed.count == 1  # until it is known to be stored
    far.acceptor.waiting[0].answer(Published(1, "m0-far", 1, 1, "memory"))
    assert desk.router.delayed.count == 0


def test_a_store_that_is_opened_later_is_owned_from_then_on() -> None:
    donor = Desk(TopicRule(filter="d/#", storage="disk"), durable=True)
    desk = Desk(TopicRule(filter="d/#", storage="disk"))
    router = type(desk.router)([desk.router.shards[0]], desk.router._policies, desk.limits, (None,))
    assert (router.has_disk, router.durable_logs) == (True, ())
    shard = router.shard_named("d0")
    assert shard is not None
    assert (shard.is_here, shard.log.level) == (False, "disk")
    router.own_store(shard, donor.disk)
    assert (shard.is_here, router.durable_logs) == (True, (donor.disk,))
    assert Nowhere("disk").level == "disk"


def test_a_shard_that_is_reached_while_a_start_is_looked_for_is_taken_in_with_a_gap() -> None:
    """Found by the model of remote subscribers."""
    desk = LateDesk(shards=2)
    far = Far(desk)
    barrier = Barrier()
    desk.router.coverage = barrier
    far.write("t0", 1, is_heard=False)
    line = desk.connect()
    line.send({"type": "subscribe", "id": 2, "sub": 1, "filter": "#", "from": "earliest"})
    barrier.answer("m0")
    desk.node.moving.back(far.shard)
    desk.answer()
    packets = line.drain()
    assert types(packets) == ["subscribed", "gap", "caught_up"]
    assert packets[0]["after"] == {"m0-far": 1, "m1-life": 0}
    assert packets[1]["reason"] == "partition"


def test_a_log_that_was_joined_is_read_again_when_its_shard_is_interrupted() -> None:
    """Found by the model of remote subscribers: what was not delivered was passed over in silence."""
    desk, (first, _) = busy()
    line = begin(desk, "#", from_="earliest")
    desk.late[0].answer()  # where it begins
    desk.late[1].answer()
    desk.late[0].answer()  # its messages: it is joined
    desk.late[0].append(Record(first, 4, 4, desk.now_ms, b'{"type":"message","pos":4}'), TopicRule())
    desk.router.interrupt(desk.router.shards[0], 3)
    desk.answer()
    packets = line.drain()
    assert [one["message"]["pos"] for one in packets if one["type"] == "delivery"].count(4) == 1
    assert packets[-1]["type"] == "caught_up"


def test_an_interrupt_is_nothing_to_those_who_are_not_fed_from_the_shard() -> None:
    """One does without it, one waits for its owner, one has yet to leave out what it did not get."""
    desk, barrier, far = guarded(max_outbox_bytes=4_000, max_packet_bytes=500, max_frame_bytes=4_000)
    without, waiting, skipping = desk.connect(), desk.connect(), desk.connect()
    without.subscribe(1, "#")
    barrier.answer("m0")
    skipping.subscribe(1, "#", overflow="gap")
    barrier.answer()
    for line in (without, skipping):
        line.drain()
    waiting.subscribe(1, "#")
    while skipping.outbox.has_room:
        far.write(two_topics(desk)[0], '"' + "x" * 200 + '"')
    while not skipping.outbox.wants_room:
        far.write(two_topics(desk)[0], '"' + "x" * 200 + '"')
    before = [len(line.outbox.items) for line in (without, waiting, skipping)]
    desk.router.interrupt(far.shard, 0)
    assert [len(line.outbox.items) for line in (without, waiting, skipping)] == before

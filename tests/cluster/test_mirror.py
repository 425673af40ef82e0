"""Mirrors: what a node knows of logs elsewhere is whole up to its head, or read until it is (G4, cluster.md)."""

from typing import Any

import pytest
from triode_broker.cluster.frames import Deliver, Rows
from triode_broker.cluster.questions import MAX_RUNNING
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Page, Place
from triode_broker.core.record import Record
from triode_protocol.packets import Start

from tests.cluster.pair import EntryDesk, OwnerDesk, Wire, pair, turn
from tests.core.desk import Line, Packet

PLENTY = 1_000_000


def texts(packets: list[Packet]) -> list[Any]:
    found = [packet.get("message", packet) for packet in packets]
    return [one["data"] for one in found if one["type"] == "message"]


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def subscribed(entry: EntryDesk, wire: Wire, filter: str, **fields: Any) -> tuple[Line, list[Packet]]:
    """A connection with one subscription, answered."""
    line = entry.connect()
    packets = line.subscribe(1, filter, **fields)
    wire.carry()
    return line, packets + line.drain()


def shard_of(desk: OwnerDesk, topic: str) -> str:
    return desk.router.shard_of(topic).name


def test_mirror_of_a_joining_node_begins_at_the_owners_head() -> None:
    desk, entry = OwnerDesk(), EntryDesk()
    for _ in range(3):
        desk.write("a")
    entry.follow_all(desk)
    assert not any(shard.is_reachable for shard in entry.router.shards)
    Wire(entry, desk).carry()
    heads = {shard.log.name: shard.log.head() for shard in desk.router.shards}
    assert {shard.log.name: shard.log.head() for shard in entry.router.shards} == heads
    assert all(shard.is_reachable for shard in entry.router.shards)


def test_mirror_of_a_log_that_is_learnt_of_late_begins_at_the_owners_head() -> None:
    desk, entry = OwnerDesk(), EntryDesk()
    wire = Wire(entry, desk)
    wire.carry()
    desk.write("a")
    turn(desk)
    entry.follow_all(desk)
    wire.carry()
    assert entry.mirror(shard_of(desk, "a")).head() == 1
    assert entry.mirror("d0").is_live


def test_message_reaches_a_live_subscriber_of_another_node() -> None:
    desk, entry, wire = pair()
    line, (answer,) = subscribed(entry, wire, "a")
    assert (answer["type"], answer["live"]) == ("subscribed", True)
    desk.write("a", "1")
    desk.write("b", "other")
    desk.write("a", "2")
    turn(desk)
    wire.carry()
    assert texts(line.drain()) == ["1", "2"]


def test_message_on_disk_reaches_it_when_it_is_committed() -> None:
    desk, entry, wire = pair()
    line, _ = subscribed(entry, wire, "d/#")
    desk.write("d/1", "1")
    turn(desk)
    wire.carry()
    assert line.drain() == []
    desk.commit()
    turn(desk)
    wire.carry()
    assert texts(line.drain()) == ["1"]


@pytest.mark.parametrize("topic", ["a", "d/1"])
def test_subscriber_of_the_past_reads_it_from_the_owner(topic: str) -> None:
    desk, entry, wire = pair()
    for number in range(5):
        desk.write(topic, str(number))
        desk.commit()
    line, packets = subscribed(entry, wire, topic, from_="earliest")
    assert texts(packets) == ["0", "1", "2", "3", "4"]
    assert types(packets)[-1] == "caught_up"
    desk.write(topic, "5")
    desk.commit()
    turn(desk)
    wire.carry()
    assert texts(line.drain()) == ["5"]
    assert texts(subscribed(entry, wire, topic, from_={"last": 2})[1]) == ["4", "5"]
    assert texts(subscribed(entry, wire, topic, from_="last")[1]) == ["5"]


def test_history_is_the_owners() -> None:
    desk, entry, wire = pair()
    for number in range(5):
        desk.write("a", str(number))
    line = entry.connect()
    line.send({"type": "history", "id": 1, "topic": "a", "last": 2})
    line.send({"type": "history", "id": 2, "topic": "a", "after": {desk.router.shard_of("a").log.name: 0}})
    wire.carry()
    newest, all_of_it = sorted(line.drain(), key=lambda packet: int(packet["id"]))
    assert texts(newest["messages"]) == ["3", "4"]
    assert texts(all_of_it["messages"]) == ["0", "1", "2", "3", "4"]
    assert all_of_it["complete"] is True


# Flaps


def test_what_came_while_the_link_was_lost_is_delivered_live() -> None:
    desk, entry, wire = pair()
    line, _ = subscribed(entry, wire, "a")
    desk.write("a", "1")
    turn(desk)
    wire.cut()
    desk.write("a", "2")
    desk.write("b", "other")
    Wire(entry, desk).carry()
    packets = line.drain()
    assert (types(packets), texts(packets)) == (["message", "message"], ["1", "2"])
    assert all(mirror.is_live for mirror in entry.owner.mirrors.values())


def test_what_was_lost_while_the_link_was_is_a_gap_to_those_concerned_only() -> None:
    """G4: each subscriber finds out for itself."""
    short = TopicRule(filter="a", retention_messages=2)
    small = Limits(recent_bytes=0, recent_seconds=0)
    desk, entry, wire = pair(short, limits=small, shards=1)
    line, _ = subscribed(entry, wire, "a")
    other, _ = subscribed(entry, wire, "b")
    wire.cut()
    for number in range(5):
        desk.write("a", str(number))
    desk.write("b", "whole")
    desk.router.trim(desk.now_ms)
    wire = Wire(entry, desk)
    wire.carry()
    packets = line.drain()
    assert types(packets) == ["catching_up", "gap", "delivery", "delivery", "caught_up"]
    assert texts(packets) == ["3", "4"]
    assert texts(whole := other.drain()) == ["whole"]
    assert "gap" not in types(whole)


def test_a_long_absence_is_read_page_by_page() -> None:
    desk, entry, wire = pair(shards=1)
    line, _ = subscribed(entry, wire, "#")
    wire.cut()
    for number in range(60):
        desk.write("a", f"{number:05}" * 800)
    wire = Wire(entry, desk)
    wire.carry_questions()
    wire.carry_answers()
    assert not entry.mirror("m0").is_live
    wire.carry()
    assert entry.mirror("m0").is_live
    assert [text[:5] for text in texts(line.drain())] == [f"{number:05}" for number in range(60)]


def test_a_subscriber_that_reads_while_the_mirror_does_gets_everything_once() -> None:
    desk, entry, wire = pair(shards=1)
    keeper, _ = subscribed(entry, wire, "#")
    wire.cut()
    for number in range(60):
        desk.write("a", f"{number:05}" * 800)
    line = entry.connect()
    line.send({"type": "subscribe", "id": 2, "sub": 2, "filter": "a", "from": "earliest"})
    wire = Wire(entry, desk)
    packets: list[Packet] = []
    while wire.carry_questions() + wire.carry_answers(1):
        packets += line.drain()
    expected = [f"{number:05}" for number in range(60)]
    assert [text[:5] for text in texts(packets + line.drain())] == expected
    assert [text[:5] for text in texts(keeper.drain())] == expected


def test_a_hole_in_the_stream_is_read() -> None:
    desk, entry, wire = pair(shards=1)
    line, _ = subscribed(entry, wire, "a")
    desk.write("a", "1")
    turn(desk)
    assert [type(frame) for frame in wire.answering.frames()] == [Deliver]
    wire.answering.queue.clear()
    desk.write("a", "2")
    turn(desk)
    wire.carry()
    assert texts(line.drain()) == ["1", "2"]


def test_a_hole_before_a_mark_is_read() -> None:
    desk, entry, wire = pair(shards=1)
    line, _ = subscribed(entry, wire, "a")
    desk.write("a", "1")
    turn(desk)
    wire.answering.queue.clear()
    desk.write("b")
    desk.serving.tick()
    wire.carry()
    assert texts(line.drain()) == ["1"]
    assert entry.mirror("m0").head() == 2


def test_a_mark_moves_the_head_where_nothing_is_wanted() -> None:
    desk, entry, wire = pair(shards=1)
    desk.write("b")
    turn(desk)
    assert not wire.answering.queue
    desk.serving.tick()
    desk.serving.tick()
    assert len(wire.answering.queue) == 1
    wire.carry()
    assert entry.mirror("m0").head() == 1


def test_a_superseded_link_is_not_listened_to() -> None:
    desk, entry, wire = pair(shards=1)
    line, _ = subscribed(entry, wire, "a")
    desk.write("a", "1")
    turn(desk)
    newer = Wire(entry, desk)
    wire.carry_answers()
    assert line.drain() == []
    newer.carry()
    entry.owner.closed(wire.asking)  # it is noticed late
    desk.write("a", "2")
    turn(desk)
    newer.carry()
    assert texts(line.drain()) == ["1", "2"]


def test_a_slow_peer_is_told_once_that_it_is_behind_and_reads() -> None:
    desk, entry = OwnerDesk(shards=1), EntryDesk(shards=1)
    entry.follow_all(desk)
    wire = Wire(entry, desk, max_bytes=1_000)
    wire.carry()
    line, _ = subscribed(entry, wire, "a")
    for number in range(30):
        desk.write("a", f"{number:03}" * 50)
        turn(desk)
    kinds = [type(frame).__name__ for frame in wire.answering.frames()]
    assert kinds.count("Behind") == 1
    assert kinds[-1] == "Behind"
    wire.carry()
    assert [text[:3] for text in texts(line.drain())] == [f"{number:03}" for number in range(30)]
    desk.write("a", "live")
    turn(desk)
    wire.carry()
    assert texts(line.drain()) == ["live"]


# A new log


def test_a_new_log_is_read_from_its_start() -> None:
    desk, entry, wire = pair(shards=1)
    line, _ = subscribed(entry, wire, "a")
    desk.renew(0)
    desk.write("a", "first")
    turn(desk)
    old = entry.mirror("m0")
    new = entry.follow(desk.router.shards[0].log)
    assert new is entry.mirror("m0") is not old
    wire.carry()
    packets = line.drain()
    assert types(packets) == ["gap", "catching_up", "delivery", "caught_up"]
    assert texts(packets) == ["first"]
    assert packets[0]["reason"] == "reset"


def test_who_waits_for_a_log_that_is_over_is_answered_with_nothing() -> None:
    desk, entry, wire = pair(shards=1)
    mirror = entry.mirror("m0")
    desk.write("a")
    pages: list[Page] = []
    backs: list[tuple[list[Record], bool]] = []
    places: list[Place] = []

    def ask() -> None:
        mirror.read("a", 0, PLENTY, 100, 0, pages.append)
        mirror.read_back("a", 9, PLENTY, 100, 0, lambda *answer: backs.append(answer))
        mirror.seek("a", Start(), 0, places.append)

    ask()
    mirror.fail_pending()
    ask()
    mirror.end()
    ask()  # nobody does
    assert pages == [Page([], [], 0, 0, 0, 0)] * 3
    assert backs == [([], False)] * 3
    assert places == [Place(0, False, 0)] * 3
    wire.carry()
    assert len(pages) == 3


def test_what_is_asked_of_an_owner_that_does_not_know_the_log_waits_until_it_is_over() -> None:
    desk, entry, wire = pair(shards=1)
    mirror = entry.mirror("m0")
    desk.renew(0)
    pages: list[Page] = []
    mirror.read("a", 0, PLENTY, 100, 0, pages.append)
    wire.carry()
    entry.owner.tick()
    wire.carry()
    assert pages == []
    mirror.end()
    assert len(pages) == 1
    assert entry.owner.questions.running == entry.owner.questions.waiting == 0


def test_a_mirror_that_cannot_be_placed_asks_again() -> None:
    desk, entry = OwnerDesk(shards=1), EntryDesk(shards=1)
    wire = Wire(entry, desk)
    wire.carry()
    log = desk.router.shards[0].log
    desk.renew(0)
    mirror = entry.follow(log)
    wire.carry()
    assert not mirror.is_ready
    entry.owner.tick()
    assert wire.asking.queue
    mirror.end()
    wire.carry()
    assert not mirror.is_ready


# Questions


def test_the_same_read_of_many_is_asked_twice_at_most() -> None:
    desk, entry, wire = pair(shards=1)
    desk.write("a", "1")
    mirror = entry.mirror("m0")
    pages: list[Page] = []
    for _ in range(50):
        mirror.read("a", 0, PLENTY, 100, 0, pages.append)
    assert len(wire.asking.queue) == 1
    wire.carry_questions()
    wire.carry_answers()
    assert len(pages) == 1
    assert len(wire.asking.queue) == 1
    wire.carry()
    assert len(pages) == 50
    assert all(page.records[0].topic == "a" for page in pages)


def test_so_many_questions_run_at_a_time_and_the_rest_wait() -> None:
    desk, entry, wire = pair(shards=1)
    desk.write("a", "1")
    mirror, pages = entry.mirror("m0"), list[Page]()
    for number in range(100):
        mirror.read("a", 0, PLENTY, 100 + number, 0, pages.append)
    assert len(wire.asking.queue) == entry.owner.questions.running == MAX_RUNNING
    assert entry.owner.questions.waiting == 100 - MAX_RUNNING
    wire.carry()
    assert len(pages) == 100


def test_questions_that_were_under_way_are_asked_again_over_the_next_link() -> None:
    desk, entry, wire = pair(shards=1)
    desk.write("a", "1")
    mirror, pages = entry.mirror("m0"), list[Page]()
    for _ in range(3):
        mirror.read("a", 0, PLENTY, 100, 0, pages.append)
    mirror.read("b", 0, PLENTY, 100, 0, pages.append)
    wire.cut()
    assert pages == []
    wire = Wire(entry, desk)
    wire.carry()
    assert len(pages) == 4


def test_a_page_does_not_go_beyond_what_was_delivered() -> None:
    desk, entry, wire = pair(shards=1)
    subscribed(entry, wire, "a")
    desk.write("a", "1")
    turn(desk)
    wire.carry()
    for number in range(3):
        desk.write("a", str(number))
    turn(desk)
    wire.answering.queue.clear()  # what follows shows a hole
    mirror, pages = entry.mirror("m0"), list[Page]()
    mirror.read("a", 0, PLENTY, 100, 0, pages.append)
    wire.carry_questions()
    wire.carry_answers()
    assert [(page.upto, len(page.records), len(page.prevs)) for page in pages] == [(1, 1, 1)]
    wire.carry()
    assert mirror.head() == 4


def test_a_start_that_was_not_reached_is_asked_for_again() -> None:
    desk, entry, wire = pair(shards=1)
    subscribed(entry, wire, "a")
    for _ in range(3):
        desk.write("a")
    turn(desk)
    wire.answering.queue.clear()
    mirror, places = entry.mirror("m0"), list[Place]()
    mirror.seek("a", Start(since=desk.now_ms + 5), 0, places.append)
    wire.carry_questions()
    wire.carry_answers()
    assert places == []
    wire.carry()
    assert places == [Place(3, True, 0)]


def test_answers_nobody_waits_for_are_passed_over() -> None:
    desk, entry, wire = pair(shards=1)
    entry.owner.received(wire.asking, Rows(99, "m0-life", [], [], 0, 0, 0, 0, True))
    entry.owner.received(wire.asking, Deliver("m9-other", 0, []))
    assert entry.mirror("m0").is_live
    assert desk.truth == []


def test_a_mirror_takes_no_messages_itself() -> None:
    _, entry, _ = pair(shards=1)
    mirror = entry.mirror("m0")
    mirror.trim(0)
    with pytest.raises(AssertionError):
        mirror.append(Record("a", 1, 1, 1, b""), TopicRule())

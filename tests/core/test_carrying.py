"""Acknowledged subscriptions whose shards get other logs, or are reached later (G5, G8)."""

from typing import Any

from triode_broker.core.nowhere import Nowhere
from triode_broker.log.memory import MemoryLog

from tests.core.desk import Desk, Line, Packet
from tests.core.far import Far
from tests.core.test_moving import Barrier, two_topics
from tests.core.working import DISK, ask, data, fill, given, group, make_desk, types


def acknowledge(line: Line, log: str, *places: int) -> None:
    line.send({"type": "ack", "sub": 1, "log": log, "pos": list(places)})


def worker(
    desk: Desk, barrier: Barrier | None = None, *unavailable: str, **fields: Any
) -> tuple[Line, list[Packet]]:
    """A member of the durable name w on everything; all it got."""
    line = desk.connect()
    packets = line.subscribe(1, "#", durable="w", **fields)
    if barrier is not None:
        barrier.answer(*unavailable)
    desk.commit()
    return line, packets + line.drain()


def test_a_name_is_fed_from_another_nodes_shard() -> None:
    desk = make_desk()
    far = Far(desk)
    line, _ = worker(desk)
    far.write("m", 1)
    packets = line.drain()
    assert data(packets) == [1]
    acknowledge(line, "m0-far", 1)
    line.ask({"type": "unsubscribe", "id": 4, "sub": 1})
    far.write("m", 2, is_heard=False)
    line, packets = worker(desk)
    assert data(packets) == [2]


def test_what_is_unsettled_of_a_log_that_is_gone_is_in_the_gap_and_the_rest_comes_again() -> None:
    """G5: what was in flight of other logs is given back; it does not count as failed."""
    desk = make_desk()
    far = Far(desk)
    line, _ = worker(desk)
    far.write("m", 1)
    fill(desk, 1)
    assert data(line.drain()) == [1, 0]
    far.move("m0-next")
    far.write("m", 2)
    desk.commit()
    packets = line.drain()
    gap = next(packet for packet in packets if packet["type"] == "gap")
    assert (gap["after"]["m0-next"], gap["reason"]) == (0, "reset")
    assert sorted(data(packets)) == [0, 2]
    assert [attempt for _, attempt in given(packets)] == [1, 1]


def test_a_name_without_members_is_told_of_the_reset_when_one_comes() -> None:
    desk = make_desk()
    far = Far(desk)
    line, _ = worker(desk)
    line.ask({"type": "unsubscribe", "id": 4, "sub": 1})
    far.move("m0-next")
    far.write("m", 2, is_heard=False)
    _, packets = worker(desk)
    assert types(packets) == ["subscribed", "gap", "delivery"]


def test_a_source_that_is_interrupted_reads_on_from_the_head() -> None:
    desk = make_desk()
    far = Far(desk)
    line, _ = worker(desk)
    far.write("m", 1)
    line.drain()
    far.write("m", 2, is_heard=False)
    desk.router.interrupt(far.shard, 1)
    assert data(line.drain()) == [2]


def test_a_resting_name_is_not_interrupted() -> None:
    desk = make_desk()
    far = Far(desk)
    line, _ = worker(desk)
    line.ask({"type": "unsubscribe", "id": 4, "sub": 1})
    desk.router.interrupt(far.shard, 0)
    far.write("m", 2, is_heard=False)
    _, packets = worker(desk)
    assert data(packets) == [2]


def test_a_restarted_home_goes_on_in_a_log_of_another_node_where_it_was() -> None:
    """Its place was kept though the log's owner was not known at the start (`core.keeping`)."""
    desk = make_desk()
    far = Far(desk)
    line, _ = worker(desk)
    for number in range(3):
        far.write("m", number)
    line.drain()
    acknowledge(line, "m0-far", 1)
    desk.commit()
    old = far.log

    class Joining(Desk):
        def _build(self, disk: Any) -> None:
            """Nobody is known to own its shard in memory."""
            super()._build(None)
            self._disk = disk
            shard = self.router.shards[0]
            shard.begin(Nowhere("memory"))
            shard.is_here = shard.is_reachable = False
            self.router = type(self.router)([shard], self.router._policies, self.limits, (disk,))
            self.node = type(self.node)("n1", self.router, self.limits, self._next_id, lambda: self.steady_ms)

    joining = Joining(DISK, limits=desk.limits, durable=True)
    joining.now_ms = desk.now_ms
    joining._build(desk.disk.reopen(""))
    consumer = joining.node.consumers.by_name["w"]
    assert list(consumer.unplaced) == ["m0-far"]
    barrier = Barrier()
    joining.router.coverage = barrier
    line, packets = worker(joining, barrier, "m0")
    assert types(packets) == ["subscribed"]
    shard = joining.router.shards[0]
    joining.router.follow_owner(shard, old, far.acceptor)
    joining.node.moving.back(shard)
    packets = line.drain()
    assert data(packets) == [1, 2]
    assert "gap" not in types(packets)
    assert consumer.unplaced == {}


def test_a_place_in_a_log_that_is_no_more_is_a_reset_when_its_shard_is_reached() -> None:
    desk = make_desk()
    Far(desk)
    line, _ = worker(desk)
    consumer = desk.node.consumers.by_name["w"]
    source = next(one for one in consumer.sources if one.shard.name == "m0")
    consumer.unplaced["m0-old"] = source.place(0)
    source.is_placed = False
    del consumer.by_log["m0-far"]
    desk.node.moving.back(source.shard)
    packets = line.drain()
    assert types(packets) == ["gap"]
    assert packets[0]["reason"] == "reset"


def test_a_new_name_does_without_a_shard_that_nobody_owns_until_it_is_reached() -> None:
    desk = make_desk()
    far = Far(desk)
    far.lose()
    line, packets = worker(desk)
    assert types(packets) == ["subscribed"]
    assert list(packets[0]["after"]) == ["d0-life"]
    fill(desk, 1)
    assert data(line.drain()) == [0]
    far.move("m0-next", is_reached=False)
    far.write("m", 1, is_heard=False)
    desk.node.moving.back(far.shard)
    far.write("m", 2)
    packets = line.drain()
    assert types(packets) == ["gap", "delivery"]
    assert (packets[0]["reason"], data(packets)) == ("partition", [2])


def test_members_that_come_while_the_owners_are_asked_are_all_answered() -> None:
    desk = make_desk()
    barrier = Barrier()
    desk.router.coverage = barrier
    lines = [desk.connect(), desk.connect()]
    for line in lines:
        assert line.subscribe(1, "m/#", group="g") == []
    barrier.answer()
    for line in lines:
        assert types(line.drain()) == ["subscribed"]
    late = desk.connect()
    assert types(late.subscribe(1, "m/#", group="g")) == ["subscribed"]
    for line in [*lines, late]:
        line.ask({"type": "unsubscribe", "id": 4, "sub": 1})
    assert barrier.covered == []


def test_a_durable_name_with_a_member_is_covered_anew_for_the_next_one() -> None:
    desk = make_desk()
    barrier = Barrier()
    desk.router.coverage = barrier
    first, _ = worker(desk, barrier)
    second, packets = worker(desk, barrier)
    assert types(first.drain()) == ["unsubscribed"]
    assert types(packets) == ["subscribed"]
    assert len(barrier.covered) == 1
    second.session.detach()
    assert barrier.covered == []


def test_names_whose_home_moves_away_end_and_their_members_may_come_again() -> None:
    """Homes: dispatch goes on at one place only."""
    desk = Desk()
    line = group(desk)
    Far(desk)
    (ended,) = line.drain()
    assert (ended["type"], ended["name"], ended["retry"]) == ("unsubscribed", "unavailable", "backoff")
    assert desk.node.consumers.by_name == {}
    (refused,) = line.subscribe(2, "m/#", group="g")
    assert (refused["name"], refused["retry"], refused["sub"]) == ("unavailable", "backoff", 2)


def test_a_name_that_a_shard_does_not_concern_is_left_alone() -> None:
    desk = make_desk(shards=2)
    topic = two_topics(desk)[0]
    line = desk.connect()
    ask(desk, line, topic, durable="w")
    other = desk.router.shards[1]
    desk.router.own(other, MemoryLog("m1-next", desk.limits))
    desk.node.moving.interrupt(other, 0)
    desk.publish(topic, 5)
    assert data(line.drain()) == [5]


def test_a_start_that_is_looked_for_while_the_shard_moves_begins_in_the_new_log() -> None:
    desk = make_desk()
    far = Far(desk)
    asked: list[Any] = []
    seek = far.log.seek
    far.log.seek = lambda *arguments: asked.append(arguments)  # type: ignore[method-assign]  # the answer is withheld
    line = desk.connect()
    line.subscribe(1, "m", durable="w", from_="earliest")
    far.move("m0-next")
    far.write("m", 4, is_heard=False)
    seek(*asked[0])
    desk.commit()
    packets = line.drain()
    assert packets[0]["type"] == "subscribed"
    assert data(packets) == [4]

"""Acknowledged subscriptions whose client is connected to another node than their home (SPEC 9.9, G5)."""

import json
from typing import Any

import pytest
from triode_broker.cluster.frames import Attach, Detach, Frame, Mark, Tell, Took
from triode_broker.cluster.homes import MAX_LATE_BYTES, VISITOR_BYTES, Homes
from triode_broker.config import Limits
from triode_broker.core.shard import Shard
from triode_protocol.errors import CloseCode

from tests.cluster.pair import End, EntryDesk, OwnerDesk, turn
from tests.core.desk import Line, Packet
from tests.core.working import data, given, types


class Pair:
    """A home, a node that is none, and a link that the second one has dialled."""

    def __init__(self, limits: Limits | None = None, max_link_bytes: int = 1 << 30) -> None:
        self.home = OwnerDesk(limits=limits, shards=1)
        self.entry = EntryDesk(limits=limits, shards=1)
        self._max_link_bytes = max_link_bytes
        self.at_home = Homes(self.home.node, lambda shard: None, lambda: self.home.now_ms, self.home.flushes)
        self.at_entry = Homes(self.entry.node, self._link_to, lambda: self.entry.now_ms, self.entry.flushes)
        self.home.node.homes, self.entry.node.homes = self.at_home, self.at_entry
        self.open()

    def open(self) -> None:
        """A new link."""
        self.asking, self.answering = End(self._max_link_bytes), End(self._max_link_bytes)

    def _link_to(self, shard: Shard) -> End | None:
        return self.asking if self.asking.is_open else None

    def cut(self) -> None:
        """What is on its way is lost; both notice."""
        self.asking.close("cut")
        self.answering.close("cut")
        self.at_entry.closed(self.asking)
        self.at_home.closed(self.answering)
        turn(self.home, self.entry)

    def hear(self, frame: Frame) -> None:
        """The home hears a frame of the entry node."""
        self.at_home.received(self.answering, frame, is_home=True)
        turn(self.home)

    def carry(self) -> None:
        """Everything, to and fro, committed where it has to be, until there is nothing."""
        turn(self.home, self.entry)
        while self.asking.queue or self.answering.queue or self.home.disk.is_dirty:
            for frame in self.asking.frames():
                self.at_home.received(self.answering, frame, is_home=True)
            self.asking.queue.clear()
            self.home.commit()
            turn(self.home)
            for frame in self.answering.frames():
                self.at_entry.received(self.asking, frame, is_home=False)
            self.answering.queue.clear()
            turn(self.entry)

    def ask(self, line: Line, *packets: Packet) -> list[Packet]:
        """What a client at the entry node gets for it, and whatever follows from reading that."""
        line.send(*packets)
        return self.read(line)

    def read(self, line: Line) -> list[Packet]:
        """All there is for it."""
        found: list[Packet] = []
        self.carry()
        while packets := line.drain():
            found += packets
            self.carry()
        return found

    def join(self, line: Line, sub: int = 1, **fields: Any) -> list[Packet]:
        """Subscribe to d/# under a name, from the first message on."""
        wish = {"filter": "d/#", "from": "earliest", **({} if "group" in fields else {"durable": "w"}), **fields}
        return self.ask(line, {"type": "subscribe", "id": 100 + sub, "sub": sub, **wish})

    def fill(self, count: int, text: str = "") -> None:
        """Messages that carry 0, 1, 2, …, at home."""
        for number in range(count):
            self.home.write("d/a", text or str(number))
        self.home.commit()

    @property
    def visitors(self) -> int:
        """How many the home has."""
        return sum(map(len, self.at_home._visitors.values()))


def ack(pos: Any, sub: int = 1, **fields: Any) -> Packet:
    """Of the log on disk."""
    return {"type": "ack", "sub": sub, "log": "d0-life", "pos": pos, **fields}


def test_client_works_through_any_node_and_goes_on_at_another() -> None:
    """SPEC 9.9.1."""
    pair = Pair()
    pair.fill(3)
    line = pair.entry.connect()
    said = pair.join(line)
    assert types(said) == ["subscribed", *["delivery"] * 3]
    assert given(said) == [(1, 1), (2, 1), (3, 1)]
    assert pair.ask(line, ack([1, 2], id=7)) == [{"type": "acked", "id": 7}]
    assert given(pair.ask(line, {"type": "nack", "sub": 1, "log": "d0-life", "pos": 3, "attempt": 1})) == [(3, 2)]
    assert types(pair.ask(line, {"type": "unsubscribe", "id": 8, "sub": 1})) == ["unsubscribed"]
    assert given(pair.join(pair.home.connect())) == [(3, 2)]


def test_place_that_was_reached_elsewhere_holds_at_home() -> None:
    pair = Pair()
    pair.fill(3)
    line = pair.entry.connect()
    pair.join(line)
    pair.ask(line, ack([1, 2], id=7))
    line.close(1000)
    line.session.detach()
    pair.carry()
    assert pair.visitors == 0
    assert given(pair.join(pair.home.connect())) == [(3, 1)]


@pytest.mark.parametrize(("code", "attempt"), [(0, 2), (1000, 1), (CloseCode.DRAINING, 1), (4104, 2)])
def test_connection_that_ends_gives_back_what_it_had(code: int, attempt: int) -> None:
    """SPEC 9.4.3, 9.4.4."""
    pair = Pair()
    pair.fill(1)
    lost, other = pair.entry.connect(), pair.home.connect()
    pair.join(lost, shared=True)
    pair.join(other, shared=True)
    lost.close(code)
    lost.session.detach()
    assert given(pair.read(other)) == [(1, attempt)]


def test_members_of_a_group_share_whatever_node_they_are_connected_to() -> None:
    """SPEC 9.5.1."""
    pair = Pair()
    lines = [pair.entry.connect(), pair.entry.connect(), pair.home.connect()]
    for line in lines:
        pair.join(line, group="team", window=1)
    pair.fill(3)
    had = [data(pair.read(line)) for line in lines]
    assert sorted(had) == [["0"], ["1"], ["2"]]


def test_two_subscriptions_of_a_connection_share_its_way() -> None:
    pair = Pair()
    line = pair.entry.connect()
    pair.join(line)
    pair.join(line, 2, group="team")
    assert pair.visitors == 1
    pair.fill(1)
    assert sorted(one["sub"] for one in pair.read(line)) == [1, 2]


def test_lost_link_is_a_lost_connection_at_home_and_an_end_with_backoff_for_the_client() -> None:
    """SPEC 9.9.3."""
    pair = Pair()
    pair.fill(1)
    line, other = pair.entry.connect(), pair.home.connect()
    pair.join(line, shared=True)
    pair.join(other, shared=True)
    line.send(ack(1, id=9))  # never gets there
    pair.cut()
    late, ended = line.drain()
    assert (late["name"], late["id"]) == ("timeout", 9)
    assert (ended["type"], ended["name"], ended["retry"]) == ("unsubscribed", "unavailable", "backoff")
    assert given(pair.read(other)) == [(1, 2)]
    (error,) = line.subscribe(2, "d/#", durable="w", shared=True)
    assert (error["name"], error["retry"]) == ("unavailable", "backoff")
    pair.open()
    assert types(pair.join(line, 3, shared=True)) == ["subscribed"]
    pair.fill(2)
    assert len(pair.read(line)) == len(pair.read(other)) == 1


def test_nothing_of_an_older_attachment_is_heard() -> None:
    pair = Pair()
    line = pair.entry.connect()
    pair.join(line)
    older = pair.asking
    pair.cut()
    pair.open()
    pair.join(line, 2)
    line.drain()
    for end in (older, pair.asking):
        pair.at_entry.received(end, Tell(1, [b'{"type":"gap"}']), is_home=False)
        pair.at_entry.received(end, Detach(1, 0), is_home=False)
    for frame in (Tell(1, [b"{}"]), Took(1, 5), Detach(1, 0)):
        pair.hear(frame)
    assert line.drain() == []
    assert pair.visitors == 1


@pytest.mark.parametrize("is_home", [True, False])
def test_frame_that_has_no_place_closes_the_link(is_home: bool) -> None:
    pair = Pair()
    wrong = Mark("d0-life", 1, 0) if is_home else Attach(1, "c-1", "")
    with pytest.raises(ValueError, match="other role"):
        pair.at_home.received(pair.answering, wrong, is_home=is_home)
    pair.hear(Attach(1, "c-1", ""))
    with pytest.raises(ValueError, match="twice"):
        pair.hear(Attach(1, "c-2", ""))


def test_slow_client_stalls_at_home_and_costs_the_others_nothing() -> None:
    """G6, G7: between the nodes there is one small outbox."""
    pair = Pair(Limits(max_outbox_bytes=40_000))
    slow, other = pair.entry.connect(), pair.home.connect()
    pair.join(slow, shared=True, window=1_000)
    pair.join(other, shared=True, window=1_000)
    pair.fill(200, "x" * 1_000)
    pair.carry()
    assert slow.outbox.size < 100_000
    assert [len(visitor.outbox.items) for visitor in pair.at_home._visitors[pair.answering].values()] == [0]
    had = given(pair.read(other))
    assert len(had) > 100
    more = given(pair.read(slow))
    assert len(more) + len(had) == 200
    pair.fill(20)
    assert len(pair.read(slow)) > 0


def test_a_node_that_takes_more_than_it_was_sent_makes_no_room() -> None:
    pair = Pair()
    pair.join(pair.entry.connect())
    (visitor,) = pair.at_home._visitors[pair.answering].values()
    pair.hear(Took(1, 10_000_000))
    assert visitor.outbox.size == 0


def test_what_a_slow_client_says_meanwhile_waits_and_is_bounded() -> None:
    pair = Pair(Limits(max_outbox_bytes=10_000))
    slow = pair.entry.connect()
    pair.join(slow, window=1_000)
    text = json.dumps(ack(1, sub=9)).encode()
    pair.hear(Tell(1, [text] * 200))  # errors that nobody takes
    assert pair.visitors == 1
    for _ in range(MAX_LATE_BYTES // (1_000 * len(text)) + 2):
        pair.hear(Tell(1, [text] * 1_000))
    assert pair.visitors == 0
    pair.carry()
    assert types(slow.drain())[-1] == "unsubscribed"


def test_full_link_holds_what_it_cannot_take() -> None:
    pair = Pair(max_link_bytes=2_000)
    line = pair.entry.connect()
    pair.join(line)
    pair.answering.queue.append(b"x" * 3_000)
    pair.fill(2)
    turn(pair.home)
    pair.at_home.tick()
    assert len(pair.answering.queue) == 1
    pair.answering.queue.clear()
    pair.at_home.tick()
    pair.at_home.tick()
    assert data(pair.read(line)) == ["0", "1"]
    pair.asking.queue.append(b"x" * 3_000)
    assert line.ask_one(ack(1))["name"] == "overloaded"
    pair.asking.queue.clear()


def test_home_that_ends_lets_visitors_go_in_good_order() -> None:
    pair = Pair()
    pair.fill(1)
    line = pair.entry.connect()
    pair.join(line)
    pair.at_home.end(CloseCode.SHUTDOWN)
    pair.at_home.end(CloseCode.SHUTDOWN)
    (ended,) = pair.read(line)
    assert (ended["type"], ended["name"]) == ("unsubscribed", "unavailable")
    assert given(pair.join(line, 2)) == [(1, 1)]


def test_node_that_ends_at_once_counts_nothing_against_its_visitors() -> None:
    """SPEC 9.4.4."""
    pair = Pair()
    pair.fill(1)
    line, other = pair.entry.connect(), pair.home.connect()
    pair.join(line, shared=True)
    pair.join(other, shared=True)
    pair.at_home.closed(pair.answering, is_ending=True)
    assert given(pair.read(other)) == [(1, 1)]


def test_visitor_that_is_to_end_says_what_it_had_to_say() -> None:
    pair = Pair()
    line = pair.entry.connect()
    pair.join(line)
    (visitor,) = pair.at_home._visitors[pair.answering].values()
    visitor.wake()
    visitor.close(CloseCode.REPLACED)
    visitor.close(CloseCode.SHUTDOWN)
    visitor.ring()
    pair.fill(1)
    assert types(pair.read(line)) == ["delivery", "unsubscribed"]
    assert visitor.close_code == CloseCode.REPLACED
    pair.join(line, 2)
    pair.hear(Tell(2, [b'{"type":"disconnect"}', b'{"type":"ping"}']))  # no client's node sends it
    assert types(pair.read(line))[-1] == "unsubscribed"


def test_name_that_is_taken_over_by_its_own_client_has_not_failed() -> None:
    """SPEC 9.4.4: replaced, before the new connection asks."""
    pair = Pair()
    pair.fill(1)
    old = pair.entry.connect()
    pair.join(old)
    new = pair.entry.connect(replaces=old.session.connection_id)
    assert given(pair.join(new)) == [(1, 1)]
    old.session.detach()
    pair.carry()
    assert pair.visitors == 1


def test_name_that_is_taken_over_by_somebody_else_tells_the_one_before() -> None:
    """SPEC 9.1.7."""
    pair = Pair()
    first, second = pair.entry.connect(), pair.home.connect()
    pair.join(first)
    pair.join(second)
    (ended,) = pair.read(first)
    assert (ended["type"], ended["name"], ended["retry"]) == ("unsubscribed", "conflict", "never")
    assert first.session.subscription_count == 0


def test_visitors_outbox_is_small() -> None:
    pair = Pair(Limits(max_outbox_bytes=100_000_000))
    pair.join(pair.entry.connect())
    (visitor,) = pair.at_home._visitors[pair.answering].values()
    assert visitor.outbox.limit == VISITOR_BYTES

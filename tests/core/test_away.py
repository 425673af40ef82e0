"""Names that are at home on another node, as a client's own node sees them (SPEC 9.9)."""

import json
from typing import Any

import pytest
from triode_broker.config import Limits
from triode_broker.core.away import MAX_ASKED, Attachment, Away, unreached
from triode_broker.core.identity import Identity
from triode_broker.core.shard import Shard
from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName

from tests.core.desk import Desk, Line, Packet
from tests.core.far import Far


class Tape:
    """A way to a home: keeps what is said on it."""

    def __init__(self, away: Away) -> None:
        self.away = away
        self.is_full = False
        self.told: list[Packet] = []
        self.taken: list[int] = []
        self.codes: list[int] = []

    def tell(self, packet: bytes, *, is_last: bool = False) -> None:
        """A packet of the client."""
        if self.is_full and not is_last:
            raise Refused(ErrorName.OVERLOADED, "full")
        self.told.append(json.loads(packet))

    def took(self, size: int) -> None:
        """There is room."""
        self.taken.append(size)

    def detach(self, code: int) -> None:
        """The client is gone."""
        self.codes.append(code)

    def say(self, *packets: Packet) -> int:
        """What the home answers; its bytes."""
        texts = [json.dumps(packet, separators=(",", ":")).encode() for packet in packets]
        self.away.said(self, texts)
        return sum(map(len, texts))


class Roads:
    """All ways from one node."""

    def __init__(self) -> None:
        self.is_reached = True
        self.tapes: dict[tuple[str, Away], Tape] = {}

    def attach(self, home: Shard, away: Away) -> Attachment:
        """The one way of that connection."""
        if not self.is_reached:
            raise unreached(home)
        return self.tapes.setdefault((home.name, away), Tape(away))

    @property
    def tape(self) -> Tape:
        """The only one."""
        (tape,) = self.tapes.values()
        return tape


def make(shards: int = 1, **limits: Any) -> tuple[Desk, Roads]:
    """A node that is the home of nothing."""
    desk = Desk(shards=shards, limits=Limits(**limits))
    roads = Roads()
    desk.node.homes = roads
    for index in range(shards):
        Far(desk, index)
    return desk, roads


def join(line: Line, sub: int = 1, filter: str = "m/a", name: str = "g") -> list[Packet]:
    """Ask for a group; what this node answers."""
    return line.subscribe(sub, filter, group=name)


def joined(line: Line, roads: Roads, sub: int = 1, **fields: Any) -> Tape:
    """A member; its answer is read."""
    assert join(line, sub, **fields) == []
    tape = list(roads.tapes.values())[-1]
    tape.say({"type": "subscribed", "id": 100 + sub, "sub": sub, "after": {}, "live": True})
    assert [packet["type"] for packet in line.drain()] == ["subscribed"]
    return tape


def test_home_is_told_what_the_client_said_and_its_answer_is_passed_on() -> None:
    desk, roads = make()
    line = desk.connect()
    assert line.subscribe(1, "m/+", group="g", window=3, from_="earliest") == []
    assert roads.tape.told == [
        {"type": "subscribe", "sub": 1, "filter": "m/+", "id": 101, "from": "earliest", "group": "g", "window": 3}
    ]
    answer = {"type": "subscribed", "id": 101, "sub": 1, "after": {"m0-x": 4}, "live": True}
    delivery = {"type": "delivery", "sub": 1, "attempt": 1, "message": {"type": "message"}}
    size = roads.tape.say(answer, delivery, {"type": "gap", "sub": 1, "after": {}, "reason": "reset"})
    assert line.drain()[:2] == [answer, delivery]
    assert roads.tape.taken == [size]


@pytest.mark.parametrize("is_cluster", [True, False])
def test_subscribe_whose_home_is_not_reached_is_unavailable_and_uses_up_nothing(is_cluster: bool) -> None:
    """SPEC 9.9.2."""
    desk, roads = make()
    roads.is_reached = False
    if not is_cluster:
        desk.node.homes = None
    line = desk.connect()
    (error,) = join(line)
    assert (error["name"], error["retry"], error["id"], error["sub"]) == ("unavailable", "backoff", 101, 1)
    assert "shard m0" in error["message"]
    assert line.session.subscription_count == 0
    if is_cluster:
        roads.is_reached = True
        joined(line, roads)
        assert line.session.subscription_count == 1


def test_what_is_said_of_deliveries_goes_to_the_home_and_is_answered_there() -> None:
    desk, roads = make()
    line = desk.connect()
    tape = joined(line, roads)
    place = {"sub": 1, "log": "m0-far"}
    said = [
        {"type": "ack", **place, "pos": [1, 2]},
        {"type": "nack", **place, "pos": 3, "attempt": 1, "id": 7},
        {"type": "extend", **place, "pos": 4, "attempt": 1, "ms": 5, "id": 8},
    ]
    assert line.ask(*said) == []
    assert tape.told[1:] == said
    answers = [{"type": "acked", "id": 7}, {"type": "error", "id": 8, "sub": 1, "name": "conflict"}]
    tape.say(*answers)
    assert line.drain() == answers
    tape.away.lost(tape)
    assert [packet["type"] for packet in line.drain()] == ["unsubscribed"]  # nothing was unanswered


def test_ack_that_the_link_does_not_take_is_refused() -> None:
    """SPEC 9.9.4: and the end of a subscription is taken in any case."""
    desk, roads = make()
    line = desk.connect()
    joined(line, roads).is_full = True
    error = line.ask_one({"type": "ack", "sub": 1, "log": "m0-far", "pos": 1})
    assert (error["name"], error["sub"]) == ("overloaded", 1)
    assert line.ask({"type": "unsubscribe", "id": 5, "sub": 1}) == []
    assert roads.tape.told[-1]["type"] == "unsubscribe"


def test_so_many_requests_wait_for_a_home_and_no_more() -> None:
    """SPEC 9.9.4."""
    desk, roads = make()
    line = desk.connect()
    tape = joined(line, roads)
    ack = {"type": "ack", "sub": 1, "log": "m0-far", "pos": 1}
    for id in range(1, MAX_ASKED + 1):
        line.send({**ack, "id": id})
    error = line.ask_one({**ack, "id": MAX_ASKED + 1})
    assert (error["name"], error["retry_after_ms"] > 0) == ("inflight", True)
    assert line.ask(ack) == []  # without id nothing waits
    tape.say({"type": "acked", "id": 1})
    assert [packet["type"] for packet in line.ask({**ack, "id": 1})] == ["acked"]


def test_unsubscribe_is_answered_by_the_home() -> None:
    desk, roads = make()
    line = desk.connect()
    tape = joined(line, roads)
    assert line.ask({"type": "unsubscribe", "id": 5, "sub": 1}) == []
    assert tape.told[-1] == {"type": "unsubscribe", "id": 5, "sub": 1}
    assert line.session.subscription_count == 0
    for packet in ({"type": "ack", "log": "m0-far", "pos": 1}, {"type": "unsubscribe", "id": 6}):
        assert line.ask_one({**packet, "sub": 1})["name"] == "no_such_subscription"
    tape.say({"type": "unsubscribed", "id": 5, "sub": 1})
    assert line.drain() == [{"type": "unsubscribed", "id": 5, "sub": 1}]
    tape.away.lost(tape)
    assert line.drain() == []


def test_subscription_that_the_home_ends_or_refuses_is_over() -> None:
    desk, roads = make()
    line = desk.connect()
    tape = joined(line, roads, filter="m/+")
    join(line, 2)
    assert (line.session.subscription_count, line.session.wildcards) == (2, 1)
    tape.say({"type": "error", "id": 9, "sub": 2, "name": "malformed"})  # answers something else
    tape.say({"type": "error", "id": 101, "sub": 1, "name": "conflict"})  # it was answered long ago
    tape.say({"type": "error", "name": "malformed"}, {"type": "subscribed", "sub": 9, "after": {}, "live": True})
    assert line.session.subscription_count == 2
    tape.say({"type": "error", "id": 102, "sub": 2, "name": "conflict"})
    tape.say({"type": "unsubscribed", "sub": 1, "name": "conflict", "retry": "never"})
    assert (line.session.subscription_count, line.session.wildcards) == (0, 0)
    assert len(line.drain()) == 6
    join(line, 3)  # their numbers are used up
    (error,) = join(line, 2)
    assert (error["name"], error["field"]) == ("conflict", "sub")


def test_everything_that_waits_is_answered_when_the_home_is_lost() -> None:
    """SPEC 9.9.3."""
    desk, roads = make()
    line = desk.connect()
    tape = joined(line, roads)
    joined(line, roads, 2, filter="m/+")
    join(line, 3)
    line.send(
        {"type": "unsubscribe", "id": 20, "sub": 2}, {"type": "ack", "id": 21, "sub": 1, "log": "x", "pos": 1}
    )
    tape.away.lost(tape)
    late, left, ended, refused = line.drain()
    assert (late["name"], late["id"], late["sub"], late["retry"]) == ("timeout", 21, 1, "backoff")
    assert left == {"type": "unsubscribed", "sub": 2, "id": 20}
    assert (ended["type"], ended["sub"], ended["name"], ended["retry"]) == (
        "unsubscribed",
        1,
        "unavailable",
        "backoff",
    )
    assert (refused["name"], refused["id"], refused["sub"], refused["retry"]) == ("timeout", 103, 3, "backoff")
    assert (line.session.subscription_count, line.session.wildcards) == (0, 0)
    line.session.detach()
    assert tape.codes == []


def test_other_homes_go_on_when_one_is_lost() -> None:
    desk, roads = make(shards=2)
    line = desk.connect()
    names = {desk.router.home_of(name).name: name for name in ("g", "h", "i", "j")}
    first = joined(line, roads, 1, name=names["m0"])
    second = joined(line, roads, 2, name=names["m1"])
    joined(line, roads, 3, name=names["m1"])
    line.send(
        {"type": "ack", "id": 21, "sub": 2, "log": "x", "pos": 1}, {"type": "unsubscribe", "id": 22, "sub": 3}
    )
    first.away.lost(first)
    (ended,) = line.drain()
    assert (ended["type"], ended["sub"]) == ("unsubscribed", 1)
    second.say({"type": "acked", "id": 21})
    line.session.detach()
    assert (first.codes, second.codes) == ([], [0])


def test_subscriptions_elsewhere_count() -> None:
    desk, roads = make(max_subscriptions=2, max_wildcard_subscriptions=1)
    line = desk.connect()
    joined(line, roads, filter="m/+")
    (error,) = join(line, 2, filter="m/#")
    assert (error["name"], "wildcards" in error["message"]) == ("quota", True)
    joined(line, roads, 2)
    (error,) = join(line, 3)
    assert (error["name"], "at most 2" in error["message"]) == ("quota", True)


def test_home_says_no_more_than_the_client_takes() -> None:
    desk, roads = make(max_outbox_bytes=1_000)
    line = desk.connect()
    tape = joined(line, roads)
    tape.taken.clear()
    delivery = {"type": "delivery", "sub": 1, "message": "x" * 400}
    first, second = tape.say(delivery), tape.say(delivery)
    assert tape.taken == [first]
    assert line.outbox.wants_room
    line.room()  # no room yet
    assert (tape.taken, line.outbox.wants_room) == ([first], True)
    line.drain()
    assert tape.taken == [first, second]
    line.room()  # there is nothing to be told any more
    assert tape.taken == [first, second]


@pytest.mark.parametrize("code", [0, CloseCode.DRAINING, 1000])
def test_home_is_told_how_the_connection_ended(code: int) -> None:
    desk, roads = make()
    line = desk.connect()
    tape = joined(line, roads)
    line.close(code)
    line.session.detach()
    assert tape.codes == [code]


def test_replaced_connection_leaves_before_the_new_one_asks() -> None:
    desk, roads = make()
    old = desk.connect()
    tape = joined(old, roads)
    watching = desk.connect()
    desk.connect(replaces=old.session.connection_id)
    assert tape.codes == [CloseCode.REPLACED]
    old.session.detach()
    assert tape.codes == [CloseCode.REPLACED]
    desk.connect(replaces=watching.session.connection_id)  # had nothing elsewhere


def test_visitor_is_served_but_sent_nowhere_else() -> None:
    desk, _ = make()
    visitor = desk.dial()
    visitor.session.attend("c-elsewhere", Identity("ada"))
    (error,) = join(visitor)
    assert (error["name"], error["retry"]) == ("unavailable", "backoff")
    home = Desk()
    visitor = home.dial()
    visitor.session.attend("c-elsewhere", Identity("ada"))
    assert home.node.sessions == {}  # nothing is told to it but what it asks for
    assert [packet["type"] for packet in join(visitor, name="team")] == ["subscribed"]
    assert home.node.consumers.show("team")["members"] == [
        {"connection": "c-elsewhere", "sub": 1, "window": 64, "in_flight": 0}
    ]
    visitor.session.detach()
    assert home.node.consumers.by_name == {}

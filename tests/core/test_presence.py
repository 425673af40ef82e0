"""Who is on a topic, who is told, and when: one node (SPEC 10, G9)."""

from typing import Any

import pytest
from triode_broker.config import Limits
from triode_broker.core.identity import OPEN, Identity
from triode_broker.core.presence import Answer, Nobody

from tests.core.desk import Desk, Line, Packet


def who(line: Line, topic: str = "room") -> dict[str, Any]:
    """Who the broker says is there: state by id."""
    answer = line.ask_one({"type": "presence", "id": 7, "topic": topic})
    assert (answer["type"], answer["topic"], answer["complete"], answer["id"]) == ("presence", topic, True, 7)
    return {member["id"]: member["state"] for member in answer["members"]}


def enter(line: Line, state: Any, sub: int = 1, topic: str = "room") -> str:
    """Be seen; the member's id."""
    subscribed, joined = line.subscribe(sub, topic, presence={"state": state})
    assert subscribed["type"] == "subscribed"
    assert (joined["type"], joined["topic"], joined["sub"]) == ("joined", topic, sub)
    assert joined["member"]["state"] == state
    return str(joined["member"]["id"])


def watch(desk: Desk, filter: str = "room") -> Line:
    line = desk.connect()
    assert [packet["type"] for packet in line.subscribe(1, filter, presence="watch")] == ["subscribed"]
    return line


def changes(line: Line) -> list[tuple[str, Any]]:
    """What a watcher was told: joined or left, and the state."""
    told = line.drain()
    assert {packet["type"] for packet in told} <= {"joined", "left"}
    assert not any("sub" in packet for packet in told)
    return [(packet["type"], packet["member"]["state"]) for packet in told]


def refused(line: Line, filter: str = "room", presence: Any = "watch", sub: int = 9) -> tuple[str, str]:
    (error,) = line.subscribe(sub, filter, presence=presence)
    assert (error["type"], error["sub"]) == ("error", sub)
    return error["name"], error.get("field", "")


# Watching and being seen


def test_member_is_told_its_id_and_is_on_the_list() -> None:
    """SPEC 10.2, 10.4: the id is not made from the connection's, which is a secret (3.1.4)."""
    desk = Desk()
    ann = desk.connect()
    id = enter(ann, {"name": "Ann"})
    assert who(ann) == {id: {"name": "Ann"}}
    assert ann.session.connection_id.removeprefix("c-") not in id


def test_watchers_are_told_of_who_comes_and_goes() -> None:
    """SPEC 10.2: also through wildcards, and not of other topics."""
    desk = Desk()
    exact, wild, other = watch(desk), watch(desk, "#"), watch(desk, "room/2")
    ann = desk.connect()
    enter(ann, 1)
    assert changes(exact) == changes(wild) == [("joined", 1)]
    ann.send({"type": "unsubscribe", "id": 3, "sub": 1})
    assert [packet["type"] for packet in ann.drain()] == ["unsubscribed"]
    assert changes(exact) == changes(wild) == [("left", 1)]
    assert changes(other) == []
    assert who(exact) == {}


def test_watcher_is_not_seen() -> None:
    """SPEC 10.1"""
    desk = Desk()
    assert who(watch(desk)) == {}


def test_connection_is_told_once_however_many_of_its_subscriptions_watch() -> None:
    """SPEC 10.2"""
    desk = Desk()
    line = watch(desk)
    line.subscribe(2, "+", presence="watch")
    enter(desk.connect(), 1)
    assert changes(line) == [("joined", 1)]


def test_every_subscription_is_a_member_of_its_own() -> None:
    """SPEC 10.1: one per connection and subscription."""
    desk = Desk()
    ann = desk.connect()
    first, second = enter(ann, 1), enter_again(ann, 2)
    assert who(ann) == {first: 1, second: 2}
    ann.ask({"type": "unsubscribe", "sub": 1})
    assert who(ann) == {second: 2}


def enter_again(line: Line, sub: int) -> str:
    """A second member on the same topic: the first subscription hears of it, too."""
    subscribed = line.subscribe(sub, "room", presence={"state": sub})
    joined = [packet for packet in subscribed if packet.get("sub") == sub and packet["type"] == "joined"]
    return str(joined[0]["member"]["id"])


def test_user_of_a_member_is_named_where_there_is_one() -> None:
    """SPEC 10.2"""
    desk = Desk()
    ann = desk.connect()
    ann.session.identity, ann.session.user = Identity("ann"), "ann"
    _, joined = ann.subscribe(1, "room", presence={"state": None})
    assert joined["member"] == {"id": joined["member"]["id"], "user": "ann", "state": None}


def test_own_leaving_is_told_to_other_subscriptions_of_the_connection_only() -> None:
    """SPEC 10.2: nothing comes because of a subscription that has ended."""
    desk = Desk()
    ann = desk.connect()
    enter(ann, 1)
    ann.subscribe(2, "#", presence="watch")
    answers = ann.ask({"type": "unsubscribe", "id": 3, "sub": 1})
    assert sorted(packet["type"] for packet in answers) == ["left", "unsubscribed"]
    ann.ask({"type": "unsubscribe", "sub": 2})
    enter(desk.connect(), 2)
    ann.room()
    assert ann.drain() == []


def test_topic_with_members_has_messages_like_any_other() -> None:
    desk = Desk()
    ann = desk.connect()
    enter(ann, 1)
    desk.publish("room", "hello")
    assert [packet["type"] for packet in ann.drain()] == ["message"]


# Bounds and refusals


@pytest.mark.parametrize(
    ("filter", "presence", "expected"),
    [
        ("room/+", {"state": 1}, ("unsupported", "presence")),
        ("$sys/a", "watch", ("bad_topic", "filter")),
        ("$dead/#", "watch", ("bad_topic", "filter")),
        ("room", "see", ("unsupported", "presence")),
        ("room", None, ("malformed", "presence")),
        ("room", {}, ("malformed", "state")),
        ("room", {"state": 1, "mood": 2}, ("unsupported", "mood")),
        ("room", {"state": "x" * 1_023}, ("too_large", "state")),
    ],
)
def test_bad_presence_is_refused(filter: str, presence: Any, expected: tuple[str, str]) -> None:
    """SPEC 10.1, 10.3: and nothing of the subscription stays."""
    desk = Desk()
    line = desk.connect()
    assert refused(line, filter, presence) == expected
    assert line.session.subscription_count == 0
    assert desk.node.presence.member_count == 0


@pytest.mark.parametrize(("topic", "name"), [("a/+", "bad_topic"), ("$sys/a", "bad_topic"), ("", "bad_topic")])
def test_presence_is_asked_of_one_topic(topic: str, name: str) -> None:
    """SPEC 10.4"""
    error = Desk().connect().ask_one({"type": "presence", "id": 2, "topic": topic})
    assert (error["name"], error["field"], error["id"]) == (name, "topic", 2)


def test_topic_has_so_many_members() -> None:
    """SPEC 10.3: beyond it is `quota`; who may take back a held one takes it."""
    desk = Desk(limits=Limits(max_presence_members=2))
    ann, bob = desk.connect(), desk.connect()
    first, _ = enter(ann, 1), enter(bob, 2)
    assert refused(desk.connect(), presence={"state": 3}) == ("quota", "presence")
    enter(desk.connect(), 3, topic="elsewhere")
    ann.session.detach()
    assert refused(desk.connect(), presence={"state": 3}) == ("quota", "presence")
    again = desk.connect(replaces=ann.session.connection_id)
    assert enter(again, 1) == first
    assert refused(again, presence={"state": 3}) == ("quota", "presence")


def test_reply_holds_what_fits_into_a_frame() -> None:
    """SPEC 10.4: the first ones, and not complete."""
    desk = Desk(limits=Limits(max_frame_bytes=10_000, max_packet_bytes=10_000))
    for _ in range(4):
        desk.connect().subscribe(1, "room", presence={"state": "x" * 900})
    answer = desk.connect().ask_one({"type": "presence", "id": 7, "topic": "room"})
    assert (len(answer["members"]), answer["complete"]) == (1, False)


# Coming back (10.5)


def test_lost_connection_is_held_for_a_moment() -> None:
    """SPEC 10.5, G9: then its members are gone."""
    desk = Desk()
    watcher = watch(desk)
    ann = desk.connect()
    id = enter(ann, 1)
    ann.session.detach()
    desk.wait(999)
    assert changes(watcher) == [("joined", 1)]
    assert who(watcher) == {id: 1}
    desk.wait(1)
    assert changes(watcher) == [("left", 1)]
    assert who(watcher) == {}


def test_goodbye_is_told_at_once() -> None:
    """SPEC 10.5: `disconnect`, or a close with 1000."""
    desk = Desk()
    watcher = watch(desk)
    ann = desk.connect()
    enter(ann, 1)
    ann.send({"type": "disconnect"})
    ann.session.detach()
    assert changes(watcher) == [("joined", 1), ("left", 1)]


def test_nobody_is_held_where_nobody_is_to_be() -> None:
    """SPEC 10.5: the time is configured."""
    desk = Desk(limits=Limits(presence_debounce_ms=0))
    watcher = watch(desk)
    ann = desk.connect()
    enter(ann, 1)
    ann.session.detach()
    assert changes(watcher) == [("joined", 1), ("left", 1)]


def test_who_comes_back_was_never_away() -> None:
    """SPEC 10.5: the same member, and nobody is told."""
    desk = Desk()
    watcher = watch(desk)
    ann = desk.connect()
    id = enter(ann, 1)
    ann.session.detach()
    desk.wait(900)
    again = desk.connect(replaces=ann.session.connection_id)
    desk.wait(900)
    assert enter(again, 1) == id
    desk.wait(5_000)
    assert changes(watcher) == [("joined", 1)]
    assert who(watcher) == {id: 1}


def test_who_comes_back_in_another_state_is_the_same_member() -> None:
    """SPEC 10.2, 10.5: `joined` with a known id is its new state."""
    desk = Desk()
    watcher = watch(desk)
    ann = desk.connect()
    id = enter(ann, 1)
    again = desk.connect(replaces=ann.session.connection_id)
    assert ann.closed_with == 4005
    assert enter(again, 2) == id
    ann.session.detach()
    desk.wait(5_000)
    assert changes(watcher) == [("joined", 1), ("joined", 2)]
    assert who(watcher) == {id: 2}


def test_replaced_connection_that_is_not_taken_up_leaves() -> None:
    """SPEC 10.5: what the new connection does not ask for again, in the moment that it has."""
    desk = Desk()
    watcher = watch(desk, "#")
    ann = desk.connect()
    enter(ann, 1)
    enter(ann, 2, sub=2, topic="other")
    again = desk.connect(replaces=ann.session.connection_id)
    enter(again, 2, topic="other")
    enter(again, 3, sub=2, topic="new")
    desk.wait(1_000)
    assert changes(watcher) == [("joined", 1), ("joined", 2), ("joined", 3), ("left", 1)]


def test_members_of_a_connection_are_held_together() -> None:
    """SPEC 10.5: one that is lost while it holds those of the one it replaced."""
    desk = Desk()
    watcher = watch(desk, "#")
    ann = desk.connect()
    enter(ann, 1)
    enter(ann, 2, sub=2, topic="other")
    again = desk.connect(replaces=ann.session.connection_id)
    enter(again, 1)
    again.session.detach()
    desk.wait(999)
    third = desk.connect(replaces=again.session.connection_id)
    enter(third, 1)
    enter(third, 2, sub=2, topic="other")
    desk.wait(5_000)
    assert changes(watcher) == [("joined", 1), ("joined", 2)]


def test_members_are_not_handed_to_another_identity() -> None:
    """SPEC 3.1.4, 10.5"""
    desk = Desk()
    ann = desk.connect()
    enter(ann, 1)
    desk.node.replace(ann.session.connection_id, "c-eve", Identity("eve"))
    assert not ann.closed_with
    ann.session.detach()
    desk.node.replace(ann.session.connection_id, "c-eve", Identity("eve"))
    eve = desk.connect(replaces=ann.session.connection_id)
    eve.session.identity, eve.session.user = Identity("eve"), "eve"
    assert enter(eve, 2) != ann.session.connection_id
    assert len(who(eve)) == 2
    desk.wait(1_000)
    assert changes(eve) == [("left", 1)]
    assert list(who(eve).values()) == [2]


def test_connection_that_is_replaced_on_another_node_is_closed_and_held() -> None:
    """SPEC 10.5: who watches sees the new member before the old one goes."""
    desk = Desk()
    watcher = watch(desk)
    ann = desk.connect()
    enter(ann, 1)
    desk.node.replaced_elsewhere(ann.session.connection_id, OPEN)
    desk.node.replaced_elsewhere("c-unknown", OPEN)
    assert ann.closed_with == 4005
    assert changes(watcher) == [("joined", 1)]
    desk.wait(1_000)
    assert changes(watcher) == [("left", 1)]


# Connections that are full (G6, G7)


def full(desk: Desk, filter: str = "room") -> Line:
    """A watcher whose outbox is over its bound."""
    line = watch(desk, filter)
    line.outbox.size = line.outbox.limit + 1
    return line


def test_full_connection_is_told_one_change_per_member() -> None:
    """SPEC 10.6: who came and went meanwhile is not told of, who was known is."""
    desk = Desk()
    ann, bob, cleo = (desk.connect() for _ in range(3))
    enter(ann, "a1")
    line = full(desk)
    again = desk.connect(replaces=ann.session.connection_id)
    enter(again, "a2")
    enter(bob, "b")
    enter(cleo, "c")
    bob.ask({"type": "unsubscribe", "sub": 1})
    assert line.outbox.wants_room
    assert changes(line) == [("joined", "a2"), ("joined", "c")]
    again.ask({"type": "unsubscribe", "sub": 1})
    assert changes(line) == [("left", "a2")]


def test_member_known_before_is_told_as_gone_though_it_changed_meanwhile() -> None:
    """SPEC 10.6"""
    desk = Desk()
    ann = desk.connect()
    enter(ann, "a1")
    line = full(desk)
    again = desk.connect(replaces=ann.session.connection_id)
    enter(again, "a2")
    again.ask({"type": "unsubscribe", "sub": 1})
    assert changes(line) == [("left", "a2")]


def test_what_is_owed_comes_as_far_as_there_is_room() -> None:
    """G6: and in its turn; what is new waits behind it."""
    desk = Desk(limits=Limits(max_outbox_bytes=300))
    line = full(desk)
    members = [desk.connect() for _ in range(4)]
    for number, member in enumerate(members):
        member.subscribe(1, "room", presence={"state": number})
    line.take_items()
    line.room()
    assert 0 < len(line.outbox.items) < 4
    assert line.outbox.wants_room
    members[3].ask({"type": "unsubscribe", "sub": 1})
    told = line.drain()
    assert [packet["member"]["state"] for packet in told] == [0, 1, 2]


def test_who_was_listed_is_told_as_gone() -> None:
    """SPEC 10.4, 10.6: the list was ahead of what the connection is owed."""
    desk = Desk()
    line = full(desk, "#")
    ann, bob = desk.connect(), desk.connect()
    enter(ann, 1)
    enter(bob, 2, topic="other")
    desk.node.presence.answered(line.outbox, "room")
    ann.ask({"type": "unsubscribe", "sub": 1})
    bob.ask({"type": "unsubscribe", "sub": 1})
    assert changes(line) == [("left", 1)]


def test_connection_that_is_owed_too_much_is_closed() -> None:
    """SPEC 10.6, G6"""
    desk = Desk(limits=Limits(max_presence_owed=2))
    line = full(desk)
    for number in range(4):
        enter(desk.connect(), number)
        assert bool(line.closed_with) == (number >= 2)
    assert line.closed_with == 4104
    line.session.detach()


def test_closed_connection_is_owed_nothing_more() -> None:
    desk = Desk(limits=Limits(max_presence_owed=2))
    line = full(desk)
    for number in range(3):
        enter(desk.connect(), number)
    gone = desk.connect()
    enter(gone, 9)
    gone.ask({"type": "unsubscribe", "sub": 1})
    line.outbox.size = 0
    line.session.room(desk.now_ms)
    assert line.drain() == []


def test_detached_connection_is_told_nothing() -> None:
    """Nothing goes into an outbox that is closed, not even its own members' leaving."""
    desk = Desk(limits=Limits(presence_debounce_ms=0))
    ann = desk.connect()
    enter(ann, 1)
    ann.subscribe(2, "#", presence="watch")
    ann.session.detach()
    assert ann.outbox.items == []
    assert desk.node.presence.member_count == 0
    assert desk.node.presence.filters == []


# Answers that come later


def test_answer_may_come_later() -> None:
    """SPEC 10.4: so few may wait at a time; a connection that is gone gets none."""
    desk = Desk()
    waiting: list[Answer] = []
    desk.node.presence.ask = lambda topic, then: waiting.append(then)
    line = desk.connect()
    answers = line.ask(*({"type": "presence", "id": id, "topic": "a"} for id in range(1, 18)))
    assert [(packet["name"], packet["id"]) for packet in answers] == [("inflight", 17)]
    waiting.pop()([b'{"id":"p-1","state":1}'], False)
    assert line.drain() == [
        {"type": "presence", "id": 16, "topic": "a", "complete": False, "members": [{"id": "p-1", "state": 1}]}
    ]
    line.session.detach()
    waiting.pop()([], True)
    assert line.drain() == []


# Other nodes


class Noted(Nobody):
    """What the other nodes were told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []

    def joined(self, topic: str, member: bytes) -> None:
        self.said.append(("joined", topic))

    def left(self, topic: str, member: bytes) -> None:
        self.said.append(("left", topic))

    def watched(self, filter: str) -> None:
        self.said.append(("watched", filter))

    def unwatched(self, filter: str) -> None:
        self.said.append(("unwatched", filter))

    def replaced(self, connection: str, who: Identity) -> None:
        self.said.append(("replaced", connection))


def far(id: str, state: int = 1) -> bytes:
    return b'{"id":"%b","state":%d}' % (id.encode(), state)


def test_other_nodes_are_told_of_what_is_here() -> None:
    desk = Desk()
    noted = desk.node.presence.elsewhere = Noted()
    ann, bob = desk.connect(), desk.connect(replaces="c-far")
    enter(ann, 1)
    bob.subscribe(1, "room", presence="watch")
    assert desk.node.presence.topics == ["room"]
    assert len(desk.node.presence.here_on("room")) == 1
    assert desk.node.presence.here_on("other") == []
    assert desk.node.presence.filters == ["room"]
    assert desk.node.presence.is_watched("room")
    ann.ask({"type": "unsubscribe", "sub": 1})
    bob.ask({"type": "unsubscribe", "sub": 1})
    assert noted.said == [
        ("replaced", "c-far"),
        ("joined", "room"),
        ("watched", "room"),
        ("left", "room"),
        ("unwatched", "room"),
    ]


def test_members_of_other_nodes_are_told_and_listed() -> None:
    desk = Desk()
    watcher = watch(desk)
    presence = desk.node.presence
    presence.merge("n2", "joined", {"room": [far("p-2")], "unwatched": [far("p-9")]})
    presence.merge("n2", "joined", {"room": [far("p-2")]})
    presence.merge("n3", "joined", {"room": [far("p-3", 3)]})
    presence.merge("n2", "joined", {"room": [far("p-2", 2)]})
    presence.merge("n2", "left", {"room": [far("p-0"), far("p-3")], "other": [far("p-2")]})
    assert changes(watcher) == [("joined", 1), ("joined", 3), ("joined", 2)]
    assert who(watcher) == {"p-2": 2, "p-3": 3}
    presence.merge("n2", "left", {"room": [far("p-2", 2)]})
    assert changes(watcher) == [("left", 2)]


def test_snapshot_replaces_what_a_node_has_said() -> None:
    desk = Desk()
    watcher = watch(desk, "#")
    presence = desk.node.presence
    presence.merge("n2", "snapshot", {"room": [far("p-1", 1), far("p-2", 2)], "other": [far("p-3", 3)]})
    assert changes(watcher) == [("joined", 1), ("joined", 2), ("joined", 3)]
    presence.merge("n2", "snapshot", {"room": [far("p-2", 2), far("p-4", 4)]})
    assert changes(watcher) == [("left", 1), ("left", 3), ("joined", 4)]
    presence.merge("n2", "snapshot", {})
    assert changes(watcher) == [("left", 2), ("left", 4)]


def test_members_of_another_node_are_counted_over_its_topics() -> None:
    desk = Desk()
    watch(desk, "#")
    presence = desk.node.presence
    presence.merge("n2", "joined", {"room": [far("p-1"), far("p-2")], "other": [far("p-1")]})
    presence.merge("n3", "joined", {"room": [far("p-3")]})
    assert [presence.count_there(node) for node in ("n2", "n3", "n4")] == [3, 1, 0]


def test_members_of_a_dead_node_are_gone() -> None:
    """G9"""
    desk = Desk()
    watcher = watch(desk)
    presence = desk.node.presence
    presence.merge("n2", "joined", {"room": [far("p-2", 2)]})
    presence.merge("n3", "joined", {"room": [far("p-3", 3)]})
    presence.drop_node("n2")
    presence.drop_node("n4")
    assert changes(watcher) == [("joined", 2), ("joined", 3), ("left", 2)]
    assert who(watcher) == {"p-3": 3}


def test_what_nobody_watches_is_not_kept() -> None:
    """They do not say more of it, so it would be wrong soon."""
    desk = Desk()
    exact, wild = watch(desk), watch(desk, "#")
    presence = desk.node.presence
    presence.merge("n2", "joined", {"room": [far("p-2", 2)], "other": [far("p-3", 3)]})
    presence.merge("n3", "joined", {"other": [far("p-4", 4)]})
    wild.ask({"type": "unsubscribe", "sub": 1})
    assert presence.members("other") == []
    assert presence.members("room") == [far("p-2", 2)]
    exact.ask({"type": "unsubscribe", "sub": 1})
    assert presence.members("room") == []


def test_subscription_that_ends_before_its_answer_has_watched_nothing() -> None:
    """SPEC 10.2: it watches from `subscribed` on."""
    desk = Desk()

    class Slow:
        """Other nodes that do not answer."""

        def cover(self, *arguments: object) -> None:
            """Never."""

        def uncover(self, *arguments: object) -> None:
            """Nobody cares."""

    desk.router.coverage = Slow()
    line = desk.connect()
    packet: Packet = {"type": "subscribe", "id": 2, "sub": 1, "filter": "room", "presence": {"state": 1}}
    line.send(packet)
    enter_other = desk.connect()
    assert len(who(enter_other)) == 1
    assert desk.node.presence.filters == []
    assert [packet["type"] for packet in line.ask({"type": "unsubscribe", "id": 3, "sub": 1})] == ["unsubscribed"]
    assert who(enter_other) == {}

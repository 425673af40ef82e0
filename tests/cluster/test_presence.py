"""Presence over nodes: who watches what, lists and changes, questions, cuts and deaths (SPEC 10, G9)."""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.cluster.asked import CHUNK
from triode_broker.cluster.frames import Call, Frame, Members, Reply, Watch, decode, encode
from triode_broker.cluster.presence import ASK, CHUNK_BYTES, GONE_MS, METHODS, FarPresence
from triode_broker.config import Limits

from tests.core.desk import Desk, Line

Change = tuple[str, Any]


class Peer:
    """Who is at the other end of a link."""

    def __init__(self, node: str, incarnation: str) -> None:
        self.node = node
        self.incarnation = incarnation


class End:
    """One end of a link."""

    def __init__(self, city: "City", peer: Peer, *, is_dialler: bool) -> None:
        self.city = city
        self.peer = peer
        self.is_dialler = is_dialler
        self.heard_ms = city.steady_ms
        self.queue: deque[bytes] = deque()
        self.is_full = False
        self.is_open = True
        self.drained: Callable[[], None] = lambda: None

    def put(self, frame: Frame) -> None:
        """Encoded at once."""
        if self.is_open:
            self.queue.append(encode([frame]))

    def said(self) -> list[Any]:
        """What waits, decoded."""
        return [frame for data in self.queue for frame in decode(data)]


class City(Desk):
    """A node with its clients, and its side of presence."""

    def __init__(self, name: str, limits: Limits | None = None) -> None:
        super().__init__(limits=limits)
        self.name = name
        self.incarnation = f"{name}-1"
        self.known = [name]
        self.node.name = name
        self.far = FarPresence(self.node, self.limits, lambda: self.steady_ms, lambda: self.known)

    def _next_id(self) -> str:
        return f"{getattr(self, 'name', '')}-{super()._next_id()}"

    def received(self, link: End, frame: Frame) -> None:
        """As the cluster sends them on."""
        link.heard_ms = self.steady_ms
        if isinstance(frame, Call):
            assert frame.method in METHODS
            self.far.called(link, frame)
        elif isinstance(frame, Reply):
            self.far.replied(link, frame)
        elif isinstance(frame, Watch):
            self.far.received_watch(link, frame)
        else:
            assert isinstance(frame, Members)
            self.far.received_members(link, frame)

    def pass_time(self, ms: int) -> None:
        """Time for clients and for nodes."""
        self.wait(ms)
        self.far.tick()


class Road:
    """One link: `asker` has dialled `teller`."""

    def __init__(self, asker: City, teller: City) -> None:
        self.asker, self.teller = asker, teller
        self.asking = End(asker, Peer(teller.name, teller.incarnation), is_dialler=True)
        self.answering = End(teller, Peer(asker.name, asker.incarnation), is_dialler=False)
        for city in (asker, teller):
            city.known = sorted({*city.known, asker.name, teller.name})
        asker.far.opened(self.asking)
        teller.far.opened(self.answering)

    def carry(self, count: int = 1_000_000) -> int:
        """Some of what waits gets there, by turns; how much."""
        done = 0
        while done < count and (self.asking.queue or self.answering.queue):
            for end, to, other in (
                (self.asking, self.teller, self.answering),
                (self.answering, self.asker, self.asking),
            ):
                if end.queue and done < count:
                    done += 1
                    data = end.queue.popleft()
                    end.drained()
                    for frame in decode(data):
                        to.received(other, frame)
        return done

    def cut(self) -> None:
        """What is on its way is lost; both notice."""
        for end in (self.asking, self.answering):
            end.is_open = False
            end.queue.clear()
        self.asker.far.closed(self.asking)
        self.teller.far.closed(self.answering)


def carry(*roads: Road) -> None:
    while sum(road.carry() for road in roads):
        pass


def two(limits: Limits | None = None) -> tuple[City, City, list[Road]]:
    """Two nodes, linked both ways."""
    one, other = City("n1", limits), City("n2", limits)
    roads = [Road(one, other), Road(other, one)]
    carry(*roads)
    return one, other, roads


def enter(city: City, state: Any, topic: str = "room") -> Line:
    line = city.connect()
    line.subscribe(1, topic, presence={"state": state})
    return line


def leave(line: Line) -> None:
    line.ask({"type": "unsubscribe", "sub": 1})


def watch(city: City, filter: str = "room") -> Line:
    line = city.connect()
    line.subscribe(1, filter, presence="watch")
    return line


def changes(line: Line) -> list[Change]:
    return [(packet["type"], packet["member"]["state"]) for packet in line.drain()]


def ask(line: Line, topic: str = "room") -> None:
    line.send({"type": "presence", "id": 7, "topic": topic})


def answers(line: Line) -> list[tuple[list[Any], bool]]:
    """States, and whether these are all."""
    told = [packet for packet in line.drain() if packet["type"] == "presence"]
    return [([member["state"] for member in packet["members"]], packet["complete"]) for packet in told]


# Watching


def test_clients_of_other_nodes_are_told() -> None:
    """SPEC 10.11"""
    one, other, roads = two()
    watcher = watch(other, "#")
    carry(*roads)
    ann = enter(one, "ann")
    carry(*roads)
    leave(ann)
    carry(*roads)
    assert changes(watcher) == [("joined", "ann"), ("left", "ann")]


def test_those_who_were_there_before_are_told_too() -> None:
    one, other, roads = two()
    enter(one, "ann")
    enter(one, "bob", "elsewhere")
    first = watch(other)
    carry(*roads)
    second = watch(other, "#")
    carry(*roads)
    assert changes(first) == [("joined", "ann")]
    assert changes(second) == [("joined", "bob")]


def test_nodes_are_told_of_what_is_watched_there_only() -> None:
    """cluster.md: snapshot and deltas only to peers with presence interest."""
    one, other, roads = two()
    enter(one, "ann")
    assert not roads[1].answering.queue
    watcher = watch(other, "elsewhere")
    second = watch(other, "elsewhere")
    carry(*roads)
    leave(watcher)
    carry(*roads)
    enter(one, "bob", "elsewhere")
    assert [frame.kind for frame in roads[1].answering.said()] == ["joined"]
    carry(*roads)
    leave(second)
    carry(*roads)
    enter(one, "cleo", "elsewhere")
    assert not roads[1].answering.queue


def test_what_is_watched_is_said_over_a_new_link() -> None:
    one, other = City("n1"), City("n2")
    watcher = watch(other)
    enter(one, "ann")
    road = Road(other, one)
    carry(road)
    assert changes(watcher) == [("joined", "ann")]


def test_many_filters_and_members_travel_in_pieces() -> None:
    """And are one list nevertheless."""
    limits = Limits(max_subscriptions=2_000, max_presence_members=2_000)
    one, other = City("n1", limits), City("n2", limits)
    watcher = other.connect()
    for sub in range(1, CHUNK + 100):
        watcher.subscribe(sub, f"room/{sub}", presence="watch")
    members = one.connect()
    for sub in range(1, CHUNK + 100):
        members.ask({"type": "subscribe", "sub": sub, "filter": f"room/{sub}", "presence": {"state": "x" * 1_000}})
    road = Road(other, one)
    assert [len(frame.filters) for frame in road.asking.said()] == [CHUNK]
    carry(road)
    assert len(watcher.drain()) == CHUNK + 99
    road.cut()
    road = Road(other, one)
    carry(road)
    assert watcher.drain() == []


def crowd(city: City) -> list[Line]:
    """Members of many topics, some of many members: a list of more than one piece."""
    lines = [city.connect() for _ in range(10)]
    for sub in range(1, 101):
        for line in lines:
            wish = {"state": "x" * 1_000}
            line.ask({"type": "subscribe", "sub": sub, "filter": f"room/{sub // 20}", "presence": wish})
    return lines


def test_list_goes_on_when_the_link_has_sent_and_never_on_a_full_one() -> None:
    """cluster.md, back-pressure on links: no list closes one, however long."""
    one, other, roads = two(Limits(max_subscriptions=1_000, max_outbox_bytes=100_000_000))
    crowd(one)
    line = roads[1].answering
    watcher = watch(other, "#")
    roads[1].asking.drained()
    line.is_full = True
    roads[1].carry()
    one.pass_time(200)
    line.drained()
    assert not line.queue
    line.is_full = False
    line.drained()
    while line.queue:
        assert sum(map(len, line.queue)) < 2 * CHUNK_BYTES
        roads[1].carry(1)
    carry(*roads)
    assert len(watcher.drain()) == len(other.node.presence.members("room/1")) * 5 == 1_000


def test_changes_go_past_a_list_that_is_on_its_way() -> None:
    """Whoever leaves before its piece is taken is not in it; whoever comes is told of once."""
    one, other, roads = two(Limits(max_subscriptions=1_000))
    lines = crowd(one)
    watcher = watch(other, "#")
    roads[1].carry(1)
    for line in lines[3:]:
        for sub in range(1, 101):
            line.ask({"type": "unsubscribe", "sub": sub})
    enter(one, "ann", "room/4")
    carry(*roads)
    states = [packet["type"] for packet in watcher.drain()]
    assert states.count("joined") - states.count("left") == 301
    for topic in one.node.presence.topics:
        here = [member.json for member in one.node.presence.here_on(topic)]
        assert sorted(other.node.presence.members(topic)) == sorted(here)


def test_filters_are_told_when_those_before_are_answered() -> None:
    """As many as one round has, whatever the clients do meanwhile."""
    _, other, roads = two(Limits(max_subscriptions=10_000))
    watcher = other.connect()
    for sub in range(1, 2 * CHUNK + 3):
        watcher.subscribe(sub, f"room/{sub}", presence="watch")
    road = roads[1]
    assert [frame.filters for frame in road.asking.said()] == [["room/1"]]
    watcher.ask({"type": "unsubscribe", "sub": 2})
    road.carry(2)
    assert [len(frame.filters) for frame in road.asking.said()] == [CHUNK - 1]
    road.carry(2)
    assert [len(frame.filters) for frame in road.asking.said()] == [CHUNK]
    other.connect().subscribe(1, "room/2", presence="watch")
    watcher.ask({"type": "unsubscribe", "sub": 3})
    carry(*roads)
    ask(watcher, "room/2")
    assert answers(watcher)[-1] == ([], True)


@pytest.mark.parametrize("filter", ["room", "#"])
@pytest.mark.parametrize("is_list", [False, True])
def test_watched_again_at_once_is_asked_for_anew(filter: str, *, is_list: bool) -> None:
    """G9: no ghost of whoever left while nobody was told."""
    one, other, roads = two()
    line = watch(other, filter)
    carry(*roads)
    ann = enter(one, "ann")
    if is_list:
        for kind in ("snapshot", "joined"):
            other.received(roads[1].asking, Members(kind, {"room": [member("p-0")]}))
    leave(line)
    assert roads[1].asking.said() == [Watch("drop", [filter]), Watch("add", [])]
    line = watch(other, filter)
    one.received(roads[1].answering, decode(roads[1].asking.queue.popleft())[0])
    leave(ann)
    bob = enter(one, "bob")
    carry(*roads)
    if is_list:
        other.received(roads[1].asking, Members("complete", {}))
    assert changes(line) == [("joined", "bob")]
    assert len(other.node.presence.members("room")) == 1
    leave(bob)


def test_peer_that_says_more_than_a_node_can_have_is_cut_off() -> None:
    """Nothing that a peer says grows without bound."""
    one, _, roads = two(Limits(max_connections=2, max_subscriptions=2))
    one.received(roads[1].answering, Watch("add", ["a", "b", "c", "d", "d"]))
    with pytest.raises(ValueError, match="other role"):
        one.received(roads[1].answering, Watch("add", ["e"]))
    watch(one)
    for _ in range(5):
        one.received(roads[0].asking, Members("joined", {"room": [member(f"p-{id}") for id in range(4)]}))
    many = Members("joined", {"room": [member(f"p-{id}") for id in range(20)]})
    one.received(roads[0].asking, Members("snapshot", {}))
    one.received(roads[0].asking, many)
    with pytest.raises(ValueError, match="more members"):
        one.received(roads[0].asking, many)


def test_frame_on_the_wrong_link_is_refused() -> None:
    one, _, roads = two()
    with pytest.raises(ValueError, match="other role"):
        one.received(roads[0].asking, Watch("add", ["a"]))
    with pytest.raises(ValueError, match="other role"):
        one.received(roads[1].answering, Members("joined", {}))
    watch(one)
    with pytest.raises(msgspec.MsgspecError):
        one.received(roads[0].asking, Members("joined", {"room": [b"7"]}))


# Links that are lost, nodes that are gone


def test_link_that_comes_back_shows_the_difference() -> None:
    """cluster.md: on reconnect a new snapshot replaces."""
    one, other, roads = two()
    watcher = watch(other)
    ann = enter(one, "ann")
    enter(one, "bob")
    carry(*roads)
    roads[1].cut()
    leave(ann)
    enter(one, "cleo")
    other.pass_time(GONE_MS - 1)
    roads[1] = Road(other, one)
    assert changes(watcher) == [("joined", "ann"), ("joined", "bob")]
    carry(*roads)
    other.pass_time(GONE_MS)
    assert changes(watcher) == [("left", "ann"), ("joined", "cleo")]


def test_members_of_a_node_that_is_not_reached_go_in_time() -> None:
    """G9, SPEC 10.11: no ghost, however often the link comes and goes without a word."""
    one, other, roads = two()
    watcher = watch(other)
    enter(one, "ann")
    carry(*roads)
    for _ in range(3):
        roads[1].cut()
        other.pass_time(GONE_MS // 4)
        roads[1] = Road(other, one)
    roads[1].cut()
    assert changes(watcher) == [("joined", "ann")]
    other.pass_time(GONE_MS // 4)
    assert changes(watcher) == [("left", "ann")]


def test_members_of_a_dead_node_go_at_once() -> None:
    """G9: of that life; a link to the next one is not concerned."""
    one, other, roads = two()
    watcher = watch(other)
    enter(one, "ann")
    carry(*roads)
    roads[1].cut()
    other.far.node_gone("n1", "n1-1")
    assert changes(watcher) == [("joined", "ann"), ("left", "ann")]
    one.incarnation = "n1-2"
    roads[1] = Road(other, one)
    carry(*roads)
    other.far.node_gone("n1", "n1-1")
    assert changes(watcher) == [("joined", "ann")]
    other.far.node_gone("n1", "n1-2")
    assert changes(watcher) == [("left", "ann")]


def test_superseded_link_is_not_heard_and_its_end_means_nothing() -> None:
    one, other, roads = two()
    watcher = watch(other)
    carry(*roads)
    old = roads[1]
    new = Road(other, one)
    carry(new)
    enter(one, "ann")
    other.received(old.asking, Members("joined", {"room": [b'{"id":"p-9","state":"late"}']}))
    old.cut()
    carry(new)
    other.pass_time(GONE_MS)
    assert changes(watcher) == [("joined", "ann")]


def test_changes_during_a_list_are_part_of_it() -> None:
    """What has come and gone while the list was on its way."""
    one, other, roads = two()
    watcher = watch(other)
    ann = enter(one, "ann")
    carry(*roads)
    roads[1].cut()
    roads[1] = Road(other, one)
    line = roads[1].asking
    other.received(line, Members("snapshot", {"room": [member("p-1"), member("p-2")]}))
    other.received(line, Members("left", {"room": [member("p-1"), member("p-7")]}))
    other.received(line, Members("joined", {"room": [member("p-3")]}))
    other.received(line, Members("complete", {}))
    other.received(line, Members("known", {}))
    assert changes(watcher) == [("joined", "ann"), ("left", "ann"), ("joined", "p-2"), ("joined", "p-3")]
    leave(ann)


def member(id: str) -> bytes:
    return b'{"id":"%b","state":"%b"}' % (id.encode(), id.encode())


def test_full_link_is_told_all_again_when_it_has_room() -> None:
    """cluster.md, back-pressure on links: bounded, and nothing is wrong afterwards."""
    one, other, roads = two()
    watcher = watch(other)
    ann = enter(one, "ann")
    carry(*roads)
    line = roads[1].answering
    line.is_full = True
    leave(ann)
    enter(one, "bob")
    second = watch(other, "elsewhere/#")
    carry(*roads)
    one.pass_time(200)
    assert not line.queue
    line.is_full = False
    enter(one, "cleo")
    one.pass_time(200)
    carry(*roads)
    assert changes(watcher) == [("joined", "ann"), ("left", "ann"), ("joined", "bob"), ("joined", "cleo")]
    assert changes(second) == []


# Questions


def test_members_everywhere_are_listed() -> None:
    """SPEC 10.4: asked of the other nodes where nobody watches."""
    one, other, roads = two()
    enter(one, "ann")
    bob = enter(other, "bob", "elsewhere")
    enter(other, "cleo")
    ask(bob)
    carry(*roads)
    assert answers(bob) == [(["cleo", "ann"], True)]
    line = other.connect()
    ask(line, "elsewhere")
    carry(*roads)
    assert answers(line) == [(["bob"], True)]
    ask(line)
    carry(*roads)
    assert answers(line) == [(["cleo", "ann"], True)]


def test_who_watches_and_asks_in_one_flight_has_the_whole_list() -> None:
    """SPEC 10.4: the answer comes behind the list that the other node was asked for."""
    one, other, roads = two()
    enter(one, "ann")
    line = other.connect()
    line.send(
        {"type": "subscribe", "sub": 1, "filter": "room", "presence": "watch"},
        {"type": "presence", "id": 7, "topic": "room"},
    )
    carry(*roads)
    assert answers(line) == [(["ann"], True)]


def test_watched_topic_needs_no_question() -> None:
    one, other, roads = two()
    enter(one, "ann")
    line = watch(other)
    carry(*roads)
    line.drain()
    ask(line)
    assert answers(line) == [(["ann"], True)]
    assert not roads[1].asking.queue


def test_node_that_does_not_answer_is_waited_for_no_longer_than_2_s() -> None:
    """SPEC 10.4: and its late answer is nobody's."""
    one, other, roads = two()
    enter(one, "ann")
    line = enter(other, "bob", "x")
    line.drain()
    ask(line)
    other.pass_time(1_999)
    assert answers(line) == []
    other.pass_time(1)
    assert answers(line) == [([], False)]
    carry(*roads)
    assert line.drain() == []


def test_node_that_is_lost_or_refuses_or_has_too_many_makes_the_list_incomplete() -> None:
    """SPEC 10.4"""
    limits = Limits(max_frame_bytes=10_000, max_packet_bytes=10_000)
    one, other, roads = two(limits)
    line = other.connect()
    ask(line)
    roads[1].cut()
    assert answers(line) == [([], False)]
    ask(line)
    assert answers(line) == [([], False)]  # it is alive, and not reached
    other.known = ["n2"]
    ask(line)
    assert answers(line) == [([], True)]
    roads[1] = Road(other, one)
    carry(*roads)
    ask(line)
    (call,) = roads[1].asking.said()
    other.received(roads[1].asking, Reply(call.id, b"", "internal", "no"))
    assert answers(line) == [([], False)]
    for _ in range(3):
        enter(one, "x" * 900)
    ask(line)
    carry(*roads)
    ((states, complete),) = answers(line)
    assert (len(states), complete) == (1, False)


def test_one_node_of_several_is_missing() -> None:
    one, other, third = City("n1"), City("n2"), City("n3")
    roads = [Road(other, one), Road(other, third)]
    carry(*roads)
    enter(one, "ann")
    enter(third, "cleo")
    line = other.connect()
    ask(line)
    roads[0].carry()
    assert answers(line) == []
    other.pass_time(2_000)
    assert answers(line) == [(["ann"], False)]


def test_answer_to_a_question_from_before_somebody_watched_is_not_certain() -> None:
    """Who watches may have been told already that one of the listed has left."""
    one, other, roads = two()
    enter(one, "ann")
    line = other.connect()
    ask(line)
    watch(other)
    carry(*roads)
    assert answers(line) == [(["ann"], False)]


# Coming back to another node


def test_client_that_comes_back_to_another_node_is_never_away() -> None:
    """SPEC 10.5, 3.1.4: the new member is told of before the old one goes; the old connection ends."""
    one, other, roads = two()
    watcher = watch(one)
    carry(*roads)
    ann = enter(one, "ann")
    again = other.connect(replaces=ann.session.connection_id)
    again.subscribe(1, "room", presence={"state": "ann again"})
    carry(*roads)
    assert ann.closed_with == 4005
    ann.session.detach()
    one.pass_time(1_000)
    assert changes(watcher) == [("joined", "ann"), ("joined", "ann again"), ("left", "ann")]


def test_will_of_a_client_that_came_back_to_another_node_is_not_published() -> None:
    """SPEC 10.9"""
    one, other, roads = two()
    ann = one.connect(will={"topic": "status", "data": 1, "delay_ms": 5_000})
    ann.session.detach()
    other.connect(replaces=ann.session.connection_id)
    carry(*roads)
    one.pass_time(10_000)
    assert one.node.wills.published == 0


def test_connection_that_is_replaced_here_is_nobody_elses_business() -> None:
    one, _, roads = two()
    ann = one.connect()
    one.connect(replaces=ann.session.connection_id)
    assert not roads[0].asking.queue


def test_question_for_nobody_is_answered() -> None:
    one, _, roads = two()
    one.received(roads[1].answering, Call(-5, ASK, b'{"topic":"nowhere"}'))
    (reply,) = roads[1].answering.said()
    assert (reply.id, reply.result, reply.error) == (-5, b'{"members":[],"complete":true}', "")


# A model: whatever comes between, in the end everybody knows who is there

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "watch", "unwatch", "cut", "carry", "full", "time"]),
        st.integers(0, 2),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_presence_converges(steps: list[tuple[str, int, int]]) -> None:
    """I11, G9: after the last fault each watcher's own account agrees with who is there."""
    cities = [City(f"n{number}") for number in range(3)]
    roads = {(a, b): Road(cities[a], cities[b]) for a in range(3) for b in range(3) if a != b}
    present: list[list[Line]] = [[], [], []]
    watchers: list[list[Watcher]] = [[], [], []]
    for kind, place, number in steps:
        city = cities[place]
        pair = (place, (place + 1 + number % 2) % 3)
        if kind == "enter":
            present[place].append(enter(city, f"{place}-{number}", f"room/{number % 2}"))
        elif kind == "leave" and present[place]:
            leave(present[place].pop())
        elif kind == "watch":
            watchers[place].append(watch_and_ask(city, "#" if number % 2 else "room/0"))
        elif kind == "unwatch" and watchers[place]:
            leave(watchers[place].pop().line)
        elif kind == "cut":
            roads[pair].cut()
            roads[pair] = Road(cities[pair[0]], cities[pair[1]])
        elif kind == "carry":
            roads[pair].carry(number)
        elif kind == "full":
            roads[pair].answering.is_full = not roads[pair].answering.is_full
        else:
            for each in cities:
                each.pass_time(number * 1_000)
    for road in roads.values():
        road.answering.is_full = False
    for city in cities:
        city.pass_time(200)
    carry(*roads.values())
    check_accounts(cities, present, watchers)


class Watcher:
    """A client that keeps its own account of who is there, as SPEC 10.4 says."""

    def __init__(self, line: Line, topics: list[str]) -> None:
        self.line = line
        self.there: dict[str, dict[str, Any]] = {topic: {} for topic in topics}

    def read(self) -> None:
        """Apply what came."""
        for packet in self.line.drain():
            if packet["type"] == "presence":
                self.there[packet["topic"]] = {member["id"]: member for member in packet["members"]}
            elif packet["type"] == "joined":
                self.there[packet["topic"]][packet["member"]["id"]] = packet["member"]
            elif packet["type"] == "left":
                self.there[packet["topic"]].pop(packet["member"]["id"], None)


def watch_and_ask(city: City, filter: str) -> Watcher:
    """In one flight."""
    topics = ["room/0", "room/1"] if filter == "#" else [filter]
    line = city.connect()
    line.send(
        {"type": "subscribe", "sub": 1, "filter": filter, "presence": "watch"},
        *({"type": "presence", "id": 7 + number, "topic": topic} for number, topic in enumerate(topics)),
    )
    return Watcher(line, topics)


def check_accounts(cities: list[City], present: list[list[Line]], watchers: list[list[Watcher]]) -> None:
    """What each watcher has pieced together against what every node says of its own."""
    here = {
        topic: sorted(member.json for city in cities for member in city.node.presence.here_on(topic))
        for topic in ("room/0", "room/1")
    }
    assert sum(map(len, here.values())) == sum(map(len, present))
    for city, theirs in zip(cities, watchers, strict=True):
        for watcher in theirs:
            watcher.read()
            for topic, there in watcher.there.items():
                assert sorted(city.node.presence.members(topic)) == here[topic]
                assert sorted(there) == sorted(msgspec.json.decode(json)["id"] for json in here[topic])

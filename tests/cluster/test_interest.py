"""Interest: who is told of which filter; the barrier of `subscribed` over links that come and go (SPEC 4.2)."""

from itertools import count, islice
from random import Random
from typing import Any

import pytest
from triode_broker.cluster.frames import Interest, Interested
from triode_broker.cluster.interest import BARRIER_MS, CHUNK, Interests
from triode_broker.cluster.owner import Owner
from triode_broker.log.memory import MemoryLog

from tests.cluster.pair import End, EntryDesk, OwnerDesk, Wire, pair, turn
from tests.core.desk import Packet
from tests.core.far import Away


class Stage:
    """An entry node; two owners that say what the test says. m0 is n1's, m1 is n3's."""

    def __init__(self) -> None:
        self.entry = EntryDesk()
        self.interests = self.entry.interests
        self.first, self.second = self.entry.owner, Owner("n3", self.interests)
        self.entry.follow(MemoryLog("m0-x", self.entry.limits))
        self.entry.follow(MemoryLog("m1-x", self.entry.limits), self.second)
        self.links: dict[Owner, End] = {}
        self.answers: list[list[str]] = []
        topics = {self.entry.router.shard_of(f"t{number}").name: f"t{number}" for number in range(20)}
        self.topic, self.other = topics["m0"], topics["m1"]

    def open(self, owner: Owner, heads: dict[str, int] | None = None) -> End:
        """A link to an owner; confirmed, if there are heads."""
        link = self.links[owner] = End(1 << 20)
        owner.opened(link)
        if heads is not None:
            self.confirm(owner, heads)
        return link

    def open_all(self) -> None:
        self.open(self.first, {"m0-x": 5})
        self.open(self.second, {"m1-x": 7})
        self.said()

    def said(self) -> list[tuple[str, int, str, list[str]]]:
        """What owners were told since."""
        turn(self.entry)
        found = []
        for owner, link in self.links.items():
            frames, link.queue = link.frames(), type(link.queue)()
            found += [(owner.node, one.seq, one.kind, one.filters) for one in frames if isinstance(one, Interest)]
        return found

    def confirm(self, owner: Owner, heads: dict[str, int], seq: int = 0) -> None:
        """It has everything it was told, or up to `seq`."""
        turn(self.entry)
        link = self.links[owner]
        told = [frame.seq for frame in link.frames() if isinstance(frame, Interest)]
        owner.received(link, Interested(seq or max(told), heads))

    def cover(self, filter: str, position: dict[str, int] | None = None) -> list[list[str]]:
        shards = self.entry.router.covered(filter)
        memory = [shard for shard in shards if shard.name != "d0"]
        answers: list[list[str]] = []
        self.interests.cover(filter, memory, position, answers.append)
        return answers

    def uncover(self, filter: str) -> None:
        self.interests.uncover(filter, self.entry.router.covered(filter))

    def wait(self, ms: int) -> None:
        self.entry.wait(ms)
        self.interests.tick()


def test_an_exact_topic_is_told_to_its_owner_and_a_wildcard_to_all() -> None:
    stage = Stage()
    stage.open_all()
    stage.cover(stage.topic)
    stage.cover("t+/#")
    assert stage.said() == [("n1", 2, "add", [stage.topic, "t+/#"]), ("n3", 2, "add", ["t+/#"])]


def test_a_filter_is_counted_and_dropped_with_the_last() -> None:
    stage = Stage()
    stage.open_all()
    stage.cover("#")
    stage.cover("#")
    stage.said()
    stage.uncover("#")
    stage.wait(100)
    assert stage.said() == []
    stage.uncover("#")
    assert stage.interests.filters == 0
    assert stage.said() == []
    stage.wait(100)
    assert stage.said() == [("n1", 3, "drop", ["#"]), ("n3", 3, "drop", ["#"])]
    stage.wait(100)
    assert stage.said() == []


def test_a_filter_that_is_wanted_again_before_the_tick_is_still_in_force() -> None:
    stage = Stage()
    stage.open_all()
    stage.cover(stage.topic)
    turn(stage.entry)
    stage.confirm(stage.first, {"m0-x": 5})
    stage.uncover(stage.topic)
    assert stage.cover(stage.topic) == [[]]
    stage.wait(100)
    assert [kind for _, _, kind, _ in stage.said()] == ["add"]


def test_the_barrier_waits_for_all_owners_of_what_is_covered() -> None:
    stage = Stage()
    stage.open_all()
    answers = stage.cover("#")
    stage.confirm(stage.first, {"m0-x": 5})
    assert answers == []
    stage.confirm(stage.second, {"m1-x": 7})
    assert answers == [[]]
    assert stage.cover("#") == [[]]  # at once
    assert stage.interests.barriers == 0


def test_answers_to_earlier_frames_do_not_let_it_go() -> None:
    stage = Stage()
    stage.open_all()
    early = stage.cover(stage.topic)
    turn(stage.entry)
    late = stage.cover(f"{stage.topic}/+")
    turn(stage.entry)
    stage.confirm(stage.second, {"m1-x": 7})
    stage.confirm(stage.first, {"m0-x": 5}, seq=2)
    assert (early, late) == ([[]], [])
    stage.confirm(stage.first, {"m0-x": 5}, seq=3)
    assert late == [[]]


def test_owners_that_do_not_answer_are_named_after_two_seconds() -> None:
    stage = Stage()
    stage.open_all()
    answers = stage.cover("#")
    stage.confirm(stage.second, {"m1-x": 7})
    stage.wait(BARRIER_MS - 1)
    assert answers == []
    stage.wait(1)
    assert answers == [["m0"]]
    stage.confirm(stage.first, {"m0-x": 5})
    assert answers == [["m0"]]


def test_without_a_link_it_waits_for_one() -> None:
    stage = Stage()
    stage.open(stage.second, {"m1-x": 7})
    answers = stage.cover("#")
    stage.confirm(stage.second, {"m1-x": 7})
    assert answers == []
    stage.open(stage.first)
    assert ("n1", 1, "snapshot", ["#"]) in stage.said()
    stage.first.received(stage.links[stage.first], Interested(1, {"m0-x": 5}))
    assert answers == [[]]


def test_a_lost_link_has_it_wait_for_the_next_one() -> None:
    stage = Stage()
    stage.open_all()
    answers = stage.cover(stage.topic)
    turn(stage.entry)
    stage.first.closed(stage.links[stage.first])
    old = stage.links[stage.first]
    stage.open(stage.first)
    stage.first.received(old, Interested(2, {"m0-x": 5}))
    assert answers == []
    assert stage.said() == [("n1", 1, "snapshot", [stage.topic])]
    stage.first.received(stage.links[stage.first], Interested(1, {"m0-x": 5}))
    assert answers == [[]]


def test_an_owner_that_moves_has_it_wait_for_the_next_owner() -> None:
    """The barrier holds also while an owner moves."""
    stage = Stage()
    stage.open_all()
    answers = stage.cover(stage.topic)
    turn(stage.entry)
    stage.entry.follow(MemoryLog("m0-y", stage.entry.limits), stage.second)
    stage.confirm(stage.first, {}, seq=2)
    assert answers == []
    assert stage.said()[-1] == ("n3", 2, "add", [stage.topic])
    stage.second.received(stage.links[stage.second], Interested(2, {"m1-x": 7, "m0-y": 0}))
    assert answers == [[]]


def test_a_shard_that_comes_to_this_node_itself_is_not_waited_for() -> None:
    stage = Stage()
    stage.open_all()
    answers = stage.cover(stage.topic)
    shard = stage.entry.router.shards[0]
    stage.entry.router.own(shard, MemoryLog("m0-here", stage.entry.limits))
    stage.interests.moved(shard)
    assert answers == [[]]
    assert stage.cover(stage.topic) == [[]]


def test_a_shard_that_nobody_owns_is_waited_for() -> None:
    entry, answers = EntryDesk(), list[list[str]]()
    shard = entry.router.shards[0]
    entry.interests.cover("#", [shard], None, answers.append)
    entry.wait(BARRIER_MS)
    entry.interests.tick()
    assert answers == [["m0"]]
    entry.interests.cover("#", [], None, answers.append)
    assert answers == [["m0"], []]


def test_a_position_that_is_ahead_waits_until_the_log_is_there() -> None:
    """A client that comes from a node that had more is no reset."""
    stage = Stage()
    stage.open_all()
    stage.cover(stage.topic)
    stage.confirm(stage.first, {"m0-x": 5})
    assert stage.cover(stage.topic, {"m0-x": 5}) == [[]]
    answers = stage.cover(stage.topic, {"m0-x": 9})
    assert stage.said()[-1] == ("n1", 3, "add", [stage.topic])
    stage.first.received(stage.links[stage.first], Interested(3, {"m0-x": 9}))
    assert answers == []  # what was sent before did not come
    stage.wait(BARRIER_MS)
    assert answers == [["m0"]]


def test_a_snapshot_is_told_in_pieces_and_confirmed_with_the_last() -> None:
    stage = Stage()
    for number in range(CHUNK + 1):
        stage.cover(f"{number}/#")
    stage.open(stage.first)
    kinds = [(seq, kind, len(filters)) for _, seq, kind, filters in stage.said()]
    assert kinds == [(1, "snapshot", CHUNK)]  # the owner is to digest it before it gets more
    link = stage.links[stage.first]
    stage.first.received(link, Interested(1, {"m0-x": 5}))
    assert stage.said()[-1][1:3] == (2, "add")
    assert [stage.first.is_confirmed] == [False]
    stage.first.received(link, Interested(2, {"m0-x": 6}))
    assert stage.first.is_confirmed
    assert stage.entry.mirror("m0").head() == 6


def test_what_comes_up_at_once_is_told_in_pieces_and_each_barrier_waits_for_its_own() -> None:
    stage = Stage()
    stage.open(stage.first)
    stage.confirm(stage.first, {"m0-x": 0})
    named = (f"t{number}" for number in count())
    topics = (topic for topic in named if stage.entry.router.shard_of(topic).name == "m0")
    asked = [stage.cover(topic) for topic in islice(topics, 2 * CHUNK + 1)]
    turn(stage.entry)
    assert [(seq, kind, len(filters)) for _, seq, kind, filters in stage.said()][1:] == [(2, "add", CHUNK)]
    link = stage.links[stage.first]
    for seq, answered in ((2, CHUNK), (3, 2 * CHUNK), (4, 2 * CHUNK + 1)):
        stage.first.received(link, Interested(seq, {"m0-x": 0}))
        assert stage.entry.interests.barriers == len(asked) - answered
    assert [len(filters) for *_, filters in stage.said()] == [CHUNK, 1]


def test_a_barrier_waits_for_a_log_that_is_read() -> None:
    desk, entry, wire = pair(shards=1)
    wire.cut()
    entry.interests.cover("a", entry.router.covered("a"), None, lambda unavailable: None)
    for number in range(60):
        desk.write("a", f"{number:05}" * 800)
    wire = Wire(entry, desk)
    line = entry.connect()
    line.send({"type": "subscribe", "id": 2, "sub": 1, "filter": "a"})
    turn(entry)
    wire.carry_questions()
    wire.carry_answers()
    assert line.read() == []
    wire.carry()
    (answer,) = line.drain()
    assert answer["after"] == {desk.router.shards[0].log.name: 60}


def test_links_to_nodes_that_own_nothing_change_nothing() -> None:
    stage = Stage()
    third = Owner("n4", stage.interests)
    stage.open_all()
    stage.open(third)
    answers = stage.cover("#")
    stage.confirm(stage.first, {"m0-x": 5})
    third.closed(stage.links[third])
    stage.confirm(stage.second, {"m1-x": 7})
    assert answers == [[]]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_published_the_instant_a_subscribe_is_answered_arrives(seed: int) -> None:
    """The barrier, 10,000 times: on the owner's node, over links that flap, while logs begin anew."""
    random = Random(seed)
    desk, entry, wire = pair()
    topics = [f"t{number}" for number in range(6)]
    line, missing = entry.connect(), list[Any]()
    for number in range(1, 501):
        if number % 100 == 0:
            line.session.detach()
            line = entry.connect()
        topic = random.choice(topics)
        line.send({"type": "subscribe", "id": number, "sub": number, "filter": random.choice([topic, "#", "+"])})
        packets: list[Packet] = []
        for turns in range(1_000):
            if random.random() < 0.1:
                wire = flap(random, desk, entry, wire)
            turn(desk, entry)
            wire.carry_questions(random.randint(0, 2))
            wire.carry_answers(random.randint(0, 2))
            packets += line.read()
            if any(packet["type"] == "subscribed" and packet["id"] == number for packet in packets):
                break
            assert turns < 999
        assert "unavailable" not in packets[-1]
        desk.write(topic, f"instant {number}")
        turn(desk)
        wire.carry()
        packets = line.drain()
        if f"instant {number}" not in [packet.get("message", packet).get("data") for packet in packets]:
            missing.append(number)
        line.send({"type": "unsubscribe", "id": 1_000 + number, "sub": number})
        line.drain()
        if random.random() < 0.3:
            entry.interests.tick()
    assert missing == []


def test_without_the_barrier_some_of_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Interests, "_ask", lambda self, barrier, shard: self._arrived(barrier, shard))
    with pytest.raises(AssertionError):
        test_what_is_published_the_instant_a_subscribe_is_answered_arrives(1)


def flap(random: Random, desk: OwnerDesk, entry: EntryDesk, wire: Wire) -> Wire:
    """A link that is cut, or superseded; sometimes a log that begins anew."""
    if random.random() < 0.3:
        entry.follow(desk.renew(random.randrange(2)).log)
    if random.random() < 0.5:
        wire.cut()
    return Wire(entry, desk)


def test_publishes_of_a_mirrored_shard_go_to_who_takes_them() -> None:
    """The desk of these tests is a node as others are."""
    _, entry, _ = pair()
    assert all(isinstance(shard.acceptor, Away) for shard in entry.router.shards)

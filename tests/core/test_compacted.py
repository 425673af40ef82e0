"""Compacted topics as a state map: `from:"last"` with a filter is the current state of every key, then live.

Each clause in memory and on disk, where a message counts once it is committed (SPEC 3.2.5, 4.3.4, G4).
"""

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_broker.core import catch_up

from tests.core.desk import Desk, Line, Packet

STORAGES = ("memory", "disk")
BIG = "x" * 700  # three fit into an outbox of 3,000 bytes, four do not
SLOW = Limits(max_outbox_bytes=3_000, recent_bytes=0)
State = dict[tuple[str, str], Any]


def open_desk(storage: Any, limits: Limits | None = None, **fields: Any) -> Desk:
    """A node whose topics under `state` are compacted."""
    rule = TopicRule(filter="state/#", compact=True, storage=storage, **fields)
    return Desk(rule, limits=limits, durable=storage == "disk")


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def desk(storage: str) -> Desk:
    return open_desk(storage)


def put(desk: Desk, topic: str, key: str, data: Any = None, **fields: Any) -> Packet:
    """Set a key; the answer."""
    answer = desk.publish(topic, data, key=key, **fields)
    assert answer["type"] == "published"
    return answer


def delete(desk: Desk, topic: str, key: str) -> Packet:
    """Delete a key; the answer."""
    line = desk.connect()
    answers = line.ask({"type": "publish", "id": 9, "topic": topic, "key": key})
    if not answers:
        desk.commit()
        answers = line.drain()
    line.session.detach()
    (answer,) = answers
    assert answer["type"] == "published"
    return answer


def messages(packets: list[Packet]) -> list[Packet]:
    """The messages among packets, delivered or live."""
    inner = (packet.get("message", packet) for packet in packets)
    return [message for message in inner if message["type"] == "message"]


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def keys(packets: list[Packet]) -> list[str]:
    return [message["key"] for message in messages(packets)]


def apply(state: State, packets: list[Packet]) -> None:
    """What an application does: a message with content sets its key, one without deletes it."""
    for message in messages(packets):
        place = (message["topic"], message["key"])
        if "data" in message:
            state[place] = message["data"]
        else:
            state.pop(place, None)


def test_last_of_a_wildcard_is_the_state_of_every_key_then_live(desk: Desk) -> None:
    """SPEC 3.2.5: a state map that needs no second system."""
    for number, key in enumerate("kmknk"):
        put(desk, f"state/{number % 2}", key, number)
    delete(desk, "state/1", "m")
    line, state = desk.connect(), State()
    packets = line.subscribe(1, "state/+", from_="last")
    apply(state, packets)
    assert types(packets) == ["subscribed", "delivery", "delivery", "caught_up"]
    assert state == {("state/0", "k"): 4, ("state/1", "n"): 3}
    assert not [packet for packet in packets if "prev" in packet]
    put(desk, "state/0", "k", "later")
    put(desk, "state/1", "new", 0)
    delete(desk, "state/1", "n")
    packets = line.drain()
    apply(state, packets)
    assert types(packets) == ["message"] * 3
    assert state == {("state/0", "k"): "later", ("state/1", "new"): 0}


def test_deletion_is_seen_live_and_is_missing_in_the_next_snapshot(desk: Desk) -> None:
    line = desk.connect()
    line.subscribe(1, "state/a")
    put(desk, "state/a", "k", 1)
    put(desk, "state/a", "m", 2)
    answer = delete(desk, "state/a", "k")
    seen = messages(line.drain())[-1]
    assert (seen["key"], seen["pos"], seen["offset"]) == ("k", answer["pos"], answer["offset"])
    assert "data" not in seen
    assert "b64" not in seen
    assert keys(desk.connect().subscribe(1, "state/a", from_="last")) == ["m"]
    assert keys(desk.connect().subscribe(1, "state/#", from_="last")) == ["m"]


def test_deleting_what_is_not_there_is_a_message_like_any_other(desk: Desk) -> None:
    line = desk.connect()
    line.subscribe(1, "state/a")
    delete(desk, "state/a", "k")
    assert keys(line.drain()) == ["k"]
    assert keys(desk.connect().subscribe(1, "state/a", from_="last")) == []


@pytest.mark.parametrize("filter", ["state/a", "state/+"])
def test_resume_gets_what_has_changed_once_and_deletions_too(desk: Desk, filter: str) -> None:
    """G4, SPEC 3.2.8, 4.3.4: what was replaced meanwhile is no gap."""
    log = put(desk, "state/a", "k", 0)["log"]
    put(desk, "state/a", "m", 1)
    for number in range(2, 5):
        put(desk, "state/a", "k", number)
    delete(desk, "state/a", "m")
    put(desk, "state/a", "n", 6)
    packets = desk.connect().subscribe(1, filter, after={log: 2})
    assert types(packets) == ["subscribed", "delivery", "delivery", "delivery", "caught_up"]
    assert [message["offset"] for message in messages(packets)] == [5, 6, 7]
    assert [packet.get("prev") for packet in packets[1:4]] == [0, None, None], "nothing before it is held"
    state: State = {("state/a", "k"): 0, ("state/a", "m"): 1}
    apply(state, packets)
    assert state == {("state/a", "k"): 4, ("state/a", "n"): 6}


def test_resume_after_a_tombstones_time_is_no_gap(storage: str) -> None:
    desk = open_desk(storage, Limits(recent_bytes=0), tombstone_seconds=60)
    log = put(desk, "state/a", "k")["log"]
    delete(desk, "state/a", "k")
    desk.now_ms += 60_000
    desk.router.trim(desk.now_ms)
    packets = desk.connect().subscribe(1, "state/a", after={log: 1})
    assert types(packets) == ["subscribed", "caught_up"]


def test_key_that_retention_took_is_a_gap(storage: str) -> None:
    """SPEC 4.6.1: a state that is not whole says so."""
    desk = open_desk(storage, Limits(recent_bytes=0), retention_messages=2)
    log = put(desk, "state/a", "k")["log"]
    for key in "mno":
        put(desk, "state/a", key)
    desk.router.trim(desk.now_ms)
    packets = desk.connect().subscribe(1, "state/a", after={log: 1})
    assert types(packets) == ["subscribed", "gap", "delivery", "delivery", "caught_up"]
    assert (packets[1]["reason"], keys(packets)) == ("retention", ["n", "o"])
    packets = desk.connect().subscribe(1, "state/a", after={log: 2})
    assert (types(packets)[1], keys(packets)) == ("delivery", ["n", "o"])


def test_age_ends_no_key_and_time_to_live_does(storage: str) -> None:
    """SPEC 3.4.9."""
    desk = open_desk(storage, Limits(recent_bytes=0), retention_seconds=1)
    put(desk, "state/a", "k")
    put(desk, "state/a", "m")
    put(desk, "state/a", "m", ttl_ms=5_000)
    desk.now_ms += 4_999
    desk.router.trim(desk.now_ms)
    assert keys(desk.connect().subscribe(1, "state/+", from_="last")) == ["k", "m"]
    desk.now_ms += 1
    packets = desk.connect().subscribe(1, "state/+", from_="last")
    assert (keys(packets), "gap" in types(packets)) == (["k"], False)


def test_history_and_earliest_have_the_newest_of_each_key(desk: Desk) -> None:
    """SPEC 3.2.4, 4.7."""
    for key in "kmk":
        put(desk, "state/a", key)
    delete(desk, "state/a", "m")
    line = desk.connect()
    history = line.ask_one({"type": "history", "id": 2, "topic": "state/a"})
    assert [message["offset"] for message in history["messages"]] == [3, 4]
    assert history["complete"]
    packets = line.subscribe(1, "state/a", from_="earliest")
    assert [message["offset"] for message in messages(packets)] == [3, 4]
    assert "gap" not in types(packets)


def test_replay_brings_the_state_not_every_step_to_it(storage: str) -> None:
    """G7, SPEC 3.2.11: a slow reader has less to catch up with, and nothing is said to be lost."""
    desk = open_desk(storage, SLOW)
    line, state = desk.connect(), State()
    line.subscribe(1, "state/#", overflow="replay")
    for number in range(12):
        put(desk, "state/a", "kmn"[number % 3], [number, BIG])
    delete(desk, "state/a", "n")
    packets = line.drain()
    apply(state, packets)
    assert types(packets) == ["message"] * 3 + ["catching_up"] + ["delivery"] * 3 + ["caught_up"]
    assert [message["offset"] for message in messages(packets)] == [1, 2, 3, 10, 11, 13]
    assert [packet.get("prev") for packet in packets[4:7]] == [0, None, 11]
    assert {place: data[0] for place, data in state.items()} == {("state/a", "k"): 9, ("state/a", "m"): 10}
    delete(desk, "state/a", "k")
    assert types(line.drain()) == ["message"]


def test_snapshot_that_is_sent_slowly_ends_in_the_state_of_its_end(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC 3.2.5: what was replaced before its turn comes behind the snapshot; what was deleted stays deleted."""
    monkeypatch.setattr(catch_up, "PAGE_BYTES", 2_000)
    desk = open_desk(storage, SLOW)
    for key in "klmnop":
        put(desk, "state/a", key, [1, BIG])
    line, state = desk.connect(), State()
    line.send({"type": "subscribe", "id": 2, "sub": 1, "filter": "state/+", "from": "last"})
    apply(state, line.read())
    assert 0 < len(state) < 6, "only a page fits"
    put(desk, "state/a", "p", [2, BIG])
    put(desk, "state/a", "k", [2, BIG])
    delete(desk, "state/a", "o")
    line.room()
    packets = line.drain()
    apply(state, packets)
    assert types(packets)[-1] == "caught_up"
    assert {key: data[0] for (_, key), data in state.items()} == {"k": 2, "l": 1, "m": 1, "n": 1, "p": 2}


# A state map over anything


@attrs.define
class Reader:
    """An application that keeps a state, over lost connections too: R1–R7 of one subscription."""

    desk: Desk
    filter: str
    line: Line
    state: State = attrs.field(factory=State)
    position: dict[str, int] = attrs.field(factory=dict)
    has_caught_up: bool = False

    def subscribe(self) -> None:
        packet: Packet = {"type": "subscribe", "id": 2, "sub": 1, "filter": self.filter}
        if self.has_caught_up:
            packet["after"] = self.position
        else:  # R7
            packet["from"] = "last"
            self.state.clear()
        self.line.send(packet)

    def cut(self) -> None:
        self.line.session.detach()
        self.line = self.desk.connect()
        self.subscribe()

    def read(self, count: int) -> None:
        """Take some of what waits; tell the session when there is room."""
        outbox = self.line.outbox
        items, outbox.items = outbox.items[:count], outbox.items[count:]
        outbox.size -= sum(map(len, items))
        for packet in Line.decode(items):
            self.take(packet)
        if outbox.wants_room and outbox.has_room:
            self.line.room()

    def drain(self) -> None:
        while self.line.outbox.items or self.line.outbox.wants_room:
            self.read(10)

    def take(self, packet: Packet) -> None:
        assert packet["type"] != "gap", "nothing is lost here"
        if "after" in packet:  # R1
            self.position = dict(packet["after"])
            self.has_caught_up |= packet["type"] == "caught_up"
        for message in messages([packet]):
            apply(self.state, [packet])
            log, pos = message["log"], message["pos"]
            self.position[log] = max(self.position[log], pos)  # R4


TOPICS = ("state/1", "state/2", "state/2/x")
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(TOPICS), st.sampled_from("kmnop")),
        st.tuples(st.just("put"), st.sampled_from(TOPICS), st.sampled_from("kmnop")),
        st.tuples(st.just("delete"), st.sampled_from(TOPICS), st.sampled_from("kmnop")),
        st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.just("cut"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("time"), st.integers(1, 3_000), st.just(0)),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(OPERATIONS, st.sampled_from(STORAGES), st.sampled_from([1, 3, 5_000]))
def test_state_of_every_reader_is_the_truth_in_the_end(
    operations: list[Any], storage: str, page_records: int
) -> None:
    """G4, G7, SPEC 3.2.5: however slow they are, however often cut, whatever is replaced meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catch_up, "PAGE_RECORDS", page_records)
        play(operations, storage)


def play(operations: list[Any], storage: str) -> None:
    desk = open_desk(storage, Limits(max_outbox_bytes=1_200, recent_bytes=1_000, recent_seconds=5))
    truth = State()
    readers = [Reader(desk, filter, desk.connect()) for filter in ("state/#", "state/+", "state/1")]
    for reader in readers:
        reader.subscribe()
    for number, (name, first, second) in enumerate(operations):
        if name == "put":
            put(desk, first, second, [number, "x" * 40])
            truth[first, second] = [number, "x" * 40]
        elif name == "delete":
            delete(desk, first, second)
            truth.pop((first, second), None)
        elif name == "read":
            readers[first].read(second)
        elif name == "cut":
            readers[first].cut()
        else:
            desk.now_ms += first
            desk.router.trim(desk.now_ms)
    for reader in readers:
        reader.drain()
        covered = {"state/#": TOPICS, "state/+": TOPICS[:2], "state/1": TOPICS[:1]}[reader.filter]
        assert reader.state == {place: data for place, data in truth.items() if place[0] in covered}

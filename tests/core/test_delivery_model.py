"""The delivery promise against a model: clients that follow R1–R7, slow, cut and resuming, beside a full record.

Checks G4 and the invariants I5 (nothing twice), I6 (no silent hole), I7 and I10 (order), over random operations
with bounds so small that overflow, retention and forgotten topics happen all the time. Times to live and
compaction take messages too: one that lives to the end, and has not been replaced, is due to everybody.
"""

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_broker.core import catch_up
from triode_protocol.positions import MAX_INTEGER
from triode_protocol.topics import matches

from tests.core.desk import Desk, Line, Packet

TOPICS = ["a", "b", "a/x", "a/y", "c/1", "c/2", "c/3", "c/4", "k", "k/x"]
FILTERS = ["a", "a/x", "a/#", "+", "#", "c/+", "+/x", "k", "k/#"]
STARTS: list[Any] = ["new", "earliest", "last"]
SMALL = Limits(
    max_outbox_bytes=1_200, recent_bytes=1_500, recent_seconds=5, max_shard_topics=3, max_shard_bytes=5_000
)
COMPACTED = {"k": 6_000, "k/x": 1_000}  # how long deletions are kept, in ms
RULES = (
    TopicRule(filter="b", retention_messages=0),
    TopicRule(filter="a/y", ttl_seconds=3),
    TopicRule(filter="k", compact=True, retention_messages=2, retention_seconds=1, tombstone_seconds=6),
    TopicRule(filter="k/#", compact=True, retention_seconds=1, tombstone_seconds=1),
    TopicRule(filter="#", retention_messages=3, retention_seconds=20),
)


@attrs.define
class Told:
    """What an application was told by one subscription, in order."""

    filter: str
    start: Any
    overflow: str
    number: int = 0
    position: dict[str, int] = attrs.field(factory=dict)
    is_live: bool = False
    has_caught_up: bool = False
    heads: dict[str, int] = attrs.field(factory=dict)  # of the logs, when it was subscribed
    events: list[Packet] = attrs.field(factory=list)  # handed messages and gaps


class Client:
    """R1–R7, as SPEC 4.3 says them."""

    def __init__(self, desk: Desk, told: list[Told]) -> None:
        self._desk = desk
        self._last_number = 0
        self.told = told
        self.unread: list[Told] = []  # subscribes on their way: the edge reads nothing while the outbox is over
        self.line = self._connect()

    def _connect(self) -> Line:
        self.line = self._desk.connect()
        self._last_number = 0
        for told in self.told:
            told.number, told.is_live = 0, False
        self.unread = list(self.told)
        self._be_read()
        return self.line

    def _be_read(self) -> None:
        while self.unread and not self.line.outbox.is_over:
            self._subscribe(self.line, self.unread.pop(0))

    def _subscribe(self, line: Line, told: Told) -> None:
        self._last_number += 1
        told.number = self._last_number
        told.is_live = False
        packet: Packet = {"type": "subscribe", "id": 5, "sub": told.number, "filter": told.filter}
        packet["overflow"] = told.overflow
        if told.position and (told.start != "last" or told.has_caught_up):
            packet["after"] = told.position
        else:  # R7
            packet["from"] = told.start
            told.events.clear()
            told.heads = self._desk.router.heads()
        line.send(packet)

    def subscribe(self, told: Told) -> None:
        self.told.append(told)
        self.unread.append(told)
        self._be_read()

    def cut(self) -> None:
        """The connection is lost with all that was not read."""
        self.line.session.detach()
        self.line = self._connect()

    def read(self, count: int) -> None:
        """Take some of what waits; tell the session when there is room."""
        outbox = self.line.outbox
        items, outbox.items = outbox.items[:count], outbox.items[count:]
        outbox.size -= sum(map(len, items))
        for packet in Line.decode(items):
            self.take(packet)
        if outbox.wants_room and outbox.has_room:
            self.line.session.room(self._desk.now_ms)
        self._be_read()

    def drain(self) -> None:
        while self.line.outbox.items or self.line.outbox.wants_room or self.unread:
            self.read(10)

    def take(self, packet: Packet) -> None:
        kind = packet["type"]
        if kind == "message":
            for told in self.told:
                is_new = told.position.get(packet["log"], -1) < packet["pos"]
                if told.is_live and matches(told.filter, packet["topic"]) and is_new:  # R3
                    self._hand_over(told, packet)
            return
        told = next(one for one in self.told if one.number == packet["sub"])
        if kind == "delivery":  # R2
            self._hand_over(told, packet["message"] | {"prev": packet.get("prev")})
            return
        told.position = dict(packet["after"])  # R1
        if kind == "gap":
            told.events.append(packet)
        elif kind in ("subscribed", "caught_up", "catching_up"):
            told.is_live = packet.get("live", kind == "caught_up")
            told.has_caught_up |= kind == "caught_up"

    def _hand_over(self, told: Told, message: Packet) -> None:
        told.events.append(message)
        log = message["log"]
        assert log in told.position, "R6: no log comes unannounced while the broker lives"
        told.position[log] = max(told.position[log], message["pos"])  # R4


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(TOPICS), st.integers(0, 3)),
        st.tuples(st.just("publish"), st.sampled_from(TOPICS), st.integers(0, 3)),
        st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 8)),
        st.tuples(st.just("time"), st.integers(1, 4_000), st.just(0)),
        st.tuples(st.just("cut"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("subscribe"), st.integers(0, 1), st.integers(0, 2 * len(FILTERS) * len(STARTS) - 1)),
    ),
    min_size=25,
    max_size=80,
)


def publish(desk: Desk, truth: list[Packet], topic: str, copies: int) -> None:
    for number in range(copies + 1):
        fields: Packet = {"data": "x" * 40}
        ttl_ms = 3_000 if topic == "a/y" else 0
        if topic in COMPACTED:
            fields["key"] = "kmno"[(number + len(truth)) % 4]
            if copies == 2:
                del fields["data"]
        if copies == 3 and number % 2:
            fields["ttl_ms"] = 2_000
            ttl_ms = min(ttl_ms or 2_000, 2_000)
        line = desk.connect()
        answer = line.ask_one({"type": "publish", "id": 9, "topic": topic, **fields})
        line.session.detach()
        assert answer["type"] == "published"
        if topic in COMPACTED and "data" not in fields:
            kept_ms = COMPACTED[topic]
            ttl_ms = min(ttl_ms or kept_ms, kept_ms)
        ends_ms = desk.now_ms + ttl_ms if ttl_ms else MAX_INTEGER
        place = (topic, fields["key"]) if "key" in fields else None
        truth.append({"topic": topic, "ends_ms": ends_ms, "place": place, **answer})


def due_in_the_end(truth: list[Packet], now_ms: int) -> list[Packet]:
    """What nothing but a gap excuses from being delivered: not what a time to live or compaction has taken."""
    newest = {one["place"]: one for one in truth}
    return [one for one in truth if one["ends_ms"] > now_ms and (not one["place"] or newest[one["place"]] is one)]


def subscription(number: int) -> Told:
    overflow = ("replay", "gap")[number % 2]
    return Told(FILTERS[number // 2 % len(FILTERS)], STARTS[number // (2 * len(FILTERS))], overflow)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.integers(1, 2), st.sampled_from([1, 3, 5_000]))
def test_subscriptions_get_everything_once_in_order_or_a_gap(
    operations: list[Any], shards: int, page_records: int
) -> None:
    """G4, I5, I6, I7, I10; SPEC 4.3, 4.6. However few records a turn looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catch_up, "PAGE_RECORDS", page_records)
        play(operations, shards)


def play(operations: list[Any], shards: int) -> None:
    desk = Desk(*RULES, limits=SMALL, shards=shards)
    truth: list[Packet] = []
    clients = [Client(desk, []), Client(desk, [])]
    for name, first, second in operations:
        if name == "publish":
            publish(desk, truth, first, second)
        elif name == "read":
            clients[first].read(second)
        elif name == "time":
            desk.now_ms += first
            desk.router.trim(desk.now_ms)
        elif name == "cut":
            clients[first].cut()
        elif len(clients[first].told) < 4:
            clients[first].subscribe(subscription(second))
    due = due_in_the_end(truth, desk.now_ms)
    for client in clients:
        client.drain()
        for told in client.told:
            assert told.is_live
            check(told, [one for one in due if one["pos"] > told.heads.get(one["log"], 0)])


def check(told: Told, due: list[Packet]) -> None:
    had: dict[str, int] = {}  # per log, the highest pos handed over
    for event in told.events:
        if event["type"] != "gap":
            assert event["pos"] > had.get(event["log"], 0), "I5, I10: twice, or out of order"
            had[event["log"]] = event["pos"]
    for topic in TOPICS:
        if matches(told.filter, topic):
            check_topic(told, topic, [one for one in due if one["topic"] == topic])


def check_topic(told: Told, topic: str, due: list[Packet]) -> None:
    """I6, I7: between two messages of one topic nothing that was due is missing, unless a gap lies there."""
    pos = offset = 0
    has_gap = False
    for event in told.events:
        if event["type"] == "gap":
            has_gap = True
        elif event["topic"] == topic:
            missed = [one for one in due if pos < one["pos"] < event["pos"]]
            assert has_gap or not missed, f"I6: silent hole before {event}"
            assert offset < event["offset"] <= event["pos"], "I7: offsets never go back, and never pass pos"
            pos, offset, has_gap = event["pos"], event["offset"], False
    rest = [one for one in due if one["pos"] > pos]
    assert has_gap or not rest, f"I6: never came, and no gap: {rest}"

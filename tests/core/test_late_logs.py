"""Logs that answer later, as one with a store thread does: nothing lost, nothing twice, no answer to nobody (G4).

Publishing, unsubscribing and cuts go on while questions wait; the answers come when the test says so.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_broker.core import catch_up
from triode_broker.log.memory import MemoryLog

from tests.core.desk import Desk, Line, Packet
from tests.log.late import LateLog

STARTS: list[Any] = ["earliest", "last", {"last": 3}, {"since": 0}]


class LateDesk(Desk):
    """A desk whose logs answer when told to."""

    def __init__(self, *rules: TopicRule, limits: Limits | None = None, shards: int = 1) -> None:
        self.late: list[LateLog] = []
        super().__init__(*rules, limits=limits, shards=shards, make_log=self._make_log)

    def _make_log(self, name: str, limits: Limits) -> LateLog:
        log = LateLog(name, limits)
        self.late.append(log)
        return log

    @property
    def waiting(self) -> int:
        """Questions without an answer."""
        return sum(len(log.questions) for log in self.late)

    def answer(self) -> None:
        """Answer everything, what that leads to included."""
        while self.waiting:
            for log in self.late:
                log.answer()


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def handed(packets: list[Packet]) -> list[int]:
    messages = (packet.get("message", packet) for packet in packets)
    return [message["pos"] for message in messages if message["type"] == "message"]


def begin(desk: LateDesk, filter: str = "a", **fields: Any) -> Line:
    line = desk.connect()
    assert all(packet["type"] == "subscribed" for packet in line.subscribe(1, filter, **fields))
    return line


@pytest.mark.parametrize("start", [start for start in STARTS if start != "last"], ids=str)
def test_subscribed_waits_for_the_log(start: Any) -> None:
    """SPEC 4.2.1: its position is what the log answers."""
    desk = LateDesk()
    desk.publish("a")
    line = begin(desk, from_=start)
    assert line.drain() == []
    desk.answer()
    packets = line.drain()
    assert types(packets) == ["subscribed", "delivery", "caught_up"]
    assert handed(packets) == [1]


def test_what_the_core_knows_itself_is_not_waited_for() -> None:
    """SPEC 4.2.2: new, a resume at the head, and where a snapshot was taken."""
    desk = LateDesk()
    desk.publish("a")
    line = desk.connect()
    assert line.subscribe(1, "a")[0]["live"]
    assert line.subscribe(2, "a", after={"m0-life": 1})[0]["live"]
    assert desk.waiting == 0
    (answer,) = line.subscribe(3, "a", from_="last")
    assert (answer["after"], answer["live"]) == ({"m0-life": 1}, False)


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_messages_published_before_each_answer_come_once(start: Any) -> None:
    """I5, I6, I10: whenever the answer comes, publishing has gone on."""
    desk = LateDesk()
    for _ in range(3):
        desk.publish("a")
    line = begin(desk, from_=start)
    packets: list[Packet] = []
    for _ in range(4):
        desk.publish("a")
        desk.late[0].answer(1)
        packets += line.drain()
    desk.answer()
    packets += line.drain()
    desk.publish("a")
    packets += line.drain()
    found = handed(packets)
    assert found == list(range(found[0], 9))
    assert "gap" not in types(packets)


def test_snapshot_of_several_logs_loses_nothing_published_between_their_answers() -> None:
    """SPEC 3.2.5: the snapshot is of the moment of subscribing, everything behind that still comes."""
    desk = LateDesk(shards=2)
    logs = {topic: desk.publish(topic)["log"] for topic in "abcdefgh"}
    early = next(topic for topic, log in logs.items() if log == "m0-life")
    line = desk.connect()
    packets = line.subscribe(1, "#", from_="last")
    desk.late[0].answer()
    between = desk.publish(early)
    desk.answer()
    packets += line.drain()
    places = [(one["message"]["log"], one["message"]["pos"]) for one in packets if one["type"] == "delivery"]
    assert (between["log"], between["pos"]) in places
    assert len(places) == len(set(places)) == 9
    assert packets[0]["after"]["m0-life"] < between["pos"], "it comes after `after`"


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_unsubscribe_before_the_log_answers_is_the_end(start: Any) -> None:
    """SPEC 3.3.1."""
    desk = LateDesk()
    desk.publish("a")
    line = begin(desk, from_=start)
    assert types(line.ask({"type": "unsubscribe", "id": 2, "sub": 1})) == ["unsubscribed"]
    desk.answer()
    desk.publish("a")
    assert line.drain() == []
    assert desk.router.live_subscriptions == 0


@pytest.mark.parametrize("start", STARTS, ids=str)
@pytest.mark.parametrize("answered", [0, 1])
def test_connection_that_ends_while_the_log_reads_gets_nothing(start: Any, answered: int) -> None:
    """SPEC 3.8.1: the outbox of a connection that is gone stays empty."""
    desk = LateDesk()
    desk.publish("a")
    line = begin(desk, from_=start)
    desk.late[0].answer(answered)
    line.session.detach()
    line.take_items()
    desk.dirty.clear()
    desk.answer()
    assert (line.outbox.items, desk.dirty) == ([], [])
    assert desk.router.live_subscriptions == 0


def test_unsubscribe_while_a_page_is_read_is_the_end() -> None:
    desk = LateDesk()
    desk.publish("a")
    line = begin(desk, after={"m0-life": 0})
    assert desk.waiting == 1
    line.ask({"type": "unsubscribe", "sub": 1})
    desk.answer()
    assert line.drain() == []
    assert desk.router.live_subscriptions == 0


def test_room_while_a_page_is_read_asks_for_no_second_one() -> None:
    """I5."""
    desk = LateDesk()
    desk.publish("a")
    line = begin(desk, after={"m0-life": 0})
    line.room()
    line.room()
    assert desk.waiting == 1
    desk.answer()
    assert handed(line.drain()) == [1]


def test_page_that_comes_while_the_outbox_is_full_is_the_last_for_now() -> None:
    """SPEC 1.16: it was asked for; the next log is asked when there is room."""
    desk = LateDesk(limits=Limits(max_outbox_bytes=1_000), shards=2)
    count = len([desk.publish(topic) for topic in "abcdefgh"])
    line = begin(desk, "#", after={"m0-life": 0, "m1-life": 0})
    line.outbox.size = 900
    desk.answer()
    packets = line.read()
    assert line.outbox.wants_room
    assert 0 < len(handed(packets)) < count
    line.room()
    desk.answer()
    packets += line.drain()
    assert len(handed(packets)) == count
    assert types(packets)[-1] == "caught_up"


def test_late_answer_that_ends_its_turn_is_written_so_that_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The edge looks at `wants_room` after a write: pages of another log that matched nothing wrote nothing."""
    monkeypatch.setattr(catch_up, "PAGE_RECORDS", 10)
    late = LateLog("m0-life", Limits())
    desk = Desk(shards=2, make_log=lambda name, limits: late if name == late.name else MemoryLog(name, limits))
    for number in range(80):
        desk.publish(f"t/{number}")
    line = desk.connect()
    line.send({"type": "subscribe", "sub": 1, "filter": "no/+", "after": {"m0-life": 0, "m1-life": 0}})
    assert types(line.read()) == ["subscribed"]
    while line.outbox.wants_room is False:
        assert late.questions, "either it waits for the log, or it wants a turn"
        late.answer(1)
    assert types(line.read()) == ["ping"]
    assert types(line.drain()) == ["caught_up"]


def test_retention_between_question_and_answer_is_a_gap() -> None:
    """SPEC 4.6.1: since was complete when it was asked, and `after` promised it."""
    desk = LateDesk(TopicRule(retention_messages=3), limits=Limits(recent_bytes=0))
    for _ in range(3):
        desk.publish("a")
    line = begin(desk, from_={"since": 0})
    desk.late[0].answer(1)
    for _ in range(2):
        desk.publish("a")
    desk.answer()
    packets = line.drain()
    assert types(packets) == ["subscribed", "gap", "delivery", "delivery", "delivery", "caught_up"]
    assert handed(packets) == [3, 4, 5]


@pytest.mark.parametrize("fields", [{}, {"last": 2}, {"after": {"m0-life": 0}}, {"before": {"m0-life": 2}}])
def test_history_answers_when_the_log_does(fields: Packet) -> None:
    """SPEC 1.13: replies in any order, others between them."""
    desk = LateDesk()
    desk.publish("a")
    line = desk.connect()
    assert types(line.ask({"type": "history", "id": 5, "topic": "a", **fields}, {"type": "ping"})) == ["pong"]
    desk.answer()
    (answer,) = line.drain()
    assert (answer["id"], handed(answer["messages"])) == (5, [1])


def test_history_for_a_connection_that_is_gone_is_thrown_away() -> None:
    """SPEC 3.8.1."""
    desk = LateDesk()
    desk.publish("a")
    line = desk.connect()
    line.ask({"type": "history", "id": 5, "topic": "a"})
    line.session.detach()
    desk.dirty.clear()
    desk.answer()
    assert (line.outbox.items, desk.dirty) == ([], [])


def test_slow_subscription_catches_up_from_a_late_log() -> None:
    """SPEC 3.2.11, I5, I6."""
    desk = LateDesk(limits=Limits(max_outbox_bytes=3_000))
    line = begin(desk)
    for _ in range(6):
        desk.publish("a", "x" * 700)
    packets = line.drain()
    assert types(packets)[-1] == "catching_up"
    desk.publish("a")
    desk.answer()
    packets += line.drain()
    desk.publish("a")
    packets += line.drain()
    assert handed(packets) == list(range(1, 9))
    assert types(packets)[-2:] == ["caught_up", "message"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("abcd")),
        st.tuples(st.just("answer"), st.integers(0, 1)),
        st.tuples(st.just("subscribe"), st.sampled_from(["a", "+", "b", "#"])),
        st.tuples(st.just("unsubscribe"), st.integers(1, 5)),
        st.tuples(st.just("read"), st.just(0)),
        st.tuples(st.just("cut"), st.just(0)),
    ),
    min_size=10,
    max_size=50,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([*STARTS[:2], {"since": 0}, None]), st.integers(1, 2))
def test_every_subscription_gets_everything_once_whenever_logs_answer(
    steps: list[tuple[str, Any]], start: Any, shards: int
) -> None:
    """G4, I5, I6, I10: against the list of what was published; `start` None resumes from nothing."""
    desk = LateDesk(limits=Limits(max_outbox_bytes=1_500), shards=shards)
    line = desk.connect()
    packets: list[Packet] = []
    filters: dict[int, str] = {}
    truth: list[Packet] = []
    for step, what in steps:
        if step == "publish":
            truth.append({"topic": what, **desk.publish(what, "x" * 200)})
        elif step == "answer":
            desk.late[what % shards].answer(1)
        elif step == "subscribe":
            sub = len(filters) + 1
            filters[sub] = what
            packets += line.subscribe(
                sub, what, **({"after": everywhere(desk)} if start is None else {"from_": start})
            )
        elif step == "unsubscribe":
            packets += line.ask({"type": "unsubscribe", "sub": what})
            packets = [packet for packet in packets if packet.get("sub") != what]
            filters = {sub: "" if sub == what else filter for sub, filter in filters.items()}
        elif step == "read":
            packets += line.read()
        else:
            line.session.detach()
            line, packets, filters = desk.connect(), [], {}
    while desk.waiting or line.outbox.items or line.outbox.wants_room:
        desk.answer()
        packets += line.drain()
    assert desk.router.live_subscriptions == len([filter for filter in filters.values() if filter])
    for sub, filter in filters.items():
        if filter:
            check(told(packets, sub, filter), [one for one in truth if filter in ("#", "+", one["topic"])], start)


def everywhere(desk: LateDesk) -> dict[str, int]:
    return {log.name: 0 for log in desk.late}


def told(packets: list[Packet], sub: int, filter: str) -> list[tuple[str, int]]:
    """The places a client hands over for one subscription, by R1-R4."""
    position: dict[str, int] = {}
    is_live = False
    found: list[tuple[str, int]] = []
    for packet in packets:
        if packet["type"] == "message":
            is_due = is_live and filter in ("#", "+", packet["topic"]) and position[packet["log"]] < packet["pos"]
            message = packet if is_due else None
        elif packet.get("sub") != sub:
            continue
        else:
            message = packet.get("message")
        if message is not None:
            found.append((message["log"], message["pos"]))
            position[message["log"]] = max(position[message["log"]], message["pos"])
        elif "after" in packet:
            assert packet["type"] != "gap"
            position = dict(packet["after"])
            is_live = packet.get("live", packet["type"] == "caught_up")
    assert is_live
    return found


def check(found: list[tuple[str, int]], truth: list[Packet], start: Any) -> None:
    for log in ("m0-life", "m1-life"):
        places = [pos for name, pos in found if name == log]
        due = [one["pos"] for one in truth if one["log"] == log]
        assert places == sorted(set(places)), "I5, I10"
        if start == "last":
            assert set(places) <= set(due)
            newest = {one["topic"]: one["pos"] for one in truth if one["log"] == log}
            assert set(newest.values()) <= set(places)
        else:
            assert places == due, "I6"

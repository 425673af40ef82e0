"""Catch-up: pages as there is room, gaps before what follows, then live; nothing lost or twice (G4, I5, I6)."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core import catch_up
from triode_broker.core.catch_up import PAGE_BYTES, CatchUp
from triode_broker.core.interfaces import Page
from triode_broker.log.memory import MemoryLog

from tests.core.desk import Desk, Line, Packet

LOG = "m0-life"
#: The outbox takes one page at a time: ROW messages.
LIMITS = Limits(recent_bytes=0, max_outbox_bytes=100_000)
BIG = "x" * 30_000
ROW = PAGE_BYTES // 30_400


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def handed(packets: list[Packet]) -> list[int]:
    messages = (packet.get("message", packet) for packet in packets)
    return [message["pos"] for message in messages if message["type"] == "message"]


def fill(desk: Desk, count: int, topic: str = "a") -> None:
    for _ in range(count):
        desk.publish(topic, BIG)


def begin(desk: Desk, filter: str = "a", **fields: Any) -> tuple[Line, list[Packet]]:
    """A subscription whose first page was read, and which has not been told of room yet."""
    line = desk.connect()
    if "from_" in fields:
        fields["from"] = fields.pop("from_")
    line.send({"type": "subscribe", "sub": 1, "filter": filter, **fields})
    return line, line.read()


def test_catch_up_stops_at_a_page_until_there_is_room() -> None:
    """SPEC 1.16, I13: the outbox holds one page, however much is behind it."""
    desk = Desk(limits=LIMITS)
    fill(desk, 3 * ROW)
    line, packets = begin(desk, from_="earliest")
    assert handed(packets) == list(range(1, ROW + 1))
    assert line.outbox.wants_room
    line.room()
    assert handed(line.read()) == list(range(ROW + 1, 2 * ROW + 1))
    packets = line.drain()
    assert handed(packets) == list(range(2 * ROW + 1, 3 * ROW + 1))
    assert packets[-1] == {"type": "caught_up", "sub": 1, "after": {LOG: 3 * ROW}}


def test_catch_up_waits_while_the_outbox_is_over_half() -> None:
    desk = Desk(limits=LIMITS)
    fill(desk, 2)
    line = desk.connect()
    line.outbox.size = LIMITS.max_outbox_bytes // 2 + 1
    line.send({"type": "subscribe", "sub": 1, "filter": "a", "from": "earliest"})
    assert types(line.read()) == ["subscribed"]
    assert handed(line.drain()) == [1, 2]


def test_room_that_is_taken_by_others_is_waited_for_again() -> None:
    desk = Desk(limits=LIMITS)
    fill(desk, 2 * ROW)
    line, _ = begin(desk, from_="earliest")
    line.outbox.size = LIMITS.max_outbox_bytes
    line.room()
    assert (line.read(), line.outbox.wants_room) == ([], True)
    assert handed(line.drain()) == list(range(ROW + 1, 2 * ROW + 1))


def test_messages_published_meanwhile_come_once_and_in_order() -> None:
    """SPEC 4.4.2, I5, I10: as deliveries, until it is live."""
    desk = Desk(limits=LIMITS)
    fill(desk, 2 * ROW)
    line, packets = begin(desk, from_="earliest")
    fill(desk, 2)
    assert line.outbox.items == [], "not live, so nothing comes by itself"
    packets += line.drain()
    assert types(packets) == ["subscribed", *["delivery"] * (2 * ROW + 2), "caught_up"]
    assert handed(packets) == list(range(1, 2 * ROW + 3))
    fill(desk, 1)
    assert types(line.read()) == ["message"]


def test_live_subscription_on_the_same_connection_goes_on_meanwhile() -> None:
    desk = Desk(limits=LIMITS)
    fill(desk, 2 * ROW)
    line, _ = begin(desk, from_="earliest")
    line.send({"type": "subscribe", "sub": 2, "filter": "b"})
    desk.publish("b")
    assert types(line.read()) == ["subscribed", "message"]


def test_unsubscribe_in_the_middle_ends_it() -> None:
    """SPEC 3.3.1."""
    desk = Desk(limits=LIMITS)
    fill(desk, 2 * ROW)
    line, _ = begin(desk, from_="earliest")
    assert types(line.ask({"type": "unsubscribe", "sub": 1})) == ["unsubscribed"]
    assert desk.router.live_subscriptions == 0


def test_detach_in_the_middle_ends_it() -> None:
    desk = Desk(limits=LIMITS)
    fill(desk, 2 * ROW)
    line, _ = begin(desk, from_="earliest")
    line.session.detach()
    line.room()
    assert line.read() == []


# Losses while it waits

STARTS: list[Packet] = [
    {"from_": "earliest"},
    {"from_": {"since": 0}},
    {"from_": {"last": 1_000}},
    {"after": {LOG: 0}},
    {"after": {"m0-earlier": 5}},
]


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_retention_that_overtakes_a_slow_catch_up_is_a_gap(start: Packet) -> None:
    """SPEC 4.6.1, I6: however it started, and whatever it was told at the start."""
    desk = Desk(TopicRule(retention_messages=2 * ROW, retention_bytes=10**9), limits=LIMITS)
    fill(desk, 2 * ROW)
    line, packets = begin(desk, **start)
    assert handed(packets) == list(range(1, ROW + 1))
    fill(desk, ROW + 2)
    packets = line.drain()
    assert types(packets) == ["gap", *["delivery"] * (2 * ROW), "caught_up"]
    assert (packets[0]["reason"], packets[0]["after"]) == ("retention", {LOG: ROW})
    assert handed(packets) == list(range(ROW + 3, 3 * ROW + 3))


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_retention_that_takes_what_was_delivered_is_none(start: Packet) -> None:
    desk = Desk(TopicRule(retention_messages=2 * ROW, retention_bytes=10**9), limits=LIMITS)
    fill(desk, 2 * ROW)
    line, _ = begin(desk, **start)
    fill(desk, ROW)
    packets = line.drain()
    assert types(packets) == [*["delivery"] * (2 * ROW), "caught_up"]


@pytest.mark.parametrize("start", STARTS[:2] + STARTS[3:], ids=str)
def test_loss_on_one_topic_does_not_hide_a_later_one_on_another(start: Packet) -> None:
    """SPEC 4.6.1, I6: b lost much at high places before the start, a loses at lower ones afterwards."""
    rules = (
        TopicRule(filter="b", retention_messages=1),
        TopicRule(retention_messages=2 * ROW, retention_bytes=10**9),
    )
    desk = Desk(*rules, limits=LIMITS)
    fill(desk, 2 * ROW)
    for _ in range(100):
        desk.publish("b")
    line, packets = begin(desk, "#", **start)
    known = types(packets).count("gap")
    assert known == (0 if start == {"from_": "earliest"} else 1)
    assert handed(packets) == list(range(1, ROW + 1))
    fill(desk, ROW + 2)
    packets = line.drain()
    assert types(packets)[0] == "gap"
    assert types(packets).count("gap") == 1
    assert handed(packets)[0] == ROW + 3


def test_loss_is_said_once() -> None:
    """A wildcard passes many pages below the place of one loss."""
    rules = (TopicRule(filter="b", retention_messages=1), TopicRule(retention_bytes=10**9))
    desk = Desk(*rules, limits=LIMITS)
    fill(desk, 3 * ROW)
    desk.publish("b")
    desk.publish("b")
    line, packets = begin(desk, "#", after={LOG: 0})
    packets += line.drain()
    assert types(packets).count("gap") == 1
    assert handed(packets) == [*range(1, 3 * ROW + 1), 3 * ROW + 2]


def test_every_new_loss_is_said() -> None:
    desk = Desk(TopicRule(retention_messages=2 * ROW, retention_bytes=10**9), limits=LIMITS)
    fill(desk, 2 * ROW)
    line, packets = begin(desk, from_="earliest")
    for _ in range(3):
        fill(desk, 2 * ROW)
        line.room()
        packets += line.read()
    assert types(packets).count("gap") == 3


def test_topic_forgotten_under_a_flood_is_a_gap() -> None:
    """SPEC 4.6.1, I6."""
    desk = Desk(limits=Limits(recent_bytes=0, max_shard_bytes=50_000))
    desk.publish("a")
    position = {LOG: 1}
    desk.publish("a")
    for number in range(200):
        desk.publish(f"flood/{number}", "x" * 500)
    answers = desk.connect().subscribe(1, "a", after=position)
    assert types(answers) == ["subscribed", "gap", "caught_up"]
    answers = desk.connect().subscribe(1, "#", after={LOG: 2})
    assert types(answers)[:2] == ["subscribed", "gap"]


# Time to live


def test_expired_messages_are_passed_over_and_prev_says_so() -> None:
    """SPEC 3.4.9, 4.3.4: no gap, for nothing was due."""
    desk = Desk()
    desk.publish("a")
    desk.publish("a", ttl_ms=100)
    desk.publish("a", ttl_ms=100)
    desk.publish("a")
    desk.now_ms += 100
    _, first, second, _ = desk.connect().subscribe(1, "a", from_="earliest")
    assert (first["message"]["offset"], second["message"]["offset"], second["prev"]) == (1, 4, 1)
    assert "prev" not in first


def test_prev_is_there_only_when_it_is_not_the_offset_before() -> None:
    """SPEC 4.3.4."""
    desk = Desk()
    for _ in range(3):
        desk.publish("a", ttl_ms=1_000)
    packets = desk.connect().subscribe(1, "a", from_="earliest")
    assert [packet.get("prev") for packet in packets if packet["type"] == "delivery"] == [None] * 3


def test_message_that_expires_between_two_pages_is_not_delivered() -> None:
    """SPEC 3.4.9, 4.3.4: the next one reaches over it."""
    desk = Desk(limits=LIMITS)
    fill(desk, ROW)
    desk.publish("a", BIG, ttl_ms=50)
    desk.publish("a", BIG)
    line, packets = begin(desk, from_="earliest")
    assert handed(packets) == list(range(1, ROW + 1))
    desk.now_ms += 50
    packets = line.drain()
    assert types(packets) == ["delivery", "caught_up"]
    assert (packets[0]["message"]["offset"], packets[0]["prev"]) == (ROW + 2, ROW)


def test_message_that_expired_for_one_reader_stays_so_when_the_clock_goes_back() -> None:
    """SPEC 4.3.4: else the next message would reach over too little."""
    desk = Desk()
    desk.publish("a", ttl_ms=100)
    desk.publish("a")
    desk.now_ms += 100
    (_, first, _) = desk.connect().subscribe(1, "a", from_="earliest")
    desk.now_ms -= 50
    (_, second, _) = desk.connect().subscribe(1, "a", from_="earliest")
    assert first["message"]["offset"] == second["message"]["offset"] == 2


def test_snapshot_waits_for_room_before_anything_else() -> None:
    """SPEC 3.2.5, 4.4.2."""
    desk = Desk(limits=LIMITS)
    for number in range(2 * ROW):
        desk.publish(f"t/{number}", BIG)
    line, packets = begin(desk, "t/+", from_="last")
    assert handed(packets) == list(range(1, ROW + 1))
    desk.publish("t/0", BIG)
    packets += line.drain()
    assert handed(packets) == list(range(1, 2 * ROW + 2))
    assert types(packets)[-1] == "caught_up"


def test_snapshot_that_waits_holds_no_messages() -> None:
    """S8: forty that nobody reads cost their outboxes one page each, and keep nothing from being forgotten."""
    desk = Desk(TopicRule(retention_messages=1), limits=LIMITS)
    for number in range(3 * ROW):
        desk.publish(f"t/{number}", BIG)
    lines = [begin(desk, "t/+", from_="last")[0] for _ in range(3)]
    gc.collect()
    old = [one for one in gc.get_objects() if isinstance(one, CatchUp)]
    assert [list(one.snapshot.values()) for one in old if one.snapshot] == [[ROW]] * 3
    for number in range(3 * ROW):
        desk.publish(f"t/{number}", number)
    for line in lines:
        packets = line.drain()
        assert handed(packets) == list(range(3 * ROW + 1, 6 * ROW + 1)), (
            "what has been replaced is not held any more"
        )
        assert types(packets)[-1] == "caught_up"


# Work: records looked at, whether they match or not


class CountingLog(MemoryLog):
    """A log that counts what its pages looked at."""

    def __init__(self, name: str, limits: Limits) -> None:
        super().__init__(name, limits)
        self.looked_at = 0

    def read(
        self,
        filter: str,
        after: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[Page], None],
        newest_at: int = 0,
    ) -> None:
        """Count, then as ever."""

        def count(page: Page) -> None:
            self.looked_at += page.looked_at
            done(page)

        super().read(filter, after, max_bytes, max_records, now_ms, count, newest_at)


class CountingDesk(Desk):
    """A desk that knows how many records its logs looked at."""

    def __init__(self, shards: int = 1) -> None:
        self.counting: list[CountingLog] = []
        super().__init__(shards=shards, make_log=self._make_log)

    def _make_log(self, name: str, limits: Limits) -> CountingLog:
        log = CountingLog(name, limits)
        self.counting.append(log)
        return log

    def looks(self) -> int:
        """Since it was last asked."""
        looked_at = sum(log.looked_at for log in self.counting)
        for log in self.counting:
            log.looked_at = 0
        return looked_at


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> int:
    """Turns of ten records: what five thousand would show takes longer to publish."""
    monkeypatch.setattr(catch_up, "PAGE_RECORDS", 10)
    return 10


def turns(desk: CountingDesk, line: Line) -> tuple[list[Packet], list[int]]:
    """Everything until nothing more is wanted, and what each turn looked at."""
    packets, looks = line.read(), [desk.looks()]
    while line.outbox.wants_room:
        line.room()
        packets += line.read()
        looks.append(desk.looks())
    return packets, looks


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("filter", ["nothing/+", "t/1", "t/#"])
def test_turn_looks_at_so_many_records_whether_they_match_or_not(
    short_turns: int, filter: str, shards: int
) -> None:
    """S8: a resume from nothing by a filter that matches nothing is no scan of everything."""
    desk = CountingDesk(shards)
    for number in range(120):
        desk.publish(f"t/{number % 40}")
    line = desk.connect()
    position = dict.fromkeys(desk.router.heads(), 0)
    line.send({"type": "subscribe", "sub": 1, "filter": filter, "after": position})
    packets, looks = turns(desk, line)
    assert max(looks) <= short_turns
    assert sum(looks) == (3 if filter == "t/1" else 120)
    assert len(handed(packets)) == {"nothing/+": 0, "t/1": 3, "t/#": 120}[filter]
    assert types(packets)[-1] == "caught_up"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("filter", ["nothing/+", "t/1", "t/#"])
def test_turn_of_a_snapshot_looks_at_so_many_records(short_turns: int, filter: str, shards: int) -> None:
    """S8, SPEC 3.2.5: the newest of each topic, found a piece at a time."""
    desk = CountingDesk(shards)
    places = [(one["log"], one["pos"]) for one in (desk.publish(f"t/{number % 40}") for number in range(120))]
    line = desk.connect()
    line.send({"type": "subscribe", "sub": 1, "filter": filter, "from": "last"})
    packets, looks = turns(desk, line)
    assert max(looks) <= short_turns
    assert sum(looks) == (1 if filter == "t/1" else 120)
    found = {(one["message"]["log"], one["message"]["pos"]) for one in packets if one["type"] == "delivery"}
    assert found == set({"nothing/+": [], "t/1": [places[81]], "t/#": places[80:]}[filter])
    assert types(packets) == ["subscribed", *["delivery"] * len(found), "caught_up"]
    assert packets[0]["after"] == packets[-1]["after"] == {"m0-life": 0, **desk.router.heads()} or filter == "t/1"


def test_snapshot_is_of_one_moment_however_many_turns_it_takes(short_turns: int) -> None:
    """SPEC 3.2.5, 4.2.1, I5: what is published meanwhile comes behind it, in order and once."""
    desk = CountingDesk()
    for number in range(50):
        desk.publish(f"t/{number % 25}")
    line = desk.connect()
    line.send({"type": "subscribe", "sub": 1, "filter": "t/+", "from": "last"})
    packets = line.read()
    while line.outbox.wants_room:
        if desk.logs[0].head() < 60:
            desk.publish(f"t/{desk.logs[0].head() % 25}")
        line.room()
        packets += line.read()
    assert packets[0]["after"] == {LOG: 50}
    assert handed(packets) == [*range(26, 51), *range(51, desk.logs[0].head() + 1)]


def test_subscriptions_of_one_connection_share_a_turn(short_turns: int) -> None:
    """S8: forty in one flight cost no more at once than one does, and all get there."""
    desk = CountingDesk()
    for _ in range(25):
        desk.publish("a")
    line = desk.connect()
    line.send(
        *[{"type": "subscribe", "sub": sub, "filter": "+", "after": {LOG: 20 - sub % 5}} for sub in range(1, 41)]
    )
    packets, looks = turns(desk, line)
    assert max(looks) <= short_turns
    assert types(packets).count("caught_up") == 40
    assert types(packets).count("delivery") == sum(5 + sub % 5 for sub in range(1, 41)) == sum(looks)
    assert desk.router.live_subscriptions == 40


def test_live_messages_do_not_wait_for_turns(short_turns: int) -> None:
    desk = CountingDesk()
    for _ in range(30):
        desk.publish("a")
    line = desk.connect()
    line.send({"type": "subscribe", "sub": 1, "filter": "nothing/+", "after": {LOG: 0}})
    line.send({"type": "subscribe", "sub": 2, "filter": "b"})
    assert line.outbox.wants_room
    desk.publish("b")
    assert types(line.read()) == ["subscribed", "subscribed", "message"]

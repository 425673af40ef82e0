"""S13: every way by which a message, or word of somebody, leaves or enters the core, under every kind of rights.

Each way works on two topics, `open` and `closed`, and says of which of them anything came through after its rights
had become what they are at the end. The expectation is the same for all ways: what is allowed then, and no more.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core.presence import Answer
from triode_broker.core.record import Record
from triode_broker.core.rights import Rights

from tests.core.acl_plants import planted
from tests.core.desk import Line, Packet
from tests.core.keeper import Keeper, everything_on
from tests.core.test_late_logs import LateDesk
from tests.log.late import LateLog

OPEN, CLOSED = "open", "closed"
ALL, PART, NONE = everything_on("rooms/#"), everything_on("rooms/#", but=["rooms/closed/#"]), Rights({})


class Room:
    """Ann, whose rights are in question, and a desk whose logs answer when told to."""

    def __init__(self, before: Rights, after: Rights) -> None:
        self.desk = LateDesk(limits=Limits(max_outbox_bytes=4_000), shards=2)
        self._keeper = Keeper(self.desk)
        self._after = after
        self.ann = self._keeper.connect("ann", before)
        self.lines = [self.ann]
        self.bob = self.desk.connect()
        self._topics = {name: self.in_log(0, name) for name in (OPEN, CLOSED)}
        self._late: list[Callable[[], None]] = []
        self.desk.node.presence.ask = self._ask_later

    def in_log(self, number: int, name: str) -> str:
        """A topic that is in one of the two logs. Those of the ways are in the first: so it can be read up to its
        head while the other one answers."""
        names = (f"rooms/{name}/{one}" for one in range(100))
        log = self.desk.late[number]
        return next(one for one in names if self.desk.router.shard_of(one).log is log)

    def _ask_later(self, topic: str, then: Answer) -> None:
        self._late.append(lambda: then(self.desk.node.presence.members(topic), True))

    def connect(self, **fields: Any) -> None:
        """Once more; it may be refused."""
        line = self.desk.dial()
        line.send({"type": "connect", "id": 1, "token": "ann", **fields})
        self.lines.append(line)

    def ask(self, **packet: Any) -> None:
        """Ann asks, and reads nothing."""
        self.ann.send({"id": 100 + packet.get("sub", 0), **packet})

    def subscribe(self, sub: int = 1, filter: str = "rooms/#", **fields: Any) -> None:
        """`from_` stands for `from`."""
        if "from_" in fields:
            fields["from"] = fields.pop("from_")
        self.ask(type="subscribe", sub=sub, filter=filter, **fields)

    @property
    def topics(self) -> list[str]:
        """Both."""
        return list(self._topics.values())

    def each(self, ask: Callable[[int, str], object]) -> None:
        """For both topics."""
        for sub, name in enumerate((OPEN, CLOSED), 1):
            ask(sub, self._topics[name])

    def tell(self, times: int = 1, **fields: Any) -> None:
        """Bob publishes on both."""
        for _ in range(times):
            for topic in self._topics.values():
                self.desk.publish(topic, "x" * 100, **fields)

    def stall(self) -> None:
        """Ann's connection is full."""
        for _ in range(50):
            self.desk.publish(self._topics[OPEN], "x" * 100)

    def turn(self) -> None:
        """Her rights become what they are at the end; what was in her outbox until now does not count."""
        for line in self.lines:
            line.take_items()
        if self._after is not None:
            self._keeper.let("ann", self._after)

    def came(self, line: Line | None = None) -> set[str]:
        """Of what anything comes from here on, whatever it is that waits."""
        found: list[Packet] = []
        for _ in range(20):
            self.desk.answer()
            late, self._late = self._late, []
            for answer in late:
                answer()
            self.desk.wait()
            found += (line or self.ann).drain()
        topics = [topic for packet in found for topic in _topics_in(packet)]
        return {name for name, topic in self._topics.items() if topic in topics}


def _topics_in(packet: Packet) -> list[str]:
    """Of what a packet says that there is something."""
    if packet["type"] == "history":
        return [message["topic"] for message in packet["messages"]]
    if packet["type"] == "presence":
        return [packet["topic"]] if packet["members"] else []
    if packet["type"] in ("message", "joined", "left"):
        return [packet["topic"]]
    return [packet["message"]["topic"]] if packet["type"] == "delivery" else []


# Ways out to a subscriber


def live(room: Room) -> set[str]:
    room.subscribe()
    room.turn()
    room.tell()
    return room.came()


def live_by_exact_topics(room: Room) -> set[str]:
    room.each(room.subscribe)
    room.turn()
    room.tell()
    return room.came()


def delayed(room: Room) -> set[str]:
    room.subscribe()
    room.tell(deliver_at_ms=room.desk.now_ms + 1_000)
    room.turn()
    room.desk.wait(1_000)
    room.desk.router.tick(room.desk.now_ms)
    return room.came()


def past(answers: int, **start: Any) -> Callable[[Room], set[str]]:
    """Rights change when so many questions have been answered."""

    def way(room: Room) -> set[str]:
        room.tell(3)
        room.subscribe(**start)
        for log in room.desk.late:
            log.answer(answers)
        room.turn()
        return room.came()

    return way


def last_of_a_topic(room: Room) -> set[str]:
    room.tell(3)
    room.each(lambda sub, topic: room.subscribe(sub, topic, from_={"last": 2}))
    room.turn()
    return room.came()


def resumed(room: Room) -> set[str]:
    room.tell(3)
    room.subscribe(after={log.name: 0 for log in room.desk.late})
    room.turn()
    return room.came()


def joined(room: Room) -> set[str]:
    """Of several logs one is read up to its head, and takes what is published, while another one answers."""
    room.tell()
    room.desk.publish(room.in_log(1, OPEN))
    room.subscribe(from_="earliest")
    for log in (0, 1, 0):
        room.desk.late[log].answer(1)
    room.turn()
    room.tell()
    return room.came()


def stalled(overflow: str) -> Callable[[Room], set[str]]:
    """Out of live, because the connection was slow, and back."""

    def way(room: Room) -> set[str]:
        room.subscribe(overflow=overflow)
        room.stall()
        room.tell()
        room.turn()
        if overflow == "gap":
            room.came()
            room.tell()
        return room.came()

    return way


def back_from_a_reset(room: Room) -> set[str]:
    """Its log is a new one: what that holds is read from its beginning."""
    room.subscribe()
    room.turn()
    log = LateLog("m0-another", room.desk.limits)
    for pos, topic in enumerate(room.topics, 1):
        payload = json.dumps({"type": "message", "topic": topic, "offset": 1, "log": log.name, "pos": pos})
        log.append(Record(topic, pos, 1, room.desk.now_ms, payload.encode()), TopicRule())
    room.desk.late[0] = log
    room.desk.router.own(room.desk.router.shards[0], log)
    return room.came()


# Ways out to who asks


def history(**asked: Any) -> Callable[[Room], set[str]]:
    def way(room: Room) -> set[str]:
        room.tell(3)
        room.each(lambda sub, topic: room.ask(type="history", topic=topic, **asked))
        room.turn()
        return room.came()

    return way


def who_is_present(room: Room) -> set[str]:
    room.each(lambda sub, topic: room.bob.subscribe(sub, topic, presence={"state": 1}))
    room.each(lambda sub, topic: room.ask(type="presence", topic=topic))
    room.turn()
    return room.came()


# Ways of presence


def watching(room: Room) -> set[str]:
    room.each(lambda sub, topic: room.subscribe(sub, topic, presence="watch"))
    room.desk.answer()
    room.turn()
    room.each(lambda sub, topic: room.bob.subscribe(sub, topic, presence={"state": 1}))
    return room.came()


def watching_while_stalled(room: Room) -> set[str]:
    """What a full connection is owed of others."""
    room.each(lambda sub, topic: room.subscribe(sub, topic, presence="watch", overflow="gap"))
    room.stall()
    for number in range(50):  # replies and state packets fill it up for good
        room.ask(type="ping", id=number + 1)
    room.each(lambda sub, topic: room.bob.subscribe(sub, topic, presence={"state": 1}))
    assert not room.ann.outbox.is_over or room.desk.node.presence.member_count
    room.turn()
    return room.came()


def being_seen(room: Room) -> set[str]:
    room.each(lambda sub, topic: room.subscribe(sub, topic, presence={"state": 1}))
    room.desk.answer()
    room.turn()
    room.each(lambda sub, topic: room.bob.send({"type": "presence", "id": sub, "topic": topic}))
    return room.came(room.bob)


# Ways in


def published(**fields: Any) -> Callable[[Room], set[str]]:
    def way(room: Room) -> set[str]:
        room.bob.subscribe(1, "rooms/#")
        room.turn()
        room.each(lambda sub, topic: room.ask(type="publish", topic=topic, data=1, **fields))
        room.desk.wait(1_000)
        room.desk.router.tick(room.desk.now_ms)
        return room.came(room.bob)

    return way


def will(room: Room) -> set[str]:
    room.bob.subscribe(1, "rooms/#")
    room.each(lambda sub, topic: room.connect(will={"topic": topic, "data": 1, "delay_ms": 500}))
    for line in room.lines:
        line.session.detach()
    room.turn()
    room.desk.wait(500)
    return room.came(room.bob)


# Acknowledged subscriptions: of all that the filter matches, or of nothing


def group(room: Room) -> set[str]:
    room.subscribe(group="workers")
    room.turn()
    room.tell()
    return room.came()


def group_with_a_backlog(room: Room) -> set[str]:
    room.tell(3)
    room.subscribe(group="workers", from_="earliest")
    room.turn()
    return room.came()


WAYS: dict[str, Callable[[Room], set[str]]] = {
    "live": live,
    "live, by exact topics": live_by_exact_topics,
    "delayed, due": delayed,
    "from earliest, asked": past(0, from_="earliest"),
    "from earliest, placed": past(1, from_="earliest"),
    "from since": past(0, from_={"since": 0}),
    "from last": past(0, from_="last"),
    "from last, of a topic": last_of_a_topic,
    "resumed": resumed,
    "caught up with one log": joined,
    "overflow replay": stalled("replay"),
    "overflow conflate": stalled("conflate"),
    "overflow gap": stalled("gap"),
    "after a reset": back_from_a_reset,
    "history, newest": history(last=5),
    "history, after": history(after={"m0-life": 0}),
    "presence, asked": who_is_present,
    "presence, watched": watching,
    "presence, owed": watching_while_stalled,
    "presence, seen": being_seen,
    "publish": published(),
    "publish, delayed": published(deliver_at_ms=1_001_000),
    "will": will,
}
WHOLE: dict[str, Callable[[Room], set[str]]] = {"group": group, "group with a backlog": group_with_a_backlog}


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        pytest.param(ALL, ALL, {OPEN, CLOSED}, id="allowed"),
        pytest.param(NONE, NONE, set(), id="denied"),
        pytest.param(PART, PART, {OPEN}, id="allowed in part"),
        pytest.param(ALL, PART, {OPEN}, id="revoked in part meanwhile"),
        pytest.param(ALL, NONE, set(), id="revoked meanwhile"),
        pytest.param(PART, NONE, set(), id="what was left is revoked meanwhile"),
    ],
)
@pytest.mark.parametrize("way", [*WAYS, *WHOLE])
def test_nothing_passes_but_what_is_allowed_then(
    way: str, before: Rights, after: Rights, allowed: set[str]
) -> None:
    """S13, I12: and what is allowed does pass, or the way would not be one."""
    if way in WHOLE:
        allowed = allowed if len(allowed) == 2 else set()
    assert (WAYS | WHOLE)[way](Room(before, after)) == allowed


#: Live ways, beside those of presence; and ways from a log, or from what was kept.
LIVE = {"live", "live, by exact topics", "delayed, due", "overflow gap"}
READ = {
    *("from earliest, asked", "from earliest, placed", "from since", "from last", "from last, of a topic"),
    *("resumed", "caught up with one log", "overflow replay", "overflow conflate", "after a reset"),
}
PRESENCE = {"presence, watched", "presence, owed", "presence, seen"}
#: Exact topics are allowed wholly or not at all: nothing of them is left to be asked about.
EXACT = {"live, by exact topics", "from last, of a topic"}


def leaks(before: Rights, after: Rights) -> set[str]:
    """The ways by which something gets through that is not allowed."""
    return {name for name, way in (WAYS | WHOLE).items() if CLOSED in way(Room(before, after))}


@pytest.mark.parametrize(
    ("plant", "before", "leaking"),
    [
        ("acl_only_at_subscribe", ALL, LIVE | READ | PRESENCE | WHOLE.keys()),
        ("acl_of_filters_only", PART, (LIVE | READ) - EXACT),
        ("acl_of_live_only", PART, READ - EXACT),
    ],
)
def test_planted_bug_is_found_behind_every_door(plant: str, before: Rights, leaking: set[str]) -> None:
    """S13: each way shows a broker that checks at the subscribe only, or filters only."""
    assert leaks(before, PART) == set()
    with planted(plant):
        assert leaks(before, PART) == leaking

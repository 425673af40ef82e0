"""Rights that change at any moment, judged over whole histories (I12, G10), and bugs that must not hide in them.

Clients publish, subscribe, stall, are cut and resume, while the rules in force change under them. What they saw is
written down as it came, and the checker that judges crashes and clusters judges it: nothing is handed over or
accepted that was not allowed, and what was allowed is neither lost nor doubled without a gap.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
from triode_broker.config import Limits
from triode_broker.core.rights import ACTIONS, Rights

from tests.core.acl_plants import PLANTS, planted
from tests.core.desk import Desk, Line, Packet
from tests.core.keeper import Keeper
from tests.history import events as history
from tests.history.checker import Violation, check
from tests.history.events import Recorder
from tests.history.streams import Stream

TOPICS = ("a/1", "a/2", "b/1", "b/2")
FILTERS = ("a/+", "b/#", "#", "+/1", "a/1", "b/2")
STARTS: tuple[Any, ...] = ("new", "new", "earliest", "last", {"since": 0})
OVERFLOWS = ("replay", "gap")  # what `conflate` replaces the checker would miss: see test_side_doors
STEPS = 120
LIMITS = Limits(max_outbox_bytes=3_000)
SEEDS = range(1, 41)


class Client:
    """One user; knows of each subscription where it is, as a client has to."""

    def __init__(self, story: "Story", name: str) -> None:
        self._story = story
        self.name = name
        self.number = 0  # of its connection
        self._ids = 0
        self._subs: dict[int, tuple[Stream, Packet]] = {}
        self._last_sub = 0
        self.line: Line
        self.dial()

    def dial(self) -> None:
        """A new connection; what was open goes on where it was."""
        self.number += 1
        self._story.recorder.note("open", self.name, self.number)
        self.line = self._story.dial()
        self.send("connect", token=self.name)
        subs, self._subs = self._subs, {}
        for number, (stream, start) in subs.items():
            if stream.was_subscribed and stream.is_snapshot:  # R7: it begins anew
                self.subscribe(stream.filter, **start)
            else:
                self._subs[number] = stream, start
                self._subscribe(number, stream, start)

    def send(self, type: str, **fields: Any) -> None:
        """A request, as it travels."""
        self._ids += 1
        packet = {"type": type, "id": self._ids, **fields}
        self._story.recorder.note("sent", self.name, self.number, packet)
        self.line.send(packet)

    def subscribe(self, filter: str, **start: Any) -> None:
        self._last_sub += 1
        stream = Stream(self.name, self._last_sub, filter)
        self._subs[self._last_sub] = stream, start
        self._subscribe(self._last_sub, stream, start)

    def _subscribe(self, number: int, stream: Stream, start: Packet) -> None:
        asked = {name: value for name, value in start.items() if name == "overflow"} | stream.again(start)
        stream.sent(self.number, {"sub": number, **asked})
        self.send("subscribe", sub=number, filter=stream.filter, **asked)

    def read(self) -> None:
        """Whatever is there."""
        for packet in self.line.read():
            event = self._story.recorder.note("got", self.name, self.number, packet)
            for stream, _ in self._subs.values():
                stream.got(event.t, packet)
            if packet["type"] in ("unsubscribed", "error"):
                self._subs.pop(packet.get("sub", 0), None)
        if self.line.outbox.wants_room:
            self.line.room()

    def cut(self) -> None:
        """Its connection is lost, with what was under way."""
        self._story.recorder.note("lost", self.name, self.number)
        for stream, _ in self._subs.values():
            stream.lost(0)
        self.line.session.detach()


class Story:
    """One run, decided by its seed: on one node, or on several, where `carry` has what is on its way arrive."""

    def __init__(self, seed: int, *desks: Desk, carry: Callable[[], None] = lambda: None) -> None:
        self._random = random.Random(seed)
        self._desks = desks
        self._carry = carry
        self._keeper = Keeper(*desks)
        self.recorder = Recorder(history.Rules(), lambda: 0)
        self._published = 0
        self.let("ann")
        self.let("bob")
        self.clients = [Client(self, "ann"), Client(self, "bob")]

    def dial(self) -> Line:
        """Anywhere."""
        return self._random.choice(self._desks).dial()

    def let(self, user: str) -> None:
        """Other rights; in force when this is over."""
        pick = self._random
        some = [(*FILTERS, *TOPICS), TOPICS]
        allow, deny = (
            {action: pick.sample(filters, pick.randint(0, most)) for action in ACTIONS}
            for filters, most in zip(some, (3, 2), strict=True)
        )
        self._keeper.let(user, Rights(allow, deny))
        self.recorder.note("rights", user, about={"allow": allow, "deny": deny})

    def step(self) -> None:
        """Something happens."""
        pick = self._random
        client = pick.choice(self.clients)
        if pick.random() < 0.3:
            self._carry()
        what = pick.choices(
            ("publish", "read", "let", "subscribe", "cut", "history"), weights=(12, 8, 2, 3, 1, 1)
        )[0]
        if what == "publish":
            self._published += 1
            data, id = "x" * pick.choice((1, 400)), f"m{self._published}"
            client.send("publish", topic=pick.choice(TOPICS), data=data, message_id=id)
        elif what == "read":
            client.read()
        elif what == "let":
            self.let(client.name)
        elif what == "subscribe":
            client.subscribe(
                pick.choice(FILTERS), overflow=pick.choice(OVERFLOWS), **{"from": pick.choice(STARTS)}
            )
        elif what == "cut":
            client.cut()
            client.dial()
        else:
            client.send("history", topic=pick.choice(TOPICS), last=5)

    def end(self) -> list[Violation]:
        """Everybody reads to the end; what is wrong with all of it."""
        for _ in range(50):
            self._carry()
            for client in self.clients:
                client.read()
        self.recorder.note("final", "final")
        self.recorder.note("open", "final", 1)
        reader = self._desks[0].connect()
        reader.send({"type": "subscribe", "id": 2, "sub": 1, "filter": "#", "from": "earliest"})
        self._carry()
        for packet in reader.drain():
            self.recorder.note("got", "final", 1, packet)
        return check(self.recorder.events)


def on_a_desk(seed: int) -> Story:
    """One node."""
    return Story(seed, Desk(shards=2, limits=LIMITS))


def play(story: Story) -> list[Violation]:
    for _ in range(STEPS):
        story.step()
    return story.end()


@pytest.mark.parametrize("seed", SEEDS)
def test_rights_may_change_at_any_moment(seed: int) -> None:
    """I12, S11; and G4 beside it: whatever was due has come, once and in order, or a gap says that it has not."""
    assert play(on_a_desk(seed)) == []


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_bug_is_caught(plant: str) -> None:
    """The invariant that is broken is found by the seeds above, or they would be too weak."""
    with planted(plant):
        found = {violation.invariant for seed in SEEDS for violation in play(on_a_desk(seed))}
    assert "I12" in found

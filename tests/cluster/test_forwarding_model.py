"""Forwarded publishes against a model: links are cut, owners move, die, stop, come back (G2, G3, I4, I15).

No publish is applied twice or written to two owners, publishers' order is the log's, an error but `timeout` means
not applied, and every publish ends in time. Each of these is broken by some planted mistake, and that is noticed.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from triode_broker.cluster import accepting, forwarding
from triode_broker.cluster.accepting import Accepting, Stream
from triode_broker.cluster.forwarded import Link
from triode_broker.cluster.forwarding import Forwarder
from triode_broker.cluster.frames import Forward, Refusal
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from tests.cluster.forwarding_world import Broken, World

SEEDS = 300
STORMY_STEPS = 300
CALM_STEPS = 70


@pytest.fixture(autouse=True)
def short_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that links are full between two frames of one turn."""
    monkeypatch.setattr(forwarding, "FRAME_BYTES", 1_000)


def play(seed: int, **fields: Any) -> World:
    """One history, judged."""
    world = World(Random(seed), **fields)
    for _ in range(STORMY_STEPS):
        world.misfortune()
        world.step(is_calm=False)
    world.calm()
    for _ in range(CALM_STEPS):
        world.step(is_calm=True)
    world.quiet(2_000)
    begun = dict(world.begun)
    for entry in world.entries:
        for client in entry.clients:
            entry.publish(client)
    world.quiet(5_500)
    world.judge()
    assert {end for text, end in world.ends.items() if text not in begun} <= {"ok", "quota"}  # I14
    return world


@pytest.mark.parametrize("block", range(10))
def test_forwarded_publishes_keep_their_promises(block: int) -> None:
    """I4, I15, G2."""
    for seed in range(block * SEEDS // 10, (block + 1) * SEEDS // 10):
        try:
            play(seed)
        except (Broken, ValueError, AssertionError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_model_meets_what_it_is_about() -> None:
    """Or it would prove nothing."""
    ends: dict[str, int] = {}
    moved = forwarded = 0
    for seed in range(20):
        world = play(seed)
        for end in world.ends.values():
            ends[end] = ends.get(end, 0) + 1
        moved += sum(entry.forwarder.moved for entry in world.entries)
        forwarded += sum(entry.forwarder.forwarded for entry in world.entries)
    assert {"ok", "timeout", "unavailable", "quota", "overloaded"} <= set(ends)
    assert moved > 100
    assert ends["ok"] > forwarded / 3


class Reroutes(Forwarder):
    """Gives unknown ones to the next owner."""

    def _give_up_asked(self) -> None:
        self._waiting.extendleft(reversed([row for row in self._asked if not row.is_settled]))
        self._asked.clear()


class SendsAgainToAnybody(Forwarder):
    """Takes the new owner for the old one."""

    def link_to(self, link: Link, owner_incarnation: str, log: str) -> None:
        self._asked_of = owner_incarnation
        super().link_to(link, owner_incarnation, log)


class SaysUnavailable(Forwarder):
    """Of what may have been applied."""

    def _give_up(self, row: Any) -> None:
        self._drop(row, Refused(ErrorName.UNAVAILABLE, "surely not?"))


class NeverGivesUp(Forwarder):
    """Waits for answers for ever."""

    def tick(self) -> None:
        self._go_on()


class KeepsItsPast(Forwarder):
    """Asks again under a new incarnation."""

    def restart(self) -> None:
        """Nothing."""


class ForgetsMoved(Stream):
    """Takes what comes behind one that was moved."""

    def receive(self, link: Link, frame: Forward, now_ms: int) -> None:
        self._last_moved = 0
        super().receive(link, frame, now_ms)


class DoesNotAdvance(Stream):
    """Over what it did not apply: whatever is sent again is new."""

    def receive(self, link: Link, frame: Forward, now_ms: int) -> None:
        while self._kept and isinstance(self._kept[-1], Refusal):
            self._kept.pop()
        super().receive(link, frame, now_ms)


class ForgetsWithLinks(Accepting):
    """Begins anew with every link."""

    def receive(self, link: Link, entry_incarnation: str, frame: Forward) -> None:
        entry = self._entries.get(entry_incarnation)
        if entry is not None and entry.streams and entry.streams["m0"]._link is not link:
            self.forget(entry_incarnation)
        super().receive(link, entry_incarnation, frame)


FORWARDERS = (
    Reroutes,
    SendsAgainToAnybody,
    SaysUnavailable,
    NeverGivesUp,
    KeepsItsPast,
)


def is_noticed(play_one: Callable[[int], object]) -> bool:
    """Whether a hundred seeds are enough."""
    for seed in range(100):
        try:
            play_one(seed)
        except (Broken, ValueError, AssertionError, IndexError, KeyError):
            return True
    return False


@pytest.mark.parametrize("planted", FORWARDERS)
def test_planted_mistakes_of_entry_nodes_are_noticed(planted: type[Forwarder]) -> None:
    """The model has teeth."""
    assert is_noticed(lambda seed: play(seed, make_forwarder=planted))


@pytest.mark.parametrize("planted", [ForgetsMoved, DoesNotAdvance])
def test_planted_mistakes_of_owners_are_noticed(planted: type[Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has teeth."""
    monkeypatch.setattr(accepting, "Stream", planted)
    assert is_noticed(play)


def test_forgetting_what_was_applied_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has teeth."""
    monkeypatch.setattr("tests.cluster.forwarding_world.Accepting", ForgetsWithLinks)
    assert is_noticed(play)


def test_frames_of_a_superseded_link_are_noticed() -> None:
    """The model has teeth."""
    assert is_noticed(lambda seed: play(seed, accepts_superseded=True))

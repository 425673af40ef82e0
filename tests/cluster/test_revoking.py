"""S19, G10: revocations between nodes: told at once, exchanged when a link opens, heard before clients come in."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock
from triode_broker.cluster.calls import BadQuestion, Calls
from triode_broker.cluster.frames import AnyFrame, Call, Reply
from triode_broker.cluster.link import Link
from triode_broker.cluster.revoking import HOLD_MS, METHOD, Spreading, next_chunk, place
from triode_broker.config import Limits
from triode_broker.core.node import Node
from triode_broker.core.policy import Policies
from triode_broker.core.revocations import MOST_OF_OTHERS, Revocation
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog
from triode_protocol.codec import Refused

from tests.cluster.rig import Lines, Net, network, steady_ms
from tests.cluster.rig import Node as Linked
from tests.sim.scheduling import passes

NOW = 1_000_000
KINDS = 3_000


def of(value: str, at_ms: int = NOW) -> Revocation:
    return Revocation("token", value, at_ms, 0)


@define(eq=False)
class Office:
    """One node: its links, its table, its gate; what the cluster and the server do with them."""

    linked: Linked
    calls: Calls
    node: Node
    spreading: Spreading
    log: Lines
    changed: trio.Event = field(factory=trio.Event)
    may_take: trio.Event = field(factory=trio.Event)
    is_held: bool = False
    was_held: int = 0
    kept: str = "memory"

    async def take(self, entries: Sequence[Revocation]) -> tuple[list[Revocation], int]:
        """`Keeper`."""
        await self.may_take.wait()
        news = self.node.revocations.merge(entries, NOW)
        self.note()
        return news, len(news)

    def note(self) -> None:
        """Something has changed."""
        self.changed.set()
        self.changed = trio.Event()

    def hold(self) -> None:
        """`Held`."""
        self.is_held = True
        self.was_held += 1

    def release(self) -> None:
        """`Held`."""
        self.is_held = False
        self.note()

    async def knows(self, *values: str) -> None:
        """Wait until it has just these in force."""
        with trio.fail_after(60):
            while [entry.value for entry in self.node.revocations.in_force(NOW)] != sorted(values):
                await self.changed.wait()

    async def lets_in(self) -> None:
        """Wait until its gate is not held."""
        with trio.fail_after(60):
            while self.is_held:
                await self.changed.wait()

    def revoke(self, *values: str) -> list[Revocation]:
        """Without telling anybody."""
        return [self.node.revocations.add(of(value)) for value in values]

    async def tell(self, entries: Sequence[Revocation], node: str) -> Any:
        """As an operator's call does."""
        said = {"entries": [msgspec.to_builtins(entry) for entry in entries]}
        return await self.calls.ask(self.linked.link_to(node), METHOD, said)

    async def tick(self) -> None:
        while True:
            self.spreading.tick(self.linked.links.addresses)
            await passes(0.2)


def hear(office: Office, link: Link, frames: list[AnyFrame]) -> None:
    for frame in frames:
        if isinstance(frame, Call):
            office.calls.called(link, frame)
        elif isinstance(frame, Reply):
            office.calls.replied(link, frame)


@define
class Town:
    """Nodes over streams in memory."""

    net: Net

    async def office(
        self, name: str, *seeds: str, knows: Sequence[str] = (), most: int = 10_000, speaks: bool = True
    ) -> Office:
        """Start one that knows this already; one that does not speak is of a build without all that."""
        linked = await self.net.node(name)
        limits, log = Limits(max_revocations=most), Lines()
        router = Router([Shard(MemoryLog("m0-a", limits), 1)], Policies(()), limits)
        node = Node(name, router, limits, str, steady_ms)
        calls = Calls({}, log)
        spreading = Spreading(node, calls, log)
        office = Office(linked, calls, node, spreading, log)
        office.may_take.set()
        office.revoke(*knows)
        linked.story.hears.append(lambda link, frames: hear(office, link, frames))
        linked.story.closes.append(lambda link, reason: calls.closed(link))
        await self.net.nursery.start(calls.run)
        if speaks:
            linked.story.acts.append(spreading.opened)
            linked.story.closes.append(lambda link, reason: spreading.closed(link))
            spreading.keeper, spreading.gate = office, office
            if seeds:
                spreading.hold()
            await self.net.nursery.start(spreading.run)
        else:
            del calls.methods[METHOD]
        await self.net.start(linked, *seeds)
        if speaks:
            self.net.nursery.start_soon(office.tick)
        return office


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    async with network() as net:
        with trio.fail_after(600):
            yield Town(net)
        net.nursery.cancel_scope.cancel()


async def test_two_nodes_that_meet_know_what_both_knew(autojump_clock: MockClock) -> None:
    async with town() as here:
        n1 = await here.office("n1", knows=["a", "b"])
        n2 = await here.office("n2", "n1", knows=["c"])
        await n1.knows("a", "b", "c")
        await n2.knows("a", "b", "c")


async def test_what_one_hears_all_hear_by_whatever_way_there_is(autojump_clock: MockClock) -> None:
    """n1 and n3 do not reach each other."""
    async with town() as here:
        n1 = await here.office("n1")
        n2 = await here.office("n2", "n1")
        n3 = await here.office("n3", "n2")
        for office in (n1, n2, n3):
            await office.lets_in()
        entries = n1.revoke("a")
        heard = await n1.tell(entries, "n2")
        assert (heard["closed"], heard["kept"], heard["entries"]) == (1, "memory", [])
        await n3.knows("a")
        lifted = n3.node.revocations.lift(("token", "", "a"), NOW)
        assert lifted is not None
        await n3.tell([lifted], "n2")
        await n1.knows()


async def test_long_tables_travel_in_pieces(autojump_clock: MockClock) -> None:
    async with town() as here:
        names = [f"{number:04}{'x' * 200}" for number in range(KINDS)]
        n1 = await here.office("n1", knows=names[: KINDS // 2])
        n2 = await here.office("n2", "n1", knows=names[KINDS // 2 :])
        await n1.knows(*names)
        await n2.knows(*names)


def test_pieces_follow_on_each_other() -> None:
    entries = [of(f"{number:04}{'x' * 200}") for number in range(KINDS)]
    found: list[Revocation] = []
    after: str | None = ""
    count = 0
    while after is not None:
        chunk, after = next_chunk(entries, after)
        found += [msgspec.json.decode(one, type=Revocation) for one in chunk]
        count += 1
    assert found == entries
    assert count > 2
    assert next_chunk(entries, place(entries[-1])) == ([], None)


async def test_a_node_that_joins_lets_nobody_in_before_it_has_heard_another_one(autojump_clock: MockClock) -> None:
    """SPEC 11.6.4"""
    async with town() as here:
        await here.office("n1", knows=["a"])
        n2 = await here.office("n2", "n1")
        assert n2.is_held
        n2.may_take = trio.Event()
        await n2.linked.linked()
        assert n2.is_held
        n2.may_take.set()
        await n2.lets_in()
        assert [entry.value for entry in n2.node.revocations.all()] == ["a"]
        assert steady_ms() < HOLD_MS
        assert not n2.log.of("revocations_not_heard")


async def test_where_no_seed_can_be_reached_nobody_waits(autojump_clock: MockClock) -> None:
    async with town() as here:
        n2 = await here.office("n2", "n1")
        await n2.lets_in()
        assert steady_ms() < HOLD_MS


async def test_nobody_waits_for_ever_for_a_seed_that_is_silent(autojump_clock: MockClock) -> None:
    async with town() as here:

        async def swallow(stream: trio.abc.Stream) -> None:
            async for _ in stream:
                pass

        here.net.accepts["n1"] = swallow
        n2 = await here.office("n2", "n1")
        await n2.lets_in()
        assert HOLD_MS <= steady_ms() < HOLD_MS + 1_000
        assert n2.log.of("revocations_not_heard") == [{"node": "", "waited_ms": HOLD_MS}]


async def test_a_node_that_was_cut_off_hears_what_it_missed_before_it_lets_anybody_in(
    autojump_clock: MockClock,
) -> None:
    async with town() as here:
        n1 = await here.office("n1")
        n2 = await here.office("n2", "n1")
        await n2.lets_in()
        await n2.linked.linked()
        held = n2.was_held
        for link in n2.linked.links.links:
            link.close("cut")
        assert not n2.is_held  # what it cannot know it cannot wait for
        n1.revoke("a")
        n2.may_take = trio.Event()
        await n2.linked.story.until(lambda: n2.was_held > held)
        n2.may_take.set()
        await n2.lets_in()
        assert [entry.value for entry in n2.node.revocations.all()] == ["a"]


async def test_a_node_that_never_answers_is_waited_for_once(autojump_clock: MockClock) -> None:
    async with town() as here:
        n1 = await here.office("n1")
        n2 = await here.office("n2", "n1")
        await n2.lets_in()
        n1.may_take = trio.Event()  # from now on it answers nothing that tells it something
        n2.revoke("a")
        for count in (1, 1):
            for link in n2.linked.links.links:
                link.close("cut")
            await n2.linked.linked()
            await n2.lets_in()
            assert len(n2.log.of("revocations_not_heard")) == count
        n1.may_take.set()
        await n1.knows("a")


async def test_a_build_that_knows_nothing_of_it_has_nothing_to_tell(autojump_clock: MockClock) -> None:
    async with town() as here:
        n1 = await here.office("n1", speaks=False)
        n2 = await here.office("n2", "n1", knows=["a"])
        await n2.lets_in()
        assert steady_ms() < HOLD_MS
        with pytest.raises(BadQuestion):
            await n2.tell(n2.revoke("b"), "n1")
        assert n1.node.revocations.all() == []


async def test_a_link_that_is_lost_in_the_middle_costs_nothing(autojump_clock: MockClock) -> None:
    async with town() as here:
        n1 = await here.office("n1", knows=["a"])
        n1.may_take = trio.Event()
        n2 = await here.office("n2", "n1", knows=["b"])
        await n2.linked.linked()
        for link in n2.linked.links.links:
            link.close("cut")
        n1.may_take.set()
        await n1.knows("a", "b")
        await n2.knows("a", "b")


async def test_a_table_that_is_full_says_so_to_who_tells_it_more(autojump_clock: MockClock) -> None:
    async with town() as here:
        n1 = await here.office("n1", most=1)
        n2 = await here.office("n2", "n1")
        await n2.lets_in()
        entries = n2.revoke(*map(str, range(MOST_OF_OTHERS + 1)))
        with pytest.raises(Refused, match="so many revocations"):
            await n2.tell(entries, "n1")
        assert n1.log.of("revocations_refused")
        assert n1.node.revocations.all() == []


@pytest.mark.parametrize(
    "said",
    [
        {"entries": [{"kind": "everybody", "value": "a", "at_ms": 1, "until_ms": 0}]},
        {"entries": [{"kind": "user", "value": "a", "at_ms": -1, "until_ms": 0}]},
        {"entries": [{"kind": "user", "value": "x" * 2_000, "at_ms": 1, "until_ms": 0}]},
        {"entries": 7},
        {"after": 7},
    ],
)
async def test_what_is_no_revocation_is_refused(said: Mapping[str, Any], autojump_clock: MockClock) -> None:
    """S22: what another node says is decoded by its type."""
    async with town() as here:
        n1 = await here.office("n1")
        n2 = await here.office("n2", "n1")
        await n2.lets_in()
        with pytest.raises(BadQuestion):
            await n2.calls.ask(n2.linked.link_to("n1"), METHOD, said)
        assert n1.node.revocations.all() == []


async def test_a_node_that_starts_says_that_it_takes_nothing_yet(autojump_clock: MockClock) -> None:
    async with town() as here:
        n1 = await here.office("n1")
        n2 = await here.office("n2", "n1")
        await n2.lets_in()
        n1.spreading.keeper = None
        with pytest.raises(Refused, match="is starting"):
            await n2.tell(n2.revoke("a"), "n1")

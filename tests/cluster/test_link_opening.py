"""Which links come to be: refusals in both logs, one per node and direction, superseded ones, taken names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from triode_broker.cluster.carrier import Carrier, Ended, dial
from triode_broker.cluster.frames import Behind, Mark
from triode_broker.cluster.hello import Dialler, HelloRefused, Identity, Refusal

from tests.cluster.rig import SECRET, Gate, Node, by_hand, identity, network, steady_ms


def refusals(node: Node) -> list[tuple[str, str]]:
    """Reason and who has refused."""
    return [(line["reason"], line["by"]) for line in node.log.of("peer_refused")]


@pytest.mark.parametrize(
    ("changed", "reason", "is_found_by_the_dialler"),
    [
        ({"cluster": "other"}, "other_cluster", False),
        ({"secret": b"quite another secret"}, "wrong_secret", False),
        ({"secret": b""}, "wrong_secret", False),
        ({"memory_shards": 4}, "other_shards", False),
        ({"durable_shards": 2}, "other_shards", False),
        ({"hash_version": 2}, "other_hash_version", False),
    ],
)
async def test_a_refusal_stands_in_both_logs(
    changed: dict[str, Any], reason: str, is_found_by_the_dialler: bool, autojump_clock: MockClock
) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        n2 = await net.node("n2", "n1", **changed)
        with trio.move_on_after(4):
            await n2.linked()
        assert refusals(n1) == [(reason, "this node")]
        assert refusals(n2) == [(reason, "peer")]
        assert n1.log.of("peer_refused")[0]["node"] == "n2"
        assert n2.log.of("peer_refused")[0]["url"] == "ws://n1:7401"
        assert n1.log.loud() == n2.log.loud() == ["peer_refused"]
        assert (n1.story.events, n2.story.events) == ([], [])
        with trio.move_on_after(60):
            await n2.linked()
        assert 6 <= n2.connects <= 13  # people have to change something: it does not hurry


async def test_what_the_dialler_refuses_stands_in_both_logs_too(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        n2 = Node(net, identity("n2"), SECRET, n1.means.limits)
        n2.means.admit = lambda peer, is_dialler: Refusal("name_taken", "as the test wants it")
        await net.start(n2, "n1")
        with trio.move_on_after(0.01):
            await n2.linked()
        assert refusals(n1)[0] == ("name_taken", "peer")
        assert refusals(n2)[0] == ("name_taken", "this node")
        assert n1.story.events == []


async def test_what_differs_and_is_not_refused_is_told_as_drift(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", configuration={"topics": "1"})
        n2 = await net.node("n2", "n1", configuration={"topics": "2"}, version="0.2.0")
        await n1.linked()
        await n2.linked()
        assert n1.log.of("peer_link_opened") == [
            {
                "node": "n2",
                "incarnation": identity("n2").incarnation,
                "dialled": False,
                "protocol": 1,
                "drift": ["topics", "version"],
            }
        ]
        assert n1.links.links[0].peer == n2.links.identity


async def test_a_node_that_dials_itself_gives_up_in_silence(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", "n1")
        with trio.move_on_after(60):
            await n1.linked()
        assert n1.connects == 1
        assert n1.log.loud() == []
        n1.links.learn("ws://n1:7401")
        await wait_all_tasks_blocked()
        assert n1.connects == 1
        assert [(address.url, address.state) for address in n1.links.addresses] == [("ws://n1:7401", "self")]


async def test_nobody_can_make_a_node_give_up_an_address_by_saying_self(autojump_clock: MockClock) -> None:
    """Or `duplicate`: those two only the dialler itself can know."""
    async with network() as net:
        n1 = await net.node("n1")

        def refuse(peer: Identity, is_dialler: bool) -> Refusal:
            return Refusal("self")

        n1.means.admit = refuse
        n2 = await net.node("n2", "n1")
        with trio.move_on_after(60):
            await n2.linked()
        assert n2.connects > 3
        n1.means.admit = lambda peer, is_dialler: None
        await n2.linked()


async def test_two_addresses_of_one_node_make_one_link_and_the_second_one_stands_in(
    autojump_clock: MockClock,
) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        net.accepts["alias"] = n1.links.serve_stream
        n2 = await net.node("n2", "n1", "alias")
        with trio.move_on_after(60):
            await n2.linked(2)
        assert len(n1.links.links) == len(n2.links.links) == 1
        assert [what for what, _, _ in n1.story.events] == ["opened"]
        assert n2.connects <= 4
        assert n2.log.loud() == []
        linked = next(address for address in n2.links.addresses if address.state == "linked")
        del net.accepts[linked.at.host]  # that address is gone, the node is not
        n1.links.links[0].close("stopped")
        await n2.story.until(lambda: n2.story.reasons)
        with trio.fail_after(3):
            await n2.linked()


async def test_a_new_hello_of_the_same_life_supersedes_the_old_link(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as old:
            first = n1.link(is_dialler=False)
            async with by_hand(n1, identity("n2")) as new:
                second = n1.link(is_dialler=False)
                assert [(what, link is first, reason) for what, link, reason in n1.story.events] == [
                    ("opened", True, ""),
                    ("closed", True, "superseded"),
                    ("opened", False, ""),
                ]
                assert not first.is_open
                await new.send(Behind("m0-1"))
                await n1.story.until(lambda: n1.story.frames)
                assert n1.story.frames == [(second, Behind("m0-1"))]
                with pytest.raises(Ended, match="superseded"):
                    await old.receive()
                assert n1.links.links == [second]


async def test_frames_of_a_superseded_link_that_come_late_reach_nobody(autojump_clock: MockClock) -> None:
    """They are sent while the new hello is under way: some were received, and even queued."""
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as old:

            async def chatter() -> None:
                with suppress(Ended):
                    for pos in range(1_000):
                        await old.send(Mark("m0-1", pos + 1, pos))

            first = n1.link(is_dialler=False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chatter)
                async with by_hand(n1, identity("n2")) as new:
                    heard = len(n1.story.frames)
                    assert n1.story.events[-2][:2] == ("closed", first)
                    await new.send(Behind("m0-1"))
                    await n1.story.until(lambda: len(n1.story.frames) > heard)
                    await wait_all_tasks_blocked()
                    assert [link is first for link, _ in n1.story.frames[heard:]] == [False]
                nursery.cancel_scope.cancel()


async def test_the_two_directions_do_not_supersede_each_other(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", cluster_advertise="ws://n1:7401")
        n2 = await net.node("n2", "n1", cluster_advertise="ws://n2:7401")
        await n1.linked(2)
        await n2.linked(2)
        with trio.move_on_after(60):
            await n1.story.until(lambda: n1.story.reasons)
        assert n1.story.reasons == n2.story.reasons == []


async def test_a_second_live_node_under_one_name_is_refused_until_the_first_is_gone(
    autojump_clock: MockClock,
) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        twin = identity("n2", incarnation="00000000000000ff")
        async with by_hand(n1, identity("n2")) as hand:
            with pytest.RaisesGroup(HelloRefused, flatten_subgroups=True):
                async with by_hand(n1, twin):
                    raise AssertionError("it came in")
            await wait_all_tasks_blocked()
            assert refusals(n1) == [("name_taken", "this node")]
            await hand.carrier.close("bye")
        await wait_all_tasks_blocked()
        async with by_hand(n1, twin):
            assert [link.peer for link in n1.links.links] == [twin]


async def test_a_name_is_free_again_after_ten_seconds_of_silence(autojump_clock: MockClock) -> None:
    """The old connection is half open; a host that lost its power says nothing. In either direction."""
    async with network() as net:
        n1 = await net.node("n1")
        twin = identity("n2", incarnation="00000000000000ff")
        async with by_hand(n1, identity("n2")):
            await n1.story.until(lambda: n1.story.reasons)
            async with by_hand(n1, twin):
                assert steady_ms() == 10_000
                assert [link.peer for link in n1.links.links] == [twin]


async def test_a_new_life_closes_links_and_comes_back_under_it(autojump_clock: MockClock) -> None:
    """A zombie (SIGSTOP): the node closes all and goes on as another incarnation."""
    async with network() as net:
        n1 = await net.node("n1", cluster_advertise="ws://n1:7401")
        n2 = await net.node("n2", "n1", cluster_advertise="ws://n2:7401")
        await n1.linked(2)
        await n2.linked(2)
        reborn = identity("n2", incarnation="00000000000000ff", cluster_advertise="ws://n2:7401")
        n2.links.restart(reborn, "zombie")
        assert n2.story.reasons == ["zombie", "zombie"]
        assert n2.links.links == []
        with trio.fail_after(3):
            await n2.linked(2)
            await n1.story.until(lambda: [link.peer for link in n1.links.links] == [reborn, reborn])


async def test_a_hello_that_began_in_another_life_ends(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with network(gate.pair) as net:
        n1 = await net.node("n1")
        n2 = await net.node("n2")
        gate.shut()
        n2.links.learn("ws://n1:7401")
        await wait_all_tasks_blocked()
        n2.links.restart(identity("n2", incarnation="00000000000000ff"), "zombie")
        net.pair = trio.testing.memory_stream_pair
        gate.opening.set()
        await n2.linked()
        await n1.linked()
        assert [link.peer.incarnation for link in n1.links.links] == ["00000000000000ff"]
        assert [what for what, _, _ in n2.story.events] == ["opened"]


@asynccontextmanager
async def welcomed(node: Node, me: Identity) -> AsyncIterator[tuple[Carrier, bytes]]:
    """A peer that has been let in and has not said its last word, `Ready`, yet."""
    ours, theirs = trio.testing.memory_stream_pair()
    node.net.nursery.start_soon(node.links.serve_stream, theirs)
    side = Dialler(me, SECRET, b"d" * 32, lambda peer, is_dialler: None)
    async with dial(ours, "n", 4_194_304) as carrier:
        carrier.trust()
        await carrier.send(side.begin())
        await carrier.send(side.answer(await carrier.receive()))
        yield carrier, side.answer(await carrier.receive())


async def test_of_two_twins_that_come_at_once_one_is_let_in(autojump_clock: MockClock) -> None:
    """Both were found welcome before the first one was there."""
    async with network() as net:
        n1 = await net.node("n1")
        first, second = identity("n2"), identity("n2", incarnation="00000000000000ff")
        async with welcomed(n1, first) as (one, ready), welcomed(n1, second) as (other, also_ready):
            await one.send(ready)
            await n1.linked()
            await other.send(also_ready)
            with pytest.raises(Ended, match="name_taken"):
                await other.receive()
            await wait_all_tasks_blocked()
            assert refusals(n1) == [("name_taken", "this node")]
            assert [link.peer for link in n1.links.links] == [first]


async def test_a_node_that_became_another_one_during_the_hello_opens_nothing(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with welcomed(n1, identity("n2")) as (carrier, ready):
            n1.links.restart(identity("n1", incarnation="00000000000000ff"), "zombie")
            await carrier.send(ready)
            with pytest.raises(Ended, match="restarted"):
                await carrier.receive()
        assert n1.story.events == []


async def test_a_bug_in_the_hello_is_told_once_a_second_and_ends_nothing(autojump_clock: MockClock) -> None:
    """S1: the barrier around a connection that is no link yet."""
    async with network() as net:
        n1 = await net.node("n1")
        means, n1.means.random_bytes = n1.means.random_bytes, lambda count: 1 / 0  # type: ignore[assignment,return-value]  # a bug
        await net.node("n2", "n1")
        with trio.move_on_after(0.5):
            await n1.linked()
        assert len(n1.log.of("peer_connection_failed")) == 1
        n1.means.random_bytes = means
        await n1.linked()


async def test_a_restart_of_a_node_is_let_in_as_soon_as_its_old_links_are_closed(
    autojump_clock: MockClock,
) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            await hand.stream.aclose()  # kill -9: the kernel closes
            await n1.story.until(lambda: n1.story.reasons)
            assert n1.story.reasons == ["lost"]
            async with by_hand(n1, identity("n2", incarnation="00000000000000ff")):
                assert len(n1.links.links) == 1
        assert steady_ms() == 0


async def test_addresses_that_are_none_are_refused_as_seeds(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = Node(net, identity("n1"), SECRET, (await net.node("n2")).means.limits)
        for url in (
            "http://n2:7401",
            "ws://",
            "ws://user@n2:1",
            "ws://n2:0",
            "ws://n2:99999",
            "ws://" + "n" * 300,
        ):
            with pytest.raises(ValueError, match=r"."):
                await n1.links.run([], [url])

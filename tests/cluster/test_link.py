"""Links between nodes, over streams in memory: two per pair, frames in order, life signs, and how they end."""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from triode_broker.cluster.carrier import Ended
from triode_broker.cluster.frames import AnyFrame, Behind, Call, Heard, Ping, Pong, Reply, decode
from triode_broker.cluster.link import MAX_UNANSWERED

from tests.cluster.rig import Node, by_hand, identity, network, steady_ms


def said(node: Node) -> list[AnyFrame]:
    """What a node was told, life signs left out."""
    return [frame for _, frame in node.story.frames]


def fail(*_: object) -> None:
    raise ZeroDivisionError


async def test_two_nodes_make_two_links_and_each_asks_on_its_own(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", cluster_advertise="ws://n1:7401")
        n2 = await net.node("n2", "n1", cluster_advertise="ws://n2:7401")
        await n1.linked(2)
        await n2.linked(2)
        for node, other in ((n1, n2), (n2, n1)):
            assert {link.is_dialler for link in node.links.links} == {True, False}
            assert {link.peer.node for link in node.links.links} == {other.links.identity.node}
            assert [address.url for address in node.links.addresses] == [f"ws://{other.links.identity.node}:7401"]
        n1.link(is_dialler=True).put(Call(1, "who", b"null"))
        await n2.story.until(lambda: said(n2))
        asked, question = n2.story.frames[0]
        assert question == Call(1, "who", b"null")
        assert not asked.is_dialler
        asked.put(Reply(1, b'"n2"'))
        await n1.story.until(lambda: said(n1))
        assert said(n1) == [Reply(1, b'"n2"')]
        assert n1.story.frames[0][0] is n1.link(is_dialler=True)


async def test_three_nodes_that_know_one_seed_each_are_learnt_by_url(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", cluster_advertise="ws://n1:7401")
        n2 = await net.node("n2", "n1", cluster_advertise="ws://n2:7401")
        n3 = await net.node("n3", "n1", cluster_advertise="ws://n3:7401")
        n3.links.learn("ws://n2:7401/whatever")
        n3.links.learn("http://n2:7401")
        n3.links.learn("ws://n2")
        for node in (n1, n2, n3):
            await node.linked(4)
        assert [address.node for address in n3.links.addresses] == ["n1", "n2"]


async def test_frames_put_in_one_turn_travel_in_one_message_in_their_order(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            frames = [Call(number, "m", b"") for number in range(100)]
            for frame in frames:
                n1.link(is_dialler=False).put(frame)
            assert await hand.receive() == frames


async def test_pings_are_answered_carry_heard_and_measure_the_way(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        n2 = await net.node("n2", "n1")
        n2.heard = {"n3": Heard("0" * 16, True, 5)}
        pings: list[Ping] = []
        n1.story.hears.append(lambda link, frames: pings.extend(f for f in frames if isinstance(f, Ping)))
        await n2.linked()
        assert math.isnan(n2.link(is_dialler=True).rtt_ms)
        await n1.story.until(lambda: len(pings) >= 3)
        assert pings[0] == Ping(1, {"n3": Heard("0" * 16, True, 5)})
        assert [ping.serial for ping in pings] == [1, 2, 3]
        assert n2.link(is_dialler=True).rtt_ms == 0.0  # nothing takes time here
        assert steady_ms() == 2_000
        assert n1.link(is_dialler=False).heard_ms == 2_000


async def test_a_pong_that_nobody_asked_for_is_no_measure(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            link = n1.link(is_dialler=False)
            await hand.send(Pong(77))
            await hand.carrier.receive()
            await wait_all_tasks_blocked()
            assert math.isnan(link.rtt_ms)
            second = decode(await hand.carrier.receive())[0]
            assert second == Ping(2, {})
            await hand.send(Pong(2), Pong(1))  # the first one is forgotten by then
            await n1.story.changed.wait()
            assert link.rtt_ms == 0.0


async def test_pings_that_are_never_answered_are_forgotten(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            link = n1.link(is_dialler=False)
            for _ in range(3 * MAX_UNANSWERED):
                await hand.carrier.receive()
                await hand.send(Behind("m0-1"))
            await wait_all_tasks_blocked()
            assert link.is_open
            assert len(link._pinged) == MAX_UNANSWERED
            await hand.send(Pong(max(link._pinged)))
            await n1.story.changed.wait()
            assert link.rtt_ms == 0.0


async def test_a_silent_peer_is_closed_after_ten_seconds(autojump_clock: MockClock) -> None:
    """Whose connection stays open: only the clock tells."""
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")):
            link = n1.link(is_dialler=False)
            await n1.story.until(lambda: n1.story.reasons)
            assert n1.story.reasons == ["silent"]
            assert steady_ms() - link.heard_ms == 10_000
            assert not link.is_open


async def test_any_complete_message_is_life(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            for frames in ([], [Behind("m0-1")], [], [Behind("m0-1")]):
                with trio.move_on_after(9):
                    await hand.receive()
                await hand.send(*frames)
            assert steady_ms() == 36_000
            assert n1.story.reasons == []


async def test_an_incomplete_message_is_no_life(autojump_clock: MockClock) -> None:
    """Half a WebSocket message, and a byte more every second: S4."""
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            await hand.stream.send_all(b"\x82\xff" + (1_000_000).to_bytes(8, "big") + b"\1\2\3\4")
            while not n1.story.reasons:
                await hand.stream.send_all(b"x")
                with trio.move_on_after(1):
                    await n1.story.changed.wait()
            assert n1.story.closed_ms == [10_000]
            assert n1.story.reasons == ["silent"]
            assert said(n1) == []


async def test_a_closed_link_takes_nothing_and_is_closed_once(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            link = n1.link(is_dialler=False)
            await wait_all_tasks_blocked()
            link.put(Behind("m0-1"))
            link.close("stopped")
            link.close("silent")
            assert not link.is_open
            assert link.over.is_set()
            assert link.outbox_bytes == 0
            link.put(Behind("m0-1"))
            assert link.outbox_bytes == 0
            assert n1.links.links == []
            assert n1.story.reasons == ["stopped"]
            with pytest.raises(Ended, match="stopped"):
                await hand.receive()


async def test_what_the_other_side_said_at_closing_stands_in_the_log(autojump_clock: MockClock) -> None:
    """S27: escaped, and no longer than a line bears."""
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            await hand.carrier.close("bye\n\x1b[2J")
            await n1.story.until(lambda: n1.story.reasons)
        assert n1.story.reasons == ["lost"]
        line = n1.log.of("peer_link_closed")[0]
        assert line == {"node": "n2", "dialled": False, "reason": "lost", "detail": "bye\\n\\u001b[2J"}


async def test_a_sink_that_fails_closes_the_link_it_was_told_of(autojump_clock: MockClock) -> None:
    """S1: and nothing else; the log has the traceback."""
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")), by_hand(n1, identity("n3")) as hand:
            n1.story.hears.append(fail)
            await hand.send(Behind("m0-1"))
            await n1.story.until(lambda: n1.story.reasons)
            n1.story.hears.clear()
            assert n1.story.reasons == ["failed"]
            assert [link.peer.node for link in n1.links.links] == ["n2"]
            assert n1.log.of("peer_link_failed") == [{"node": "n3"}]
        n1.story.acts.append(fail)
        async with by_hand(n1, identity("n4")) as hand:
            assert n1.story.events[-1][0::2] == ("closed", "failed")
            with pytest.raises(Ended, match="failed"):
                await hand.receive()


async def test_a_sink_that_fails_at_the_close_is_only_logged(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        n1.story.closes.append(fail)
        async with by_hand(n1, identity("n2")):
            n1.link(is_dialler=False).close("stopped")
        assert n1.log.loud() == ["peer_link_failed"]
        assert n1.links.links == []


async def test_an_end_of_the_process_closes_all_links(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        n2 = await net.node("n2", "n1")
        await n1.linked()
        await n2.linked()
    assert n1.story.reasons == n2.story.reasons == ["stopped"]

"""Dialling again: full jitter, in bounds, at once after a long life, and without end for a seed."""

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from triode_broker.cluster.addresses import parse_peer_url
from triode_broker.cluster.dialling import FORGET_SECONDS, LINKED, MAX_LEARNT, UNREACHABLE, Address, Dialling
from triode_broker.cluster.frames import Heard

from tests.cluster.rig import Lines, by_hand, identity, network


class Reach:
    """What is dialled: notes when, and answers from a list of lives in seconds; 0 is unreachable."""

    def __init__(self, *lives: float) -> None:
        self.lives = list(lives)
        self.at: list[float] = []

    async def __call__(self, address: Address) -> str:
        self.at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        life = self.lives.pop(0) if self.lives else 0.0
        if not life:
            return UNREACHABLE
        with trio.move_on_after(life):
            await trio.sleep_forever()
        return LINKED


async def pauses(reach: Reach, seconds: float, source: random.Random) -> list[float]:
    """The times between attempts at one seed."""
    dialling = Dialling(reach, source.random, Lines())
    dialling.learn("ws://n2", is_seed=True)
    with trio.move_on_after(seconds):
        await dialling.run()
    return [later - earlier for earlier, later in zip(reach.at, reach.at[1:], strict=False)]


async def test_pauses_are_jittered_and_never_longer_than_two_seconds(autojump_clock: MockClock) -> None:
    """Under the 3 s after which a node whose links are closed is dead."""
    found = await pauses(Reach(), 1_000, random.Random(1))
    for attempt, pause in enumerate(found):
        assert 0 <= pause <= min(2.0, 0.1 * 2**attempt) + 1e-6
    assert max(found) > 1.8
    assert 0.8 < sum(found[5:]) / len(found[5:]) < 1.2  # full jitter: half of the most on average


async def test_two_nodes_do_not_dial_in_step(autojump_clock: MockClock) -> None:
    one, other = Reach(), Reach()
    await pauses(one, 60, random.Random(1))
    await pauses(other, 60, random.Random(2))
    assert one.at[1:] != [time + 60 for time in other.at[1:]]


async def test_a_link_that_held_makes_the_next_pause_a_short_one(autojump_clock: MockClock) -> None:
    found = await pauses(Reach(0, 0, 0, 0, 0, 0, 5.0), 60, random.Random(3))
    assert found[6] <= 5.0 + 0.1 + 1e-6


async def test_links_that_break_at_once_do_not_make_a_storm(autojump_clock: MockClock) -> None:
    found = await pauses(Reach(*[0.001] * 200), 100, random.Random(4))
    assert len(found) < 130


async def test_a_seed_is_dialled_for_ever_and_a_learnt_address_is_forgotten(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", "n2")
        n1.links.learn("ws://n3:7401")
        n1.links.learn("ws://n3")
        assert [address.url for address in n1.links.addresses] == ["ws://n2:7401", "ws://n3:7401"]
        with trio.move_on_after(FORGET_SECONDS + 10):
            await n1.linked()
        assert [address.url for address in n1.links.addresses] == ["ws://n2:7401"]
        assert sorted(line["url"] for line in n1.log.of("peer_unreachable")) == ["ws://n2:7401", "ws://n3:7401"]
        await net.node("n2")
        with trio.fail_after(3):
            await n1.linked()
        assert [(address.node, address.state) for address in n1.links.addresses] == [("n2", "linked")]


async def test_a_connection_that_hangs_is_given_up_after_five_seconds(autojump_clock: MockClock) -> None:
    """In connecting, in the WebSocket handshake, in the hello: each only up to the same end."""
    async with network() as net:

        async def mute(stream: trio.abc.Stream) -> None:
            await trio.sleep_forever()

        net.accepts["n2"] = mute
        n1 = await net.node("n1", "n2")
        with trio.move_on_after(5.001):
            await n1.linked()
        assert n1.log.of("peer_unreachable") == [{"url": "ws://n2:7401", "reason": "no link after 5 s"}]
        assert n1.connects in (1, 2)


async def test_a_link_that_is_lost_is_made_again(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        n2 = await net.node("n2", "n1")
        for count in range(1, 6):
            await n2.linked()
            await n1.story.until(lambda count=count: len(n1.story.events) == 2 * count - 1)  # type: ignore[misc]  # bound
            await net.streams[-1].aclose()
            await n2.story.until(lambda count=count: len(n2.story.reasons) == count)  # type: ignore[misc]  # bound
        await n2.linked()
        assert set(n2.story.reasons) == {"lost"}


async def test_the_learnt_are_bounded(autojump_clock: MockClock) -> None:
    dialling = Dialling(Reach(), random.Random(1).random, Lines())
    for number in range(MAX_LEARNT + 10):
        dialling.learn(f"ws://n{number}")
    dialling.learn("ws://seed", is_seed=True)
    assert len(dialling.addresses) == MAX_LEARNT + 1


async def test_what_a_peer_says_where_it_is_is_dialled_too(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2", cluster_advertise="ws://n2:1234")):
            await wait_all_tasks_blocked()
            assert [address.url for address in n1.links.addresses] == ["ws://n2:1234"]
        async with by_hand(n1, identity("n3", cluster_advertise="file:///etc/passwd")):
            assert len(n1.links.addresses) == 1


async def test_who_knows_one_node_comes_to_know_all(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        others = [await net.node(name, "n1", cluster_advertise=f"ws://{name}:7401") for name in ("n2", "n3", "n4")]
        n1.heard = {name: Heard("00" * 8, is_closed=False, ms=0) for name in ("n2", "n3", "n4", "n5")}
        for node in others:
            await node.linked(6)
            assert len({(link.peer.node, link.is_dialler) for link in node.links.links}) == 6
        assert {heard.url for heard in n1.heard.values()} == {""}


@pytest.mark.parametrize(
    ("url", "host", "port", "is_tls", "written"),
    [
        ("ws://n2", "n2", 7401, False, "ws://n2:7401"),
        ("ws://N2:1/peer?x=1", "n2", 1, False, "ws://n2:1"),
        ("wss://n2.example", "n2.example", 443, True, "wss://n2.example:443"),
        ("ws://[::1]:7", "::1", 7, False, "ws://[::1]:7"),
    ],
)
def test_urls_are_host_and_port(url: str, host: str, port: int, is_tls: bool, written: str) -> None:
    at = parse_peer_url(url)
    assert (at.host, at.port, at.is_tls, at.url) == (host, port, is_tls, written)

"""The network itself: what TCP promises holds, and each fault does what its name says and nothing else."""

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio

from tests.sim.network import WINDOW_BYTES, Network, SimStream
from tests.sim.scheduling import passes, run

Play = Callable[["Cable"], Awaitable[None]]


class Cable:
    """Two nodes, n1 having dialled n2, and one connection of them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.accepted: list[SimStream] = []
        network.listen("n2", "n2", 7401, self.accepted.append)

    async def dial(self) -> tuple[SimStream, SimStream]:
        """Both ends of a new connection."""
        ours = await self.network.connect("n1", "n2", 7401)
        return ours, self.accepted[-1]


def on_a_network(play: Play, seed: int = 1) -> None:
    """Run a test in virtual time."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            network = Network(Random(seed))
            nursery.start_soon(network.post.run)
            with trio.fail_after(1_000):
                await play(Cable(network))
            nursery.cancel_scope.cancel()

    run(seed, main)


async def read(stream: SimStream, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        assert piece, data
        data += piece
    return data


async def is_silent(stream: SimStream, seconds: float = 60) -> bool:
    """Whether nothing comes."""
    with trio.move_on_after(seconds):
        await stream.receive_some()
        return False
    return True


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_in_order_and_whole(seed: int) -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        data = Random(seed).randbytes(500_000)
        got = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, data)
            got = await read(theirs, len(data))
        assert got == data
        await ours.send_eof()
        assert await theirs.receive_some() == b""
        await theirs.send_all(b"still open")
        assert await read(ours, 10) == b"still open"

    on_a_network(play, seed)


def test_sender_waits_while_too_much_is_unread() -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        with trio.move_on_after(60) as scope:
            await ours.send_all(bytes(WINDOW_BYTES * 2))
        assert scope.cancelled_caught
        await read(theirs, WINDOW_BYTES)
        await ours.wait_send_all_might_not_block()

    on_a_network(play)


def test_nobody_listens_refuses() -> None:
    async def play(cable: Cable) -> None:
        with pytest.raises(OSError, match="nobody listens"):
            await cable.network.connect("n1", "n3", 7401)

    on_a_network(play)


def test_reset_tells_both_ends() -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        await ours.send_all(b"lost")
        cable.network.cut("n1", "n2")
        for end in (ours, theirs):
            with pytest.raises(trio.BrokenResourceError):
                await end.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await end.send_all(b"x")
        await cable.dial()

    on_a_network(play)


def test_blocked_way_holds_bytes_and_new_connections() -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        cable.network.block("n1", "n2")
        await ours.send_all(b"late")
        await theirs.send_all(b"the other way is open")
        assert await read(ours, 21) == b"the other way is open"
        assert await is_silent(theirs)
        with trio.move_on_after(60) as scope:
            await cable.network.connect("n1", "n2", 7401)
        assert scope.cancelled_caught
        cable.network.unblock("n1", "n2")
        assert await read(theirs, 4) == b"late"
        await cable.dial()

    on_a_network(play)


def test_split_and_heal_lose_nothing() -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        cable.network.split(["n1", "n3"], ["n2"])
        await ours.send_all(b"there")
        await theirs.send_all(b"back")
        assert await is_silent(ours)
        assert await is_silent(theirs)
        cable.network.heal(["n1", "n2", "n3"])
        assert await read(theirs, 5) == b"there"
        assert await read(ours, 4) == b"back"

    on_a_network(play)


def test_late_bytes_of_an_old_connection_come_after_a_new_one_was_made() -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        (connection,) = cable.network.between("n1", "n2")
        connection.hold(towards="n2")
        await ours.send_all(b"old")
        ours.break_()
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()
        newer, accepted = await cable.dial()
        await newer.send_all(b"new")
        assert await read(accepted, 3) == b"new"
        assert await is_silent(theirs)
        connection.release()
        assert await read(theirs, 3) == b"old"

    on_a_network(play)


def test_what_was_sent_before_a_close_arrives_and_then_the_end() -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        await ours.send_all(b"last words")
        await ours.aclose()
        assert await read(theirs, 10) == b"last words"
        assert await theirs.receive_some() == b""
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"x")
        await theirs.send_all(b"nobody reads this")
        with pytest.raises(trio.BrokenResourceError):
            await _until_broken(theirs)

    on_a_network(play)


async def _until_broken(stream: SimStream) -> None:
    with trio.fail_after(10):
        while True:
            await stream.send_all(b"x")
            await passes(0.1)


@pytest.mark.parametrize("is_told", [True, False])
def test_end_of_a_dead_node_is_told_by_its_kernel_or_by_nobody(is_told: bool) -> None:
    async def play(cable: Cable) -> None:
        ours, _ = await cable.dial()
        cable.network.lose("n2", is_told=is_told)
        if is_told:
            assert await ours.receive_some() == b""
        else:
            assert await is_silent(ours)
        with pytest.raises(trio.TooSlowError if not is_told else trio.BrokenResourceError):
            await _until_broken(ours)
        with pytest.raises(OSError, match="nobody listens"):
            await cable.dial()
        cable.network.listen("n2", "n2", 7401, cable.accepted.append)
        cable.network.reboot("n2")
        with pytest.raises(trio.BrokenResourceError):
            await _until_broken(ours)
        await cable.dial()

    on_a_network(play)


def test_links_overtake_each_other_and_bytes_of_one_do_not() -> None:
    """Reorder across connections, never inside one."""

    async def play(cable: Cable) -> None:
        orders = set()
        for _ in range(20):
            (ours, theirs), (more, others) = await cable.dial(), await cable.dial()
            order: list[bytes] = []

            async def take(stream: SimStream, order: list[bytes] = order) -> None:
                for _ in range(4):
                    order.append(await read(stream, 2))  # noqa: PERF401  # each when it comes

            for number in range(4):
                await ours.send_all(b"a%d" % number)
                await more.send_all(b"b%d" % number)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take, theirs)
                nursery.start_soon(take, others)
            assert [one for one in order if one[:1] == b"a"] == [b"a0", b"a1", b"a2", b"a3"]
            orders.add(tuple(order))
        assert len(orders) > 5

    on_a_network(play)


def test_slow_way_takes_the_time_it_takes() -> None:
    async def play(cable: Cable) -> None:
        ours, theirs = await cable.dial()
        cable.network.way("n1", "n2").bytes_per_second = 1_000
        began = trio.current_time()
        await ours.send_all(bytes(5_000))
        await read(theirs, 5_000)
        assert 5 <= trio.current_time() - began < 5.1

    on_a_network(play)

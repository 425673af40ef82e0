"""The reactor as a task: accepting, running out of descriptors, being full, ending; over TCP, in a trio loop."""

import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from triode_broker.config import Limits
from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.edge.listeners import listen
from triode_broker.edge.reactor import EVENTS_PER_TURN, Edge
from triode_protocol.errors import CloseCode

from tests.edge.rig import CLOSE, HANDSHAKE, Log, Rig, Talker, close_payload, frame, text


class Served:
    """An edge that is being served."""

    def __init__(self, limits: Limits) -> None:
        self.log = Log()
        self.talkers: list[Talker] = []
        self.listeners = listen("127.0.0.1:0")
        self.address = self.listeners[0].getsockname()
        self.edge = Edge(
            accept=self._accept,
            routes={"/": lambda target: (200, "text/plain", b"page")},
            limits=limits,
            now_ms=lambda: 0,
            log=self.log,
        )

    def _accept(self, outbox: Outbox, arrival: Arrival) -> Talker:
        self.talkers.append(Talker(outbox))
        return self.talkers[-1]

    async def connect(self) -> trio.SocketStream:
        """A WebSocket."""
        stream = await trio.open_tcp_stream(*self.address)
        await stream.send_all(HANDSHAKE)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        return stream


@asynccontextmanager
async def served(limits: Limits | None = None) -> AsyncIterator[Served]:
    """Serve while the block runs, which is never longer than ten seconds."""
    it = Served(limits or Limits())
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(it.edge.serve, it.listeners))
            yield it
            nursery.cancel_scope.cancel()


async def test_messages_go_both_ways_over_tcp() -> None:
    async with served() as it:
        async with await it.connect() as client:
            await client.send_all(text("say 3"))
            assert await client.receive_some() == b"\x81\x03xxx"
        assert it.edge.statistics().accepted == 1


async def test_accepted_sockets_send_without_delay() -> None:
    """They inherit it from the listener."""
    async with served() as it, await it.connect():
        (connection,) = it.edge._shared.connections.values()
        accepted = connection._socket
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_page_is_served_over_tcp_and_the_connection_ends() -> None:
    async with served() as it, await trio.open_tcp_stream(*it.address) as client:
        await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join([piece async for piece in client])
    assert answer.endswith(b"\r\n\r\npage")


async def test_reactor_lets_other_tasks_run_while_it_is_busy() -> None:
    async with served() as it, await it.connect() as client:
        await client.send_all(text("say 1") * 5_000)
        received = 0
        while received < 15_000:
            received += len(await client.receive_some())
    assert len(it.talkers[0].heard) == 5_000


async def test_deadlines_are_kept_on_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02  # what loopback may take
    async with served_for_ever() as it, await trio.open_tcp_stream(*it.address) as silent:
        began = trio.current_time()
        assert await silent.receive_some() == b""
        assert 5 <= trio.current_time() - began <= 6


@asynccontextmanager
async def served_for_ever() -> AsyncIterator[Served]:
    """Without a timeout, which a clock that jumps would reach."""
    it = Served(Limits())
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(it.edge.serve, it.listeners))
        yield it
        nursery.cancel_scope.cancel()


async def test_cancelled_edge_drops_everybody_and_closes_its_listeners() -> None:
    async with served() as it:
        client = await it.connect()
    async with client:
        assert await client.receive_some() == b""
    assert it.talkers[0].detached == 1
    with pytest.raises(OSError, match=r".*"):
        await trio.open_tcp_stream(*it.address)


async def test_close_all_says_goodbye_and_waits_for_the_answers() -> None:
    async with served() as it:
        clients = [await it.connect() for _ in range(3)]
        spread = iter((10, 20, 30))

        async def answer(client: trio.SocketStream) -> None:
            data = await client.receive_some()
            assert b'"code":4200,"name":"draining","reconnect_after_ms":' in data
            await client.send_all(frame(CLOSE, close_payload(4200)))
            assert await client.receive_some() == b""
            await client.aclose()

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(answer, client)
            await it.edge.close_all(CloseCode.DRAINING, lambda: next(spread))
        assert it.edge.statistics().connections == 0
        assert next(spread, None) is None


async def test_close_all_waits_no_longer_than_close_timeout() -> None:
    async with served(Limits(close_timeout_ms=100)) as it:
        client = await it.connect()
        await it.edge.close_all(CloseCode.SHUTDOWN)
        assert it.edge.statistics().connections == 0
        await client.aclose()


async def test_close_all_of_nobody_returns_at_once_and_nobody_is_accepted_any_more() -> None:
    async with served() as it:
        await it.edge.close_all(CloseCode.SHUTDOWN)
        with pytest.raises(OSError, match=r".*"):
            await trio.open_tcp_stream(*it.address)


@contextmanager
def no_descriptors_left() -> Iterator[Callable[[], None]]:
    """From here on the process gets no descriptor; until it is told to give them back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def give_back() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        while taken:
            os.close(taken.pop())

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 8, hard))
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break  # EMFILE: what the edge meets too
        yield give_back
    finally:
        give_back()


async def test_s6_without_descriptors_accepting_pauses_and_clients_are_unaffected() -> None:
    async with served() as it, await it.connect() as client:
        newcomer = trio.socket.socket()
        with newcomer, no_descriptors_left() as give_back:
            await newcomer.connect(it.address)
            await newcomer.send(HANDSHAKE)
            while not it.log.entries:
                await trio.lowlevel.checkpoint()
            for _ in range(3):
                await client.send_all(text("say 3"))
                assert await client.receive_some() == b"\x81\x03xxx"
            give_back()
            assert (await newcomer.recv(4096)).startswith(b"HTTP/1.1 101 ")
        assert it.log.events == ["accepting_paused"]


async def test_s6_pause_of_accepting_does_not_spin_and_is_logged_once() -> None:
    async with served() as it:
        newcomer = trio.socket.socket()
        with newcomer, no_descriptors_left():
            await newcomer.connect(it.address)
            while not it.log.entries:
                await trio.lowlevel.checkpoint()
            for _ in range(5):  # retries, none of which succeeds
                it.edge.sweep(trio.current_time())
                it.edge.turn(it.edge.poll(), trio.current_time())
            assert it.edge.poll() == []
        assert it.log.events == ["accepting_paused"]


def test_connection_above_the_limit_is_told_so_and_room_is_given_back(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(Limits(max_connections=2))
    first, second = rig.client(), rig.client()
    third = rig.client(b"")
    answer = third.receive()
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 5\r\n" in answer
    assert third.is_closed
    third.send(HANDSHAKE)  # what comes late is read, so that the answer is not reset away
    third.socket.close()
    first.socket.close()
    rig.turn()
    rig.client()
    second.send(text("say 1"))
    assert second.texts() == ["x"]


async def test_flood_above_the_limit_is_closed_without_a_word() -> None:
    async with served(Limits(max_connections=1)) as it:
        streams = [await trio.open_tcp_stream(*it.address) for _ in range(300)]
        while it.edge.statistics().refused < 299:
            await trio.lowlevel.checkpoint()
        assert it.edge.statistics().connections <= 1 + 256
        for stream in streams:
            await stream.aclose()


def test_descriptor_that_is_given_out_again_in_a_turn_is_not_served_twice(rig: Rig) -> None:
    """Two ready connections; serving the first closes the second, whose event then meets nobody."""
    first, second = rig.client(), rig.client()
    first.socket.close()
    second.socket.close()
    events = rig.edge.poll()
    assert len(events) == 2
    rig.edge.turn([*events, *events], rig.now)
    assert rig.edge.statistics().connections == 0
    assert rig.log.entries == []


def test_turn_serves_each_connection_a_bounded_piece(rig: Rig) -> None:
    greedy = rig.client()
    greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    greedy.socket.send(text("x" * 1000) * 200)
    before = rig.edge.statistics().bytes_in
    rig.edge.turn(rig.edge.poll(), rig.now)
    assert 0 < rig.edge.statistics().bytes_in - before <= 65_536


def test_frames_of_a_client_are_served_in_order_across_turns(rig: Rig) -> None:
    client = rig.client()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    client.send(b"".join(text(str(number)) for number in range(9_000)))
    assert rig.talkers[0].heard == [str(number) for number in range(9_000)]


async def test_reset_by_a_client_ends_its_connection_alone() -> None:
    async with served() as it, await it.connect() as other:
        for connect in (it.connect, partial(trio.open_tcp_stream, *it.address)):
            client = await connect()
            while it.edge.statistics().connections == 1:
                await trio.lowlevel.checkpoint()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await client.aclose()
            while it.edge.statistics().connections == 2:
                await trio.lowlevel.checkpoint()
        await other.send_all(text("say 3"))
        assert await other.receive_some() == b"\x81\x03xxx"
        assert it.log.entries == []


async def test_close_all_drops_whoever_has_not_finished_its_head() -> None:
    async with served() as it:
        client = await trio.open_tcp_stream(*it.address)
        await client.send_all(HANDSHAKE[:10])
        while not it.edge.statistics().bytes_in:
            await trio.lowlevel.checkpoint()
        await it.edge.close_all(CloseCode.SHUTDOWN)
        assert await client.receive_some() == b""
        await client.aclose()


async def test_process_that_was_held_up_hears_its_clients_before_it_judges_their_silence(
    mock_clock: MockClock,
) -> None:
    """More clients than one turn serves, all of whom spoke while the process was stopped: none is closed."""
    count = EVENTS_PER_TURN + 50
    async with served(Limits(ping_ms=1_000)) as it:
        clients = [socket.create_connection(it.address) for _ in range(count)]
        for client in clients:
            client.sendall(HANDSHAKE)
        while len(it.talkers) < count:
            await trio.lowlevel.checkpoint()
        for client in clients:
            client.sendall(text("say 1"))
        mock_clock.jump(2.5)
        while sum(len(talker.heard) for talker in it.talkers) < count and not it.edge.statistics().closes:
            await trio.lowlevel.checkpoint()
        assert not it.edge.statistics().closes
        for client in clients:
            client.close()


async def test_process_that_was_held_up_gives_silent_clients_their_time_again(mock_clock: MockClock) -> None:
    """It sent no pings meanwhile, so there was nothing to answer; who stays silent from now on is closed."""
    async with served(Limits(ping_ms=1_000)) as it, await it.connect() as client:
        mock_clock.jump(2.5)
        for _ in range(8):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.2)
        assert not it.edge.statistics().closes
        for _ in range(8):
            mock_clock.jump(0.2)
            await trio.testing.wait_all_tasks_blocked()
        assert it.edge.statistics().closes == {CloseCode.PING_TIMEOUT: 1}
        await client.aclose()

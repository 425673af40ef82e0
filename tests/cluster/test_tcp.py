"""The stream under a link: bytes both ways, a full socket, every kind of end."""

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from triode_broker.cluster.links import connect_tcp
from triode_broker.cluster.listening import as_listeners, serve
from triode_broker.cluster.tcp import TcpStream

from tests.cluster.rig import Lines


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[TcpStream, TcpStream]]:
    """Both ends of a connection."""
    ends = [TcpStream(trio.SocketStream(trio.socket.from_stdlib_socket(end))) for end in _tcp_pair()]
    async with ends[0], ends[1]:
        yield ends[0], ends[1]


def _tcp_pair() -> list[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialled = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    return [dialled, accepted]


async def test_stream_carries_bytes_both_ways() -> None:
    async with pair() as (near, far):
        await near.send_all(b"there")
        await far.send_all(bytearray(b"and back"))
        assert await far.receive_some() == b"there"
        assert await near.receive_some(3) == b"and"
        assert await near.receive_some(100) == b" back"
        await near.wait_send_all_might_not_block()


async def test_stream_waits_where_the_socket_is_full() -> None:
    data = bytes(range(256)) * 65_536
    received = bytearray()
    async with pair() as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, data)
        while len(received) < len(data):
            received += await far.receive_some()
    assert received == data


async def test_buffer_is_as_large_as_the_largest_read_so_far() -> None:
    """S2: whoever is not trusted yet is read a little at a time, and costs no more."""
    async with pair() as (near, far):
        sizes = []
        for asked in (100, 4_096, 10, None, 10_000_000, 1):
            await far.send_all(b"x")
            assert await near.receive_some(asked) == b"x"
            sizes.append(len(near._buffer))
        assert sizes == [100, 4_096, 4_096, 262_144, 262_144, 262_144]


async def test_receiver_waits_until_there_is_something() -> None:
    async with pair() as (near, far), trio.open_nursery() as nursery:

        async def send() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await near.send_all(b"late")

        nursery.start_soon(send)
        assert await far.receive_some() == b"late"


async def test_stream_ends_with_nothing_when_the_other_end_is_closed() -> None:
    async with pair() as (near, far):
        await near.aclose()
        assert await far.receive_some() == b""


async def test_reset_breaks_both_directions() -> None:
    async with pair() as (near, far):
        near._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await near.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"x")


async def test_closed_stream_says_so_also_to_who_waits() -> None:
    async with pair() as (near, _), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await near.receive_some()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await near.aclose()
        await near.aclose()  # idempotent
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await near.wait_send_all_might_not_block()


async def test_dialled_and_accepted_connections_are_such_streams() -> None:
    accepted: list[trio.abc.Stream] = []

    async def take(stream: trio.abc.Stream) -> None:
        accepted.append(stream)
        async with stream:
            await stream.send_all(await stream.receive_some())

    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, as_listeners([server]), take, Lines())
        async with await connect_tcp("127.0.0.1", port) as stream:
            await stream.send_all(b"echo")
            assert await stream.receive_some() == b"echo"
        nursery.cancel_scope.cancel()
    assert isinstance(accepted[0], TcpStream)


class Broken(trio.abc.Listener[trio.SocketStream]):
    """Hands out a connection whose descriptor is no socket any more, then a good one."""

    def __init__(self) -> None:
        self.streams = [trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in _tcp_pair()]
        self.descriptors = [stream.socket.fileno() for stream in self.streams]
        self._left = list(self.streams)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), self.descriptors[0])

    async def accept(self) -> trio.SocketStream:
        if not self._left:
            await trio.sleep_forever()
        return self._left.pop(0)

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_a_connection_that_cannot_be_taken_over_ends_alone_and_is_closed() -> None:
    """S1, S6."""
    log, listener = Lines(), Broken()
    served: list[trio.abc.Stream] = []
    done = trio.Event()

    async def take(stream: trio.abc.Stream) -> None:
        served.append(stream)
        await stream.aclose()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [listener], take, log)
        await done.wait()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(served) == 1
    assert len(log.of("peer_connection_dropped")) == 1
    for descriptor in listener.descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)

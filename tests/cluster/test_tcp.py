"""The stream under a link: bytes both ways, a full socket, every kind of end."""

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

    class Silent:
        def info(self, *_: object, **__: object) -> None:
            """Nobody reads it."""

    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, as_listeners([server]), take, Silent())
        async with await connect_tcp("127.0.0.1", port) as stream:
            await stream.send_all(b"echo")
            assert await stream.receive_some() == b"echo"
        nursery.cancel_scope.cancel()
    assert isinstance(accepted[0], TcpStream)

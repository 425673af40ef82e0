"""Links over real sockets: listening, dialling by name, TLS in front, an end without a word, and many messages."""

import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme
from triode_broker.cluster.frames import Behind, Call, Deliver
from triode_broker.cluster.links import Links, Means
from triode_broker.cluster.listening import as_listeners, is_reachable_from_outside
from triode_broker.cluster.securing import PeerTls
from triode_broker.config import Limits
from triode_broker.core.record import Record

from tests.cluster.rig import SECRET, Lines, Story, identity, steady_ms


class Real:
    """A node's links on this machine's network."""

    def __init__(self, name: str, secret: bytes = SECRET, **facts: str) -> None:
        source = random.Random(name)
        self.story, self.log = Story(), Lines()
        self.means = Means(
            sink=self.story,
            limits=Limits(),
            log=self.log,
            steady_ms=steady_ms,
            random_bytes=source.randbytes,
            random_float=source.random,
            heard=dict,
            secret=secret,
        )
        self.links = Links(identity(name, **facts), self.means)

    async def linked(self, count: int = 1) -> None:
        await self.story.until(lambda: len(self.links.links) >= count)


def bound(address: str = "127.0.0.1") -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen()
    return listener


def url_of(listener: socket.socket, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def nodes() -> AsyncIterator[tuple[Real, Real, trio.Nursery]]:
    """n1 listens, n2 has dialled it; both know where the other one is."""
    first, second = bound(), bound()
    n1 = Real("n1", cluster_advertise=url_of(first))
    n2 = Real("n2", cluster_advertise=url_of(second))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            seeds = [url_of(first)]
            await nursery.start(
                lambda task_status: n1.links.run(as_listeners([first]), [], task_status=task_status)
            )
            await nursery.start(
                lambda task_status: n2.links.run(as_listeners([second]), seeds, task_status=task_status)
            )
            await n1.linked(2)
            await n2.linked(2)
            yield n1, n2, nursery
            nursery.cancel_scope.cancel()


async def test_two_nodes_link_both_ways_over_tcp() -> None:
    async with nodes() as (n1, n2, _):
        assert {link.is_dialler for link in n1.links.links} == {True, False}
        assert [link.peer for link in n2.links.links] == [n1.links.identity] * 2
        assert n1.log.loud() == n2.log.loud() == []
        n1.links.links[0].put(Behind("m0-1"))
        await n2.story.until(lambda: n2.story.frames)
        assert [frame for _, frame in n2.story.frames] == [Behind("m0-1")]


async def test_many_rows_and_large_frames_arrive_whole_and_in_order_both_ways() -> None:
    async with nodes() as (n1, n2, _):
        for node in (n1, n2):
            for link in node.links.links:
                for pos in range(1, 5_001):
                    link.put(Deliver("m0-1", pos - 1, [Record("a/b", pos, pos, 0, b"x" * (pos % 300))]))
                link.put(Call(1, "m", bytes(3_000_000)))
        for node in (n1, n2):
            await node.story.until(lambda node=node: sum(isinstance(f, Call) for _, f in node.story.frames) == 2)  # type: ignore[misc]  # bound
            for link in node.links.links:
                frames = [frame for by, frame in node.story.frames if by is link]
                rows = [record for frame in frames if isinstance(frame, Deliver) for record in frame.records]
                assert [record.pos for record in rows] == list(range(1, 5_001))
                assert all(len(record.payload) == record.pos % 300 for record in rows)


async def test_a_node_whose_process_ends_is_lost_at_once_and_found_again() -> None:
    """kill -9: the kernel closes its connections."""
    first = bound()
    n2 = Real("n2")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for count, incarnation in enumerate(("0" * 15 + "a", "0" * 15 + "b"), 1):
                n1 = Real("n1", incarnation=incarnation)
                with trio.CancelScope() as life:
                    async with trio.open_nursery() as process:
                        copy = first.dup()
                        await process.start(
                            lambda task_status, n1=n1, copy=copy: n1.links.run(
                                as_listeners([copy]), [], task_status=task_status
                            )
                        )
                        if count == 1:
                            nursery.start_soon(n2.links.run, [], [url_of(first)])
                        await n2.linked()
                        assert n2.links.links[0].peer.incarnation == incarnation
                        life.cancel()
                await n2.story.until(lambda count=count: n2.story.reasons == ["lost"] * count)  # type: ignore[misc]  # bound now
            nursery.cancel_scope.cancel()
    first.close()


async def test_tls_may_stand_in_front() -> None:
    """A wss:// address; the listener itself speaks plain, so a proxy is what ends TLS."""
    authority = trustme.CA()
    server, client = (
        ssl.create_default_context(purpose) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)
    )
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    listener = bound()
    n1, n2 = Real("n1"), Real("n2")
    n2.means.tls = PeerTls(listening=lambda: server, dialling=lambda: client)
    stranger = Real("n3")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            secured = trio.SSLListener(as_listeners([listener])[0], server, https_compatible=True)
            nursery.start_soon(n1.links.run, [secured], [])
            nursery.start_soon(n2.links.run, [], [url_of(listener, "wss")])
            nursery.start_soon(stranger.links.run, [], [url_of(listener, "wss")])
            await n2.linked()
            await n1.linked()
            while not stranger.log.of("peer_refused"):
                await trio.lowlevel.checkpoint()
            assert "CERTIFICATE_VERIFY_FAILED" in str(stranger.log.of("peer_refused"))
            assert stranger.links.links == []
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("address", "secret", "warned"), [("0.0.0.0", b"", 1), ("0.0.0.0", SECRET, 0), ("127.0.0.1", b"", 0)]
)
async def test_a_listener_for_other_machines_without_a_secret_is_warned_of(
    address: str, secret: bytes, warned: int
) -> None:
    """S15."""
    n1 = Real("n1", secret)
    listeners = as_listeners([bound(address)])
    assert is_reachable_from_outside(listeners[0]) == (address == "0.0.0.0")
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: n1.links.run(listeners, [], task_status=task_status))
        nursery.cancel_scope.cancel()
    assert len(n1.log.of("peer_listener_without_secret")) == warned

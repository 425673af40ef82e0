"""Links with TLS (S20): who may be whom by certificate, what a mixed cluster is told, and garbage in front."""

import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from triode_broker.certificates import Certificates
from triode_broker.cluster.frames import Behind
from triode_broker.cluster.hello import BAD_TLS, WRONG_CERTIFICATE
from triode_broker.cluster.listening import as_listeners
from triode_broker.cluster.securing import PeerTls
from triode_broker.config import Tls
from triode_broker.tls import is_of_node

from tests.authority import authority, issue
from tests.cluster.rig import Lines
from tests.cluster.test_link_sockets import Real, bound, url_of

Make = Callable[..., PeerTls]


@pytest.fixture
def make_tls(tmp_path: Path) -> Make:
    """A node's TLS, with a certificate for these names, by the way of files as in service."""

    def make(name: str, signed_by: int = 0, trusts: int = 0) -> PeerTls:
        files = issue(tmp_path / name.replace("/", "_"), name, signed_by=signed_by)
        authority(trusts).cert_pem.write_to_path(files.ca)
        settings = Tls(files.certificate, files.key, files.ca)
        found = Certificates("cluster_tls", settings, Lines(), time.time, is_for_nodes=True)
        return PeerTls(found.listening, found.dialling, is_of_node)

    return make


@asynccontextmanager
async def two(
    first: PeerTls | None, second: PeerTls | None, scheme: str = "wss"
) -> AsyncIterator[tuple[Real, Real]]:
    """n1 listens; n2 dials it, and is not dialled back."""
    listener = bound()
    n1, n2 = Real("n1"), Real("n2")
    n1.means.tls, n2.means.tls = first, second
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(n1.links.run, as_listeners([listener]), [])
            nursery.start_soon(n2.links.run, [], [url_of(listener, scheme)])
            yield n1, n2
            nursery.cancel_scope.cancel()


async def refused(node: Real) -> dict[str, object]:
    """What its log says of the first refusal."""
    while not node.log.of("peer_refused"):
        await trio.lowlevel.checkpoint()
    return dict(node.log.of("peer_refused")[0])


@pytest.mark.parametrize("name", ["n2", "triode://triode/n2"])
async def test_nodes_link_by_certificates_that_name_them(make_tls: Make, name: str) -> None:
    async with two(make_tls("n1"), make_tls(name)) as (n1, n2):
        await n1.linked()
        await n2.linked()
        n1.links.links[0].put(Behind("m0-1"))
        await n2.story.until(lambda: n2.story.frames)
        assert n1.log.loud() == n2.log.loud() == []


@pytest.mark.parametrize(
    "name", ["n3", "n2.example", "*.n2", "n22", "triode://triode/n1", "triode://other/n2", "triode://triode/n2/"]
)
async def test_s20_a_certificate_of_another_name_is_refused_in_both_logs(make_tls: Make, name: str) -> None:
    async with two(make_tls("n1"), make_tls(name)) as (n1, n2):
        ours, theirs = await refused(n1), await refused(n2)
        assert (ours["reason"], ours["by"], ours["node"]) == (WRONG_CERTIFICATE, "this node", "n2")
        assert (theirs["reason"], theirs["by"]) == (WRONG_CERTIFICATE, "peer")
        assert n1.links.links == n2.links.links == []


async def test_s20_a_dialler_too_asks_whose_certificate_it_is(make_tls: Make) -> None:
    async with two(make_tls("n9"), make_tls("n2")) as (_, n2):
        assert (await refused(n2))["reason"] == WRONG_CERTIFICATE
        assert n2.links.links == []


async def test_s20_a_certificate_that_somebody_else_has_signed_is_refused(make_tls: Make) -> None:
    async with two(make_tls("n1", trusts=1), make_tls("n2")) as (n1, n2):
        ours = await refused(n1)
        assert ours["reason"] == BAD_TLS
        assert "CERTIFICATE_VERIFY_FAILED" in str(ours["detail"])
        assert n1.links.links == n2.links.links == []


async def test_s20_without_a_certificate_nobody_comes_in(make_tls: Make) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    authority(0).configure_trust(context)
    bare = PeerTls(listening=lambda: context, dialling=lambda: context)
    async with two(make_tls("n1"), bare) as (n1, n2):
        assert (await refused(n1))["reason"] == BAD_TLS
        assert n1.links.links == n2.links.links == []


@pytest.mark.parametrize("has_first", [True, False])
async def test_of_a_cluster_that_has_tls_in_part_both_logs_say_so(make_tls: Make, has_first: bool) -> None:
    first, second = (make_tls("n1"), None) if has_first else (None, make_tls("n2"))
    async with two(first, second, "ws" if has_first else "wss") as (n1, n2):
        for node in (n1, n2):
            found = await refused(node)
            assert found["reason"] == BAD_TLS
            assert "all nodes of a cluster have cluster_tls, or none" in str(found["detail"])


async def test_a_node_with_tls_dials_no_plain_address(make_tls: Make) -> None:
    async with two(None, make_tls("n2"), "ws") as (n1, n2):
        assert "wss://" in str((await refused(n2))["detail"])
        assert n1.links.links == []


async def test_s1_garbage_in_front_of_a_link_is_one_warning_and_no_more(make_tls: Make) -> None:
    listener = bound()
    n1, n2 = Real("n1"), Real("n2")
    n1.means.tls, n2.means.tls = make_tls("n1"), make_tls("n2")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(n1.links.run, as_listeners([listener]), [])
            for garbage in (b"\x16\x03\x01\x00\x05hello", b"\x16", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b""):
                stream = await trio.open_tcp_stream(*listener.getsockname())
                async with stream:
                    await stream.send_all(garbage)
                    await stream.send_eof()
                    while await stream.receive_some(1_000):
                        pass
            assert {line["reason"] for line in n1.log.of("peer_refused")} <= {BAD_TLS}
            nursery.start_soon(n2.links.run, [], [url_of(listener, "wss")])
            await n1.linked()
            nursery.cancel_scope.cancel()

"""HTTP to providers and callouts, over a real network stack: certificates are asked for, bounds hold."""

import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from triode_broker.auth.asking import NoReply, Reply
from triode_broker.auth.web import Web

from tests.auth.endpoint import Endpoint, reply

ASK: dict[str, Any] = {"body": None, "headers": {}, "max_bytes": 1_000, "timeout_seconds": 20.0}


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web(4)
    yield web
    await web.aclose()


async def test_a_question_that_nobody_reads_leaves_nothing_for_the_garbage_collector(web: Web) -> None:
    """A warning is an error here; in a broker it would be a raw line in the log (S27)."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        asked = ASK | {"body": bytes(32_000_000), "timeout_seconds": 0.2}
        with pytest.raises(NoReply, match="no answer within"):
            await web.ask(f"http://127.0.0.1:{deaf.getsockname()[1]}/", **asked)
    gc.collect()


@asynccontextmanager
async def encrypted(answer: bytes, authority: trustme.CA) -> AsyncIterator[str]:
    """An endpoint behind TLS, for localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(answer)
        except trio.BrokenResourceError:
            return  # whoever asked did not like the certificate
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1")
        (listener,) = await nursery.start(listen)
        yield f"https://localhost:{listener.transport_listener.socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


async def test_who_answers_has_to_prove_it(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    async with encrypted(reply(b"yes"), authority) as url:
        with pytest.raises(NoReply, match="ConnectError"):
            await web.ask(url, **ASK)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        trusting = Web(1)
        assert await trusting.ask(url, **ASK) == Reply(200, b"yes")
        with pytest.raises(NoReply, match="ConnectError"):
            await trusting.ask(url.replace("localhost", "127.0.0.1"), **ASK)
        await trusting.aclose()


async def test_neither_proxies_nor_redirects_are_followed(
    web: Web, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await Endpoint(lambda _: reply(b"proxied")).start(nursery)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    elsewhere = await Endpoint(lambda _: reply(b"elsewhere")).start(nursery)
    endpoint = await Endpoint(lambda _: reply(b"", "307 Moved", f"Location: {elsewhere.url}")).start(nursery)
    for client in (web, Web(1)):
        assert (await client.ask(endpoint.url, **ASK)).status == 307
        await client.aclose()
    assert proxy.seen == elsewhere.seen == []


async def test_what_is_compressed_is_not_inflated(web: Web, nursery: trio.Nursery) -> None:
    """S3."""
    endpoint = await Endpoint(lambda _: reply(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip")).start(nursery)
    assert (await web.ask(endpoint.url, **ASK)).body == b"\x1f\x8b"
    assert "accept-encoding: identity" in endpoint.seen[0].head.lower()


async def test_an_answer_is_bounded_in_bytes_and_time(web: Web, nursery: trio.Nursery) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000
    endpoint = await Endpoint(lambda _: endless).start(nursery)
    with pytest.raises(NoReply, match="an answer of more than 1000 bytes"):
        await web.ask(endpoint.url, **ASK)
    silent = await Endpoint(lambda _: None).start(nursery)
    with pytest.raises(NoReply, match=r"no answer within 0\.03 s"):
        await web.ask(silent.url, **{**ASK, "timeout_seconds": 0.03})
    with pytest.raises(NoReply, match="not reached"):
        await web.ask("http://127.0.0.1:9/", **ASK)

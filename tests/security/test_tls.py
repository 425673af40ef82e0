"""TLS in front of a whole broker: who is served, whom a certificate names, renewal, and what strangers send."""

import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import triode
from triode_broker.config import Config
from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.core.session import Session
from triode_broker.server import Broker

from tests.authority import Files, authority, issue
from tests.edge.rig import HANDSHAKE, Log

HOST = "localhost"
PATIENCE_SECONDS = 30


class Quiet(Log):
    """Remembers what is said at any level."""

    info = debug = exception = Log.error


class Served(Broker):
    """A broker in this process; it keeps what it was told of each connection."""

    def __init__(self, **settings: Any) -> None:
        self.log = Quiet()
        self.arrivals: list[Arrival] = []
        self.port = 0
        super().__init__(msgspec.convert({"listen": "127.0.0.1:0", **settings}, Config), self.log)

    def _accept(self, outbox: Outbox, arrival: Arrival) -> Session:
        self.arrivals.append(arrival)
        return super()._accept(outbox, arrival)

    @property
    def url(self) -> str:
        """As clients dial it."""
        scheme = "wss" if self.config.tls.certificate else "ws"
        return f"{scheme}://{HOST}:{self.port}/ws"


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Served]:
    """A broker while the block runs."""
    broker = Served(**settings)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(broker.run)
            broker.port = int(url.rpartition(":")[2])
            yield broker
            nursery.cancel_scope.cancel()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return issue(tmp_path / "broker", HOST, "127.0.0.1.example")


def trusting(files: Files | None = None) -> ssl.SSLContext:
    """A client's context; `files`: of its own certificate."""
    context = ssl.create_default_context()
    authority(0).configure_trust(context)
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


def pair(files: Files, **more: str) -> dict[str, str]:
    return {"certificate": files.certificate, "key": files.key, **more}


async def echo(url: str, context: ssl.SSLContext | None) -> None:
    """A client says something and hears it, each small and large."""
    connecting = triode.connect(url, ssl_context=context, wait_seconds=PATIENCE_SECONDS)
    async with connecting as client, client.subscribe("a/b") as messages:
        for said in ("x", "y" * 50_000):
            await client.publish("a/b", said)
            assert (await anext(messages)).data == said


async def refusal(broker: Served, context: ssl.SSLContext) -> str:
    """Why a handshake comes to nothing, as the client sees it; with TLS 1.3 only once it reads."""
    stream = await trio.open_ssl_over_tcp_stream(HOST, broker.port, ssl_context=context)
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    await trio.aclose_forcefully(stream)
    return str(caught.value.__cause__)


def talk(port: int, said: bytes) -> bytes:
    """What is answered to some bytes and their end."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as stranger:
        try:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := stranger.recv(65_536):
                answer += piece
        except ConnectionError:
            answer = b""
    return answer


asking: Callable[..., Any] = trio.to_thread.run_sync


async def test_clients_are_served_over_tls_and_everything_printed_says_so(files: Files) -> None:
    async with served(tls=pair(files), demo=True) as broker:
        await echo(broker.url, trusting())
        (started,) = [values for event, values in broker.log.entries if event == "started"]
        assert started["urls"] == [f"https://127.0.0.1:{broker.port}"]
        assert broker.arrivals[-1].is_encrypted
        assert broker.arrivals[-1].address == "127.0.0.1"
        health: Any = broker.health()
        assert health["tls"]["tls"]["error"] == ""
        assert "demo_failing" not in broker.log.events


async def test_plain_is_told_and_a_stranger_to_the_authority_stays_away(files: Files) -> None:
    """S5: a client that took the wrong scheme can read why."""
    async with served(tls=pair(files)) as broker:
        answer = await asking(talk, broker.port, HANDSHAKE)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"wss://" in answer
        assert "CERTIFICATE_VERIFY_FAILED" in await refusal(broker, ssl.create_default_context())


# mTLS


@pytest.mark.parametrize("required", ["optional", "required"])
async def test_a_service_is_known_by_its_certificate(files: Files, tmp_path: Path, required: str) -> None:
    service = issue(tmp_path / "service", "billing.example", "spiffe://example/billing", common_name="Billing")
    tls = pair(files, client_ca=files.ca, client_certificates=required)
    async with served(tls=tls) as broker:
        await echo(broker.url, trusting(service))
        assert broker.arrivals[0].certificate == ("spiffe://example/billing", "billing.example", "Billing")
        if required == "required":
            assert "CERTIFICATE_REQUIRED" in await refusal(broker, trusting())
            assert len(broker.arrivals) == 1
        else:
            await echo(broker.url, trusting())
            assert broker.arrivals[1].certificate == ()


@pytest.mark.parametrize("wrong", ["authority", "expired", "early"])
async def test_s20_a_certificate_that_is_not_good_is_refused_where_none_would_do(
    files: Files, tmp_path: Path, wrong: str
) -> None:
    life: dict[str, Any] = {
        "authority": {"signed_by": 1},
        "expired": {"days": -1, "age_days": 2},
        "early": {"age_days": -1, "days": 2},
    }[wrong]
    service = issue(tmp_path / "service", "billing.example", **life)
    async with served(tls=pair(files, client_ca=files.ca)) as broker:
        assert await refusal(broker, trusting(service))
        assert broker.arrivals == []
        (told,) = [values for event, values in broker.log.entries if event == "tls_handshake_failed"]
        assert told["reason"] == "CERTIFICATE_VERIFY_FAILED"
        await echo(broker.url, trusting())


async def test_an_identity_comes_from_the_certificate(files: Files, tmp_path: Path) -> None:
    service = issue(tmp_path / "service", "billing.example")
    rules = [{"subscribe": ["a/#"], "publish": ["a/#"]}]
    settings = {"tls": pair(files, client_ca=files.ca), "auth": {"certificates": True}, "permissions": rules}
    async with served(**settings) as broker:
        await echo(broker.url, trusting(service))
        with pytest.raises(triode.ConnectionRefused, match="unauthorized"):
            async with triode.connect(broker.url, ssl_context=trusting(), wait_seconds=5):
                pass


# Renewal


async def serial(port: int) -> str:
    """Of the certificate that a newcomer is shown."""
    stream = await trio.open_ssl_over_tcp_stream(HOST, port, ssl_context=trusting(), https_compatible=True)
    async with stream:
        await stream.do_handshake()
        shown = stream.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


def damage(files: Files) -> None:
    Path(files.certificate).write_bytes(b"-----BEGIN CERTIFICATE-----\nnothing\n")


def put(files: Files, renewed: Files) -> None:
    Path(renewed.certificate).replace(files.certificate)
    Path(renewed.key).replace(files.key)


async def test_a_renewed_certificate_is_shown_to_newcomers_and_nobody_is_cut_off(
    files: Files, tmp_path: Path
) -> None:
    """S14: a broken one changes nothing, and log and health say so."""
    async with served(tls=pair(files)) as broker, triode.connect(broker.url, ssl_context=trusting()) as client:
        before = await serial(broker.port)
        renewed = issue(tmp_path / "renewed", HOST)
        damage(files)
        broker.reloading.read_again()  # what SIGHUP does
        health: Any = broker.health()
        assert health["status"] == "degraded"
        assert "tls.certificate" in health["degraded"][0]
        assert await serial(broker.port) == before
        put(files, renewed)
        broker.reloading.read_again()
        assert await serial(broker.port) != before
        assert broker.health()["status"] == "ok"
        await client.publish("a/b", "still here")
        wanted = ["certificate_not_loaded", "certificate_loaded"]
        assert [event for event in broker.log.events if event in wanted] == wanted


# Proxies


async def test_a_proxy_tells_who_it_is_in_front_of_tls(files: Files) -> None:
    settings = {"tls": pair(files), "proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
    async with served(**settings) as broker:
        stream = await trio.open_tcp_stream("127.0.0.1", broker.port)
        await stream.send_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n")
        secured = trio.SSLStream(stream, trusting(), server_hostname=HOST, https_compatible=True)
        async with secured:
            await secured.send_all(HANDSHAKE)
            assert (await secured.receive_some()).startswith(b"HTTP/1.1 101 ")
        assert broker.arrivals[0] == Arrival("203.0.113.9", is_encrypted=True)
        assert await asking(talk, broker.port, HANDSHAKE) == b""
        assert len(broker.arrivals) == 1


@pytest.mark.parametrize(("trusted", "address"), [(["127.0.0.1"], "203.0.113.9"), ([], "127.0.0.1")])
async def test_forwarded_for_is_believed_of_trusted_proxies_alone(trusted: list[str], address: str) -> None:
    async with served(trusted_proxies=trusted) as broker:
        said = HANDSHAKE[:-2] + b"X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n\r\n"
        assert (await asking(talk, broker.port, said)).startswith(b"HTTP/1.1 101 ")
        assert broker.arrivals[0].address == address


# Strangers


def hello() -> bytes:
    """The first flight of a good client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing, server_hostname=HOST).do_handshake()
    return outgoing.read()


def flights() -> list[bytes]:
    """Bytes that a stranger may send to a port with TLS: noise, and a good first flight cut and spoilt."""
    source = random.Random(7)
    first = hello()
    cut = [first[:size] for size in range(0, len(first), 5)]
    spoilt = []
    for _ in range(150):
        changed = bytearray(first)
        for _ in range(source.randint(1, 4)):
            changed[source.randrange(len(changed))] = source.randrange(256)
        spoilt.append(bytes(changed))
    noise = [source.randbytes(source.randint(1, 600)) for _ in range(100)]
    framed = [b"\x16\x03" + source.randbytes(1) + source.randbytes(200) for _ in range(50)]
    return [*cut, *spoilt, *noise, *framed]


async def test_s1_any_bytes_at_all_leave_the_broker_as_it_was(files: Files) -> None:
    """S1, S6: cut handshakes, spoilt ones, noise: nothing escapes, nothing stays, the log has a line or two."""
    async with served(tls=pair(files, client_ca=files.ca)) as broker:
        await echo(broker.url, trusting())
        lines = len(broker.log.entries)
        for said in flights():
            await asking(partial(talk, broker.port, said))
        await echo(broker.url, trusting())
        while broker.edge.statistics().connections:
            await trio.lowlevel.checkpoint()
        said_since = broker.log.events[lines:]
        assert set(said_since) <= {"tls_handshake_failed", "disconnected"}
        assert said_since.count("tls_handshake_failed") <= 2
        assert said_since.count("disconnected") <= 2  # those who spoke before and after
        assert broker.edge.statistics().newcomers == 0

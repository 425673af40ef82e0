"""S1, S2, S6: requests whose client is gone before they are looked at, or says less than it promised."""

import socket
from pathlib import Path

import pytest
import trio
from triode_broker.edge.reactor import Edge

from tests.http.asking import served
from tests.http.talker import Wire

CONNECT = b'{"type":"connect","id":1}'
#: Whole, and with a body of which nothing comes.
LOST = {
    "history": b"GET /v1/history?topic=a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "publish": b"POST /v1/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 9\r\n\r\n",
    "stream": b"POST /v1/publish/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n"
    b"Content-Length: 9\r\n\r\n",
    "events": b"GET /v1/events?topic=a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "link": b"POST /v1/link HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(CONNECT), CONNECT),
}


def turn(edge: Edge) -> None:
    """What is ready is served; no task runs meanwhile."""
    edge.turn(edge.poll(), trio.current_time())


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_s6_nothing_is_kept_of_a_client_that_is_gone_at_once(tmp_path: Path, name: str, steps: int) -> None:
    """Neither a session nor a place among the requests, however far its task has come by then."""
    async with served(tmp_path) as (found, client):
        broker = found.broker
        for _ in range(3):
            ours, theirs = socket.socketpair()
            broker.edge.adopt(ours)
            theirs.sendall(LOST[name])
            turn(broker.edge)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            theirs.close()
            turn(broker.edge)
        with trio.fail_after(10):
            while broker.node.sessions or broker.serving.in_progress or broker.desk.links.by_name:
                await trio.lowlevel.checkpoint()
        assert (await client.get("/v1/history?topic=a")).status_code == 200


async def test_head_of_a_stream_has_no_body(tmp_path: Path) -> None:
    """RFC 9110 9.3.2: what would come behind would be read as the next answer."""
    async with served(tmp_path) as (found, _):
        for target in ("/v1/events?topic=a", "/v1/history?topic=a"):
            wire = await Wire.open(found.url)
            async with wire.stream:
                reply = await wire.ask("HEAD", target, headers={"Connection": "close"})
                assert reply.status == 200
                with pytest.raises(EOFError):
                    await wire.until(b"\n")
                assert wire._unread == b""


HEAD = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{}\r\n\r\n"


async def begun(url: str, target: str, size: str, *, body: bytes = b"") -> Wire:
    """A request of which no more than that comes."""
    wire = await Wire.open(url)
    await wire.stream.send_all(HEAD.format(target, size).encode() + body)
    return wire


async def status_of(wire: Wire) -> int:
    """Of the answer, the connection's last."""
    async with wire.stream:
        return int((await wire.until(b"\r\n")).split()[1])


async def test_s6_strangers_whose_texts_do_not_come_keep_nobody_out(tmp_path: Path) -> None:
    """S6: what opens a link needs no credential before it is whole, and has the time of a handshake."""
    limits = {"max_http_requests": 2, "max_handshakes": 8, "connect_timeout_ms": 1_000}
    async with served(tmp_path, limits=limits) as (found, client):
        serving = found.broker.serving
        wires = [await begun(found.url, "/v1/link", "Content-Length: 9") for _ in range(8)]
        with trio.fail_after(10):
            while serving.strangers < 8:
                await trio.lowlevel.checkpoint()
        assert (await client.post("/v1/publish", json={"topic": "a", "data": 1})).status_code == 200
        assert await status_of(await begun(found.url, "/v1/link", "Content-Length: 9")) == 503
        assert {await status_of(wire) for wire in wires} == {408}
        with trio.fail_after(10):
            while serving.strangers or serving.in_progress:
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("target", "size", "body", "status"),
    [
        ("/v1/link", "Content-Length: 65537", b"", 413),
        ("/v1/link", "Transfer-Encoding: chunked", b"ffff\r\n" + b"x" * 65_535 + b"\r\n2\r\n12\r\n", 413),
        ("/v1/link/0123.n1?n=1", "Content-Length: 1000000", b"", 404),
        ("/v1/link/0123.n1?n=1", "Transfer-Encoding: chunked", b"", 404),
        ("/v1/link/0123.elsewhere?n=1", "Content-Length: 1000000", b"", 404),
    ],
)
async def test_s2_body_of_a_stranger_is_short_or_not_read(
    tmp_path: Path, target: str, size: str, body: bytes, status: int
) -> None:
    """S2: at most max_before_connect_bytes of whoever has shown nothing yet."""
    async with served(tmp_path) as (found, _):
        assert await status_of(await begun(found.url, target, size, body=body)) == status


async def test_s2_trace_of_a_publish_that_is_refused_is_forgotten(tmp_path: Path) -> None:
    """SPEC 4.12"""
    async with served(tmp_path) as (found, client):
        for _ in range(3):
            answer = await client.post("/v1/publish", json={"topic": "$no", "data": 1, "trace": True})
            assert answer.status_code == 400
        (session,) = found.broker.node.sessions.values()
        assert session._outbox.connection._following == {}

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

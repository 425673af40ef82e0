"""Two WebSocket libraries that are not ours talk to the edge: messages, pings, closes by either side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket
from triode_broker.config import Limits
from triode_broker.edge.listeners import listen
from triode_broker.edge.reactor import Edge
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.edge.rig import Log, Talker


@asynccontextmanager
async def served(**limits: int) -> AsyncIterator[str]:
    """The URL of an edge that is served while the block runs."""
    listeners = listen("127.0.0.1:0")
    edge = Edge(
        accept=lambda outbox, _: Talker(outbox), routes={}, limits=Limits(**limits), now_ms=lambda: 0, log=Log()
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(edge.serve, listeners))
            yield f"ws://127.0.0.1:{listeners[0].getsockname()[1]}/ws"
            nursery.cancel_scope.cancel()


async def test_trio_websocket_talks_pings_and_closes() -> None:
    async with (
        served() as url,
        trio_websocket.open_websocket_url(url, subprotocols=["other", "triode.v1.json"]) as websocket,
    ):
        assert websocket.subprotocol == "triode.v1.json"
        for size in (1, 200, 70_000):
            await websocket.send_message(f"say {size}")
            assert len(await websocket.get_message()) == size
        await websocket.ping(b"there?")


async def test_websockets_talks_and_closes() -> None:
    def talk(url: str) -> None:
        with connect(url, subprotocols=[Subprotocol("triode.v1.json")], max_size=None) as websocket:
            assert websocket.subprotocol == "triode.v1.json"
            websocket.send(["say", " ", "3"])  # fragments
            assert websocket.recv() == "xxx"
            websocket.send("say 999999")
            assert len(websocket.recv()) == 999_999
            assert websocket.ping().wait(5)
        assert (websocket.close_code, websocket.protocol.close_rcvd_then_sent) == (1000, False)

    async with served() as url:
        await trio.to_thread.run_sync(talk, url)


async def test_websockets_is_told_why_it_is_closed() -> None:
    def talk(url: str) -> None:
        with connect(url) as websocket:
            websocket.send("x" * 20_000)
            with pytest.raises(Exception, match="1009"):
                websocket.recv()
            assert websocket.close_code == 1009
        with connect(url) as websocket:
            websocket.send("leave 4200")
            assert '"code":4200' in str(websocket.recv())
            with pytest.raises(Exception, match="4200"):
                websocket.recv()
            assert websocket.protocol.close_rcvd_then_sent

    async with served(max_frame_bytes=10_000) as url:
        await trio.to_thread.run_sync(talk, url)


async def test_websockets_is_refused_a_subprotocol_that_is_not_spoken() -> None:
    def talk(url: str) -> None:
        with pytest.raises(InvalidStatus) as caught:
            connect(url, subprotocols=[Subprotocol("mqtt")])
        assert caught.value.response.status_code == 400
        assert b"triode.v1.json" in caught.value.response.body

    async with served() as url:
        await trio.to_thread.run_sync(talk, url)

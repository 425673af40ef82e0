"""The order in which a node starts and ends, as whoever stands before it sees it (docs/health.md)."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from triode_broker.config import Config
from triode_broker.server import Broker

from tests.admin.running import PATIENCE_SECONDS, EventLog
from tests.spec.client import RawClient
from tests.test_server_drain import get, serving, stopped


async def statuses(url: str) -> dict[str, str]:
    """Of the three questions."""
    return {path: (await get(url, path))[0].split()[1] for path in ("/startupz", "/readyz", "/healthz")}


async def test_node_is_not_ready_before_all_that_serves_clients_is_up(tmp_path: Path) -> None:
    """Its port is open before that: it says "starting" there, and nothing else waits behind a closed port."""
    log = EventLog()
    broker = Broker(msgspec.convert({"listen": "127.0.0.1:0", "data": str(tmp_path)}, Config), log)
    seen: list[Any] = []
    start_others = broker._start_others

    async def look_first(nursery: trio.Nursery, urls: list[str], *rest: Any) -> None:
        seen.append(await statuses(urls[0]))
        seen.append((await get(urls[0], "/readyz"))[1])
        await start_others(nursery, urls, *rest)

    broker._start_others = look_first  # type: ignore[method-assign]  # the moment that is looked at
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(broker.run)
        seen.append(await statuses(url))
        nursery.cancel_scope.cancel()
    assert seen == [
        {"/startupz": "503", "/readyz": "503", "/healthz": "200"},
        {"ready": False, "reasons": ["starting"]},
        {"/startupz": "200", "/readyz": "200", "/healthz": "200"},
    ]


async def test_balancer_sees_not_ready_before_anybody_is_refused_or_sent_away(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"drain_delay_ms": 3_600_000}) as (node, client):
        node.broker.draining.begin()
        assert await statuses(node.url) == {"/startupz": "200", "/readyz": "503", "/healthz": "200"}
        async with trio.open_nursery() as nursery:  # whom a balancer sent before it knew
            late = await RawClient.open(nursery, node.url)
            await late.send({"type": "connect", "id": 1})
            await late.expect("connected", id=1)
            await late.cut()
        await client.send({"type": "publish", "topic": "a", "data": 1, "id": 2})
        await client.expect("published", id=2)
        node.broker.draining.begin(0)  # a time that is named holds from now: no delay either
        await client.expect("notice", draining=True)
        await client.expect("bye", code=4200)
        await stopped(node)


async def test_end_comes_in_order_and_the_files_are_closed_before_it_is_told(tmp_path: Path) -> None:
    order: list[str] = []
    async with serving(tmp_path) as (node, client):
        broker = node.broker
        close = broker.stores[0]._store.close

        def closed() -> None:
            order.append("file closed")
            close()

        broker.stores[0]._store.close = closed  # type: ignore[method-assign]  # the moment that is looked at
        await client.send({"type": "publish", "topic": "jobs/1", "data": 1, "id": 2})
        broker._log = Told(order, node.log)
        broker.draining.begin(0)
        order.append("draining")
        while (packet := await client.receive())["type"] != "bye":
            order.append(packet["type"])
        order.append("bye")
        await stopped(node)
    places = [order.index(one) for one in ("draining", "notice", "bye", "file closed", "stopped")]
    assert places == sorted(places)
    assert order.index("published") < order.index("bye")


class Told:
    """A log that also notes the order."""

    def __init__(self, order: list[str], log: EventLog) -> None:
        self._order, self._log = order, log

    def info(self, event: str, **facts: Any) -> None:
        """One line."""
        self._order.append(event)
        self._log.events.append(("info", event, facts))


@pytest.mark.parametrize("path", ["/startupz", "/readyz", "/healthz"])
async def test_questions_of_health_are_answered_to_get_alone(path: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as (node, _):
        with trio.fail_after(PATIENCE_SECONDS):
            head, _ = await get(node.url, path, b"POST %s HTTP/1.1\r\nHost: triode\r\n\r\n")
    assert head.startswith("HTTP/1.1 405")

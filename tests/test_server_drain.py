"""A node that is taken out of service, seen from outside: readiness, new clients, those it has."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import triode
from trio.testing import MockClock
from triode_broker.config import Limits
from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.core.session import Session
from triode_broker.draining import MAX_URLS, Draining, Readiness

from tests.admin.running import PATIENCE_SECONDS, EventLog, Running, running
from tests.core.desk import Desk
from tests.edge.rig import HANDSHAKE, Client, Rig, let_pass, text
from tests.spec.client import Packet, RawClient

AN_HOUR = 3_600.0


async def get(url: str, path: str, head: bytes = b"GET %s HTTP/1.1\r\nHost: triode\r\n\r\n") -> tuple[str, Any]:
    """Head and JSON of the answer to a request; None where the body is none."""
    host, _, port = url.removeprefix("http://").partition(":")
    with trio.fail_after(PATIENCE_SECONDS):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(head.replace(b"%s", path.encode()))
            answer = b"".join([piece async for piece in stream])
    top, _, body = answer.partition(b"\r\n\r\n")
    return top.decode(), msgspec.json.decode(body) if body.startswith(b"{") else None


@asynccontextmanager
async def serving(data: Path, **settings: Any) -> AsyncIterator[tuple[Running, RawClient]]:
    """A node, and a client that is connected to it."""
    async with running(data, **settings) as node, trio.open_nursery() as nursery:
        client = await RawClient.open(nursery, node.url)
        await client.send({"type": "connect", "id": 1})
        await client.expect("connected", id=1)
        yield node, client
        await client.cut()
        nursery.cancel_scope.cancel()


async def stopped(node: Running) -> None:
    """When it has ended."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not node.log.told("stopped"):
            await trio.lowlevel.checkpoint()


def kinds(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


async def test_a_node_that_drains_is_alive_and_not_ready(tmp_path: Path) -> None:
    """SPEC 1.1: and refuses whoever comes now."""
    async with serving(tmp_path) as (node, _):
        head, ready = await get(node.url, "/readyz")
        assert (head[:12], ready) == ("HTTP/1.1 200", {"ready": True, "reasons": []})
        node.broker.draining.begin(AN_HOUR)
        head, ready = await get(node.url, "/readyz")
        assert (head[:12], ready) == ("HTTP/1.1 503", {"ready": False, "reasons": ["draining"]})
        head, health = await get(node.url, "/healthz")
        assert (head[:12], health["status"], health["draining"]) == ("HTTP/1.1 200", "ok", True)
        head, _ = await get(node.url, "/ws", HANDSHAKE)
        assert head.startswith("HTTP/1.1 503")
        assert "Retry-After: 3600" in head


async def test_until_its_goodbye_a_client_is_served_as_ever(tmp_path: Path) -> None:
    """SPEC 4.11.1, 5.3.5"""
    async with serving(tmp_path, limits={"drain_reconnect_ms": 0}) as (node, client):
        await client.subscribe(1, "a")
        node.broker.draining.begin(AN_HOUR)
        assert await client.receive() == {"type": "notice", "draining": True}
        assert (await client.publish("a", 1))["offset"] == 1
        assert (await client.publish("jobs/a", 1))["level"] == "disk"
        await client.expect("message", data=1)
        node.broker.draining.begin(0)
        assert await client.closed() == 4200
        assert list(client.packets) == [{"type": "bye", "code": 4200, "name": "draining"}]
        await stopped(node)


async def test_what_a_disk_has_taken_in_is_answered_before_the_goodbye(tmp_path: Path) -> None:
    """SPEC 5.3.5, G1: exactly what is answered is stored."""
    async with serving(tmp_path) as (node, client):
        publishes = [{"type": "publish", "id": n, "topic": "jobs/a", "data": n} for n in range(2, 202)]
        await client.send(*publishes[:100])
        first = await client.receive()
        node.broker.draining.begin(0)
        await client.send(*publishes[100:])
        assert await client.closed() == 4200
        packets = [first, *client.packets]
        assert kinds(packets)[-1] == "bye"
        assert set(kinds(packets[:-1])) - {"notice"} == {"published"}
    answered = kinds(packets).count("published")
    assert answered >= 100
    async with serving(tmp_path) as (_, client):
        assert (await client.publish("jobs/a", "next"))["offset"] == answered + 1


async def test_deliveries_are_given_back_and_come_again_with_the_same_attempt(tmp_path: Path) -> None:
    """SPEC 9.4.4, G5"""
    subscribe = {"type": "subscribe", "id": 2, "sub": 1, "filter": "jobs/#", "durable": "worker"}
    for attempt in (1, 1):
        async with serving(tmp_path) as (node, client):
            assert (await client.ask(subscribe))["type"] == "subscribed"
            if not node.broker.stores[0].head():
                await client.publish("jobs/a", 1)
            assert (await client.expect("delivery"))["attempt"] == attempt
            node.broker.draining.begin(0)
            assert await client.closed() == 4200


async def test_python_client_is_back_in_the_next_life_and_has_missed_nothing(tmp_path: Path) -> None:
    """From a stored topic: no gap, nothing twice."""
    limits = {"drain_alone_ms": 0, "drain_reconnect_ms": 0, "reconnect_min_ms": 10, "reconnect_max_ms": 50}
    async with running(tmp_path, limits=limits) as node:
        listen = node.url.removeprefix("http://")
        async with triode.connect(node.url) as client, client.subscribe("jobs/a") as messages:
            await client.publish("jobs/a", 1)
            node.broker.draining.begin()
            await stopped(node)
            async with running(tmp_path, listen=listen, limits=limits):
                await client.publish("jobs/a", 2)
                with trio.fail_after(PATIENCE_SECONDS):
                    assert [(await anext(messages)).data for _ in range(2)] == [1, 2]
                assert messages.gap_count == 0


async def test_a_node_without_clients_ends_at_once_whatever_the_window(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.broker.draining.begin(AN_HOUR)
        await stopped(node)


# The plan, with time in the hand


class Stage:
    """A core and an edge, joined as the server does it; clients that have connected."""

    def __init__(self, **limits: Any) -> None:
        self.desk = Desk(limits=Limits(**limits))
        self.rig = Rig(self.desk.limits, accept=self._accept)
        self.luck = 0.0
        self.log = EventLog()
        self.draining = Draining(self.desk.node, self.rig.edge, lambda: self.luck, self.log)

    def _accept(self, outbox: Outbox, arrival: Arrival) -> Session:
        return Session(self.desk.node, outbox, arrival)

    def client(self) -> Client:
        """One more."""
        client = self.rig.client()
        client.send(text('{"type":"connect","id":1}'))
        assert '"connected"' in client.texts()[0]
        return client

    @staticmethod
    def packets(client: Client) -> list[Packet]:
        """What it was told, without the close frame."""
        found = [payload for opcode, payload in client.frames() if opcode == 1]
        return [msgspec.json.decode(payload) for payload in found]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """With nodes to go to or without, as the test sets it."""
    stage = Stage(drain_window_ms=8_000, drain_alone_ms=2_000, drain_reconnect_ms=1_000)
    yield stage
    stage.rig.end()


async def test_alone_the_window_is_short_and_clients_come_back_after_it(
    stage: Stage, autojump_clock: MockClock
) -> None:
    clients = [stage.client() for _ in range(4)]
    began = trio.current_time()
    assert stage.draining.begin() == 2.0
    stage.luck = 0.999
    await stage.draining.run()
    assert 1.9 <= trio.current_time() - began <= 2.1
    for number, client in enumerate(clients):
        notice, bye = stage.packets(client)
        assert notice == {"type": "notice", "draining": True}
        assert "urls" not in bye
        gone_ms = 500 * (number + 1)
        assert abs(gone_ms + bye["reconnect_after_ms"] - 2_000 - 1_499) <= 60


async def test_with_others_each_client_begins_with_another_url(stage: Stage, autojump_clock: MockClock) -> None:
    stage.draining.other_urls = lambda: ["ws://b/ws", "ws://c/ws"]
    clients = [stage.client() for _ in range(4)]
    began = trio.current_time()
    assert stage.draining.begin() == 8.0
    stage.luck = 0.5
    await stage.draining.run()
    assert 7.9 <= trio.current_time() - began <= 8.1
    byes = [stage.packets(client)[-1] for client in clients]
    assert [bye["reconnect_after_ms"] for bye in byes] == [500] * 4
    assert sorted(bye["urls"][0] for bye in byes) == ["ws://b/ws", "ws://b/ws", "ws://c/ws", "ws://c/ws"]
    assert all(sorted(bye["urls"]) == ["ws://b/ws", "ws://c/ws"] for bye in byes)


async def test_no_more_urls_than_clients_look_at(stage: Stage, autojump_clock: MockClock) -> None:
    stage.draining.other_urls = lambda: [f"ws://n{number}/ws" for number in range(20)]
    client = stage.client()
    stage.draining.begin(0)
    await stage.draining.run()
    assert len(stage.packets(client)[-1]["urls"]) == MAX_URLS


async def test_asked_again_only_a_time_that_is_named_counts(stage: Stage, autojump_clock: MockClock) -> None:
    assert stage.draining.begin(100) == 100
    await let_pass(10)
    assert stage.draining.begin() == 90
    assert stage.draining.begin(5) == 5
    await let_pass(10)
    assert stage.draining.begin() == 0
    assert len(stage.log.told("draining")) == 1


async def test_a_short_window_holds_for_a_node_that_is_alone_too() -> None:
    stage = Stage(drain_window_ms=0, drain_alone_ms=2_000)
    assert stage.draining.begin() == 0
    stage.rig.end()


async def test_thousands_are_told_in_more_than_one_turn(stage: Stage, autojump_clock: MockClock) -> None:
    clients = [stage.client() for _ in range(300)]
    stage.draining.begin(0)
    await stage.draining.run()
    assert all(kinds(stage.packets(client)) == ["notice", "bye"] for client in clients)


def test_readiness_has_a_reason_for_every_no() -> None:
    reasons = {"a": "", "b": "store failed"}
    readiness = Readiness(lambda: reasons["a"])
    assert readiness.unready() == ["starting"]
    readiness.started()
    assert readiness.unready() == []
    readiness.reasons.append(lambda: reasons["b"])
    reasons["a"] = "draining"
    assert readiness.unready() == ["draining", "store failed"]

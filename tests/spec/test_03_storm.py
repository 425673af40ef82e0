"""SPEC 3.1.7: more clients than the server greets at a time; each has its turn, or is told when to come back."""

from typing import Any

import pytest

from tests.spec.broker import RunningBroker
from tests.spec.client import RawClient
from tests.spec.conftest import StartBroker

CLIENTS = 20


async def knock(broker: RunningBroker) -> list[RawClient]:
    """Clients that have sent `connect` and `subscribe` in one flight, every other one with `resume`."""
    clients = [await broker.open() for _ in range(CLIENTS)]
    for number, client in enumerate(clients):
        connect = {"type": "connect", "id": 1, "resume": number % 2 == 0}
        await client.send(connect, {"type": "subscribe", "id": 2, "sub": 1, "filter": "a"})
    return clients


async def test_each_has_its_turn_and_what_it_sent_behind_connect_is_served(start_broker: StartBroker) -> None:
    """SPEC 3.1.7, 1.11"""
    limits = {"max_connects_per_second": 20, "max_connect_burst": 1, "max_connect_wait_ms": 60_000}
    broker = await start_broker(limits=limits | {"connect_timeout_ms": 60_000})
    clients = await knock(broker)
    for client in clients:
        await client.expect("connected", id=1)
        await client.expect("subscribed", id=2)
    await clients[0].publish("a", "all here")
    for client in clients:
        await client.expect("message", data="all here")


@pytest.mark.parametrize("wait_ms", [0, 100])
async def test_who_has_no_turn_in_time_hears_when_to_come_back(wait_ms: int, start_broker: StartBroker) -> None:
    """SPEC 3.1.7, 3.8.1, 5.3.4: one time after the other, counted from when each was told."""
    limits = {"max_connects_per_second": 10, "max_connect_burst": 1, "max_connect_wait_ms": wait_ms}
    clients = await knock(await start_broker(limits=limits))
    first = [await client.receive() for client in clients]
    byes = [packet for packet in first if packet["type"] == "bye"]
    assert {packet["type"] for packet in first} <= {"connected", "bye"}
    assert byes
    assert {(bye["code"], bye["name"]) for bye in byes} == {(4102, "overloaded")}
    assert len({back_ms(bye) for bye in byes}) > len(byes) // 2
    for client, packet in zip(clients, first, strict=True):
        if packet["type"] == "bye":
            assert await client.closed() == 4102


def back_ms(bye: dict[str, Any]) -> int:
    """When it may come back; 0 is left out."""
    return int(bye.get("reconnect_after_ms", 0))

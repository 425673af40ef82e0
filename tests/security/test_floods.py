"""S8: floods of messages, subscribes, pings and rubbish at a real broker, with a healthy client beside them.

SPEC 11.7: who floods is told, then closed; who waits as it is told loses nothing and keeps its rate.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import trio
import triode
from trio_websocket import ConnectionClosed
from triode_protocol.errors import CloseCode

from tests.security.withdrawing import door, token
from tests.spec.broker import RunningBroker
from tests.spec.client import Packet, RawClient
from tests.spec.conftest import StartBroker

#: So many at once, and so few later, that a slow machine makes no difference.
RATES = {"publishes_per_second": 10, "requests_per_second": 10, "control_packets_per_second": 10}
PIECE = 500  # packets in one message
FORGIVEN = 2_000
#: Whoever floods gets to read how it ended, however busy the machine is: it would be cut off otherwise.
LIMITS = {
    "rate_burst_ms": 20_000,
    "max_refused_packets": FORGIVEN,
    "refused_window_ms": 600_000,
    "close_timeout_ms": 60_000,
}
FLOODS: dict[str, Callable[[int], Packet]] = {
    "messages": lambda number: {"type": "publish", "topic": "flood", "data": number},
    "messages with ids": lambda number: {"type": "publish", "topic": "flood", "data": number, "id": number},
    "subscribes": lambda number: {"type": "subscribe", "sub": number, "filter": f"flood/{number}"},
    "histories": lambda number: {"type": "history", "topic": "flood", "id": number},
    "presences": lambda number: {"type": "presence", "topic": "flood", "id": number},
    "acks": lambda number: {"type": "ack", "sub": 1, "log": "m", "pos": number},
    "pings": lambda number: {"type": "ping"},
    "pongs": lambda number: {"type": "pong"},
    "rubbish": lambda number: {"type": "rubbish"},
}


async def statistics(broker: RunningBroker) -> Any:
    """What health says of rates."""
    text = await trio.to_thread.run_sync(lambda: urlopen(f"{broker.url}/healthz").read())
    return json.loads(text)["rates"]


async def keep_talking(client: triode.Client, until: trio.Event) -> int:
    """Say numbers and hear them, each once and in order, until then."""
    said = 0
    async with client.subscribe("healthy") as heard:
        while not said or (not until.is_set() and said < 100):
            await client.publish("healthy", said)
            assert (await anext(heard)).data == said
            said += 1
    return said


async def send_all(client: RawClient, packet: Callable[[int], Packet]) -> None:
    """Message after message, whatever is answered, until more than enough was refused or it is closed."""
    try:
        for first in range(1, 2 * FORGIVEN, PIECE):
            await client.send(*[packet(first + number) for number in range(PIECE)])
    except ConnectionClosed:
        pass


@pytest.mark.parametrize("name", list(FLOODS))
async def test_a_flood_is_refused_then_closed_and_hurts_nobody(start_broker: StartBroker, name: str) -> None:
    """S8, SPEC 11.7.1, 11.7.2, 11.7.4."""
    broker = await start_broker(quotas=[RATES], limits=LIMITS)
    over = trio.Event()
    async with triode.connect(broker.url) as healthy, trio.open_nursery() as nursery:
        flooder = await broker.connect()
        packets: list[Packet] = []

        async def flood() -> None:
            async with trio.open_nursery() as sending:
                sending.start_soon(send_all, flooder, FLOODS[name])
                assert await flooder.closed() == CloseCode.OVERLOADED
            packets.extend(flooder.packets)
            over.set()

        nursery.start_soon(flood)
        assert await keep_talking(healthy, over) > 0
        await over.wait()
        assert (await healthy.publish("healthy", "still here")).level == "memory"
    bye = packets[-1]
    assert (bye["type"], bye["name"], bye["reconnect_after_ms"] >= 5_000) == ("bye", "overloaded", True)
    limited = [packet for packet in packets if packet.get("name") == "rate_limited"]
    assert limited
    assert all(packet["retry_after_ms"] > 0 for packet in limited)
    if not any("id" in packet or "sub" in packet for packet in limited):
        assert len(limited) <= 10  # one for each wait, not one for each packet
    seen = await statistics(broker)
    assert seen["closed"] == 1
    assert sum(seen["refused"].values()) > FORGIVEN


async def test_an_operator_finds_out_who_floods_and_who_has_too_many_connections(tmp_path: Path) -> None:
    """S8: by user and address, in the log and among the connections; a flood of packets is a few lines (S27)."""
    quota = {"publishes_per_second": 10, "user_max_connections": 1}
    async with door(tmp_path, quotas=[quota], limits={"rate_burst_ms": 20_000}) as here:
        flooder, connection = await here.enter(token("ada", tenant="acme"))
        await flooder.send(*[FLOODS["messages"](number) for number in range(PIECE)])
        await flooder.ask({"type": "ping"})
        log = here.running.log
        (line,) = log.told("rate_limited")
        who = {"user": "ada", "tenant": "acme", "address": "127.0.0.1"}
        assert line == {**who, "limit": "publishes_per_second", "refused": 20}
        (listed,) = (await here.running.ask("connections", user="ada", tenant="acme"))["connections"]
        assert (listed["connection"], listed["refused"]) == (connection, PIECE - 200)
        assert (await here.knock(token("ada", tenant="acme")))[1]["type"] == "bye"
        assert log.told("connection_refused") == [{**who, "limit": "user_max_connections", "most": 1}]


async def test_a_client_that_publishes_faster_than_it_may_is_slowed_down_and_loses_nothing(
    start_broker: StartBroker,
) -> None:
    """SPEC 11.7.4, G3, G6: all are acknowledged, in the order in which they were published; the rate holds."""
    count, rate = 400, 200
    broker = await start_broker(quotas=[{"publishes_per_second": rate}], limits={"rate_burst_ms": 250})
    places: dict[int, triode.Published] = {}
    order: list[int] = []
    async with (
        triode.connect(broker.url) as client,
        triode.connect(broker.url) as reader,
        reader.subscribe("fast") as heard,
    ):
        async with trio.open_nursery() as nursery:

            async def publish(number: int) -> None:
                order.append(number)
                places[number] = await client.publish("fast", number)

            for number in range(count):
                nursery.start_soon(publish, number)
        messages = [await anext(heard) for _ in range(count)]
    assert sorted(places) == list(range(count))
    assert [message.offset for message in messages] == list(range(1, count + 1))
    assert [message.data for message in messages] == order
    seconds = (messages[-1].ts - messages[0].ts) / 1000
    assert seconds >= (count - rate * 0.25 - rate * 0.1) / rate - 0.25
    seen = await statistics(broker)
    assert seen["closed"] == 0
    assert seen["refused"]["publishes_per_second"] > 0


async def test_connections_of_a_user_beyond_its_quota_are_told_to_come_back(start_broker: StartBroker) -> None:
    """SPEC 11.7.5, 5.3.1: and anonymous ones are not one user."""
    broker = await start_broker(quotas=[{"tenant_max_connections": 2}])
    first, second = await broker.connect(), await broker.connect()
    third = await broker.open()
    await third.send({"type": "connect", "id": 1})
    bye = await third.expect("bye", code=4103, name="connection_limit")
    assert bye["reconnect_after_ms"] == 20_000
    assert await third.closed() == CloseCode.CONNECTION_LIMIT
    await first.close()
    await second.has_nothing_more()
    while True:  # the broker hears of the end when it comes
        again = await broker.open()
        await again.send({"type": "connect", "id": 1})
        if (await again.receive())["type"] == "connected":
            break

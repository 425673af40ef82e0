"""nats-py against nats-server, over its WebSocket listener or over TCP.

What it must not know: how it is measured.
The surprising decision: acknowledged publishes are JetStream's, into a stream in memory: else NATS acknowledges
nothing. How many unacknowledged messages have come is not looked at; `flush` waits until all were read.
"""

import asyncio
from typing import Any

import msgspec
import nats

from bench.callers.errand import Errand, Meter, payload


def run(errand: Errand, meter: Meter, manner: str) -> None:
    asyncio.run(_work(errand, meter))


async def _work(errand: Errand, meter: Meter) -> None:
    client = await nats.connect(errand.url)
    try:
        if errand.workload == "clients-receive":
            await _receive(client, errand, meter)
        elif errand.workload == "clients-send":
            await _send(client, errand, meter)
        else:
            await _acked(client, errand, meter)
    finally:
        await client.close()


async def _receive(client: Any, errand: Errand, meter: Meter) -> None:
    subscription = await client.subscribe(errand.topic)
    await client.flush()
    meter.ready()
    async for message in subscription.messages:
        if meter.received(msgspec.json.decode(message.data)["n"]):
            return


async def _send(client: Any, errand: Errand, meter: Meter) -> None:
    meter.ready()
    for _ in range(errand.windows):
        meter.begin()
        for number in range(errand.count):
            await client.publish(errand.topic, msgspec.json.encode(payload(number)))
        await client.flush()
        meter.end(errand.count)


async def _acked(client: Any, errand: Errand, meter: Meter) -> None:
    stream = client.jetstream()
    await stream.add_stream(name="bench", subjects=[errand.topic], storage="memory", max_bytes=64_000_000)
    meter.place(0, 0)
    meter.ready()
    for _ in range(errand.windows):
        meter.begin()
        futures = [
            await stream.publish_async(errand.topic, msgspec.json.encode(payload(number)), wait_stall=10)
            for number in range(errand.count)
        ]
        await stream.publish_async_completed()
        meter.end(errand.count)
        meter.place(futures[-1].result().seq, errand.count)
    await stream.delete_stream("bench")

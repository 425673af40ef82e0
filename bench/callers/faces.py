"""Triode's client on an event loop: the same program for trio and, with another `connect`, for asyncio.

What it must not know: how it is measured.
The surprising decision: nothing is tuned. These are the loops that its documentation shows.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from bench.callers.errand import Errand, Meter, payload

_UNANSWERED: Final = 2_048


def run(errand: Errand, meter: Meter, manner: str) -> None:
    """On trio."""
    import trio
    import triode

    trio.run(work, triode.connect, errand, meter)


async def work(connect: Callable[[str], Any], errand: Errand, meter: Meter) -> None:
    """One workload, on whatever loop `connect` is for."""
    async with connect(errand.url) as client:
        if errand.workload == "clients-receive":
            await _receive(client, errand, meter)
            return
        meter.place((await client.publish(errand.topic, payload(0))).offset, 0)
        meter.ready()
        do = {"clients-send": _send, "clients-acked": _acked, "clients-many": _many}[errand.workload]
        for _ in range(errand.windows):
            meter.begin()
            offset = await do(client, errand)
            meter.end(errand.count)
            meter.place(offset, errand.count)


async def _receive(client: Any, errand: Errand, meter: Meter) -> None:
    async with client.subscribe(errand.topic) as messages:
        meter.ready()
        async for message in messages:
            if meter.received(message.data["n"]):
                return


async def _send(client: Any, errand: Errand) -> int:
    for number in range(errand.count - 1):
        await client.send(errand.topic, payload(number))
    place = await client.publish(errand.topic, payload(0))  # behind all of them: whatever was lost is missing here
    return int(place.offset)


async def _acked(client: Any, errand: Errand) -> int:
    receipts: deque[Any] = deque()
    for number in range(errand.count):
        if len(receipts) == _UNANSWERED:
            await receipts.popleft().wait()
        receipts.append(client.publish_nowait(errand.topic, payload(number)))
    for receipt in receipts:
        place = await receipt.wait()
    return int(place.offset)


async def _many(client: Any, errand: Errand) -> int:
    for first in range(0, errand.count, _UNANSWERED):
        several = range(first, min(first + _UNANSWERED, errand.count))
        places = await client.publish_many([(errand.topic, payload(number)) for number in several])
    return int(places[-1].offset)

"""What one writes by hand on the `websockets` library against SPEC.md, with arrays of packets or a packet a frame.

What it must not know: how it is measured.
The surprising decision: it has nothing of a client but speed: no reconnects, no queue, no positions, no limits,
and of the protocol only what a good day needs. JSON is msgspec's, as in Triode's own.
"""

import asyncio
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.callers.errand import Errand, Meter, payload

_TOGETHER: Final = 64  # publishes in an array
_WINDOW: Final = 256  # unacknowledged: the broker's default limit
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def run(errand: Errand, meter: Meter, manner: str) -> None:
    """`manner`: "arrays", or nothing."""
    asyncio.run(_work(errand, meter, _TOGETHER if manner else 1))


async def _work(errand: Errand, meter: Meter, together: int) -> None:
    subprotocol = Subprotocol("triode.v1.json")
    async with connect(errand.url, subprotocols=[subprotocol], compression=None, max_queue=64) as socket:
        await socket.send(_text([{"type": "connect", "id": 1, "capabilities": ["batch"] if together > 1 else []}]))
        await _until(socket, "connected")
        if errand.workload == "clients-receive":
            await _receive(socket, errand, meter)
            return
        meter.place(await _publish(socket, errand.topic), 0)
        meter.ready()
        for window in range(errand.windows):
            meter.begin()
            if errand.workload == "clients-send":
                offset = await _send(socket, errand, together)
            else:
                offset = await _acked(socket, errand, together, window * errand.count)
            meter.end(errand.count)
            meter.place(offset, errand.count)


async def _receive(socket: ClientConnection, errand: Errand, meter: Meter) -> None:
    await socket.send(_text([{"type": "subscribe", "id": 2, "sub": 1, "filter": errand.topic}]))
    await _until(socket, "subscribed")
    meter.ready()
    async for text in socket:
        for packet in _packets(text):
            if packet["type"] == "message":
                if meter.received(packet["data"]["n"]):
                    return
            elif packet["type"] == "ping":
                await socket.send('{"type":"pong"}')


async def _send(socket: ClientConnection, errand: Errand, together: int) -> int:
    waiting = []
    for number in range(errand.count - 1):
        waiting.append({"type": "publish", "topic": errand.topic, "data": payload(number)})
        if len(waiting) == together:
            await socket.send(_text(waiting))
            waiting = []
    if waiting:
        await socket.send(_text(waiting))
    return await _publish(socket, errand.topic)


async def _publish(socket: ClientConnection, topic: str) -> int:
    await socket.send(_text([{"type": "publish", "id": 9, "topic": topic, "data": payload(0)}]))
    return int((await _until(socket, "published"))["offset"])


async def _acked(socket: ClientConnection, errand: Errand, together: int, first: int) -> int:
    """Publishes with a window, each with a number and a message id, as a client that resends would have to."""
    sent = answered = offset = 0
    while answered < errand.count:
        while sent < errand.count and sent - answered + together <= _WINDOW:
            several = range(sent, min(sent + together, errand.count))
            numbered = [
                {
                    "type": "publish",
                    "id": number + 10,
                    "message_id": f"by-hand-{first + number:x}",
                    "topic": errand.topic,
                    "data": payload(number),
                }
                for number in several
            ]
            await socket.send(_text(numbered))
            sent += len(several)
        for packet in _packets(await socket.recv()):
            if packet["type"] == "published":
                answered += 1
                offset = packet["offset"]
    return offset


async def _until(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        for packet in _packets(await socket.recv()):
            if packet["type"] == kind:
                return packet
            if packet["type"] == "error":
                raise RuntimeError(f"the broker answered {packet}")


def _packets(text: str | bytes) -> list[dict[str, Any]]:
    decoded = _decode(text)
    return decoded if isinstance(decoded, list) else [decoded]


def _text(packets: list[dict[str, Any]]) -> str:
    return _encode(packets if len(packets) > 1 else packets[0]).decode()

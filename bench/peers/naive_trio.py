"""The naive peer: what a newcomer writes with trio-websocket in half an hour, a task per connection.

What it must not have: any of the care that makes a broker fast (shared frames, joined sends,
one task for all). It exists to show what that care is worth.
The surprising decision: the publisher's own task sends to every subscriber in turn, so a slow
subscriber holds the publisher up. That is the obvious code; whoever notices writes a queue next.

Run: python -m bench.peers.naive_trio PORT
"""

import collections
import json
import sys
from typing import Any

import trio
import trio_websocket

SUBPROTOCOL = "triode.v1.json"


class Broker:
    """Topics by name: who listens, and how many messages there were."""

    def __init__(self) -> None:
        self.subscribers: dict[str, set[trio_websocket.WebSocketConnection]] = collections.defaultdict(set)
        self.offsets: collections.Counter[str] = collections.Counter()
        self.pos = 0

    async def serve(self, request: trio_websocket.WebSocketRequest) -> None:
        offered = SUBPROTOCOL in request.proposed_subprotocols
        connection = await request.accept(subprotocol=SUBPROTOCOL if offered else None)
        filters: list[str] = []
        try:
            while True:
                packet = json.loads(await connection.get_message())
                reply = await self.answer(connection, packet, filters)
                if reply is not None:
                    await connection.send_message(json.dumps(reply))
        except trio_websocket.ConnectionClosed:
            pass  # the remote side is gone, and so is this task
        finally:
            for name in filters:
                self.subscribers[name].discard(connection)

    async def answer(
        self,
        connection: trio_websocket.WebSocketConnection,
        packet: dict[str, Any],
        filters: list[str],
    ) -> dict[str, Any] | None:
        match packet["type"]:
            case "publish":
                place = await self.publish(packet["topic"], packet["data"])
                return {"type": "published", "id": packet["id"], **place} if "id" in packet else None
            case "connect":
                return {"type": "connected", "id": packet["id"]}
            case "subscribe":
                self.subscribers[packet["filter"]].add(connection)
                filters.append(packet["filter"])
                return {"type": "subscribed", "id": packet["id"], "sub": packet["sub"]}
        return {"type": "error", "name": "unsupported", "message": packet["type"]}

    async def publish(self, topic: str, data: Any) -> dict[str, int]:
        self.pos += 1
        self.offsets[topic] += 1
        pos, offset = self.pos, self.offsets[topic]
        message = {"type": "message", "topic": topic, "offset": offset, "data": data}
        text = json.dumps(message)
        for subscriber in list(self.subscribers[topic]):
            try:
                await subscriber.send_message(text)
            except trio_websocket.ConnectionClosed:
                self.subscribers[topic].discard(subscriber)
        return {"pos": pos, "offset": offset}


def main() -> None:
    broker = Broker()
    trio.run(trio_websocket.serve_websocket, broker.serve, "127.0.0.1", int(sys.argv[1]), None)


if __name__ == "__main__":
    main()

"""The `websockets` peer: asyncio and the library's own `broadcast`, as its documentation shows them.

What it must not have: anything a reader of that page would not write.
The surprising decision: compression is off, which the library has on; the others do not compress either.

Run: python -m bench.peers.broadcasting PORT
"""

import asyncio
import collections
import json
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.typing import Subprotocol

SUBPROTOCOL = Subprotocol("triode.v1.json")


class Broker:
    """Topics by name, and who listens."""

    def __init__(self) -> None:
        self.subscribers: dict[str, set[ServerConnection]] = collections.defaultdict(set)

    async def serve(self, connection: ServerConnection) -> None:
        filters: list[str] = []
        try:
            async for text in connection:
                packet = json.loads(text)
                match packet["type"]:
                    case "publish":
                        self.publish(packet)
                    case "subscribe":
                        self.subscribers[packet["filter"]].add(connection)
                        filters.append(packet["filter"])
                if "id" in packet:
                    await connection.send(json.dumps({"type": f"{packet['type']}ed", "id": packet["id"]}))
        finally:
            for name in filters:
                self.subscribers[name].discard(connection)

    def publish(self, packet: dict[str, str]) -> None:
        message = json.dumps({"type": "message", "topic": packet["topic"], "data": packet["data"]})
        broadcast(self.subscribers[packet["topic"]], message)


async def main() -> None:
    broker = Broker()
    async with serve(
        broker.serve,
        "127.0.0.1",
        int(sys.argv[1]),
        subprotocols=[SUBPROTOCOL],
        compression=None,
        ping_interval=None,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

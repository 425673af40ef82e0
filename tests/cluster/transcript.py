"""Transcript: what nodes say to each other while one message goes from a publisher to three subscribers.

`python -m tests.cluster.transcript` records it with three processes and prints it, for docs/peer-protocol.md.
"""

import re
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio
import triode

from tests.cluster.builds import recording
from tests.cluster.run_builds import Node, nodes, whole

TOPIC = "rooms/a"


async def record(folder: Path) -> list[dict[str, Any]]:
    """All messages from the first subscribe on: b owns every shard, a, b and c subscribe, a publishes."""
    build = recording(folder / "recording")
    async with nodes(folder) as started, AsyncExitStack() as stack:
        b = await started.start("b", build, holders="b")
        a = await started.start("a", build, await b.peer_url(), holders="b")
        c = await started.start("c", build, await b.peer_url(), holders="b")
        await whole(a, b, c)
        clients = [await stack.enter_async_context(triode.connect(await node.url())) for node in (a, b, c)]
        before = {node: len(node.events) for node in (a, b, c)}
        heard = [await stack.enter_async_context(client.subscribe(TOPIC)) for client in clients]
        await clients[0].publish(TOPIC, "hello")
        for messages in heard:
            await anext(messages)
        awaited = ((a, "b", "Forward("), (b, "a", "Deliver("), (b, "a", "Answered("), (b, "c", "Deliver("))
        for node, to, frame in awaited:  # their lines may come later than what they tell
            await node.until(partial(_has_said, node, before[node], to, frame))
        return _in_order(before)


def _has_said(node: Node, count: int, to: str, frame: str) -> bool:
    return any(one.get("to") == to and frame in str(one.get("frames")) for one in node.events[count:])


def _in_order(before: dict[Node, int]) -> list[dict[str, Any]]:
    said = [
        one | {"node": node.data.name}
        for node, count in before.items()
        for one in node.events[count:]
        if one["event"] == "frames_sent"
    ]
    return sorted(said, key=lambda one: str(one["timestamp"]))


def as_text(said: list[dict[str, Any]]) -> str:
    """A line for each frame."""
    return "\n".join(
        f"{one['node']} → {one['to']}  {one['link']:7}  {_shortened(frame)}"
        for one in said
        for frame in one["frames"]
    )


def _shortened(frame: str) -> str:
    return re.sub(r"\b(m\d)-[0-9a-z]+", r"\1-…", frame)


async def main() -> None:
    """Record and print it."""
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(as_text(await record(Path(folder))) + "\n")


if __name__ == "__main__":
    trio.run(main)

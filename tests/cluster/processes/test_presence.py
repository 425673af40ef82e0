"""Presence and wills in a cluster of real processes: who is there, at every node, through deaths and cuts (G9)."""

from contextlib import AsyncExitStack
from pathlib import Path

import trio
import triode

from tests.cluster.processes.nodes import cluster_of

PATIENCE_SECONDS = 60.0


async def change(messages: triode.Messages) -> triode.Joined | triode.Left:
    """The next one that the client is told of."""
    with trio.fail_after(PATIENCE_SECONDS):
        async for item in messages.events():
            if isinstance(item, triode.Joined | triode.Left):
                return item
    raise AssertionError("it has ended")


async def test_members_are_known_at_every_node_and_go_with_theirs(tmp_path: Path) -> None:
    """SPEC 10.2, 10.4, 10.8, 10.11, G9: kill -9 of one of three; no ghost, and no will of its clients."""
    will = triode.Will("room", "lost")
    async with cluster_of(3, tmp_path) as cluster, AsyncExitStack() as stack:
        first, second, third = [
            await stack.enter_async_context(triode.connect(node.url, will=will)) for node in cluster.nodes
        ]
        watched = await stack.enter_async_context(first.subscribe("room", presence="watch"))
        for client, state in ((second, "second"), (third, "third")):
            await stack.enter_async_context(client.subscribe("room", presence={"state": state}))
            came = await change(watched)
            assert (type(came), came.member.state) == (triode.Joined, state)
        for client in (first, second, third):
            present = await client.presence("room")
            assert sorted(member.state for member in present.members) == ["second", "third"]
            assert present.complete
        await cluster.node("n3").kill()
        gone = await change(watched)
        assert (type(gone), gone.member.state) == (triode.Left, "third")
        left = await first.presence("room")
        assert [member.state for member in left.members] == ["second"]
        assert not (await first.history("room")).messages

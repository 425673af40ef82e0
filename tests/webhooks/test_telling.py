"""Events of a real broker at a real endpoint: what is told, signed how, again after which answers."""

from pathlib import Path

import trio
import triode

from tests.webhooks.sink import hooked, is_signed


async def test_clients_members_and_topics_are_told(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with hooked(tmp_path, nursery, limits={"vacated_after_ms": 10}) as (node, sink):
        async with triode.connect(node.url) as client:
            async with client.subscribe("rooms/1", presence={"state": {"name": "ada"}}):
                await sink.kinds(3)
            await sink.until(lambda: len(sink.taken) >= 5)
        await sink.until(lambda: len(sink.taken) >= 6)
    kinds = sorted(event["kind"] for event in sink.taken)
    assert kinds == sorted(
        ["client.connected", "member.joined", "topic.occupied", "member.left", "topic.vacated", "client.disconnected"]
    )
    joined, left = sink.of("member.joined")[0], sink.of("member.left")[0]
    assert (joined["topic"], joined["state"], joined["member"]) == ("rooms/1", {"name": "ada"}, left["member"])
    assert sink.of("client.disconnected")[0]["code"] == 1000
    assert all(is_signed(seen) for seen in sink.requests)

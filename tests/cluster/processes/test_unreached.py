"""What a client sees of a shard whose owner its node does not reach: its name, and later a gap (G4, G8)."""

from pathlib import Path

import pytest
import trio

from tests.cluster.processes.nodes import cluster_of
from tests.cluster.processes.quick import Quick
from tests.cluster.processes.ways import both

PATIENCE_SECONDS = 90.0


@pytest.mark.timeout(150)
async def test_subscribed_names_what_is_not_reached_and_a_gap_precedes_its_first_message(tmp_path: Path) -> None:
    """SPEC 4.2.4, 4.6.4"""
    with trio.fail_after(PATIENCE_SECONDS):
        async with cluster_of(2, tmp_path, durable=("n1", "n2")) as cluster:
            n1, n2 = cluster.nodes
            near, far = await Quick.open(n1.url), await Quick.open(n2.url)
            topic = ""
            for number in range(40):
                asked = await far.send({"type": "publish", "topic": f"durable/{number}", "data": number})
                if (await far.until("published", id=asked))["log"].startswith("d1-"):
                    topic = f"durable/{number}"
            cluster.ways.hold(both(["n1"], ["n2"]))
            asked = await near.send({"type": "subscribe", "sub": 1, "filter": topic})
            subscribed = await near.until("subscribed", id=asked)
            assert subscribed["unavailable"] == ["d1"]
            asked = await far.send({"type": "publish", "topic": topic, "data": "missed, maybe"})
            await far.until("published", id=asked)
            cluster.ways.heal()
            await cluster.whole()
            asked = await far.send({"type": "publish", "topic": topic, "data": "heard"})
            await far.until("published", id=asked)
            gap = await near.until("gap", "message", "delivery")
            assert (gap["type"], gap["sub"], gap["reason"]) == ("gap", 1, "partition")
            heard = ""
            while heard != "heard":
                packet = await near.until("message", "delivery")
                heard = packet.get("message", packet)["data"]
            for quick in (near, far):
                quick.cut()

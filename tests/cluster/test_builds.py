"""Two builds in one cluster, as processes: N and N−1 interoperate, what is too far apart is refused in both logs.

The other builds are made from the tree (tests/cluster/builds.py); docs/peer-protocol.md has the rules.
"""

from contextlib import AsyncExitStack
from pathlib import Path

import trio
import triode

from tests.cli.programs import PATIENCE_SECONDS
from tests.cluster.builds import CURRENT, newer, older
from tests.cluster.run_builds import nodes, protocols, whole
from tests.cluster.transcript import record

TOPICS = [f"jobs/{number}" for number in range(9)]  # some in every durable shard
ROOMS = [f"rooms/{number}" for number in range(9)]


async def through(clients: list[triode.Client], topics: list[str]) -> None:
    """G3: what is published anywhere comes to subscribers everywhere, per topic in one order."""
    async with AsyncExitStack() as stack:
        heard = [await stack.enter_async_context(client.subscribe("#")) for client in clients]
        places: dict[tuple[str, int], triode.Published] = {}
        for round, client in enumerate(clients):
            for topic in topics:
                place = await client.publish(topic, round)
                places[topic, round] = place
        for messages in heard:
            with trio.fail_after(PATIENCE_SECONDS):
                found = [await anext(messages) for _ in places]
            for message in found:
                place = places[message.topic, int(message.data)]
                assert (message.log, message.pos, message.offset) == (place.log, place.pos, place.offset)
            assert len({(message.topic, message.data) for message in found}) == len(places)


async def catch_up(clients: list[triode.Client]) -> None:
    """Histories, subscriptions from the start, and one name, from wherever they are asked for."""
    for client in clients:
        for topic in TOPICS:
            assert [one.data for one in (await client.history(topic, last=9)).messages] == [0, 1, 2]
        async with client.subscribe("jobs/#", from_="earliest") as messages:
            with trio.fail_after(PATIENCE_SECONDS):
                found = [await anext(messages) for _ in range(3 * len(TOPICS))]
            assert [one.data for one in found if one.topic == TOPICS[0]] == [0, 1, 2]
    share = len(TOPICS)
    for client in clients:  # the name's position is at its home, whoever asks
        async with client.consume("jobs/#", durable="worker", from_="earliest") as jobs:
            with trio.fail_after(PATIENCE_SECONDS):
                for _ in range(share):
                    async with await anext(jobs):
                        pass


async def test_nodes_of_three_builds_are_one_cluster(tmp_path: Path) -> None:
    async with nodes(tmp_path) as started:
        holders = "n1,n2,n3"
        n1 = await started.start("n1", CURRENT, holders=holders)
        seed = await n1.peer_url()
        n2 = await started.start("n2", newer(tmp_path / "newer"), seed, holders=holders)
        n3 = await started.start("n3", older(tmp_path / "older"), seed, holders=holders)
        view = await whole(n1, n2, n3)
        assert protocols(view) == {(a, b): {1} for a in ("n1", "n2", "n3") for b in ("n1", "n2", "n3") if a != b}
        assert {owner for shard in view["shards"] for owner in shard["owners"]} == {"n1", "n2", "n3"}
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(triode.connect(await node.url())) for node in (n1, n2, n3)]
            await through(clients, [*TOPICS, *ROOMS])
            await catch_up(clients)
        for node in (n1, n2, n3):
            assert [one for one in node.events if one.get("level") in ("warning", "error")] == []
            assert node.of("peer_link_closed", reason="bad_frame") == []


async def test_a_node_is_upgraded_over_its_data_while_the_other_serves(tmp_path: Path) -> None:
    """A rolling upgrade: the durable log goes on, at the version that both builds have, then at the new one."""
    build = newer(tmp_path / "newer")
    async with nodes(tmp_path) as started:
        n1 = await started.start("n1", CURRENT, holders="n1,n2")
        n2 = await started.start("n2", CURRENT, await n1.peer_url(), holders="n1,n2")
        await whole(n1, n2)
        async with triode.connect(await n1.url()) as client:
            logs = {topic: (await client.publish(topic, 0)).log for topic in TOPICS}
            await n2.end()
            n2 = await started.start("n2", build, await n1.peer_url(), holders="n1,n2")
            assert protocols(await whole(n1, n2))["n1", "n2"] == {1}
            for topic in TOPICS:
                place = await client.publish(topic, 1)
                assert (place.log, place.offset) == (logs[topic], 2)
        await n1.end()
        n1 = await started.start("n1", build, await n2.peer_url(), holders="n1,n2")
        assert protocols(await whole(n1, n2))["n1", "n2"] == {2}
        async with triode.connect(await n1.url()) as client:
            for topic in TOPICS:
                place = await client.publish(topic, 2)
                assert (place.log, place.offset) == (logs[topic], 3)
        await n1.told("greeting_heard", node="n2", text="to n1")
        await n2.told("greeting_heard", node="n1", text="to n2")


async def test_a_frame_that_the_link_does_not_have_is_not_sent_and_told_in_the_log(tmp_path: Path) -> None:
    async with nodes(tmp_path) as started:
        n1 = await started.start("n1", CURRENT, holders="n1")
        careless = newer(tmp_path / "careless", is_careless=True)
        n2 = await started.start("n2", careless, await n1.peer_url(), holders="n1")
        dropped = await n2.told("frame_above_protocol", node="n1")
        assert (dropped["frame"], dropped["protocol"], dropped["level"]) == ("Greeting", 1, "error")
        await whole(n1, n2)
        assert n1.of("peer_link_closed") == n2.of("peer_link_closed") == []


async def test_builds_without_a_common_version_say_so_in_both_logs(tmp_path: Path) -> None:
    async with nodes(tmp_path) as started:
        n1 = await started.start("n1", CURRENT, holders="n1")
        build = newer(tmp_path / "far", (2, 2))
        far = await started.start("n2", build, await n1.peer_url(), holders="n1")
        here = await n1.told("peer_refused", reason="no_common_protocol")
        assert (here["by"], here["node"], here["detail"]) == ("this node", "n2", "this node speaks 1 to 1")
        there = await far.told("peer_refused", reason="no_common_protocol")
        assert (there["by"], there["detail"]) == ("peer", "this node speaks 1 to 1")
        assert n1.of("peer_link_opened") == far.of("peer_link_opened") == []


async def test_a_message_takes_the_way_that_the_document_shows(tmp_path: Path) -> None:
    """One Forward to the owner, one Deliver to each node that wants it, not for each subscriber: G3."""
    said = [
        (one["node"], one["to"], frame.partition("(")[0])
        for one in await record(tmp_path)
        for frame in one["frames"]
    ]
    for node in ("a", "c"):
        assert said.index((node, "b", "Interest")) < said.index(("b", node, "Interested"))
    forwarded = said.index(("a", "b", "Forward"))
    assert sorted(said[forwarded + 1 :]) == [("b", "a", "Answered"), ("b", "a", "Deliver"), ("b", "c", "Deliver")]
    assert said.index(("b", "a", "Deliver")) < said.index(("b", "a", "Answered"))

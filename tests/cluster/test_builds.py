"""Two builds in one cluster, as processes: N and N−1 interoperate, what is too far apart is refused in both logs.

The other builds are made from the tree (tests/cluster/builds.py); docs/peer-protocol.md has the rules.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import trio
import triode
from triode_broker.cluster.frames import Entry, Forward, Heard, Leave, decode
from triode_broker.cluster.hello import SHARED_SETTINGS

from tests.cli.programs import PATIENCE_SECONDS
from tests.cluster.builds import CURRENT, newer, older
from tests.cluster.run_builds import nodes, protocols, whole
from tests.cluster.shapes import KINDS
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


async def be_seen(clients: list[triode.Client]) -> None:
    """Who is on a topic, from wherever it is asked, and as it happens."""
    topic = ROOMS[0]
    for here, there in zip(clients, [*clients[1:], clients[0]], strict=True):
        async with here.subscribe(topic, presence="watch") as watched:
            events = watched.events()
            async with there.subscribe(topic, presence={"state": 1}):
                await come(events, triode.Joined)
                assert [one.state for one in (await here.presence(topic)).members] == [1]
            await come(events, triode.Left)


async def come(events: AsyncIterator[object], kind: type[object]) -> None:
    """Wait for an event of this kind."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not isinstance(await anext(events), kind):
            pass


def module_of(folder: Path, name: str) -> ModuleType:
    """A module of another build, beside ours."""
    spec = spec_from_file_location(f"other_{name}", folder / "triode_broker" / "cluster" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_other_builds_are_what_they_are_said_to_be(tmp_path: Path) -> None:
    older(tmp_path / "older")
    newer(tmp_path / "newer")
    then = module_of(tmp_path / "older", "older_frames")
    later = module_of(tmp_path / "newer", "frames")
    for lacking in (Entry, Forward, Heard):
        assert getattr(then, lacking.__name__).__struct_fields__ == lacking.__struct_fields__[:-1]
    for kind in KINDS:
        assert getattr(later, kind.__name__).__struct_fields__ == (*kind.__struct_fields__, "added")
    assert (later.PROTOCOLS, later.lacking(1)) == ((1, 2), {later.Greeting})
    said = later.encode([later.Forward("m0", 3, [], "m0-1"), later.Leave()])
    assert decode(said) == [Forward("m0", 3, [], "m0-1"), Leave()]
    assert then.encode(then.decode(said)) == then.encode([then.Forward("m0", 3, []), then.Leave()])
    assert decode(then.encode(then.decode(said))) == [Forward("m0", 3, []), Leave()]


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
        drift = {link["node"]: link["drift"] for link in view["nodes"][0]["links"]}
        assert drift == {"n2": [], "n3": [*SHARED_SETTINGS]}  # n3 says nothing of them
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(triode.connect(await node.url())) for node in (n1, n2, n3)]
            await through(clients, [*TOPICS, *ROOMS])
            await catch_up(clients)
            await be_seen(clients)
        for node in (n1, n2, n3):
            assert [one for one in node.events if one.get("level") in ("warning", "error")] == []
            assert node.of("peer_link_closed", reason="bad_frame") == []


async def test_nodes_are_upgraded_one_after_the_other(tmp_path: Path) -> None:
    """A rolling upgrade: all logs go on, on disk with their holders, in memory by hand-over to the other build."""
    build = newer(tmp_path / "newer")
    topics = [*TOPICS, *ROOMS]
    async with nodes(tmp_path) as started:
        n1 = await started.start("n1", CURRENT, holders="n1,n2")
        n2 = await started.start("n2", CURRENT, await n1.peer_url(), holders="n1,n2")
        await whole(n1, n2)
        gaps: list[triode.Gap] = []
        async with (
            triode.connect(await n1.url()) as client,
            client.subscribe("#", on_gap=gaps.append) as messages,
        ):
            logs = {topic: (await client.publish(topic, 0)).log for topic in topics}
            await n2.end()
            n2 = await started.start("n2", build, await n1.peer_url(), holders="n1,n2")
            assert protocols(await whole(n1, n2))["n1", "n2"] == {1}
            for topic in topics:
                place = await client.publish(topic, 1)
                assert (place.log, place.offset) == (logs[topic], 2)
            with trio.fail_after(PATIENCE_SECONDS):
                heard = [await anext(messages) for _ in range(2 * len(topics))]
            assert sorted((one.topic, one.offset) for one in heard) == sorted(
                (t, o) for t in topics for o in (1, 2)
            )
            assert gaps == []
        await n1.end()
        n1 = await started.start("n1", build, await n2.peer_url(), holders="n1,n2")
        assert protocols(await whole(n1, n2))["n1", "n2"] == {2}
        async with triode.connect(await n1.url()) as client:
            for topic in topics:
                place = await client.publish(topic, 2)
                assert (place.log, place.offset) == (logs[topic], 3)
                assert [one.data for one in (await client.history(topic, last=9)).messages] == [0, 1, 2]
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

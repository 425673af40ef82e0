"""Two builds in one cluster, as processes: N and N−1 interoperate, what is too far apart is refused in both logs.

The other builds are made from the tree (tests/cluster/builds.py); docs/peer-protocol.md has the rules.
"""

import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import triode
from attrs import define, field
from triode_broker.cli.exit_codes import ExitCode

from tests.admin.running import hear
from tests.cli.programs import PATIENCE_SECONDS, Triode
from tests.cluster.builds import CURRENT, Build, newer, older

TOPICS = [f"jobs/{number}" for number in range(9)]  # some in every durable shard
ROOMS = [f"rooms/{number}" for number in range(9)]


@define(eq=False)
class Node:
    """A process of some build."""

    program: Triode
    data: Path
    events: list[dict[str, Any]] = field(factory=list)
    changed: trio.Event = field(factory=trio.Event)
    is_over: bool = False

    async def listen(self, task_status: trio.TaskStatus[None]) -> None:
        """Keep what it logs, until its end."""
        task_status.started()
        stream = self.program._process.stderr
        assert stream is not None
        rest = b""
        async for piece in stream:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                said = line.decode()
                self.events.append(json.loads(said) if said.startswith("{") else {"event": said})
            self.changed.set()
            self.changed = trio.Event()
        self.is_over = True
        self.changed.set()

    def of(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        """Its events of one name that have these facts."""
        return [one for one in self.events if one.items() >= {"event": event, **facts}.items()]

    async def until(self, fact: Callable[[], Any]) -> Any:
        """Wait until it holds; looks whenever the node has said something."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not (found := fact()):
                assert not self.is_over, self.events[-5:]
                await self.changed.wait()
        return found

    async def told(self, event: str, **facts: Any) -> dict[str, Any]:
        """The first event of this name that has these facts."""
        found: list[dict[str, Any]] = await self.until(lambda: self.of(event, **facts))
        return found[0]

    async def peer_url(self) -> str:
        """Where other nodes reach it."""
        address = (await self.told("peer_listening"))["address"]
        return "ws://127.0.0.1:" + re.findall("[0-9]+", str(address))[-1]

    async def url(self) -> str:
        """Where clients do."""
        return str((await self.told("started"))["urls"][0])

    async def end(self) -> None:
        """SIGTERM."""
        self.program.signal(signal.SIGTERM)
        assert await self.program.code() == ExitCode.OK

    async def view(self) -> dict[str, Any]:
        """What `triode cluster --json` shows there."""
        await self.told("started")
        return dict((await hear(self.data, b'{"call":"cluster"}'))["ok"])


@define
class Nodes:
    """Processes that end with the test."""

    folder: Path
    nursery: trio.Nursery
    stack: AsyncExitStack

    async def start(self, name: str, build: Build, *seeds: str, holders: str = "") -> Node:
        """Start a node."""
        data = self.folder / name
        file = self.folder / "triode.toml"
        file.write_text('[[topics]]\nfilter = "jobs/#"\nstorage = "disk"\n')
        flags = ["--config", str(file), "--data", str(data), "--listen", "127.0.0.1:0", "--log-format", "json"]
        flags += ["--node", name, "--cluster-listen", "127.0.0.1:0"]
        flags += ["--durable", holders] if holders else []
        for seed in seeds:
            flags += ["--seed", seed]
        program = await self.stack.enter_async_context(Triode("serve", *flags, environ=build.environ))
        node = Node(program, data)
        await self.nursery.start(node.listen)
        return node


@asynccontextmanager
async def nodes(folder: Path) -> AsyncIterator[Nodes]:
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        yield Nodes(folder, nursery, stack)
        await stack.aclose()
        nursery.cancel_scope.cancel()


async def whole(*cluster: Node) -> dict[str, Any]:
    """Until all nodes see all nodes, and the same owners."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            await trio.lowlevel.checkpoint()
            views = [await node.view() for node in cluster]
            if all(one["agreed"] and len(one["nodes"]) == len(cluster) and not one["degraded"] for one in views):
                return views[0]


def protocols(view: dict[str, Any]) -> dict[tuple[str, str], set[int]]:
    """Which version each pair of nodes speaks, by the names of both."""
    found: dict[tuple[str, str], set[int]] = {}
    for one in view["nodes"]:
        for link in one["links"]:
            found.setdefault((one["node"], link["node"]), set()).add(link["protocol"])
    return found


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
    """A rolling upgrade: the durable log goes on under its name, at the pair's common version, then at the new one."""
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

"""S19, G10: what is revoked holds on every node that is reached, and on others before they let anybody in again.

Real processes and the operator's commands. One cluster for all of it: it takes its time to come up.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from triode_broker.cli.exit_codes import ExitCode

from tests.cluster.processes.nodes import CONFIG, NodeProcess, RealCluster, cluster_of, until
from tests.cluster.processes.test_names import ask, ask_json, at_home
from tests.cluster.processes.ways import both
from tests.security.withdrawing import SECRET, token
from tests.spec.client import RawClient

PATIENCE_SECONDS = 120.0
G10_SECONDS = 5.0
SETTINGS = (
    CONFIG
    + """
[[tokens]]
algorithm = "HS256"
key_file = "key"
[[permissions]]
publish = ["#"]
subscribe = ["#"]
consume = ["#"]
"""
)


@asynccontextmanager
async def revoking(folder: Path) -> AsyncIterator["Town"]:
    """Three nodes that ask for tokens."""
    key = folder / "key"
    key.touch(0o600)
    key.write_text(SECRET)
    with trio.fail_after(PATIENCE_SECONDS):
        async with cluster_of(3, folder, config=SETTINGS) as cluster, trio.open_nursery() as nursery:
            town = Town(cluster, nursery)
            yield town
            for client in town.clients:
                await client.cut()
            nursery.cancel_scope.cancel()


class Town:
    """The cluster and its clients."""

    def __init__(self, cluster: RealCluster, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.nursery = nursery
        self.clients: list[RawClient] = []

    async def knock(self, node: NodeProcess, token: str) -> tuple[RawClient, str]:
        """Connect; what comes first."""
        client = await RawClient.open(self.nursery, node.url)
        self.clients.append(client)
        answer = await client.ask({"type": "connect", "id": 1, "token": token})
        return client, str(answer.get("name", answer["type"]))

    async def enter(self, node: NodeProcess, token: str) -> RawClient:
        """Connect, as one who may."""
        client, answer = await self.knock(node, token)
        assert answer == "connected"
        return client

    async def is_shut(self, node: NodeProcess, token: str) -> None:
        """As one who may not."""
        client, answer = await self.knock(node, token)
        assert answer == "revoked"
        assert await client.closed() == 4002


async def ended(clients: list[RawClient]) -> None:
    """All of them, in time."""
    with trio.fail_after(G10_SECONDS):
        for client in clients:
            assert await client.closed() == 4002


@pytest.mark.timeout(180)
async def test_what_is_revoked_holds_on_all_nodes_whenever_they_are_reached(tmp_path: Path) -> None:
    async with revoking(tmp_path) as town:
        await _at_once_everywhere(town)
        await _when_the_cut_heals(town)
        await _before_a_node_that_was_down_lets_anybody_in(town)


async def _at_once_everywhere(town: Town) -> None:
    """Asked at n3; a delivery that ada has from another node comes to the next member, as if never tried."""
    n1, n2, n3 = town.cluster.nodes
    lost = token("ada", jti="t1")
    clients = [await town.enter(node, lost) for node in town.cluster.nodes]
    name = at_home("n1")
    await clients[1].subscribe(1, "durable/#", group=name)  # connected to n2, at home at n1
    bob = await town.enter(n2, token("bob"))
    await bob.publish("durable/1", 1)
    assert (await clients[1].expect("delivery"))["attempt"] == 1
    await bob.subscribe(1, "durable/#", group=name)
    answer = await ask_json(n3, "revoke", "--token", "t1")
    assert (answer["closed"], answer["unanswered"]) == (3, [])
    assert answer["kept"] == dict.fromkeys(("n1", "n2", "n3"), "disk")
    await ended(clients)
    assert (await bob.expect("delivery"))["attempt"] == 1
    for node in town.cluster.nodes:
        await town.is_shut(node, lost)
    listed = (await ask_json(n1, "connections"))["connections"]
    assert [(one["user"], one["node"]) for one in listed] == [("bob", "n2")]
    kicked = await ask(n1, "kick", "--user", "bob")
    assert (kicked.code, kicked.output) == (ExitCode.OK, "1 connection closed\n")
    assert await bob.closed() == 4006


async def _when_the_cut_heals(town: Town) -> None:
    """A node that is cut off cannot know; it does as soon as it is not."""
    n1, n2, n3 = town.cluster.nodes
    lost = token("ada", jti="t2")
    far, near = await town.enter(n3, lost), await town.enter(n2, lost)
    town.cluster.ways.refuse(both(["n3"], ["n1", "n2"]))
    await until(lambda: bool(n1.times("peer_link_closed", node="n3")), "the cut")
    answer = await ask(n1, "revoke", "--token", "t2", "--json")
    assert answer.code == ExitCode.TIMEOUT
    assert "no answer from n3: it holds there as soon as" in answer.errors
    assert (json.loads(answer.output)["closed"], json.loads(answer.output)["unanswered"]) == (1, ["n3"])
    await ended([near])
    await far.has_nothing_more()
    town.cluster.ways.heal()
    with trio.fail_after(PATIENCE_SECONDS):
        assert await far.closed() == 4002
    await town.is_shut(n3, lost)
    await town.cluster.whole()


async def _before_a_node_that_was_down_lets_anybody_in(town: Town) -> None:
    """Its own file does not know of it: the first client that it greets must not be this one."""
    n1, n2, _ = town.cluster.nodes
    lost = token("ada", jti="t3")
    await n2.kill()
    answer = await ask(n1, "revoke", "--token", "t3")
    assert answer.code == ExitCode.TIMEOUT
    known = await ask_json(n1, "revocations")
    await n2.start()
    await n2.started()
    await town.is_shut(n2, lost)
    await town.enter(n2, token("bob"))
    await town.is_shut(n2, token("ada", jti="t1"))  # which it knew
    await town.cluster.whole()
    assert await ask_json(n2, "revocations") == known

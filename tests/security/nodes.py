"""A cluster of real processes that the tests of a module share, and people with real tokens who come to its nodes.

The cluster lives in a thread of its own, because each test has an event loop that ends with it. Knows settings,
tokens and where what is kept; not what is allowed.
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define, field
from triode_broker.core.shard import shard_index

from tests.cluster.processes.nodes import NodeProcess, RealCluster, cluster_of
from tests.security.withdrawing import SECRET
from tests.spec.client import RawClient

ACTIONS = ("publish", "subscribe", "presence", "history", "consume")
SETTINGS = """\
[[tokens]]
algorithm = "HS256"
key_file = "key"
[auth]
leeway_seconds = 0
[[topics]]
filter = "+/+/disk/#"
storage = "disk"
[[permissions]]
role = "all"
publish = ["#", "$dead/#"]
subscribe = ["#", "$dead/#"]
presence = ["#"]
history = ["#", "$dead/#"]
consume = ["#", "$dead/#"]
"""


@define(eq=False)
class Nodes:
    """Two or more nodes, n1 and so on, to be used from any thread."""

    cluster: RealCluster
    owners: dict[str, str]  # of each shard, while all of them live
    _loop: trio.lowlevel.TrioToken
    _end: trio.Event

    def node(self, name: str) -> NodeProcess:
        """By its name; what it does is done by `do`."""
        return self.cluster.node(name)

    def url(self, name: str) -> str:
        """For clients."""
        return self.node(name).url

    async def do(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Something with the cluster's processes, where they live."""
        call = partial(trio.from_thread.run, work, *arguments, trio_token=self._loop)
        return await trio.to_thread.run_sync(call)

    async def ask(self, name: str, call: str, **parameters: Any) -> dict[str, Any]:
        """An operator's call at one node."""
        node = self.node(name)
        async with await trio.open_unix_socket(str(node.directory / name / "admin.sock")) as stream:
            await stream.send_all(json.dumps({"call": call, **parameters}).encode() + b"\n")
            said = b""
            while not said.endswith(b"\n"):
                said += await stream.receive_some()
        answer: dict[str, Any] = json.loads(said)
        assert "ok" in answer, answer
        return dict(answer["ok"])

    def topic(self, start: str, home: str, storage: str = "memory") -> str:
        """One that begins so and belongs to the first shard of this node."""
        letter = storage[0]
        count = sum(shard.startswith(letter) for shard in self.owners)
        first = next(shard for shard, owner in self.owners.items() if shard.startswith(letter) and owner == home)
        found = (f"{start}/{number}" for number in range(1_000))
        return next(topic for topic in found if f"{letter}{shard_index(topic, count)}" == first)

    def name(self, start: str, home: str) -> str:
        """One of a group or a durable subscription that is at home there."""
        count = sum(shard.startswith("d") for shard in self.owners)
        found = (f"{start}-{number}" for number in range(1_000))
        return next(name for name in found if self.owners[f"d{shard_index(name, count)}"] == home)

    def stop(self) -> None:
        """All of it."""
        self._loop.run_sync_soon(self._end.set)


@contextmanager
def nodes(folder: Path, settings: str = SETTINGS, count: int = 2) -> Iterator[Nodes]:
    """They are whole when this begins, and gone when it ends."""
    key = folder / "key"
    key.touch(0o600)
    key.write_text(SECRET)
    begun: Future[Nodes] = Future()
    both: list[Future[Any]] = [begun]

    async def live() -> None:
        async with cluster_of(count, folder, config=settings) as cluster:
            end = trio.Event()
            begun.set_result(Nodes(cluster, await cluster.owners(), trio.lowlevel.current_trio_token(), end))
            await end.wait()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(trio.run, live)
        wait([*both, ended], return_when=FIRST_COMPLETED)
        if begun.done():
            yield begun.result()
            begun.result().stop()
        ended.result()


@define
class Street:
    """Clients at the doors of the nodes; with the block all of them are gone."""

    nodes: Nodes
    nursery: trio.Nursery
    clients: list[RawClient] = field(factory=list)

    async def knock(self, name: str, token: str, **fields: Any) -> tuple[RawClient, dict[str, Any]]:
        """Connect, and what comes of it."""
        client = await RawClient.open(self.nursery, self.nodes.url(name))
        self.clients.append(client)
        return client, await client.ask({"type": "connect", "id": 1, "token": token, **fields})

    async def enter(self, name: str, token: str, **fields: Any) -> RawClient:
        """Connect, as one who may."""
        client, answer = await self.knock(name, token, **fields)
        assert answer["type"] == "connected", answer
        return client

    async def clear(self) -> None:
        """Everybody leaves."""
        for client in self.clients:
            await client.cut()

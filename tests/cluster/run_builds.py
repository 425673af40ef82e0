"""Nodes of several builds, as processes with their logs: started, asked, and ended with the test.

Knows how; not what is to come of it. Every wait is for something that a node says.
"""

import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field
from triode_broker.cli.exit_codes import ExitCode

from tests.admin.running import hear
from tests.cli.programs import PATIENCE_SECONDS, Triode
from tests.cluster.builds import Build


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
        await self.until(lambda: self.of(event, **facts))
        return self.of(event, **facts)[0]

    async def peer_url(self) -> str:
        """Where other nodes reach it."""
        address = (await self.told("peer_listening"))["address"]
        return f"ws://127.0.0.1:{re.findall('[0-9]+', str(address))[-1]}"

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

    async def start(self, name: str, build: Build, *seeds: str, holders: str = "", alone: bool = False) -> Node:
        """Start a node; `alone`: of no cluster."""
        data = self.folder / name
        file = self.folder / "triode.toml"
        file.write_text('[[topics]]\nfilter = "jobs/#"\nstorage = "disk"\n')
        flags = ["--config", str(file), "--data", str(data), "--listen", "127.0.0.1:0", "--log-format", "json"]
        flags += ["--node", name, *([] if alone else ["--cluster-listen", "127.0.0.1:0"])]
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
    """Until all nodes see all nodes, by all links, and the same owners."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            await trio.lowlevel.checkpoint()
            views = [await node.view() for node in cluster]
            if all(_is_whole(view, len(cluster)) for view in views):
                return views[0]


def _is_whole(view: dict[str, Any], count: int) -> bool:
    links = sum(len(one["links"]) for one in view["nodes"])
    is_even = view["agreed"] and not view["degraded"] and not view["missing"]
    return bool(is_even and links == 2 * count * (count - 1) and all(shard["owners"] for shard in view["shards"]))


def protocols(view: dict[str, Any]) -> dict[tuple[str, str], set[int]]:
    """Which version each pair of nodes speaks, by the names of both."""
    found: dict[tuple[str, str], set[int]] = {}
    for one in view["nodes"]:
        for link in one["links"]:
            found.setdefault((one["node"], link["node"]), set()).add(link["protocol"])
    return found

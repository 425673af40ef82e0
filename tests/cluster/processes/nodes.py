"""Real nodes: `triode serve` as processes that are one cluster, each way between them in the hands of the test.

Knows how a node is started, hurt, and asked how it is; not what is to come of it. Every wait is for a state and
has a deadline; what a node logs is kept with the moment at which it was read.
"""

import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from tests import forking
from tests.cluster.processes.ways import ENDS, Ways, passes

#: How long what should come soon may take on the busiest machine.
PATIENCE_SECONDS = 60.0
ASK_SECONDS = 2.0
LOOK_SECONDS = 0.1
CONFIG = """\
[[topics]]
filter = "durable/#"
storage = "disk"
[[topics]]
filter = "brief/#"
retention_messages = 5
"""


@define(eq=False)
class NodeProcess:
    """One node, in one life after the other."""

    name: str
    directory: Path
    nursery: trio.Nursery
    flags: list[str] = field(factory=list)
    url: str = ""  # for clients, while it lives
    port: int | None = None  # for nodes
    said: list[tuple[float, dict[str, Any]]] = field(factory=list)  # trio's clock, line
    is_running: bool = False
    _process: forking.Forked | trio.Process | None = None

    async def start(self, *flags: str) -> None:
        """Begin a life; its end comes by itself, by `kill` or with the test."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
        environ = clean | {"TRIODE_LOG_FORMAT": "json"}
        command = ["serve", *self.flags, *flags]
        self._process = await forking.start("triode", *command, stderr=-1, cwd=self.directory, env=environ)
        self.is_running = True
        self.nursery.start_soon(self._live, self._process)

    async def _live(self, process: forking.Forked | trio.Process) -> None:
        assert process.stderr is not None
        try:
            rest = b""
            async for piece in process.stderr:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._hear(line)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stderr.aclose()
            self.url, self.port, self.is_running = "", None, False

    def _hear(self, line: bytes) -> None:
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            event = {"event": line.decode()}
        self.said.append((trio.current_time(), event))
        if event["event"] == "peer_listening":
            found = re.search(r"(\d+)\D*$", str(event["address"]))
            assert found
            self.port = int(found[1])
        elif event["event"] == "started":
            self.url = event["urls"][0]

    def times(self, event: str, since: float = 0.0, **facts: Any) -> list[float]:
        """When it logged such events."""
        return [at for at, one in self.said if at >= since and one.items() >= {"event": event, **facts}.items()]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        await until(lambda: not self.is_running, f"the end of {self.name}")

    async def end(self) -> None:
        """In good order."""
        self.signal(signal.SIGTERM)
        await until(lambda: not self.is_running, f"the end of {self.name}")

    @property
    def exit_code(self) -> int | None:
        """Of its last life; None while it lasts."""
        return self._process.returncode if self._process is not None else None

    async def started(self) -> None:
        """It serves."""
        await until(lambda: bool(self.url), f"the start of {self.name}", self.last)

    def last(self) -> str:
        """What it said of late."""
        return "\n".join(json.dumps(one) for _, one in self.said[-20:])

    async def page(self, path: str) -> dict[str, Any]:
        """/healthz or /readyz; {} from a node that does not answer."""
        found: dict[str, Any] = {}
        host = self.url.removeprefix("http://")
        with trio.move_on_after(ASK_SECONDS):
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", int(host.rpartition(":")[2] or 1))
                async with stream:
                    await stream.send_all(
                        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                    )
                    answer = b"".join([piece async for piece in stream])
                    found = json.loads(answer.partition(b"\r\n\r\n")[2])
            except (*ENDS, ValueError):
                return found
        return found

    async def degraded(self) -> list[str] | None:
        """What its health complains of; None: it does not answer."""
        report = await self.page("/healthz")
        return report.get("degraded") if report else None

    async def view(self) -> dict[str, Any]:
        """What `triode cluster --json` shows, asked here; {} where there is no answer."""
        with trio.move_on_after(ASK_SECONDS * 3):
            try:
                async with await trio.open_unix_socket(str(self.directory / self.name / "admin.sock")) as stream:
                    await stream.send_all(b'{"call":"cluster"}\n')
                    said = b""
                    while piece := await stream.receive_some():
                        said += piece
                        if said.endswith(b"\n"):
                            return dict(json.loads(said).get("ok", {}))
            except ENDS:
                return {}
        return {}


async def until(is_so: Callable[[], bool], what: str, explain: Callable[[], str] = str) -> None:
    """Wait for it."""
    with trio.move_on_after(PATIENCE_SECONDS):
        while not is_so():
            await passes(LOOK_SECONDS / 4)
        return
    raise AssertionError(f"{what} took more than {PATIENCE_SECONDS} s\n{explain()}")


@define(eq=False)
class RealCluster:
    """All nodes of one."""

    nodes: list[NodeProcess]
    ways: Ways

    def node(self, name: str) -> NodeProcess:
        """By its name."""
        return next(node for node in self.nodes if node.name == name)

    async def whole(self) -> None:
        """Everybody is ready, complains of nothing, and says the same as all others."""
        seen = ""
        with trio.move_on_after(PATIENCE_SECONDS):
            while seen := await self.broken():
                await passes(LOOK_SECONDS)
            return
        raise AssertionError(f"not whole after {PATIENCE_SECONDS} s: {seen}\n" + self.said())

    async def broken(self) -> str:
        """Why it is not whole, or nothing."""
        for node in self.nodes:
            assert node.is_running, f"{node.name} has ended\n{node.last()}"
            ready = await node.page("/readyz")
            if not ready.get("ready"):
                return f"{node.name} is not ready: {ready}"
            if (degraded := await node.degraded()) != []:
                return f"{node.name} is degraded: {degraded}"
        view = await self.nodes[0].view()
        is_one = view and view["agreed"] and not view["missing"] and len(view["nodes"]) == len(self.nodes)
        return "" if is_one else f"views differ: {view and (view['missing'], view['agreed'], view['shards'])}"

    async def owners(self, at: str = "") -> dict[str, str]:
        """Who owns each shard, as one node sees it."""
        asked = self.node(at) if at else self.nodes[0]
        view = await asked.view()
        own = next(one for one in view["nodes"] if one["node"] == asked.name)
        return {shard["shard"]: shard["owner"] for shard in own["shards"]}

    async def complains(self, at: str, *words: str) -> list[str]:
        """Wait until a node's health says all of these."""
        said: list[str] | None = []
        with trio.move_on_after(PATIENCE_SECONDS):
            while not all(word in " / ".join(said or []) for word in words):
                await passes(LOOK_SECONDS)
                said = await self.node(at).degraded()
            return said or []
        raise AssertionError(f"{at} says {said}, not {words}\n{self.said()}")

    def said(self) -> str:
        """What the nodes said of late."""
        return "\n".join(f"--- {node.name}\n{node.last()}" for node in self.nodes)


@asynccontextmanager
async def cluster_of(
    count: int, directory: Path, *, durable: Sequence[str] = (), config: str = CONFIG, starts: bool = True
) -> AsyncIterator[RealCluster]:
    """Start so many nodes, n1 and so on, and wait until they are one cluster."""
    (directory / "triode.toml").write_text(config)
    secret = directory / "secret"
    secret.touch(0o600)
    secret.write_text("not for outside of this test\n")
    async with trio.open_nursery() as nursery:
        nodes: list[NodeProcess] = []
        ways = Ways(nursery, lambda name: next(node.port for node in nodes if node.name == name))
        names = [f"n{number}" for number in range(1, count + 1)]
        for name in names:
            flags = ["--config", "triode.toml", "--cluster-secret-file", "secret", "--node", name, "--data", name]
            flags += ["--listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0"]
            flags += ["--cluster-advertise", ways.nowhere, "--durable", ",".join(durable or names)]
            for other in names:
                flags += ["--seed", ways.open(name, other)] if other != name else []
            nodes.append(NodeProcess(name, directory, nursery, flags))
        cluster = RealCluster(nodes, ways)
        try:
            if starts:
                for node in nodes:
                    await node.start()
                await cluster.whole()
            yield cluster
        finally:
            ways.close()
            nursery.cancel_scope.cancel()

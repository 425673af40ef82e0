"""Three nodes with the settings that deploy/docker ships, and a proxy with the shipped file, as processes here.

Knows how they are started and what differs from the containers: addresses, directories, a shorter drain. All of
that is environment, so that the files are used as they are. The surprising decision: ports are from below the
range that the kernel gives to connections, because a node has to get its own back after a restart.
"""

import io
import json
import os
import random
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import trio
from attrs import define
from triode_broker.cli.main import main

from tests import forking
from tests.cluster.processes.ways import passes

DEPLOY = Path(__file__).parents[2] / "deploy"
SETTINGS = DEPLOY / "docker" / "triode.toml"
NAMES = ("n1", "n2", "n3")
PATIENCE_SECONDS = 60
#: So that a rolling restart takes seconds: sent away over one, back within a fifth. And harder than what is
#: shipped: nobody waits until the proxy has seen that a node drains.
QUICK = {
    "TRIODE_LIMITS_DRAIN_DELAY_MS": "0",
    "TRIODE_LIMITS_DRAIN_WINDOW_MS": "1000",
    "TRIODE_LIMITS_DRAIN_RECONNECT_MS": "200",
}


def free_port() -> int:
    """One that nobody has, and that no connection is given by chance."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def make_secrets(directory: Path) -> str:
    """The three files that the settings name, as deploy/docker/README.md makes them; a key of a service."""
    secrets = directory / "secrets"
    secrets.mkdir(mode=0o700)
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        for name in ("cluster_secret", "jwt_secret"):
            assert main(["token", "generate-secret", "--file", str(secrets / name)]) == 0
        create = ["token", "key", "create", "--file", str(secrets / "api_keys")]
        assert main([*create, "--user", "load", "--role", "service"]) == 0
    return said.getvalue().strip()


@define(eq=False)
class DeployedNode:
    """One of the three, in one life after the other; its settings are the shipped file and an environment."""

    name: str
    directory: Path
    environ: dict[str, str]
    _process: forking.Forked | trio.Process | None = None

    async def start(self) -> None:
        """Begin a life."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
        command = ["serve", "--config", "triode.toml"]
        environ = clean | self.environ
        with self._log.open("ab") as log:
            self._process = await forking.start(
                "triode", *command, stderr=log.fileno(), cwd=self.directory, env=environ
            )

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """In good order, or by another signal; its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        with trio.fail_after(PATIENCE_SECONDS):
            return await self._process.wait()

    def kill(self) -> None:
        """Whatever it does."""
        if self._process is not None:
            self._process.kill()

    async def gone(self) -> None:
        """Nothing of it is left."""
        if self._process is not None:
            await self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.returncode is None

    async def page(self, path: str) -> dict[str, Any]:
        """What it says of itself; {} from one that does not answer."""
        _, body = await fetch(int(self.environ["TRIODE_LISTEN"].rpartition(":")[2]), path)
        return json.loads(body) if body else {}

    def last(self) -> str:
        """What it logged of late."""
        return self._log.read_text()[-3_000:]

    @property
    def _log(self) -> Path:
        return self.directory / f"{self.name}.log"


@define(eq=False)
class Deployed:
    """The three, and what clients and health checks reach."""

    nodes: list[DeployedNode]
    key: str
    port: int  # the proxy's
    inside: int  # the proxy's figures
    directory: Path

    @property
    def url(self) -> str:
        """For clients."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def environ(self) -> dict[str, str]:
        """What the proxy's file is given."""
        nodes = {f"PROXY_{node.name.upper()}": node.environ["TRIODE_LISTEN"] for node in self.nodes}
        ports = {"PROXY_BIND": f"127.0.0.1:{self.port}", "PROXY_INSIDE": f"127.0.0.1:{self.inside}"}
        return nodes | ports | {"PROXY_MAXCONN": "1000"}

    async def whole(self) -> None:
        """Every node is ready, complains of nothing, and says the same as all others: when a rollout goes on."""
        seen = ""
        with trio.move_on_after(PATIENCE_SECONDS):
            while seen := await self._broken():
                await passes(0.05)
            return
        raise AssertionError(f"not whole: {seen}\n{self.said()}")

    async def _broken(self) -> str:
        for node in self.nodes:
            assert node.is_running, f"{node.name} has ended\n{node.last()}"
            if not (await node.page("/readyz")).get("ready"):
                return f"{node.name} is not ready"
            if (degraded := (await node.page("/healthz")).get("degraded")) != []:
                return f"{node.name} is degraded: {degraded}"
        return ""

    def said(self) -> str:
        """What the nodes said of late."""
        return "\n".join(f"--- {node.name}\n{node.last()}" for node in self.nodes)


@asynccontextmanager
async def three_nodes(directory: Path) -> AsyncIterator[Deployed]:
    """Start them, and wait until they are one cluster. No proxy yet."""
    shutil.copy(SETTINGS, directory / "triode.toml")
    key = make_secrets(directory)
    port, inside = free_port(), free_port()
    peers = {name: f"127.0.0.1:{free_port()}" for name in NAMES}
    nodes = []
    for name in NAMES:
        environ = QUICK | {
            "TRIODE_NODE": name,
            "TRIODE_DATA": name,
            "TRIODE_LISTEN": f"127.0.0.1:{free_port()}",
            "TRIODE_CLUSTER_LISTEN": peers[name],
            "TRIODE_CLUSTER_ADVERTISE": f"ws://{peers[name]}",
            "TRIODE_SEEDS": ",".join(f"ws://{peer}" for peer in peers.values()),
            "TRIODE_TRUSTED_PROXIES": "127.0.0.1",
            "TRIODE_ADVERTISE": f"ws://127.0.0.1:{port}/ws",
        }
        nodes.append(DeployedNode(name, directory, environ))
    deployed = Deployed(nodes, key, port, inside, directory)
    try:
        for node in nodes:
            await node.start()
        await deployed.whole()
        yield deployed
    finally:
        for node in nodes:
            node.kill()
        with trio.CancelScope(shield=True):
            for node in nodes:
                await node.gone()


@asynccontextmanager
async def process(command: list[str], environ: dict[str, str], cwd: Path) -> AsyncIterator[trio.Process]:
    """A proxy, until the block ends."""
    with (cwd / "proxy.log").open("wb") as log:
        proxy = await trio.lowlevel.open_process(
            command, stdin=None, stdout=log, stderr=log, env=dict(os.environ) | environ, cwd=cwd
        )
        try:
            yield proxy
        finally:
            proxy.kill()
            with trio.CancelScope(shield=True):
                await proxy.wait()


async def fetch(port: int, path: str, *headers: str) -> tuple[int, bytes]:
    """Status and body; 0 from who does not answer."""
    with trio.move_on_after(2):
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                head = "\r\n".join(
                    (f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", *headers)
                )
                await stream.send_all(f"{head}\r\n\r\n".encode())
                answer = b"".join([piece async for piece in stream])
                return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]
        except OSError:
            pass
    return 0, b""

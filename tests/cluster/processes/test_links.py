"""Two real nodes behind a proxy that gives each connection to the next: links work through it (SPEC 12.4.7)."""

import contextlib
import itertools
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio

from tests.browser.built import CLIENT, built_client
from tests.cluster.processes.nodes import RealCluster, cluster_of
from tests.http.talker import ask, linked

SUBSCRIBE: Final = {"type": "subscribe", "id": 2, "sub": 1, "filter": "news"}
PROGRAM: Final = """
import { Triode } from "./dist/node.js";
const client = new Triode(process.argv[1], { transports: ["sse"] });
const heard = [];
const news = client.subscribe("news", ({ data }) => heard.push(data));
await news.ready;
for (let n = 0; n < 30; n++) await client.publish("news", n);
while (heard.length < 30) await new Promise((resolve) => setImmediate(resolve));
console.log(client.transport, heard.every((data, n) => data === n));
await client.close();
"""


@asynccontextmanager
async def round_robin(urls: list[str]) -> AsyncIterator[str]:
    """A proxy that knows nothing but bytes."""
    turns = itertools.cycle(url.removeprefix("http://").partition(":")[2] for url in urls)

    async def forward(source: trio.SocketStream, target: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await target.send_all(data)
        await trio.aclose_forcefully(target)
        await trio.aclose_forcefully(source)

    async def serve(near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", int(next(turns)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forward, near, far)
            nursery.start_soon(forward, far, near)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RealCluster]:
    async with cluster_of(2, tmp_path) as cluster:
        yield cluster


async def test_link_works_through_any_node(cluster: RealCluster, tmp_path: Path) -> None:
    """SPEC 12.4.7, S28: in order; what is no link is none anywhere, and a name from elsewhere opens nothing."""
    built_client(tmp_path)
    urls = [node.url.replace("ws", "http", 1).removesuffix("/ws") for node in cluster.nodes]
    async with round_robin(urls) as url:
        async with linked(url, SUBSCRIBE) as link:
            for n in range(6):  # each request at the other node
                packet = {"type": "publish", "id": n + 3, "topic": "news", "data": n}
                assert (await link.say(packet)).status == 204
            assert [(await link.hear("message"))["data"] for _ in range(6)] == list(range(6))
            for _ in range(2):  # longer than what is read of strangers
                packets = [{"type": "publish", "id": 90, "topic": "other", "data": "x" * 30_000}] * 4
                assert (await link.say(*packets)).status == 204
            name, _, node = link.name.partition(".")
            ping = msgspec.json.encode({"type": "ping"})
            for other in (f"{name[::-1]}.{node}", f"{name}.n9", f"{name}.", name):
                for each in urls:
                    assert (await ask(each, "POST", f"/v1/link/{other}?n=9", ping)).status in (404, 503), other
            for each in urls:
                page = {"Origin": each.replace("127.0.0.1", "localhost")}
                assert (await ask(each, "POST", f"/v1/link/{link.name}?n=9", ping, page)).status == 404
            assert (await link.say({"type": "ping", "id": 99})).status == 204
            assert (await link.hear("pong"))["id"] == 99
        command = ["node", "--input-type=module", "--eval", PROGRAM, url]
        said = await trio.run_process(command, cwd=CLIENT, capture_stdout=True, stderr=subprocess.STDOUT)
        assert said.stdout == b"sse true\n"

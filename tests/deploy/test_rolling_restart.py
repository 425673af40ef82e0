"""Three nodes behind HAProxy, with the files that deploy/ ships: a rolling restart under load, and a kill.

What clients notice of a rolling restart is nothing; of a kill -9 it is what the guarantees say, and no more.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL
from subprocess import run

import pytest
import trio

from tests.cluster.processes.ways import passes
from tests.deploy import proxies
from tests.deploy.load import Load
from tests.deploy.three_nodes import DEPLOY, NAMES, Deployed, DeployedNode, fetch, process, three_nodes
from tests.deploy.tools import needs

PATIENCE_SECONDS = 40


async def until(is_so: Callable[[], bool], what: str, explain: Callable[[], str] = str) -> None:
    """Wait for it."""
    with trio.move_on_after(PATIENCE_SECONDS):
        while not is_so():
            await passes(0.02)
        return
    raise AssertionError(f"{what} took too long: {explain()}")


async def until_serving(deployed: Deployed, proxy: trio.Process) -> None:
    """HAProxy gives new connections to all three."""
    with trio.move_on_after(PATIENCE_SECONDS):
        while proxy.returncode is None:
            _, body = await fetch(deployed.inside, "/;csv")
            rows = [line.split(",") for line in body.decode().splitlines() if line.startswith("nodes,n")]
            if [row[1] for row in rows if row[17].startswith("UP")] == list(NAMES):
                return
            await passes(0.05)
    raise AssertionError((deployed.directory / "proxy.log").read_text())


@asynccontextmanager
async def under_load(deployed: Deployed, label: str, *due: str) -> AsyncIterator[Load]:
    """Publishers, subscribers, consumers; at the end all that is due of these kinds has come."""
    load = Load(deployed.url, deployed.key)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            await nursery.start(load.subscribe, f"live-{number}", "live/#")
            await nursery.start(load.subscribe, f"jobs-{number}", "jobs/#")
        for number in range(2):
            await nursery.start(load.consume, f"worker-{number}")
        for number in range(3):
            nursery.start_soon(load.publish, f"{label}-live-{number}", "live")
            nursery.start_soon(load.publish, f"{label}-jobs-{number}", "jobs")
        await until(lambda: load.total() > 50, "the load", deployed.said)
        yield load
        load.is_ending = True
        await until(lambda: not load.publishing, "the last publishes", deployed.said)
        await until(
            lambda: not any(map(load.lacks, due)), "the last messages", lambda: str([*map(load.lacks, due)])
        )
        nursery.cancel_scope.cancel()


async def restart(deployed: Deployed, node: DeployedNode, load: Load, proxy: trio.Process) -> None:
    """As a rollout does it: SIGTERM, wait for the end, start, wait until the cluster is whole."""
    assert await node.end() == 0, node.last()
    before = load.total()
    await node.start()
    await deployed.whole()
    await until_serving(deployed, proxy)
    await until(lambda: load.total() > before + 30, "publishes", deployed.said)


def check_each_came_once_in_order(load: Load, kind: str) -> None:
    """G3, G4 in their best case: nothing lost, nothing twice."""
    assert [gap for gap in load.gaps if not gap[0].startswith("live") or kind == "live"] == []
    for name, found in load.got.items():
        if name.startswith(kind):
            assert sorted(str(message.data) for message in found) == sorted(load.acked[kind]), name
            offsets: dict[str, int] = {}
            for message in found:
                assert message.offset == offsets.get(message.topic, message.offset - 1) + 1
                offsets[message.topic] = message.offset


def check_workers(load: Load) -> None:
    """G5: each at least once; what a worker's acknowledgement was confirmed for never came again."""
    assert set(load.handed) >= set(load.acked["jobs"])
    assert {text: times for text, times in load.done.items() if times > 1} == {}


def check_what_a_kill_may_cost(load: Load) -> None:
    """G1, G8: of topics in memory the log of the node that died, and that is told; nothing else is lost."""
    lives: dict[str, set[str]] = {}
    for log in load.logs.values():
        lives.setdefault(log.partition("-")[0], set()).add(log)
    for lacking in load.lacks("live").values():
        assert all(len(lives[load.logs[text].partition("-")[0]]) > 1 for text in lacking), lacking
    assert {gap.reason for _, gap in load.gaps} <= {"reset"}
    for found in load.got.values():
        texts = [str(message.data) for message in found]
        assert len(texts) == len(set(texts))


async def check_nothing_inner_is_shown(deployed: Deployed) -> None:
    """S30: what is for the inside is not there on the port for clients."""
    for path in ("/healthz", "/readyz", "/startupz", "/metrics", "/console", "/v1", "//healthz", "/./healthz"):
        status, _ = await fetch(deployed.port, path)
        assert status == 404, path
    assert (await fetch(deployed.port, "/"))[0] == 200


def check_the_command_of_the_container(node: DeployedNode) -> None:
    """It says yes where a node does."""
    command = [sys.executable, "-I", str(DEPLOY / "docker" / "healthy.py"), "/readyz"]
    done = run(command, env={"TRIODE_LISTEN": node.environ["TRIODE_LISTEN"]}, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.timeout(180)
@needs("haproxy")
async def test_behind_haproxy_a_rolling_restart_shows_nothing_and_a_kill_what_is_promised(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as deployed, process(proxies.haproxy(), deployed.environ, tmp_path) as proxy:
        await until_serving(deployed, proxy)
        await check_nothing_inner_is_shown(deployed)
        check_the_command_of_the_container(deployed.nodes[0])
        async with under_load(deployed, "rolling", "live", "jobs") as load:
            for node in deployed.nodes:
                await restart(deployed, node, load, proxy)
        check_each_came_once_in_order(load, "live")
        check_each_came_once_in_order(load, "jobs")
        check_workers(load)
        async with under_load(deployed, "killed", "jobs") as load:
            victim = deployed.nodes[1]
            await victim.end(SIGKILL)
            await victim.start()
            await deployed.whole()
        check_each_came_once_in_order(load, "jobs")
        check_workers(load)
        check_what_a_kill_may_cost(load)

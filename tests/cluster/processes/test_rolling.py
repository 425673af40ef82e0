"""A rolling restart of three real nodes under load: clients lose nothing, get nothing twice, are told of no gap.

The clients are Python clients, which go where `bye` sends them (SPEC 5.3); the nodes end by SIGTERM.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import triode
from attrs import define, field
from triode.messages import Messages
from triode.records import Gap, Message

from tests.cluster.processes.nodes import CONFIG, PATIENCE_SECONDS, RealCluster, cluster_of
from tests.cluster.processes.ways import passes

SETTINGS = f"{CONFIG}[limits]\ndrain_window_ms = 1500\ndrain_reconnect_ms = 200\n"
TOPICS = [f"live/{number}" for number in range(16)]
BETWEEN_SECONDS = 0.01


@define(eq=False)
class Load:
    """Publishers and subscribers, while the nodes come and go."""

    published: list[str] = field(factory=list)  # acknowledged, in order
    logs: dict[str, None] = field(factory=dict)
    got: dict[str, list[Message]] = field(factory=dict)
    gaps: list[tuple[str, Gap]] = field(factory=list)
    is_ending: bool = False
    publishing: int = 0

    async def publish(self, name: str, url: str) -> None:
        """One after the other, each acknowledged."""
        self.publishing += 1
        async with triode.connect(url, name=name) as client:
            number = 0
            while not self.is_ending:
                number += 1
                text = f"{name}-{number}"
                answer = await client.publish(TOPICS[number % len(TOPICS)], text)
                self.published.append(text)
                self.logs[answer.log] = None
                await passes(BETWEEN_SECONDS)
        self.publishing -= 1

    async def subscribe(
        self, name: str, url: str, filter: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Everything, in order."""
        found = self.got[name] = []
        async with triode.connect(url, name=name) as client:
            messages: Messages = client.subscribe(filter, on_gap=lambda gap: self.gaps.append((name, gap)))
            async with messages:
                task_status.started()
                async for message in messages:
                    found.append(message)  # noqa: PERF401  # others look at it meanwhile

    def missing(self) -> str:
        """Who has not got everything."""
        return ", ".join(
            f"{name} got {len(found)} of {len(self.published)}"
            for name, found in self.got.items()
            if len(found) < len(self.published)
        )


@pytest.mark.timeout(240)
async def test_rolling_restart_under_load_shows_clients_no_gap(tmp_path: Path) -> None:
    """G3, G4 over hand-overs: nothing lost, nothing twice, in order, no gap; every publish acknowledged."""
    load = Load()
    async with cluster_of(3, tmp_path, config=SETTINGS) as cluster, trio.open_nursery() as nursery:
        for number, node in enumerate(cluster.nodes, 1):
            await nursery.start(load.subscribe, f"s{number}", node.url, "live/#")
        for number, node in enumerate(cluster.nodes, 1):
            nursery.start_soon(load.publish, f"p{number}", node.url)
        await until(lambda: len(load.published) > 100, "the load", cluster)
        logs = dict(load.logs)
        for node in cluster.nodes:
            before = len(load.published)
            await node.end()
            assert node.exit_code == 0
            await node.start()
            await node.started()
            await cluster.whole()
            await until(lambda before=before: len(load.published) > before + 100, "publishes", cluster)  # type: ignore[misc]  # bound now
        load.is_ending = True
        await until(lambda: not load.publishing, "the last publishes", cluster)
        await until(lambda: not load.missing(), "the last messages", cluster, load.missing)
        nursery.cancel_scope.cancel()
    check(load, logs)


def check(load: Load, logs: dict[str, None]) -> None:
    """What clients have noticed: nothing."""
    assert load.gaps == []
    assert sorted(load.logs) == sorted(logs), "no log has ended"
    expected = sorted(load.published)
    for found in load.got.values():
        assert sorted(str(message.data) for message in found) == expected
        offsets: dict[str, int] = {}
        for message in found:
            assert message.offset == offsets.get(message.topic, message.offset - 1) + 1
            offsets[message.topic] = message.offset


async def until(
    is_so: Callable[[], bool], what: str, cluster: RealCluster, explain: Callable[[], str] = str
) -> None:
    """Wait for it."""
    with trio.move_on_after(PATIENCE_SECONDS / 4):
        while not is_so():
            await passes(0.05)
        return
    raise AssertionError(f"{what} took too long: {explain()}\n{cluster.said()}")

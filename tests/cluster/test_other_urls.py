"""Where a node that drains sends its clients: nodes behind a proxy share one URL, and it leads to the others."""

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.admin.running import ON_DISK, PATIENCE_SECONDS, Running, running

PROXY = "wss://broker.example.org/ws"


async def linked(stack: AsyncExitStack, folder: Path, advertise: str, workers: int) -> Running:
    """n1, linked with n2, both with these settings."""
    given = {"cluster_listen": "127.0.0.1:0", "advertise": advertise, "workers": workers, "topics": [ON_DISK]}
    first = await stack.enter_async_context(running(folder / "n1", node="n1", durable=("n1",), **given))
    (event,) = first.log.told("peer_listening")
    seed = f"ws://127.0.0.1:{re.findall('[0-9]+', str(event['address']))[-1]}"
    await stack.enter_async_context(running(folder / "n2", node="n2", durable=("n1",), seeds=(seed,), **given))
    assert first.broker.joining is not None
    links = first.broker.joining.cluster.links
    with trio.fail_after(PATIENCE_SECONDS):
        while not links.links:
            await trio.lowlevel.checkpoint()
    return first


@pytest.mark.parametrize(("workers", "found"), [(1, [PROXY]), (2, [])])
async def test_a_url_that_all_share_is_the_way_to_the_others_but_not_to_workers(
    tmp_path: Path, workers: int, found: list[str]
) -> None:
    """Without it a node behind a proxy takes itself for the last one: a short window, and clients that wait."""
    async with AsyncExitStack() as stack:
        first = await linked(stack, tmp_path, PROXY, workers)
        assert first.broker.joining is not None
        assert first.broker.joining.other_urls() == found

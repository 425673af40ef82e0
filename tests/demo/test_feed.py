"""The feeder against a real broker, and against none."""

import socket
import sys
from typing import Any

import pytest
import structlog
import trio
import trio.testing
import triode
from structlog.testing import LogCapture
from triode_broker.config import Config
from triode_broker.demo import feed, load_average, read_text
from triode_broker.demo.figures import PREFIX
from triode_broker.server import serve

OUTAGE_SECONDS = 300  # of the clock that jumps


@pytest.fixture
def kept() -> LogCapture:
    """What was logged."""
    return LogCapture()


@pytest.fixture
def log(kept: LogCapture) -> Any:
    """A logger that keeps its events."""
    return structlog.wrap_logger(None, processors=[kept])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_feed_publishes_every_figure_of_this_machine(log: Any, kept: LogCapture) -> None:
    config = Config(listen="127.0.0.1:0")
    wanted = {f"{PREFIX}/{name}" for name in ("load", "cpu", "memory", "network")}
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(lambda task_status: serve(config, log=log, task_status=task_status))
        async with triode.connect(url) as client, client.subscribe(f"{PREFIX}/#") as messages:
            nursery.start_soon(lambda: feed(url.replace("http", "ws", 1) + "/ws", log=log))
            async for message in messages:
                assert all(type(figure) in (int, float) for figure in message.data.values())
                wanted.discard(message.topic)
                if not wanted:
                    break
        nursery.cancel_scope.cancel()
    assert "demo_failing" not in [entry["event"] for entry in kept.entries]


async def test_feed_without_a_broker_says_so_once_and_goes_on(
    autojump_clock: trio.testing.MockClock, log: Any, kept: LogCapture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # nobody listens there any more
    with trio.move_on_after(OUTAGE_SECONDS):
        await feed(f"ws://127.0.0.1:{port}/ws", log=log)
    ((event, level, reason),) = [(each["event"], each["log_level"], each["reason"]) for each in kept.entries]
    assert (event, level) == ("demo_failing", "error")
    assert f"127.0.0.1:{port}" in reason
    assert "exc_info" not in kept.entries[0], "a sentence is enough for what can happen to anybody"


async def test_where_its_connection_would_be_refused_that_is_said_and_nothing_tried(
    log: Any, kept: LogCapture
) -> None:
    config = Config(listen="127.0.0.1:0", demo=True, proxy_protocol=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(config, log=log, task_status=task_status))
        nursery.cancel_scope.cancel()
    assert "demo_not_fed" in [entry["event"] for entry in kept.entries]


def test_what_the_system_lacks_is_none() -> None:
    assert read_text("/nowhere/at/all") is None
    averages = load_average()
    assert averages is None or all(average >= 0 for average in averages)

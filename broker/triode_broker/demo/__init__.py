"""Feeds the demo: this machine's figures, every second, through a real client connection.

A program like any other that publishes to a broker, only shipped with it and started by `triode serve --demo`; it
knows the Python client and nothing of the broker's inside. The surprising decision: it cannot fail. Whatever goes
wrong is said once and tried again, because a demo must never end the broker it shows.
"""

import os
import ssl
import time
from pathlib import Path
from typing import Any, Final

import trio
import triode

from triode_broker.demo.figures import Figures

PERIOD_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 5.0  # after a failure


async def feed(url: str, *, log: Any, ssl_context: ssl.SSLContext | None = None, token: str = "") -> None:
    """Publish the figures to the broker at `url` (ws://…/ws) until cancelled. Never raises an Exception."""
    figures = Figures(read_text, load_average, os.cpu_count() or 1)
    is_failing = False
    while True:
        try:
            async with triode.connect(url, token=token, ssl_context=ssl_context) as client:
                while True:
                    await publish(client, figures)
                    is_failing = False
                    await trio.sleep(PERIOD_SECONDS)
        except Exception as error:  # noqa: BLE001  # the one barrier of this task
            if not is_failing:
                say = log.error if isinstance(error, triode.TriodeError) else log.exception  # a fault of ours
                say("demo_failing", url=url, reason=str(error), pause_seconds=PAUSE_SECONDS)
            is_failing = True
        await trio.sleep(PAUSE_SECONDS)


async def publish(client: triode.Client, figures: Figures) -> None:
    """One reading, one message a topic. Read in a thread: a kernel with many CPUs takes its time over /proc."""
    reading = await trio.to_thread.run_sync(figures.take, time.monotonic())
    for topic, record in reading.items():
        await client.publish(topic, record)


def read_text(path: str) -> str | None:
    """The text of a file, or None where it cannot be had."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def load_average() -> tuple[float, float, float] | None:
    """What the system says about its load, if it does."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):
        return None

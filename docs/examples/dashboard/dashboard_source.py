"""Publishes the figures of one machine, once a second, and says when it is gone.

    python docs/examples/dashboard/dashboard_source.py web-1 [--seed 1] [--interval 1] [--url ws://127.0.0.1:7400]

The figures are made up: the same for the same seed and host. README.md beside this file has the topics.
"""

import argparse
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import trio
import triode


@dataclass
class Metric:
    """A figure that wanders around where it usually is."""

    name: str
    unit: str
    usual: float
    wander: float  # from one time to the next, at most
    least: float = 0.0
    most: float | None = None
    value: float = 0.0

    def move(self, dice: random.Random) -> None:
        """To its next value: somewhere near, rather towards the usual one."""
        value = self.value + dice.uniform(-self.wander, self.wander) + 0.1 * (self.usual - self.value)
        value = max(self.least, value)
        self.value = value if self.most is None else min(self.most, value)

    @property
    def data(self) -> dict[str, Any]:
        """As it is published."""
        return {"value": round(self.value, 2), "unit": self.unit, "least": self.least, "most": self.most}


def metrics(dice: random.Random) -> list[Metric]:
    """A machine that serves something."""
    found = [
        Metric("cpu", "%", 35, 12, most=100),
        Metric("memory", "%", 60, 3, most=100),
        Metric("disk", "%", 48, 0.5, most=100),
        Metric("load", "", 1.4, 0.5),
        Metric("requests", "1/s", 240, 60),
        Metric("latency", "ms", 42, 15, least=1),
        Metric("errors", "1/s", 0.3, 0.4),
    ]
    for metric in found:
        metric.value = max(metric.least, metric.usual + dice.uniform(-1, 1) * metric.wander)
    return found


def readings(host: str, seed: int) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Topic and data of every metric, one time after the other, without end."""
    dice = random.Random(f"{seed} {host}")
    all_of_them = metrics(dice)
    while True:
        yield [(f"dash/{host}/{metric.name}", metric.data) for metric in all_of_them]
        for metric in all_of_them:
            metric.move(dice)


async def publish(client: triode.Client, host: str, seed: int, interval: float) -> None:
    """Figures are sent without acknowledgement while there is a connection: the next ones come soon."""
    at = trio.current_time()
    for reading in readings(host, seed):
        if client.state is triode.State.CONNECTED:
            for topic, data in reading:
                await client.send(topic, data)
        at = max(at + interval, trio.current_time())
        await trio.sleep_until(at)


async def tell_up(client: triode.Client, topic: str) -> None:
    """Now, and after each reconnect: the will may have been published meanwhile."""
    await client.publish(topic, True)
    async for event in client.events():
        if isinstance(event, triode.StateChanged) and event.state is triode.State.CONNECTED:
            await client.publish(topic, True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Publish the figures of a machine that is made up.")
    parser.add_argument("host")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds")
    parser.add_argument("--url", default="ws://127.0.0.1:7400")
    arguments = parser.parse_args()
    topic = f"dash/{arguments.host}/up"
    will = triode.Will(topic, False)
    async with (
        triode.connect(arguments.url, name="dashboard-source", will=will) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(tell_up, client, topic)
        nursery.start_soon(publish, client, arguments.host, arguments.seed, arguments.interval)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            await anext(aiter(signals))
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await client.publish(topic, False)  # a goodbye: the will is not for that


if __name__ == "__main__":
    trio.run(main)

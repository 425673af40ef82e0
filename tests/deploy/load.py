"""Publishers, subscribers and consumers that come through a proxy, and what they have noticed.

Knows the Python client and what guarantees promise; not who restarts what. Every publish has a text of its own, so
that one number says what was lost and what came twice.
"""

from collections import Counter

import trio
import triode
from attrs import define, field
from triode.records import Gap, Message

from tests.cluster.processes.ways import passes

MEMORY = [f"live/{number}" for number in range(8)]
DISK = [f"jobs/{number}" for number in range(6)]
BETWEEN_SECONDS = 0.02


@define(eq=False)
class Load:
    """All that a test needs to judge."""

    url: str
    key: str
    acked: dict[str, list[str]] = field(factory=lambda: {"live": [], "jobs": []})  # texts, in order
    logs: dict[str, str] = field(factory=dict)  # of each text that was acknowledged
    got: dict[str, list[Message]] = field(factory=dict)
    gaps: list[tuple[str, Gap]] = field(factory=list)
    done: Counter[str] = field(factory=Counter)  # text: acknowledged by a consumer
    handed: Counter[str] = field(factory=Counter)  # text: handed to a consumer
    is_ending: bool = False
    publishing: int = 0

    async def publish(self, name: str, kind: str) -> None:
        """One after the other, each acknowledged once."""
        self.publishing += 1
        topics = MEMORY if kind == "live" else DISK
        async with triode.connect(self.url, name=name, token=self.key) as client:
            number = 0
            while not self.is_ending:
                number += 1
                text = f"{name}-{number}"
                answer = await client.publish(topics[number % len(topics)], text)
                self.acked[kind].append(text)
                self.logs[text] = answer.log
                await passes(BETWEEN_SECONDS)
        self.publishing -= 1

    async def subscribe(
        self, name: str, filter: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Everything, in order, without acknowledgements."""
        found = self.got[name] = []
        async with triode.connect(self.url, name=name, token=self.key) as client:
            messages = client.subscribe(filter, on_gap=lambda gap: self.gaps.append((name, gap)))
            async with messages:
                task_status.started()
                async for message in messages:
                    found.append(message)  # noqa: PERF401  # others look at it meanwhile

    async def consume(self, name: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One of the workers that share a durable name."""

        def note(gap: Gap) -> None:
            self.gaps.append((name, gap))

        async with triode.connect(self.url, name=name, token=self.key) as client:
            deliveries = client.consume("jobs/#", durable="workers", shared=True, from_="earliest", on_gap=note)
            async with deliveries:
                task_status.started()
                async for delivery in deliveries:
                    text = str(delivery.data)
                    self.handed[text] += 1
                    try:
                        await delivery.ack()
                    except (triode.DeliveryLost, triode.DeliveryRefused):
                        continue  # its home went before it had answered: noted, or it comes again
                    self.done[text] += 1

    def total(self) -> int:
        """Acknowledged publishes."""
        return sum(map(len, self.acked.values()))

    def lacks(self, kind: str) -> dict[str, list[str]]:
        """Who has not got what was acknowledged."""
        expected = set(self.acked[kind])
        got = {name: {str(message.data) for message in found} for name, found in self.got.items()}
        got["workers"] = set(self.handed) if kind == "jobs" else expected
        return {
            name: sorted(expected - texts)
            for name, texts in got.items()
            if name.startswith((kind, "workers")) and expected - texts
        }

"""One process of `triode bench`: publishers and subscribers, each a client of its own, and what they have seen.

Knows the client library. The surprising decision: with a rate a message has a time at which it is due, and its
latency counts from then, not from when it could be sent. Whoever waits for a broker that stands still for a second
loses the sum of all that would have been sent meanwhile, and a load that waits politely would show one slow
message (coordinated omission).
"""

import argparse
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import trio
import triode

from triode_broker.cli.bench_figures import SLOT_MS, Times
from triode_broker.cli.connecting import CONNECT_SECONDS, failures_in_words, make_client, url
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.running import run_trio
from triode_broker.cli.streams import say

#: Bytes of a message that are not padding, about.
_HEAD_BYTES: Final = 52
#: So many are sent late in a row until the subscribers of this process get a turn.
_ROW: Final = 16
MAX_HOLES: Final = 10_000  # of one gap, that are looked out for
QUIET_SECONDS: Final = 0.5  # of silence after the last message
DRAIN_SECONDS: Final = 10.0


class Reader:
    """One subscriber, and what has come to it."""

    def __init__(self, topics: list[int]) -> None:
        self.topics = topics
        self.received = 0
        self.faults: Counter[str] = Counter()
        self._last: dict[tuple[str, str], int] = {}
        self._holes: set[tuple[str, str, int]] = set()

    def take(self, topic: str, publisher: str, number: int) -> None:
        """Whether it is the next one of its publisher on its topic; else it is late, or there again."""
        self.received += 1
        place = publisher, topic
        last = self._last.get(place, -1)
        if number > last:
            self._last[place] = number
            if number > last + 1:
                self._holes.update((*place, missing) for missing in range(last + 1, min(number, last + MAX_HOLES)))
        elif (*place, number) in self._holes:
            self._holes.remove((*place, number))
            self.faults["disordered"] += 1
        else:
            self.faults["repeated"] += 1

    def report(self) -> dict[str, Any]:
        """For the one who adds up."""
        faults = {name: self.faults[name] for name in ("repeated", "disordered", "gaps")}
        return {"topics": self.topics, "received": self.received, **faults}


class Load:
    """What this process does."""

    def __init__(self, arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environ = environ
        self._index: int = arguments.as_worker
        self.delivered, self.acknowledged = Times(), Times()
        self.slots: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.published: Counter[int] = Counter()
        self.readers: list[Reader] = []
        self._start_ns = 0
        self._news = trio.Event()
        self._padding = "x" * max(arguments.size - _HEAD_BYTES, 0)

    def _mine(self, count: int) -> range:
        return range(self._index, count, self._arguments.processes)

    def _topic(self, number: int) -> str:
        return f"{self._arguments.topic}/{self._arguments.run}/{number}"

    async def main(self) -> ExitCode:
        """Connect all, say so, wait for the start, and report."""
        arguments = self._arguments
        async with trio.open_nursery() as nursery:
            for number in self._mine(arguments.subscribers):
                await nursery.start(self._read, number)
            clients = [await nursery.start(self._hold) for _ in self._mine(arguments.publishers)]
            say('{"ready":true}\n')
            line = await trio.to_thread.run_sync(sys.stdin.readline)
            self._start_ns = int(line or time.monotonic_ns())
            cpu = time.process_time()
            async with trio.open_nursery() as publishers:
                for number, client in zip(self._mine(arguments.publishers), clients, strict=True):
                    publishers.start_soon(self._publish, client, number)
            seconds = (time.monotonic_ns() - self._start_ns) / 1e9
            cpu = time.process_time() - cpu
            await self._drain()
            nursery.cancel_scope.cancel()
        say(msgspec.json.encode(self._report(seconds, cpu)).decode() + "\n")
        return ExitCode.OK

    def _report(self, seconds: float, cpu: float) -> dict[str, Any]:
        return {
            "seconds": seconds,
            "cpu": cpu / seconds if seconds > 0 else 0.0,
            "delivered": self.delivered.buckets,
            "acknowledged": self.acknowledged.buckets,
            "slots": self.slots,
            "errors": self.errors,
            "published": self.published,
            "readers": [one.report() for one in self.readers],
        }

    async def _hold(self, task_status: trio.TaskStatus[triode.Client]) -> None:
        """A client that publishes, for as long as it is wanted."""
        with failures_in_words(url(self._arguments, self._environ)):
            async with self._client() as client:
                task_status.started(client)
                await trio.sleep_forever()

    def _client(self) -> triode.Client:
        return make_client(self._arguments, self._environ, CONNECT_SECONDS, 30.0)

    async def _read(self, number: int, task_status: trio.TaskStatus[None]) -> None:
        arguments = self._arguments
        topics = [number % arguments.topics] if arguments.spread else list(range(arguments.topics))
        filter = self._topic(topics[0]) if len(topics) == 1 else f"{arguments.topic}/{arguments.run}/#"
        reader = Reader(topics)
        self.readers.append(reader)

        def gap(_: triode.Gap) -> None:
            reader.faults["gaps"] += 1

        with failures_in_words(url(arguments, self._environ)):
            async with self._client() as client:
                if arguments.durable:
                    name = f"bench-{arguments.run}-{number}"
                    async with client.consume(filter, durable=name, window=256, on_gap=gap) as deliveries:
                        task_status.started()
                        async for delivery in deliveries:
                            self._take(reader, delivery)
                            delivery.ack_nowait()
                else:
                    async with client.subscribe(filter, on_gap=gap) as messages:
                        task_status.started()
                        async for message in messages:
                            self._take(reader, message)

    def _take(self, reader: Reader, message: Any) -> None:
        now = time.monotonic_ns()
        data = message.data
        reader.take(message.topic, data["p"], data["n"])
        self.delivered.add(now - data["t"])
        self.slots[(now - self._start_ns) // (SLOT_MS * 1_000_000)] += 1
        self._news.set()

    async def _publish(self, client: triode.Client, number: int) -> None:
        """One publisher, to the end of the time."""
        arguments = self._arguments
        publisher = f"{number}"
        step_ns = int(1e9 * arguments.publishers / arguments.rate) if arguments.rate else 0
        first_ns = self._start_ns + step_ns * number // max(arguments.publishers, 1)
        end_ns = self._start_ns + int(arguments.duration * 1e9)
        waiting: deque[tuple[triode.Receipt, int]] = deque()
        count = 0
        await _until(first_ns)
        while True:
            due_ns = first_ns + count * step_ns if step_ns else time.monotonic_ns()
            if due_ns >= end_ns:
                break
            await self._settle(waiting, arguments.window - 1, is_polling=bool(step_ns))
            if step_ns and time.monotonic_ns() < due_ns:
                await _until(due_ns)
            elif count % _ROW == 0:
                await trio.lowlevel.checkpoint()
            place = (number + count) % arguments.topics
            data = {"p": publisher, "n": count // arguments.topics, "t": due_ns, "x": self._padding}
            await self._say(client, place, data, waiting, due_ns)
            count += 1
        await self._settle(waiting, 0)

    async def _say(
        self, client: triode.Client, place: int, data: dict[str, Any], waiting: deque[Any], due_ns: int
    ) -> None:
        topic = self._topic(place)
        try:
            if self._arguments.no_ack:
                await client.send(topic, data)
            else:
                waiting.append((client.publish_nowait(topic, data), due_ns))
        except triode.TriodeError as error:
            self.errors[type(error).__name__] += 1
            await trio.sleep(0.001)
        else:
            self.published[place] += 1

    async def _settle(
        self, waiting: deque[tuple[triode.Receipt, int]], most: int, *, is_polling: bool = False
    ) -> None:
        """Until at most so many wait for their acknowledgement."""
        while waiting and (len(waiting) > most or (is_polling and waiting[0][0].is_done)):
            receipt, due_ns = waiting.popleft()
            try:
                await receipt.wait()
            except triode.TriodeError as error:
                self.errors[type(error).__name__] += 1
            else:
                self.acknowledged.add(time.monotonic_ns() - due_ns)

    async def _drain(self) -> None:
        """Until nothing has come for a while."""
        is_quiet = False
        with trio.move_on_after(DRAIN_SECONDS):
            while not is_quiet:
                self._news = trio.Event()
                with trio.move_on_after(QUIET_SECONDS) as quiet:
                    await self._news.wait()
                is_quiet = quiet.cancelled_caught


async def _until(ns: int) -> None:
    await trio.sleep(max(ns - time.monotonic_ns(), 0) / 1e9)


def run_worker(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Raises Failure."""
    with failures_in_words(url(arguments, environ)):
        return run_trio(Load(arguments, environ).main)

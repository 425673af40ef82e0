"""Runs many scenarios at once: one adapter a lane, each used again for scenario after scenario.

Knows adapters and players. The surprising decision: an adapter that failed is not asked again but started anew, so
a client that dies of one scenario is judged by all of them.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

import trio
from attrs import define

from triode_broker.conformance.adapter import Adapter, AdapterFailed, start
from triode_broker.conformance.player import Failure, Player
from triode_broker.conformance.steps import Scenario

PATIENCE_SECONDS: Final = 10.0
GREETING_SECONDS: Final = 30.0  # for a runtime to start on a busy machine
LANES: Final = 4


@define
class Result:
    """What became of a scenario. `lacks`: why it was skipped."""

    scenario: Scenario
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float = 0.0
    failure: Failure | None = None
    lacks: tuple[str, ...] = ()


Tell = Callable[[Result], None]


async def run(
    scenarios: Iterable[Scenario],
    command: Sequence[str],
    tell: Tell,
    *,
    lanes: int = LANES,
    patience_seconds: float = PATIENCE_SECONDS,
) -> str:
    """Run all of them, and `tell` each result as it comes. Returns the client's name.

    Raises AdapterFailed where no adapter can be started.
    """
    waiting = deque(scenarios)
    crew = _Crew(command, patience_seconds, waiting, tell)
    failures: list[AdapterFailed] = []

    async def lane() -> None:
        try:
            await crew.work()
        except AdapterFailed as failed:
            failures.append(failed)
            waiting.clear()

    async with trio.open_nursery() as nursery:
        for _ in range(min(lanes, len(waiting))):
            nursery.start_soon(lane)
    if failures:
        raise failures[0]
    return crew.client


class _Crew:
    """What the lanes have in common."""

    def __init__(
        self, command: Sequence[str], patience_seconds: float, waiting: deque[Scenario], tell: Tell
    ) -> None:
        self.client = ""
        self._command = command
        self._patience_seconds = patience_seconds
        self._waiting = waiting
        self._tell = tell

    async def work(self) -> None:
        """One lane: adapters, one after the other where they fail, until no scenario waits."""
        while self._waiting:
            async with self._started() as adapter:
                self.client = adapter.client
                while self._waiting and not adapter.trouble:
                    self._tell(await self._judge(self._waiting.popleft(), adapter))

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[Adapter]:
        async with trio.open_nursery() as nursery:
            failed: AdapterFailed | None = None
            adapter: Adapter | None = None
            try:
                adapter = await start(self._command, trio.lowlevel.ParkingLot(), nursery)
                try:
                    with trio.move_on_after(GREETING_SECONDS) as greeting:
                        await adapter.greet()
                    if greeting.cancelled_caught:
                        raise AdapterFailed(f"no `hello` within {GREETING_SECONDS:g} s")
                    yield adapter
                finally:
                    await adapter.stop()
            except AdapterFailed as error:  # a nursery would wrap it
                failed = error
                failed.last_lines = await adapter.last_lines() if adapter else ()
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed

    async def _judge(self, scenario: Scenario, adapter: Adapter) -> Result:
        if missing := tuple(sorted(adapter.lacks & set(scenario.needs))):
            return Result(scenario, "skipped", lacks=missing)
        began = trio.current_time()
        failure = await Player(scenario, adapter, self._patience_seconds).play()
        outcome: Literal["passed", "failed"] = "failed" if failure else "passed"
        return Result(scenario, outcome, trio.current_time() - began, failure)

"""Fixtures of the black-box tests: a broker with the defaults, or one with settings of the test's own."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from tests.spec.broker import RunningBroker

StartBroker = Callable[..., Awaitable[RunningBroker]]


@pytest.fixture
async def start_broker(nursery: trio.Nursery) -> AsyncIterator[StartBroker]:
    """Start a broker with the given settings; it ends with the test."""
    started: list[RunningBroker] = []

    async def start(**settings: object) -> RunningBroker:
        broker = RunningBroker(nursery)
        await broker.start(**settings)
        started.append(broker)
        return broker

    yield start
    for broker in started:
        await broker.end()


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    """A broker with the defaults and one log."""
    return await start_broker()

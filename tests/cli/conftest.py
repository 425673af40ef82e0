"""Fixtures: a broker for the commands to talk to."""

from collections.abc import AsyncIterator

import pytest
import trio

from tests.cli.programs import BrokerAt


@pytest.fixture
async def broker(nursery: trio.Nursery) -> AsyncIterator[BrokerAt]:
    """A running broker; tests may stop it and start it again."""
    broker = BrokerAt(nursery)
    await broker.start()
    yield broker
    await broker.stop()

"""Rigs of the edge, for attacks that need no process; and a cluster of real ones, for those that need several."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from tests.edge.conftest import make_rig, rig
from tests.security.nodes import Nodes, Street, nodes
from tests.spec.conftest import start_broker

__all__ = ["make_rig", "rig", "start_broker"]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """One for all cases: each has topics and people of its own."""
    with nodes(tmp_path_factory.mktemp("nodes")) as found:
        yield found


@pytest.fixture
async def street(town: Nodes, nursery: trio.Nursery) -> AsyncIterator[Street]:
    found = Street(town, nursery)
    yield found
    await found.clear()

"""Rigs that are closed when the test is over."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.edge.rig import Rig
from tests.edge.service import Counter


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """Makes rigs."""
    rigs: list[Rig] = []

    def make(*arguments: Any, **options: Any) -> Rig:
        rigs.append(Rig(*arguments, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.end()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """A rig with the default limits."""
    return make_rig()


@pytest.fixture
def counter() -> Counter:
    """A service."""
    return Counter()


@pytest.fixture
def served(make_rig: Callable[..., Rig], counter: Counter) -> Rig:
    """A rig with that service, and a page."""
    return make_rig(
        services={"/v1/": counter.take}, routes={"/page": lambda target: (200, "text/plain", b"a page")}
    )

"""The simulator computes most of what the suite computes; nothing is measured of it for the coverage gate."""

from collections.abc import Iterator

import coverage
import pytest


@pytest.fixture(scope="package", autouse=True)
def untraced() -> Iterator[None]:
    """Its worlds run at twice the speed; what they reach, the tests of the core and the cluster reach as well."""
    running = coverage.Coverage.current()
    if running is not None:
        running.stop()
    yield
    if running is not None:
        running.start()

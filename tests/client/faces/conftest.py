"""The faces, and the stage on which their brokers play."""

from collections.abc import Iterator

import pytest

from tests.client.faces.face import FACES, Face
from tests.client.faces.stage import Stage, stage


@pytest.fixture(scope="session")
def brokers() -> Iterator[Stage]:
    """One thread for all tests."""
    with stage() as thread:
        yield thread


@pytest.fixture(params=list(FACES))
def face(request: pytest.FixtureRequest, brokers: Stage) -> Face:
    """Each face in turn."""
    return FACES[request.param](brokers)

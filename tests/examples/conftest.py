"""One broker for all the examples that leave it alive."""

from collections.abc import Iterator

import pytest

from tests.examples.programs import CONFIG, Broker, broker_of


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker_of(CONFIG, tmp_path_factory.mktemp("examples")) as broker:
        yield broker

"""One broker for all the examples that leave it alive."""

from collections.abc import Iterator

import pytest

from tests.examples.programs import ExamplesBroker, broker_of_the_examples


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExamplesBroker]:
    with broker_of_the_examples(tmp_path_factory.mktemp("examples")) as broker:
        yield broker

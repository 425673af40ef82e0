"""One real broker for all blocking tests of a module: none of them changes it but by publishing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.running import running
from tests.client.sync.stage import in_a_thread

TOPICS: list[dict[str, Any]] = [
    {"filter": "jobs/#", "storage": "disk", "retention_messages": 10_000, "retention_bytes": 50_000_000},
    {"filter": "state/#", "compact": True},
    {"filter": "#", "retention_messages": 100_000, "retention_bytes": 50_000_000},
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker, with a disk."""
    directory: Path = tmp_path_factory.mktemp("broker")
    with in_a_thread(lambda: running(data=str(directory), topics=TOPICS)) as url:
        yield url

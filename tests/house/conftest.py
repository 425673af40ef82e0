"""The order of a run: form, lint and types first, because they are quick to mend."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort stably: everything between keeps its order."""
    items.sort(key=lambda item: "house/test_lint.py" not in item.nodeid)

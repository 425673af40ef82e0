"""Form, lint and types, run as tests: then the test runner's closing line counts them like everything else.

They come first of all (conftest.py), because they are quick to mend and say so before the long tests run.
"""

import subprocess
import sys

import pytest

from tests.house.tree import ROOT


@pytest.mark.parametrize("command", ["ruff format --check --quiet", "ruff check --quiet --output-format concise"])
def test_ruff_finds_nothing(command: str) -> None:
    run(command)


@pytest.mark.timeout(400)  # without its cache, on two busy cores, mypy takes a minute
def test_mypy_strict_finds_nothing() -> None:
    run("mypy")


def run(command: str) -> None:
    """Run a tool on the whole project; what it says is the failure's text."""
    tool = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert tool.returncode == 0, f"\n{tool.stdout}{tool.stderr}"

"""What is generated from the registry and the packet types is current, and `--check` can tell."""

import subprocess
import sys

from tests.house.tree import ROOT


def test_generated_files_are_current() -> None:
    check = subprocess.run(
        [sys.executable, "protocol/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr

"""The coverage gate bites: a branch that is not taken is a failed test more, however many processes there were."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT

SAMPLE = """
def sign(number: int) -> str:
    if number < 0:
        return "-"
    return "+"
"""
SETTINGS = """
[tool.pytest.ini_options]
addopts = ["-p", "xdist.plugin", "-p", "tests.gate"]
[tool.coverage.run]
branch = true
source_pkgs = ["sample"]
"""
BELOW = "from sample import sign\ndef test_below() -> None:\n    assert sign(-1) == '-'\n"
ABOVE = "from sample import sign\ndef test_above() -> None:\n    assert sign(1) == '+'\n"


@pytest.mark.parametrize(
    ("files", "workers", "said"),
    [
        ({"traced": BELOW}, 0, "coverage is 66.67 %"),
        ({"traced": BELOW, "other": ABOVE}, 2, "coverage is 66.67 %"),
        ({"traced": BELOW + ABOVE}, 2, "3 passed"),
    ],
    ids=["one branch", "the other one untraced", "both"],
)
def test_gate_wants_every_branch_of_those_that_are_traced(
    files: dict[str, str], workers: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    (tmp_path / "sample.py").write_text(SAMPLE)
    for name, source in files.items():
        (tmp_path / "checks" / name).mkdir(parents=True)
        (tmp_path / "checks" / name / f"test_{name}.py").write_text(source)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--gate", "checks/traced", "-n", str(workers)],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in ended.stdout
    assert "test_what_is_gated_has_every_branch_covered" in ended.stdout or "passed" in said
    assert (ended.returncode == 0) is ("passed" in said)

"""S35: what is installed beside Triode is known by name and version, and asked about."""

import json
import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.house.tree import ROOT

NOT_ASKED = 75
#: Takes nothing from the settings of whoever runs it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def test_s35_no_weakness_is_known_of_what_ci_tests_with() -> None:
    """Skipped, not passed, where the registries that are reached have no advisories."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "audit.py")], capture_output=True, text=True, timeout=500, check=False
    )
    if ended.returncode == NOT_ASKED:
        pytest.skip(" · ".join(ended.stdout.splitlines()))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_s35_the_audit_tells_a_weakness_from_no_answer(tmp_path: Path) -> None:
    """With programs in place of both auditors, that say what those say."""
    weak = {"dependencies": [{"name": "left", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}
    sound = {"dependencies": [{"name": "left", "version": "1", "vulns": []}]}
    unknown = {"dependencies": [{"name": "left", "skip_reason": "not found"}]}
    quiet: dict[str, object] = {"vulnerabilities": {}}
    loud = {"vulnerabilities": {"right": {"range": "<2", "severity": "high"}}}
    for python, javascript, code in [
        (sound, quiet, 0),
        (weak, quiet, 1),
        (sound, loud, 1),
        (unknown, quiet, NOT_ASKED),
        (sound, {"message": "405"}, NOT_ASKED),
        (weak, {"message": "405"}, 1),
    ]:
        assert audit(tmp_path, python, javascript) == code


def audit(folder: Path, python: object, javascript: object) -> int:
    (folder / "pip_audit.py").write_text(f"print({json.dumps(json.dumps(python))})\n")
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(javascript)}\nEND\n")
    npm.chmod(0o700)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [sys.executable, str(ROOT / ".ci" / "audit.py")]
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode


def test_s35_the_bill_of_materials_names_everything_that_is_installed_and_nothing_else(tmp_path: Path) -> None:
    """The program of `make sbom` on this environment: what the extra `all` brings, and what that brings."""
    file = tmp_path / "triode.cdx.json"
    command = [sys.executable, str(ROOT / ".ci" / "sbom.py"), str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "triode")
    listed = {one["name"].lower().replace("_", "-"): one for one in bill["components"]}
    wanted = {
        Requirement(text).name
        for text in requires("triode") or ()
        if 'extra == "server"' in text or "extra" not in text
    }
    assert wanted <= set(listed), "what pyproject.toml names is missing"
    assert {"pytest", "mypy", "ruff"}.isdisjoint(listed), "what only tests need is no part of a release"
    assert all(one["version"] and one["purl"].startswith("pkg:pypi/") for one in listed.values())

"""Asks for known weaknesses of everything in `requirements.lock` and `package-lock.json`: `make audit`.

Exit code 0: asked, and none is known; 1: some are, each named; 75: there was nobody to ask (no network, a mirror
of the registry without advisories), which is no answer, and is not taken for a good one.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / ".ci" / "requirements.lock"
FOUND, NOT_ASKED = 1, 75
#: Longest time for one of the two, in seconds: each name is asked for by itself.
PATIENCE_SECONDS = 240


def main() -> int:
    """Both registries; what is known counts for more than what could not be asked."""
    codes = {python(), javascript()}
    return FOUND if FOUND in codes else NOT_ASKED if NOT_ASKED in codes else 0


def python() -> int:
    """By pip-audit, from the advisories of PyPI."""
    pinned = [line for line in LOCK.read_text().splitlines() if "==" in line]
    with NamedTemporaryFile("w", suffix=".txt") as one:  # each name takes its time: is there anybody to ask?
        one.write(pinned[0])
        one.flush()
        report = pip_audit(Path(one.name))
    if report is not None and any("skip_reason" not in one for one in report["dependencies"]):
        report = pip_audit(LOCK)
    if report is None:
        return not_asked("PyPI", "no answer")
    asked = [one for one in report["dependencies"] if "skip_reason" not in one]
    if not asked:
        return not_asked("PyPI", "the package index that is used here has no advisories")
    found = [(one["name"], one["version"], weakness) for one in asked for weakness in one["vulns"]]
    for name, version, weakness in found:
        print(
            f"{name} {version}: {weakness['id']}; mended in {', '.join(weakness['fix_versions']) or 'no release'}"
        )
    left_out = len(report["dependencies"]) - len(asked)
    print(
        f"PyPI: {len(asked)} packages, {len(found)} known weaknesses"
        + (f", {left_out} not asked" * bool(left_out))
    )
    return FOUND if found else 0


def pip_audit(requirements: Path) -> Any:
    """Its report; None: it has none."""
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    return run([sys.executable, "-m", "pip_audit", "-r", str(requirements), *options], "dependencies")


def javascript() -> int:
    """By npm, from the advisories of its registry: what the package and its build are made with."""
    if shutil.which("npm") is None:
        return not_asked("npm", "there is no npm here")
    report = run(["npm", "audit", "--json", "--prefix", str(ROOT / "clients" / "js")], "vulnerabilities")
    if report is None:
        return not_asked("npm", "the registry that is used here has no advisories, or no answer")
    for name, weakness in report["vulnerabilities"].items():
        print(f"{name} {weakness['range']}: {weakness['severity']}")
    print(f"npm: {len(report['vulnerabilities'])} packages with known weaknesses")
    return FOUND if report["vulnerabilities"] else 0


def run(command: list[str], key: str) -> dict[str, Any] | None:
    """What a program says as JSON with this key; None where it says something else."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        report = json.loads(ended.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return report if isinstance(report, dict) and key in report else None


def not_asked(registry: str, why: str) -> int:
    """Say so, for whoever reads the log."""
    print(f"{registry}: NOT AUDITED: {why}")
    return NOT_ASKED


if __name__ == "__main__":
    sys.exit(main())

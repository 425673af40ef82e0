"""The bill of materials of a release, in CycloneDX: everything that `pip install triode[all]` brings. `make sbom`.

Made from the environment it runs in, so with the very versions that were tested; what only the tests need is left
out. The JavaScript client has no dependency, and so no bill.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def main(file: Path) -> None:
    """Write it."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    made = subprocess.run(
        [*command, "--output-reproducible", "--no-validate"], check=True, capture_output=True, text=True
    ).stdout
    bill: dict[str, Any] = json.loads(made)
    kept = installed("triode", frozenset({"all"})) - {"triode"}
    bill["components"] = [one for one in bill["components"] if normal(one["name"]) in kept]
    places = {one["bom-ref"] for one in (*bill["components"], bill["metadata"]["component"])}
    bill["dependencies"] = [
        {**one, "dependsOn": [place for place in one.get("dependsOn", ()) if place in places]}
        for one in bill["dependencies"]
        if one["ref"] in places
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bill, indent=2) + "\n")
    print(f"{file}: {len(bill['components'])} packages")


def installed(name: str, extras: frozenset[str]) -> set[str]:
    """A distribution with these extras, and all that it stands on here."""
    found: set[str] = set()
    waiting = [(normal(name), extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            needed = distribution(one[0]).requires or []
        except PackageNotFoundError:
            continue  # of another platform
        found.add(one[0])
        for text in needed:
            need = Requirement(text)
            marks = [{"extra": extra} for extra in one[1]] or [{"extra": ""}]
            if need.marker is None or any(need.marker.evaluate(mark) for mark in marks):
                waiting.append((normal(need.name), frozenset(need.extras)))
    return found


def normal(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

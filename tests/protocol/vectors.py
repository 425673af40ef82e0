"""Reads protocol/vectors: plain data, the same for every language. Knows nothing of what the cases mean."""

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[2] / "protocol" / "vectors"


def read(file: str) -> dict[str, Any]:
    """One file of vectors; `about` is left in place."""
    content: dict[str, Any] = json.loads((DIRECTORY / file).read_text(encoding="utf-8"))
    return content


def cases(file: str, kind: str) -> list[Any]:
    """One list of cases, at least one."""
    found: list[Any] = read(file)[kind]
    assert found, f"{file} has no {kind}"
    return found

"""Leaves the name of the commit in what is built: a wheel, or the archive of sources that a wheel is made from.

Run by hatchling while it builds, knows git and nothing of the broker. Where there is no git, as inside a container
that is given the sources alone, the environment says it: TRIODE_COMMIT. An editable install has no such file; it
asks its checkout (triode_broker/release.py).
"""

import os
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "triode_broker/commit.txt"


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]  # of any builder
    """One build's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before anything is packed."""
        root = Path(self.root)
        if version == "editable" or (root / "broker" / NAME).exists():  # from an archive that has it already
            return
        if commit := os.environ.get("TRIODE_COMMIT") or _commit_of(root):
            file = Path(mkdtemp()) / "commit.txt"
            file.write_text(commit + "\n")
            place = NAME if self.target_name == "wheel" else f"broker/{NAME}"
            build_data["force_include"][str(file)] = place


def _commit_of(root: Path) -> str:
    """Empty where this is no checkout of its own: a repository around it says nothing about it."""
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        top, commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:2]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit if Path(top) == root.resolve() else ""

"""The JavaScript client as it is published: `dist`, made when it is older than what it is made of.

Knows where things are. Test processes that want it at once wait for one another.
"""

import fcntl
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

CLIENT: Final = Path(__file__).resolve().parents[2] / "clients" / "js"
DIST: Final = CLIENT / "dist"


def _is_fresh() -> bool:
    made = [DIST / "triode.iife.js", DIST / "types" / "index.d.ts"]
    sources = [CLIENT / "package.json", CLIENT / "build.mjs", *CLIENT.glob("src/**/*.ts")]
    newest = max(source.stat().st_mtime for source in sources)
    return all(file.exists() and file.stat().st_mtime >= newest for file in made)


def built_client(folder: Path) -> Path:
    """A copy of `dist` in `folder`. Skips (CI: fails) where there is no Node or `npm ci` was not run."""
    if shutil.which("node") is None or not (CLIENT / "node_modules").exists():
        missing = "no Node.js, or no packages: npm ci in clients/js"
        if os.environ.get("TRIODE_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with (CLIENT / "build.mjs").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_fresh():
            subprocess.run(["node", "build.mjs"], cwd=CLIENT, check=True)
        return Path(shutil.copytree(DIST, folder / "dist"))


def installed_client(folder: Path) -> str:
    """Into `node_modules` of `folder`, as `npm install` of the packed file does it; the name of that file."""
    built_client(folder)
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
    name = subprocess.run(command, cwd=CLIENT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with tarfile.open(folder / name) as packed:
        packed.extractall(folder, filter="data")
    (folder / "node_modules").mkdir()
    (folder / "package").rename(folder / "node_modules" / "triode")
    return name

"""Programs that judge what deploy/ ships: where one is missing its tests are skipped, and fail in CI."""

import os
import shutil
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import pytest


def program(name: str) -> str:
    """Where it is: beside this Python, or on the path; "" where it is not."""
    beside = Path(sys.executable).parent / name
    return (
        str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""
    )


def needs(name: str) -> pytest.MarkDecorator:
    """A test that runs it. With REQUIRE_DEPLOY_TOOLS (no setting of a broker) its absence is a failure."""
    is_excused = not program(name) and not os.environ.get("REQUIRE_DEPLOY_TOOLS")
    return pytest.mark.skipif(is_excused, reason=f"{name} is not installed")


def judge(*command: str, cwd: Path, environ: dict[str, str] | None = None) -> str:
    """What a program says of a file; its failure is the test's."""
    done = run(
        [program(command[0]) or command[0], *command[1:]],
        cwd=cwd,
        env=dict(os.environ) | (environ or {}),
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout

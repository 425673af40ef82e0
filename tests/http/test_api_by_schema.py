"""Requests made up from protocol/openapi.json, good and bad, against a real broker: it answers as that says.

Schemathesis makes them, a process of its own. Left out are operations whose answers do not end, a drain, and lines
of JSON, which it does not write.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.admin.running import ON_DISK, PATIENCE_SECONDS, Running, running
from tests.house.tree import ROOT
from tests.security.withdrawing import EVERYTHING, settings, token

#: Operations that are not asked.
LEFT_OUT = "/v1/(events|link|drain|publish/stream)"
#: An operator that may ask as fast as it can.
UNBOUNDED = [{"role": "operator", **dict.fromkeys(("requests_per_second", "publishes_per_second"), 0)}]


async def attack(node: Running, folder: Path, phases: str, examples: int, *more: str) -> None:
    """Have requests made up, and look at what is answered and logged."""
    command = [
        *(
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(ROOT / "tests/http/schemathesis.toml"),
        ),
        *(
            "run",
            str(ROOT / "protocol/openapi.json"),
            "--url",
            node.url,
            "--exclude-path-regex",
            LEFT_OUT,
            "--no-color",
        ),
        *("--phases", phases, "--max-examples", str(examples), "--generation-database", "none", *more),
    ]
    with trio.fail_after(4 * PATIENCE_SECONDS):
        done = await trio.run_process(command, cwd=folder, capture_stdout=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    assert not node.log.told("request_failed")
    assert not node.log.told("connection_failed")


@pytest.mark.parametrize("is_open", [False, True], ids=["credentials", "open"])
async def test_every_operation_answers_as_its_description_says(tmp_path: Path, is_open: bool) -> None:
    """S1, S29: with the right to all of it; and on a broker that asks nobody who they are."""
    if is_open:
        async with running(tmp_path) as node:
            await attack(node, tmp_path, "examples,fuzzing", 3)
        return
    rules: list[dict[str, Any]] = [EVERYTHING, {"role": "operator", "operate": ["#"]}]
    given = {**settings(tmp_path), "permissions": rules, "quotas": UNBOUNDED, "topics": [ON_DISK]}
    async with running(tmp_path / "data", **given) as node:
        shown = token("op", roles=["operator"])
        await attack(node, tmp_path, "examples,coverage,fuzzing", 4, "--header", f"Authorization: Bearer {shown}")

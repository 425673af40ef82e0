"""A seed is a run: the same history in two processes, whatever their hashes and addresses are."""

import os
import subprocess
import sys

from tests.house.tree import ROOT

#: Seeds of one process; some of them have several nodes.
FIRST, COUNT = 1, 6


def test_same_seed_gives_the_same_history_in_two_processes() -> None:
    command = [sys.executable, "-m", "tests.sim.run", "--seed", str(FIRST), "--count", str(COUNT), "--digest"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=-1, text=True, env=os.environ | {"PYTHONHASHSEED": hash_seed})
        for hash_seed in ("1", "2")
    ]
    said = [process.communicate()[0].splitlines() for process in processes]
    assert said[0] == said[1]
    assert len(set(said[0])) == COUNT

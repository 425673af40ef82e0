"""Triode's servers are forked here: no test of the benchmarks is about the start of an interpreter."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest

from bench import servers
from tests import forking
from tests.house.tree import ROOT

TRIODE = str(Path(sys.executable).with_name("triode"))


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are started as always."""
    ordinary = servers.begin

    def begin(command: Sequence[str], environ: Mapping[str, str], output: IO[bytes]) -> servers.Process:
        program, *arguments = command
        if program != TRIODE:
            return ordinary(command, environ, output)
        fd = output.fileno()
        return forking.begin("triode", *arguments, env=environ, cwd=ROOT, stdout=fd, stderr=fd)

    monkeypatch.setattr(servers, "begin", begin)

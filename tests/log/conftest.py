"""The engines that the contract of a log is held against: a further one is one entry more."""

import sqlite3
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.log.disk import DiskLog
from triode_broker.log.disk import open_log as open_disk_log
from triode_broker.log.disk.connection import connect
from triode_broker.log.memory import MemoryLog

from tests.log.late import LateLog
from tests.log.scribe import Open, Opened


def open_memory(limits: Limits) -> Opened:
    return Opened(MemoryLog("m0-life", limits), lambda: None)


def open_late(limits: Limits) -> Opened:
    log = LateLog("m0-life", limits)
    return Opened(log, log.answer)


#: Hypothesis opens hundreds: all but the newest are closed again.
_open_logs: deque[DiskLog] = deque()
_room = tempfile.TemporaryDirectory(prefix="triode-logs-")


class Unflushed:
    """The contract is about answers: without flushes it takes a tenth of the time."""

    def __init__(self, path: Path) -> None:
        self._inner = connect(path)

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:
        """One statement."""
        return self._inner.execute(sql.replace("synchronous=FULL", "synchronous=OFF"), parameters)

    def close(self) -> None:
        """As the engine asks."""
        self._inner.close()


def open_disk(limits: Limits) -> Opened:
    """Inline: the store's work is done in the calling thread, when settled."""
    while len(_open_logs) > 4:
        _open_logs.popleft().close()
    log = open_disk_log(
        Path(tempfile.mkdtemp(dir=_room.name)),
        "d0",
        node="n1",
        limits=limits,
        new_name=lambda: "d0-life",
        rule_of=lambda topic: TopicRule(storage="disk"),
        report=lambda event, **facts: None,
        connect=Unflushed,
        checkpoint_frames=50,
    )
    _open_logs.append(log)
    return Opened(log, log.run_inline)


ENGINES: dict[str, Open] = {"memory": open_memory, "late": open_late, "disk": open_disk}


@pytest.fixture(params=ENGINES, scope="session")  # session: a factory has no state, and hypothesis may share it
def open_log(request: pytest.FixtureRequest) -> Open:
    """Makes an empty log of each engine in turn."""
    return ENGINES[request.param]

"""The engines that the contract of a log is held against: a further one is one entry more."""

import pytest
from triode_broker.config import Limits
from triode_broker.log.memory import MemoryLog

from tests.log.late import LateLog
from tests.log.scribe import Open, Opened


def open_memory(limits: Limits) -> Opened:
    return Opened(MemoryLog("m0-life", limits), lambda: None)


def open_late(limits: Limits) -> Opened:
    log = LateLog("m0-life", limits)
    return Opened(log, log.answer)


ENGINES: dict[str, Open] = {"memory": open_memory, "late": open_late}


@pytest.fixture(params=ENGINES, scope="session")  # session: a factory has no state, and hypothesis may share it
def open_log(request: pytest.FixtureRequest) -> Open:
    """Makes an empty log of each engine in turn."""
    return ENGINES[request.param]

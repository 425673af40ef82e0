"""The coverage gate: every branch of the protocol and of the core is run by the tests (`make test`).

It is judged when every process that runs tests has ended, and reported as a test like any other: so the closing
line of the test runner says whether it held. It must not know what is tested. Its one surprising decision: only
the tests of the folders that `--gate` names are run under the tracer, which costs half of their speed. So what is
gated is covered by the tests that are about it, not by whatever else passes through.
"""

import io
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

NAME = "test_what_is_gated_has_every_branch_covered"


def pytest_addoption(parser: pytest.Parser) -> None:
    """What is measured is a setting of coverage's own."""
    words = "tests whose branch coverage is measured: less than all of it is a failure (repeatable)"
    parser.addoption("--gate", action="append", default=[], metavar="FOLDER", help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: what runs at import counts as well."""
    if not config.option.gate or config.option.collectonly:
        return
    is_worker = hasattr(config, "workerinput")
    if not is_worker:
        config.pluginmanager.register(Gate(), "gate")
    if is_worker or not config.option.numprocesses:
        folders = [config.rootpath / folder for folder in config.option.gate]
        config.pluginmanager.register(Tracer(folders), "gate-tracer")


class Tracer:
    """Measures the tests of some folders, in a process that runs tests."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._coverage = coverage.Coverage(data_suffix=True)
        self._coverage.start()
        self._is_on = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """On or off for the next test; nothing is switched between two of the same kind."""
        self._trace(any(item.path.is_relative_to(folder) for folder in self._folders))
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """What was measured is left for the gate."""
        try:
            return (yield)
        finally:
            self._trace(False)
            self._coverage.save()

    def _trace(self, is_wanted: bool) -> None:
        if is_wanted is not self._is_on:
            (self._coverage.start if is_wanted else self._coverage.stop)()
            self._is_on = is_wanted


class Gate:
    """Judges what all tracers have measured, in the process that reports."""

    def pytest_sessionstart(self) -> None:
        """Nothing is left of an earlier run."""
        coverage.Coverage().erase()

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost: the tracers have ended
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """One test more, behind all others."""
        ran = yield
        call = pytest.CallInfo.from_call(judge, "call")
        report = pytest.TestReport(
            nodeid=f"tests/gate.py::{NAME}",
            location=("tests/gate.py", None, NAME),
            keywords={},
            outcome="failed" if call.excinfo else "passed",
            longrepr=str(call.excinfo.value) if call.excinfo else None,
            when="call",
            duration=call.duration,
            start=call.start,
            stop=call.stop,
        )
        session.testscollected += 1
        session.config.hook.pytest_runtest_logreport(report=report)
        return ran


def judge() -> None:
    """Raises AssertionError, with what is missing; NoDataError, if there is nothing to judge."""
    measured = coverage.Coverage()
    measured.combine()
    text = io.StringIO()
    percent = measured.report(show_missing=True, skip_covered=True, file=text)
    assert percent == 100, f"coverage is {percent:.2f} %\n{text.getvalue()}"

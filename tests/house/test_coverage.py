"""The coverage gate: every branch of the protocol and of the core is run by the tests.

A test, and the last of all (conftest.py): so the test runner's own closing line says whether the gate held. It can
only judge a whole run under coverage, as `make test` is; in any other it is skipped.
"""

import io

import coverage
import pytest

GATED = ["*/triode_protocol/*", "*/triode_broker/core/*"]


def test_protocol_and_core_have_every_branch_covered(request: pytest.FixtureRequest) -> None:
    running = coverage.Coverage.current()
    if running is None or not is_whole(request.config):
        pytest.skip("judges a whole run under coverage: make test")
    running.stop()
    report = io.StringIO()
    percent = running.report(include=GATED, show_missing=True, skip_covered=True, file=report)
    running.start()
    assert percent == 100, f"\n{report.getvalue()}"


def is_whole(config: pytest.Config) -> bool:
    """Whether all tests were asked for."""
    option = config.option
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (option.keyword or option.markexpr)

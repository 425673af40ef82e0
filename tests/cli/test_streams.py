"""Closed, full or unread standard streams end a command with one line, never with a traceback."""

import shlex
import subprocess
import sys

import pytest
import trio
from triode_broker.cli.exit_codes import INTERRUPTED, ExitCode
from triode_broker.cli.main import main

from tests.cli.programs import PATIENCE_SECONDS, BrokerAt, run

TRIODE = shlex.join(
    [sys.executable, "-c", "import sys; from triode_broker.cli.main import main; sys.exit(main())"]
)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("serve --check >/dev/full", "triode serve: stdout: No space left on device\n"),
        ("serve --check >&-", "triode serve: stdout: Bad file descriptor\n"),
        ("--help >/dev/full", "triode: stdout: No space left on device\n"),
        ("--version >&-", "triode: stdout: Bad file descriptor\n"),
    ],
)
def test_a_stdout_that_takes_nothing_is_told_in_one_line(command: str, words: str) -> None:
    ended = subprocess.run(f"{TRIODE} {command}", shell=True, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (ExitCode.FAILURE, words)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pub a - <&-", "triode pub: stdin: Bad file descriptor\n"),
        ("pub a x >/dev/full", "triode pub: stdout: No space left on device\n"),
        ("sub a --from earliest >/dev/full", "triode sub: stdout: No space left on device\n"),
        ("sub a --from earliest >&-", "triode sub: stdout: Bad file descriptor\n"),
    ],
)
async def test_clients_tell_it_too_and_write_into_no_socket(broker: BrokerAt, command: str, words: str) -> None:
    await run("pub", "a", "x", url=broker.url)
    with trio.fail_after(PATIENCE_SECONDS):
        line = f"{TRIODE} {command} --url {broker.url}"
        ended = await trio.run_process(["sh", "-c", line], capture_stderr=True, check=False)
    assert (ended.returncode, ended.stderr.decode()) == (ExitCode.FAILURE, words)


def test_ctrl_c_during_the_imports_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("triode_broker.cli.main.import_module", interrupted)
    assert main(["serve", "--check"]) == INTERRUPTED

"""`python -m tests.autobahn.run`: starts an echo server, sends it Autobahn's cases, judges them.

It must not know what the server is made of: a command with a port in it is all it is told.

Surprising: a run in which the server dies half-way leaves a tidy report of the cases before that,
so the number of cases is part of the gate (see summary.py).

Exit codes: 0 no case FAILED; 1 a case FAILED, is missing, or the suite did not finish;
2 nothing could be tested (no CPython 2.7, installation failed, server did not start).
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from tests.autobahn.python27 import (
    CannotRun,
    clean_environ,
    find_python27,
    log_tail,
    make_environment,
)
from tests.autobahn.summary import Summary, UnreadableReport, read_report

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "autobahn"
DEFAULT_SERVER = shlex.join([sys.executable, "-m", "tests.autobahn.echo_edge", "--port", "PORT"])

AGENT = "server"
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
# Messages up to 16 MiB (9) contradict the limits a broker must have; compression (12, 13) is
# never negotiated.
EXCLUDED_CASES = ["9.*", "12.*", "13.*"]
EXPECTED_CASES = 247  # how many of these the pinned release of the suite has

_START_SECONDS = 15
_STOP_SECONDS = 5
_SUITE_SECONDS = 600  # a healthy run takes about 10; each case may wait seconds for a silent server


class SuiteFailed(Exception):
    """The cases were sent, but the suite gave no verdict on all of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and print the verdict; return the exit code."""
    command = _parse(arguments)
    try:
        summary = run(command)
    except CannotRun as error:
        print(f"autobahn: {error}", file=sys.stderr)
        return 2
    except (SuiteFailed, UnreadableReport) as error:
        print(f"autobahn: {error}", file=sys.stderr)
        return 1
    print(summary.table())
    if summary.missing_cases:
        print(f"How far it came: {CACHE / 'wstest.log'}; the server's words: {CACHE / 'server.log'}")
    print(f"Report: {CACHE / 'report' / 'index.html'}")
    print(
        f"{'passed' if summary.passed else 'NOT passed'}: "
        f"{len(summary.results)} of {summary.expected_cases} cases, {len(summary.failed)} FAILED"
    )
    return 0 if summary.passed else 1


def run(command: Sequence[str]) -> Summary:
    """Make what is missing, start the server, run the suite and read its report.

    Raises CannotRun, SuiteFailed, UnreadableReport.
    """
    python27 = find_python27(os.environ)
    print(f"{python27}; environment: {CACHE} (the first run makes it: a minute)", flush=True)
    interpreter = make_environment(CACHE, python27)
    port = _free_port()
    with listening_server(command, port, CACHE / "server.log"):
        print(f"{EXPECTED_CASES} cases, about 10 s: 127.0.0.1:{port}", flush=True)
        _run_suite(interpreter, port)
    return read_report(CACHE / "report" / "index.json", AGENT, EXPECTED_CASES)


@contextlib.contextmanager
def listening_server(command: Sequence[str], port: int, log: Path) -> Iterator[None]:
    """Run `command` with PORT replaced while the block runs, from when it accepts connections.

    Its output goes to `log`. It has a process group of its own, so that what a wrapper starts is
    ended too (killed, not waited for: only the command itself is). Raises CannotRun if it does not listen in time.
    """
    with log.open("wb") as output:
        try:
            server = subprocess.Popen(
                [part.replace("PORT", str(port)) for part in command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotRun(f"the server did not start: {error}") from error
    try:
        _wait_until_listening(server, port, log)
        yield
    finally:
        _stop(server)


def _parse(arguments: Sequence[str] | None) -> list[str]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.autobahn.run",
        description="Run Autobahn's WebSocket cases (sections 1-7 and 10) against an echo server.",
        epilog="exit codes: 0 no case FAILED, 1 FAILED or missing cases, 2 could not run",
    )
    parser.add_argument(
        "--server-command",
        default=DEFAULT_SERVER,
        metavar="COMMAND",
        help="starts a WebSocket echo server on 127.0.0.1:PORT; the word PORT in it is replaced "
        "(default: the edge with an echo application, python -m tests.autobahn.echo_edge)",
    )
    text: str = parser.parse_args(arguments).server_command
    try:
        command = shlex.split(text)
    except ValueError as error:
        parser.error(f"--server-command: {error}")
    if not any("PORT" in part for part in command):
        parser.error("--server-command must hold the word PORT")
    return command


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    # As an exception, so that the server is stopped on the way out.
    sys.exit(128 + number)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if _accepts(port):
            return
        # Waiting for its end is the pause between two tries.
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = server.wait(timeout=0.05)
            raise CannotRun(f"the server ended with exit code {code}:\n{log_tail(log)}")
    raise CannotRun(f"the server did not listen within {_START_SECONDS} s:\n{log_tail(log)}")


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            # A port of the ephemeral range can be given to the probe itself, which then reaches
            # itself although nobody listens.
            return bool(probe.getsockname() != probe.getpeername())
    except OSError:
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(timeout=_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _run_suite(interpreter: Path, port: int) -> None:
    # Gone first: an old report must never be judged for a run that wrote none.
    report, spec, log = CACHE / "report", CACHE / "spec.json", CACHE / "wstest.log"
    shutil.rmtree(report, ignore_errors=True)
    spec.write_text(json.dumps(_spec(report, port), indent=2))
    # -u: the log is whole up to the case that is under way.
    wstest = [str(interpreter), "-u", "-m", "autobahntestsuite.wstest"]
    with log.open("wb") as output:
        try:
            subprocess.run(
                [*wstest, "-m", "fuzzingclient", "-s", str(spec)],
                cwd=CACHE,
                env=clean_environ(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_SUITE_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SuiteFailed(f"{error}\n{log_tail(log)}\nAll of it: {log}") from error


def _spec(report: Path, port: int) -> dict[str, object]:
    return {
        "options": {"failByDrop": False},
        "outdir": str(report),
        "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}"}],
        "cases": CASES,
        "exclude-cases": EXCLUDED_CASES,
        "exclude-agent-cases": {},
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _exit_on_signal)
    sys.exit(main())

"""A broker that was started by hand ends with its terminal; SIGHUP from elsewhere only reloads."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from tests.cli.programs import PATIENCE_SECONDS

SERVE = "import sys; from triode_broker.cli.main import main; sys.exit(main())"


def take_terminal() -> None:
    """In the new process: its stdin is the terminal that it belongs to."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_broker_ends_with_its_terminal_and_reloads_while_there_is_one(workers: str) -> None:
    window, terminal = pty.openpty()
    command = [sys.executable, "-c", SERVE, "serve", "--listen", "127.0.0.1:0", "--log-format", "json"]
    process = subprocess.Popen(
        [*command, "--workers", workers],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(terminal)
    try:
        shown = until(window, b'"event": "started"' if workers == "1" else b'"event": "workers_up"')
        process.send_signal(signal.SIGHUP)
        assert b'"SIGHUP"' in until(window, b'"SIGHUP"'), shown
        assert process.poll() is None
    finally:
        os.close(window)
        try:
            code = process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
    assert code >= 0  # by itself


def until(window: int, text: bytes) -> bytes:
    """What is shown, up to this."""
    shown = b""
    while text not in shown:
        shown += os.read(window, 65_536)
    return shown

"""What happens around the suite: finding CPython 2.7, starting and ending the server.

It must not run the suite itself: these tests run in `make test`, where no CPython 2.7 is promised.

Surprising: the interpreters here are shell scripts that answer as one would, since what is tested
is which program is asked and whether its answer is believed.
"""

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.autobahn.python27 import CannotRun, find_python27
from tests.autobahn.run import listening_server, main

PYTHON27_ANSWER = 'echo "CPython 2.7 $0"'
HTTP_SERVER = [sys.executable, "-m", "http.server", "PORT", "--bind", "127.0.0.1"]


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_named_python27_comes_before_path(tmp_path: Path) -> None:
    named = program(tmp_path / "named" / "py", PYTHON27_ANSWER)
    program(tmp_path / "bin" / "python2.7", PYTHON27_ANSWER)
    environ = {"PYTHON27": str(named), "PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    assert find_python27(environ) == named


def test_path_comes_before_pyenv(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin" / "python2.7", PYTHON27_ANSWER)
    program(tmp_path / ".pyenv/versions/2.7.18/bin/python2.7", PYTHON27_ANSWER)
    assert find_python27({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}) == on_path


def test_shim_that_starts_nothing_is_passed_over_for_the_newest_of_pyenv(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python2.7", "echo 'command not found' >&2; exit 127")
    program(tmp_path / ".pyenv/versions/2.7.9/bin/python2.7", PYTHON27_ANSWER)
    newest = program(tmp_path / ".pyenv/versions/2.7.18/bin/python2.7", PYTHON27_ANSWER)
    assert find_python27({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}) == newest


@pytest.mark.parametrize("answer", ["CPython 3.11 /python", "PyPy 2.7 /python", "", "2.7"])
def test_program_that_is_not_cpython27_is_not_believed(tmp_path: Path, answer: str) -> None:
    program(tmp_path / "bin" / "python2.7", f"echo '{answer}'")
    with pytest.raises(CannotRun, match=r"pyenv install 2\.7\.18"):
        find_python27({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)})


def test_wrong_named_python27_is_an_error_although_path_has_one(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python2.7", PYTHON27_ANSWER)
    environ = {"PYTHON27": "/nowhere/py", "PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    with pytest.raises(CannotRun, match="PYTHON27=/nowhere/py"):
        find_python27(environ)


def test_main_without_python27_says_what_to_install_and_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PYTHON27", "PYENV_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["--server-command", "serve PORT"]) == 2
    assert "pyenv install 2.7.18" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "serve --port 9001", "'serve PORT"])
def test_main_refuses_a_server_command_it_cannot_use(command: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--server-command", command])
    assert stopped.value.code == 2


def test_server_listens_inside_the_block_and_is_gone_after_it(tmp_path: Path) -> None:
    port = unused_port()
    with listening_server(HTTP_SERVER, port, tmp_path / "server.log"):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_server_started_by_a_wrapper_is_ended_too(tmp_path: Path) -> None:
    # The server alone holds the pipe's writing end, so the pipe's end is the server's.
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.set_blocking(reader, True)
        wrapped = ["sh", "-c", '"$@" 9>"$0"; true', str(pipe), *HTTP_SERVER]
        with listening_server(wrapped, unused_port(), tmp_path / "server.log"):
            pass
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_server_that_ends_at_once_is_reported_with_its_words(tmp_path: Path) -> None:
    serve = [sys.executable, "-c", "print('no such option: PORT'); raise SystemExit(3)"]
    with (
        pytest.raises(CannotRun, match=r"(?s)exit code 3.*no such option: \d+"),
        listening_server(serve, unused_port(), tmp_path / "server.log"),
    ):
        pass


def test_server_program_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    serve = [os.fspath(tmp_path / "nothing"), "PORT"]
    with (
        pytest.raises(CannotRun, match="did not start"),
        listening_server(serve, unused_port(), tmp_path / "server.log"),
    ):
        pass

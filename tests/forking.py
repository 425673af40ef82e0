"""`triode` as a process of its own, forked from one that has imported it already.

Hundreds of tests start brokers and commands, and most of what a start costs is imports. So each process that runs
tests has one beside it, in which everything is imported and nothing runs; what that forks gets arguments,
environment, folder and streams of its own, and ends as any interpreter does. Knows how to start something and how
it ended, not what it is. The surprising decision: that one, not the test, is the parent. So an end is told over a
pipe, and a test can be as quick or as late to ask for it as it likes.
"""

import atexit
import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Required, TypedDict, Unpack

import trio

from tests.house.tree import ROOT

MAX_REQUEST_BYTES: Final = 131_072
_MODULES: Final = os.environ.get("PYTHONPATH")
PROGRAMS: Final = {
    "triode": "triode_broker.cli.main:main",
    "broker_process": "tests.crash.broker_process:run",
    "attackers": "tests.security.attackers:main",
}
#: What a process of `triode` imports only when it is needed, and nearly always is.
AHEAD: Final = ("triode", "triode_broker.server", "triode_broker.logs", "triode_broker.cli.arguments")
OPERATORS: Final = ("cluster", "connections", "drain", "tail", "top", "top_screen", "check")
COMMANDS: Final = ("serve", "pub", "sub", "subs", "dead", "presence", *OPERATORS)


class _Told:
    """What is known of a process, wherever it is waited for."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._said = b""
        self.pid = 0

    def __del__(self) -> None:
        os.close(self._status)

    @property
    def returncode(self) -> int | None:
        """None while it runs; a negative number: by that signal."""
        self._hear()
        _, _, end = self._said.partition(b"\n")
        return int(end) if end.endswith(b"\n") else None

    def _hear(self) -> bool:
        """Whether there will be more."""
        try:
            piece = os.read(self._status, 64)
        except BlockingIOError:
            return True
        self._said += piece
        return piece != b""

    def _has_begun(self) -> bool:
        if b"\n" not in self._said:
            assert self._hear(), "who forks is gone"
        if b"\n" not in self._said:
            return False
        self.pid = int(self._said.partition(b"\n")[0])
        return True

    def send_signal(self, number: int) -> None:
        """Nothing, where it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just been buried
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


class Forked(_Told):
    """A process, as far as tests use `trio.Process`; streams are there that were asked for as pipes."""

    def __init__(self, status: int, streams: Sequence[int | None]) -> None:
        super().__init__(status)
        stdin, stdout, stderr = (trio.lowlevel.FdStream(fd) if fd is not None else None for fd in streams)
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr

    async def wait(self) -> int:
        """How it ended, once it has."""
        while (code := self.returncode) is None:
            await trio.lowlevel.wait_readable(self._status)
        return code

    async def has_begun(self) -> None:
        """Until it is there."""
        while not self._has_begun():
            await trio.lowlevel.wait_readable(self._status)


class Beside(_Told):
    """The same as far as tests use `subprocess.Popen`, for those without an event loop; streams are of text."""

    def __init__(self, status: int, streams: Sequence[int | None]) -> None:
        super().__init__(status)
        stdin, stdout, stderr = streams
        self.stdin = os.fdopen(stdin, "w", encoding="utf-8") if stdin is not None else None
        self.stdout = os.fdopen(stdout, encoding="utf-8") if stdout is not None else None
        self.stderr = os.fdopen(stderr, encoding="utf-8") if stderr is not None else None

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it ended, once it has. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.returncode) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            select.select([self._status], [], [], left)
        return code

    def has_begun(self) -> None:
        """Until it is there."""
        while not self._has_begun():
            select.select([self._status], [], [])

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


class How(TypedDict, total=False):
    """Streams: -1 for a pipe, None for none (what is written goes nowhere), or a file."""

    env: Required[Mapping[str, str]]
    cwd: str | Path | None
    stdin: int | None
    stdout: int | None
    stderr: int | None


async def start(program: str, *arguments: str, **how: Unpack[How]) -> Forked | trio.Process:
    """Start one of PROGRAMS.

    One that is to find its modules elsewhere is started as an interpreter of its own.
    """
    if how["env"].get("PYTHONPATH") != _MODULES:
        module, _, function = PROGRAMS[program].partition(":")
        source = f"import sys; from {module} import {function}; sys.exit({function}(sys.argv[1:]))"
        names = ("stdin", "stdout", "stderr")
        wanted: dict[str, Any] = {
            name: fd or subprocess.DEVNULL for name, fd in zip(names, _wanted(how), strict=True)
        }
        command = [sys.executable, "-c", source, *arguments]
        return await trio.lowlevel.open_process(command, env=how["env"], cwd=how.get("cwd"), **wanted)
    process = Forked(*_ask(program, arguments, how))
    with trio.CancelScope(shield=True):  # a moment: else nobody could end it
        await process.has_begun()
    return process


def begin(program: str, *arguments: str, **how: Unpack[How]) -> Beside:
    """Start one of PROGRAMS where no event loop runs; it finds its modules where this process does."""
    process = Beside(*_ask(program, arguments, how))
    process.has_begun()
    return process


def _wanted(how: How) -> tuple[int | None, int | None, int | None]:
    return how.get("stdin"), how.get("stdout"), how.get("stderr")


def _ask(program: str, arguments: Sequence[str], how: How) -> tuple[int, list[int | None]]:
    """Where it will be told how it ended, and our ends of its streams."""
    theirs, ours = _streams(_wanted(how))
    heard, status = os.pipe()
    os.set_blocking(heard, False)
    cwd = str(how.get("cwd") or Path.cwd())
    request = {"program": program, "arguments": arguments, "env": dict(how["env"]), "cwd": cwd}
    try:
        socket.send_fds(_parent(), [json.dumps(request).encode()], [*theirs, status])
    finally:
        for fd in (*theirs, status):
            os.close(fd)
    return heard, ours


def _streams(wanted: Sequence[int | None]) -> tuple[list[int], list[int | None]]:
    """The ends of theirs and of ours."""
    theirs: list[int] = []
    ours: list[int | None] = []
    for number, what in enumerate(wanted):
        if what is None:
            theirs.append(os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY))
            ours.append(None)
            continue
        if what != subprocess.PIPE:
            theirs.append(os.dup(what))
            ours.append(None)
            continue
        reading, writing = os.pipe()
        theirs.append(reading if number == 0 else writing)
        ours.append(writing if number == 0 else reading)
    return theirs, ours


@cache
def _parent() -> socket.socket:
    """Who forks for this process, and ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_REQUEST_BYTES)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
    command = [sys.executable, "-m", "tests.forking", str(theirs.fileno())]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=clean, pass_fds=[theirs.fileno()], stdin=null, stdout=null)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# In the process that forks


def serve(requests: socket.socket) -> None:
    """Fork what is asked for until nobody can ask any more; returns in what was forked, too (`SystemExit`)."""
    for name in (*AHEAD, *(f"triode_broker.cli.{command}" for command in COMMANDS)):
        import_module(name)
    for place in PROGRAMS.values():
        import_module(place.partition(":")[0])
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    children: dict[int, tuple[int, int]] = {}  # by pidfd: pid, status
    while True:
        for fd, _ in poll.poll():
            if fd != requests.fileno():
                poll.unregister(fd)
                _bury(fd, *children.pop(fd))
                continue
            message, fds, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 4)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                requests.close()
                for pidfd, (_, status) in children.items():
                    os.close(pidfd)
                    os.close(status)
                sys.exit(_be(json.loads(message), fds))
            for stream in fds[:3]:
                os.close(stream)
            os.write(fds[3], b"%d\n" % pid)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid, fds[3]
            poll.register(pidfd, select.POLLIN)


def _bury(pidfd: int, pid: int, status: int) -> None:
    _, how = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):  # nobody asks
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(how))
    os.close(status)
    os.close(pidfd)


def _be(request: dict[str, Any], fds: Sequence[int]) -> int:
    """What was asked for, to its end."""
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    for fd in fds:
        os.close(fd)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    random.seed()
    sys.argv = [request["program"], *request["arguments"]]
    module, _, function = PROGRAMS[request["program"]].partition(":")
    code: int = getattr(import_module(module), function)(request["arguments"])
    return code


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        serve(asked)

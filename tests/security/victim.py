"""The broker under attack, as a process of its own, and the healthy client beside it that watches its round trips.

Plain blocking sockets and no task: what a round trip takes is the broker's time and the kernel's.
"""

import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from threading import Condition, Event, Thread
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from attrs import define, field
from triode_broker.edge.frames import extent

from tests import forking
from tests.edge.rig import HANDSHAKE, text

TRIODE: Final = str(Path(sys.executable).with_name("triode"))
PATIENCE_SECONDS: Final = 30.0  # a bound, not a measure
#: Shorter than the defaults, so that the deadlines are seen to act; and bounds that one machine reaches.
LIMITS: Final = {
    "connect_timeout_ms": 1_000,
    "close_timeout_ms": 500,
    "http_body_ms": 1_000,
    "max_handshakes": 500,
    "max_outbox_bytes": 131_072,
}
GROWTH: Final = 1.10  # of memory, from before an attack until it is over


class Victim:
    """`triode serve` on a free port; what it logs is kept."""

    def __init__(
        self, folder: Path, *, files: int = 0, limits: dict[str, int] | None = None, settings: str = ""
    ) -> None:
        """`files`: how many descriptors it may have (RLIMIT_NOFILE). `settings`: more of them, in TOML."""
        config = folder / "victim.toml"
        lines = [f"{name} = {value}" for name, value in (LIMITS | (limits or {})).items()]
        config.write_text("\n".join(["compression = true", settings, "[limits]", *lines, ""]))
        command = [TRIODE, "serve", "--config", str(config), "--listen", "127.0.0.1:0", "--log-format", "json"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean)
        self._lines: list[str] = []
        self._line_came = Condition()
        self._reader = Thread(target=self._read_log)
        self._ready = Event()
        self._reader.start()
        assert self._ready.wait(PATIENCE_SECONDS), self._lines
        (url,) = next(event for event in self.events() if event["event"] == "started")["urls"]
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)
        if files:
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (files, files))

    def _read_log(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            with self._line_came:
                self._lines.append(line)
                self._line_came.notify_all()
            if '"started"' in line:
                self._ready.set()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def memory_bytes(self) -> int:
        """What is its own and no file's."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        return sum(int(found) for found in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)) * 1024

    def health(self) -> dict[str, Any] | None:
        """What it says of itself; None where it has no room to say it."""
        try:
            with urlopen(f"http://{self.host}:{self.port}/healthz", timeout=PATIENCE_SECONDS) as answer:
                health: dict[str, Any] = json.load(answer)
        except (URLError, OSError):
            return None
        return health

    def wait_for(self, connections: int) -> None:
        """Until it has no more than these, the one that asks included."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (health := self.health()) is None or health["connections"] > connections:
            assert self.is_alive
            assert time.monotonic() < deadline, health

    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self._lines]

    def logged(self, name: str) -> dict[str, Any]:
        """The first event of this name; what has just happened may stand in the log a moment later."""

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events() if event["event"] == name), None)

        with self._line_came:
            event = self._line_came.wait_for(found, PATIENCE_SECONDS)
        assert event, self._lines
        return event

    def end(self) -> int:
        """SIGINT; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            assert self._process.stderr
            self._process.stderr.close()


@define
class Healthy:
    """A client that does nothing wrong: it hears what it says, each once and in order, or the test has failed."""

    socket: socket.socket
    said: int = 0
    rest: bytes = b""
    trips: list[float] = field(factory=list)  # seconds, since `begin`

    @classmethod
    def connect(cls, victim: Victim, topic: str = "healthy/echo") -> "Healthy":
        """Connected and subscribed."""
        client = cls(socket.create_connection((victim.host, victim.port), timeout=PATIENCE_SECONDS))
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.socket.sendall(HANDSHAKE)
        while b"\r\n\r\n" not in client.rest:
            client._read()
        assert client.rest.startswith(b"HTTP/1.1 101 "), client.rest
        client.rest = client.rest.partition(b"\r\n\r\n")[2]
        client.send({"type": "connect"}, {"type": "subscribe", "id": 1, "sub": 1, "filter": topic})
        for expected in ("connected", "subscribed"):
            assert client.packet()["type"] == expected
        return client

    def send(self, *packets: dict[str, Any]) -> None:
        """Each as a message of its own."""
        self.socket.sendall(b"".join(text(json.dumps(packet)) for packet in packets))

    def packet(self) -> dict[str, Any]:
        """The next one."""
        while (bounds := extent(self.rest)) is None or sum(bounds) > len(self.rest):
            self._read()
        size = sum(bounds)
        payload, self.rest = self.rest[bounds.header_bytes : size], self.rest[size:]
        packet: dict[str, Any] = json.loads(payload)
        return packet

    def _read(self) -> None:
        data = self.socket.recv(65_536)
        assert data, "the healthy client was disconnected"
        self.rest += data

    def begin(self) -> None:
        """Forget the round trips so far."""
        self.trips = []

    def round_trips(self, count: int) -> None:
        """Say so often the next number, and hear it."""
        for _ in range(count):
            self.said += 1
            began = time.perf_counter()
            self.send({"type": "publish", "topic": "healthy/echo", "data": self.said})
            packet = self.packet()
            while packet["type"] == "ping":
                packet = self.packet()
            self.trips.append(time.perf_counter() - began)
            assert (packet["type"], packet["data"]) == ("message", self.said), packet

    def percentile(self, share: float) -> float:
        """Of the round trips, in ms."""
        return sorted(self.trips)[min(int(len(self.trips) * share), len(self.trips) - 1)] * 1000


def flood(victim: Victim, count: int, *, size: int = 1_000) -> None:
    """Publish so much on the topic that those who never read have subscribed to."""
    publisher = Healthy.connect(victim, "healthy/nothing")
    packet = {"type": "publish", "topic": "flood/news", "data": "x" * size}
    for _ in range(count // 100):
        publisher.send(*[packet] * 99, {**packet, "id": 2})
        assert publisher.packet()["type"] == "published"
    publisher.socket.close()


class Attacking:
    """One attack under way, in a process of its own."""

    def __init__(self, process: forking.Beside) -> None:
        self._process = process

    @property
    def is_done(self) -> bool:
        """Whether its connections have done what they can."""
        return self.is_done_within(0)

    def is_done_within(self, seconds: float) -> bool:
        """The same, or so in a moment: for those who need not be busy until then."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def ends(self) -> dict[str, int]:
        """How they ended."""
        assert self._process.stdout
        ends: dict[str, int] = json.loads(self._process.stdout.readline())
        return ends


@contextmanager
def attacked(victim: Victim, name: str, rounds: int = 0) -> Iterator[Attacking]:
    """The attack begins, and is over behind the block."""
    more = [str(rounds)] if rounds else []
    place = f"{victim.host}:{victim.port}"
    process = forking.begin("attackers", name, place, *more, env=os.environ, stdin=PIPE, stdout=PIPE)
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "begun\n"
        yield Attacking(process)
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()

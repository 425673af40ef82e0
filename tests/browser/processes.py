"""The broker and the command line as processes of their own, as users run them.

Nothing here looks inside: what is known of a process is what it prints and its exit code. They are forked
(tests/forking.py), because there are many of them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from tests import forking

TRIODE: Final = str(Path(sys.executable).with_name("triode"))
END_SECONDS: Final = 20.0  # a bound, not a measure
STDERR: Final = 2  # of this process: what went wrong is shown with the test


class Broker:
    """`triode serve --demo` on a port that stays the same over its lives; its log goes to a file.

    `limits` are those of the configuration; topics under `disk/` are on disk, beside the log.
    """

    def __init__(self, log: Path, **limits: int) -> None:
        self._log = log
        self._config = log.with_suffix(".toml")
        settings = "".join(f"{name} = {value}\n" for name, value in limits.items())
        topics = '[[topics]]\nfilter = "disk/#"\nstorage = "disk"\n'
        self._config.write_text(f"data = '{log.with_suffix('.data')}'\n[limits]\n{settings}{topics}")
        self._listen = "127.0.0.1:0"
        self._process: forking.Beside | None = None
        self.url = ""

    @property
    def socket_url(self) -> str:
        """Where programs connect."""
        return self.url.replace("http", "ws", 1) + "/ws"

    @property
    def port(self) -> int:
        """Of all its lives."""
        return int(self._listen.rpartition(":")[2])

    def start(self) -> None:
        """Start it and wait until it says that it is up."""
        command = ["serve", "--demo"]
        command += (
            [] if "TRIODE_CONFIG" in os.environ else ["--config", str(self._config)]
        )  # a test's own goes first
        command += ["--listen", self._listen, "--log-format", "json"]
        with self._log.open("a") as log:
            self._process = forking.begin("triode", *command, env=os.environ, stdout=-1, stderr=log.fileno())
        assert self._process.stdout
        for line in self._process.stdout:
            if found := re.search(r"open +(http://(\S+:\d+))/", line):
                self.url, self._listen = found[1], found[2]
                return
        raise AssertionError(f"triode serve ended: {self._log.read_text()}")

    def health(self) -> dict[str, Any]:
        """What it says of itself."""
        with urlopen(self.url + "/healthz") as answer:
            health: dict[str, Any] = json.load(answer)
        return health

    def clients(self) -> int:
        """How many are connected, besides the demo's own."""
        return int(self.health()["sessions"]) - 1

    def wait_for_clients(self, count: int) -> None:
        """Until so many are connected: it learns of an end a moment after the client."""
        deadline = time.monotonic() + END_SECONDS
        while (clients := self.clients()) != count:
            assert time.monotonic() < deadline, clients

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        assert self._process
        self._process.kill()
        self._process.wait(END_SECONDS)
        self._close()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(END_SECONDS)
        self._close()
        return code

    def _close(self) -> None:
        assert self._process
        assert self._process.stdout
        self._process.stdout.close()
        self._process = None

    def end(self) -> None:
        """Whatever its state, it is gone afterwards."""
        if self._process is not None:
            self.kill()


@contextmanager
def follow(file: Path, broker: Broker, topic: str) -> Iterator[None]:
    """`tail -f FILE | triode pub TOPIC -`, from the file's first line on, until the end of the block."""
    tail = subprocess.Popen(["tail", "-n", "+1", "-f", str(file)], stdout=subprocess.PIPE)
    assert tail.stdout
    command = ["pub", topic, "-", "--url", broker.socket_url]
    pub = forking.begin("triode", *command, env=os.environ, stdin=tail.stdout.fileno(), stderr=STDERR)
    tail.stdout.close()
    try:
        yield
    finally:
        tail.kill()
        tail.wait(END_SECONDS)
        try:
            assert pub.wait(END_SECONDS) == 0
        finally:
            pub.kill()


def publish_lines(broker: Broker, topic: str, lines: Sequence[str]) -> None:
    """`triode pub TOPIC -`: every line is acknowledged by the broker when this returns."""
    _publish(broker, topic, "-", lines=lines)


def publish_json(broker: Broker, topic: str, text: str) -> None:
    """`triode pub TOPIC TEXT --json`."""
    _publish(broker, topic, text, "--json")


def _publish(broker: Broker, *arguments: str, lines: Sequence[str] = ()) -> None:
    command = ["pub", *arguments, "--url", broker.socket_url]
    pub = forking.begin("triode", *command, env=os.environ, stdin=-1, stderr=STDERR)
    try:
        assert pub.stdin
        with pub.stdin as stdin:
            stdin.writelines(f"{line}\n" for line in lines)
        assert pub.wait(END_SECONDS) == 0
    finally:
        pub.kill()

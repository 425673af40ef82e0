"""The programs of docs/examples as processes, and the broker that they all use.

What is known of a program is what it prints, what it publishes and its exit code. Nothing waits by the clock: a
test waits for a line, a message or an end, and fails when it does not come in PATIENCE_SECONDS.
"""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio
import triode

from tests.browser.processes import TRIODE
from tests.house.tree import ROOT

EXAMPLES: Final = ROOT / "docs" / "examples"
CONFIG: Final = EXAMPLES / "triode.toml"
PATIENCE_SECONDS: Final = 30.0  # a bound, not a measure


class Broker:
    """`triode serve` with a configuration file, its data in a folder, on one port over all its lives.

    With `--demo`, because then it prints where it is.
    """

    def __init__(self, config: Path, folder: Path, **limits: int) -> None:
        self.data = folder / "data"
        self._config = config
        self._log = folder / "broker.log"
        self._listen = "127.0.0.1:0"
        self._limits = {f"TRIODE_LIMITS_{name.upper()}": str(value) for name, value in limits.items()}
        self._process: subprocess.Popen[str] | None = None

    @property
    def socket_url(self) -> str:
        """Where programs connect."""
        return f"ws://{self._listen}/ws"

    def start(self) -> None:
        """Start it and wait until it says that it is up."""
        command = [TRIODE, "serve", "--demo", "--config", str(self._config), "--data", str(self.data)]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--listen", self._listen],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | self._limits,
            )
        assert self._process.stdout
        for line in self._process.stdout:
            if found := re.search(r"open +http://(\S+:\d+)/", line):
                self._listen = found[1]
                return
        raise AssertionError(f"triode serve ended: {self._log.read_text()}")

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush. It may have ended already."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def broker_of(config: Path, folder: Path, **limits: int) -> Iterator[Broker]:
    """It runs, and whatever becomes of it meanwhile, it is gone afterwards. Its clients come back quickly."""
    broker = Broker(config, folder, reconnect_min_ms=5, reconnect_max_ms=50, **limits)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Program:
    """A process whose lines are read one by one."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._heard = b""

    async def line(self) -> str:
        """The next line of its output; fails at the output's end."""
        with trio.fail_after(PATIENCE_SECONDS):
            while b"\n" not in self._heard:
                assert self.process.stdout
                more = await self.process.stdout.receive_some()
                assert more, f"it ended after {self._heard!r}"
                self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    async def rest(self) -> str:
        """Its output until it ends: for a test that fails."""
        assert self.process.stdout
        while more := await self.process.stdout.receive_some():
            self._heard += more
        return self._heard.decode()

    async def until(self, is_it: Callable[[str], bool]) -> str:
        """The next line that is the one."""
        while not is_it(line := await self.line()):
            pass
        return line

    async def enter(self, *lines: str) -> None:
        """Lines of its input."""
        assert self.process.stdin
        await self.process.stdin.send_all("".join(f"{line}\n" for line in lines).encode())

    async def end_of_input(self) -> None:
        """No more lines; the process ends well."""
        assert self.process.stdin
        await self.process.stdin.aclose()
        await self.ends()

    async def ends(self, code: int = 0) -> None:
        """Wait for its end."""
        with trio.fail_after(PATIENCE_SECONDS):
            assert await self.process.wait() == code

    async def dies(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def running(
    *command: str, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """A command while it runs, in a folder. Its output and its errors are one stream. It is gone at the end."""
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield Program(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
                await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()


@asynccontextmanager
async def program(*command: object, environment: Mapping[str, str] | None = None) -> AsyncIterator[Program]:
    """A Python program and its arguments (a file of docs/examples, or `-m` and a module) while it runs."""
    words = [str(EXAMPLES / str(word)) if str(word).endswith(".py") else str(word) for word in command]
    async with running(sys.executable, "-u", *words, environment=environment) as process:
        yield process


def says(*what: str) -> Callable[[str], bool]:
    """Of a line: it has all of that in it."""
    return lambda line: all(part in line for part in what)


async def next_of(messages: triode.Messages, is_it: Callable[[triode.Message], bool]) -> triode.Message:
    """The next message that is the one."""
    with trio.fail_after(PATIENCE_SECONDS):
        async for message in messages:
            if is_it(message):
                return message
    raise AssertionError("unreachable: a subscription goes on")


async def received(messages: triode.Messages, count: int) -> list[triode.Message]:
    """The next so many."""
    with trio.fail_after(PATIENCE_SECONDS):
        return [await anext(messages) for _ in range(count)]

"""The broker under test: a real process at an address of its own in each life, always on the same data.

Knows how to start it, kill it and see it end; not why. Its own log is read only for the address, and kept for the
explanation of a failure.
"""

import json
import os
import signal
from collections import deque
from pathlib import Path

import trio
from attrs import define, field

from tests import forking
from tests.crash.line import PATIENCE_SECONDS
from tests.history.events import Recorder


class Stuck(Exception):
    """The run cannot go on, and that is the broker's fault."""


class Bell:
    """Wakes everybody who waits for something to have happened."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Something has."""
        if self._event.statistics().tasks_waiting:
            self._event.set()
            self._event = trio.Event()

    async def wait(self) -> None:
        """For the next time."""
        await self._event.wait()


@define
class BrokerProcess:
    """One life at a time."""

    recorder: Recorder
    bell: Bell
    config: Path
    flags: tuple[str, ...] = ()
    plant: str = ""
    frames: int = 0  # pages of the write-ahead log between two checkpoints; 0: as the product has it
    url: str = ""  # while it serves
    life: int = 0
    is_running: bool = False
    reached: list[str] = field(factory=list)  # the points at which it killed itself
    said: deque[str] = field(factory=lambda: deque(maxlen=200))
    _process: forking.Forked | trio.Process | None = None
    _was_killed: bool = False  # by us: it did not do it itself

    async def run(self, point: str, task_status: trio.TaskStatus[None]) -> None:
        """One life, from its start to its end; `point`: where it is to kill itself, and at which passage."""
        self.life += 1
        self.is_running = True
        self._was_killed = False
        self.recorder.note("start", "broker", life=self.life, point=point)
        command = ["--plant", self.plant] if self.plant else []
        command += ["--kill", point] if point else []
        command += ["--frames", str(self.frames)] if self.frames else []
        command += ["--", "serve", "--config", str(self.config), *self.flags]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
        environ = clean | {"TRIODE_LOG_FORMAT": "json"}
        process = await forking.start("broker_process", *command, stderr=-1, env=environ)
        self._process = process
        task_status.started()
        try:
            await self._listen(process)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                assert process.stderr is not None
                await process.stderr.aclose()
        self.url = ""
        self.is_running = False
        if process.returncode == -signal.SIGKILL and not self._was_killed:
            self.reached.append(point.partition(":")[0])
            self.recorder.note("kill", "broker", point=point)
        self.recorder.note("ended", "broker", code=process.returncode)
        if process.returncode != -signal.SIGKILL:
            raise Stuck(f"the broker ended by itself with {process.returncode}")

    async def _listen(self, process: forking.Forked | trio.Process) -> None:
        """Until it has closed its stderr, which is when it is gone."""
        assert process.stderr is not None
        rest = b""
        async for piece in process.stderr:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self.said.append(line.decode())
                if b'"started"' in line:
                    self.url = json.loads(line)["urls"][0]
                    self.recorder.note("up", "broker", url=self.url)

    def kill(self) -> None:
        """As the kernel does it when memory is short: no warning, no cleaning up."""
        if self._process is not None and self._process.returncode is None:
            self.recorder.note("kill", "broker")
            self._was_killed = True
            self.url = ""
            self._process.kill()

    async def address(self, old: str = "") -> str:
        """Where it serves, once it does, and not at `old`."""
        while not self.url or self.url == old:
            await self.bell.wait()
        return self.url

    async def gone(self, url: str) -> None:
        """It serves there no longer."""
        while self.url == url:
            await self.bell.wait()

    async def ended(self) -> None:
        """Its life is over."""
        with trio.fail_after(PATIENCE_SECONDS):
            while self.is_running:
                await self.bell.wait()

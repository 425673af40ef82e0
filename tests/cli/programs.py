"""A broker in the test's nursery, at one address through all restarts, and `triode` as a process beside it."""

import os
from collections.abc import Iterable
from signal import Signals
from types import TracebackType
from typing import Any, Self

import msgspec
import trio
from attrs import define, field
from triode_broker.config import Config
from triode_broker.logs import make_logger
from triode_broker.server import serve

from tests import forking

PATIENCE_SECONDS = 30  # how long a test waits for what should come at once, on the busiest machine


@define
class BrokerAt:
    """One broker at a time, at one address."""

    nursery: trio.Nursery
    settings: dict[str, Any] = field(factory=dict)
    url: str = ""
    _listen: str = "127.0.0.1:0"
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _ended: trio.Event = field(factory=trio.Event)

    async def start(self) -> None:
        """Serve; from the second time on at the address of the first."""
        config = msgspec.convert({"listen": self._listen, "log_level": "error", **self.settings}, Config)
        (base,) = await self.nursery.start(self._serve, config)
        self._listen = base.removeprefix("http://")
        self.url = f"ws://{self._listen}/ws"

    async def _serve(self, config: Config, task_status: trio.TaskStatus[list[str]]) -> None:
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        try:
            with self._scope:
                await serve(config, log=make_logger(config), task_status=task_status)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """End in good order; what was in memory is gone."""
        self._scope.cancel()
        await self._ended.wait()


class Triode:
    """`triode` with some arguments, as a process: `async with Triode(…) as program`; killed at the end."""

    def __init__(self, *arguments: str, url: str = "", environ: dict[str, str] | None = None) -> None:
        self._arguments = arguments
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
        self._environ = {**clean, **({"TRIODE_URL": url} if url else {}), **(environ or {})}

    async def __aenter__(self) -> Self:
        pipes: dict[str, Any] = {"stdin": -1, "stdout": -1, "stderr": -1}
        self._process = await forking.start("triode", *self._arguments, env=self._environ, **pipes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            await trio.aclose_forcefully(stream)

    async def write(self, data: bytes) -> None:
        """To its stdin."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(data)

    async def end_input(self) -> None:
        """Its stdin is over."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    def output(self) -> "Lines":
        """Its stdout, line by line. To be asked for once."""
        assert self._process.stdout is not None
        return Lines(self._process.stdout)

    def errors(self) -> "Lines":
        """Its stderr, line by line. To be asked for once."""
        assert self._process.stderr is not None
        return Lines(self._process.stderr)

    def signal(self, number: Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def stop_reading(self) -> None:
        """Close the reading end of its stdout, as `| head` does."""
        assert self._process.stdout is not None
        await self._process.stdout.aclose()

    async def code(self) -> int:
        """Its exit code, once it has ended."""
        with trio.fail_after(PATIENCE_SECONDS):
            return await self._process.wait()


class Lines:
    """The lines of a stream, one after the other."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._rest = b""

    async def next(self) -> str:
        """The next line; fails the test if none comes."""
        with trio.fail_after(PATIENCE_SECONDS):
            while b"\n" not in self._rest:
                piece = await self._stream.receive_some()
                assert piece, f"no further line; rest: {self._rest!r}"
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    async def take(self, count: int) -> list[str]:
        """The next lines."""
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[str]:
        """All further lines, until the stream's end."""
        with trio.fail_after(PATIENCE_SECONDS):
            async for piece in self._stream:
                self._rest += piece
        said, self._rest = self._rest.decode().splitlines(), b""
        return said

    async def until(self, words: str) -> str:
        """The next line that has these words in it."""
        while True:
            line = await self.next()
            if words in line:
                return line


@define
class Ended:
    """How a program ended, and all that it said."""

    code: int
    output: str
    errors: str


async def run(
    *arguments: str, url: str = "", stdin: Iterable[bytes] = (), environ: dict[str, str] | None = None
) -> Ended:
    """Run `triode` to its end."""
    async with Triode(*arguments, url=url, environ=environ) as program:
        said: dict[str, bytes] = {}

        async def listen(name: str, stream: trio.abc.ReceiveStream | None) -> None:
            assert stream is not None
            said[name] = b"".join([piece async for piece in stream])

        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, "output", program._process.stdout)
                nursery.start_soon(listen, "errors", program._process.stderr)
                for piece in stdin:
                    await program.write(piece)
                await program.end_input()
        return Ended(await program.code(), said["output"].decode(), said["errors"].decode())

"""An adapter's process: commands in, reports out, and the order in which they are looked at.

Knows processes and lines, no scenario. The surprising decision: reports are kept in streams, one for each
subscription, each `ref` and each other kind. Between streams there is no order that a client owes its program.
"""

import contextlib
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from triode_broker.conformance.lines import ADAPTER_PROTOCOL, FEATURES, command_line, is_optional, read_report
from triode_broker.conformance.patterns import Captures, mismatch

_MAX_LINE_BYTES: Final = 4_194_304
_ERROR_BYTES: Final = 8_192  # the end of what it wrote to stderr, for the one who wrote it
_ERROR_LINES: Final = 20
_END_SECONDS: Final = 2.0

Reported = dict[str, Any]


class AdapterFailed(Exception):
    """The adapter is no adapter: it has not started, ended, or said what is no report."""

    last_lines: tuple[str, ...] = ()  # what it wrote to stderr, as it wrote it


class Adapter:
    """One process for many scenarios, one after the other."""

    def __init__(self, process: trio.Process, news: trio.lowlevel.ParkingLot) -> None:
        self.news = news
        self.lacks: frozenset[str] = frozenset()
        self.client = ""
        self.trouble = ""  # why it cannot go on
        self._process = process
        self._streams: dict[tuple[str, str], deque[Reported]] = {}
        self._errors = b""
        self._has_said_all = trio.Event()  # on stderr
        self._has_ended = trio.Event()  # `trouble` tells

    # The process

    async def greet(self) -> None:
        """Say hello and hear what it lacks. Raises AdapterFailed."""
        await self.tell({"command": "hello", "version": ADAPTER_PROTOCOL})
        said = await self.hear({"event": "hello"}, {})
        if said["version"] != ADAPTER_PROTOCOL:
            raise AdapterFailed(f"it speaks version {said['version']} of the adapter protocol")
        unknown = set(said.get("lacks", ())) - FEATURES.keys()
        if unknown:
            raise AdapterFailed(f"it lacks what nobody knows: {', '.join(sorted(unknown))}")
        self.lacks = frozenset(said.get("lacks", ()))
        self.client = said["client"]

    async def tell(self, command: dict[str, Any]) -> None:
        """Give a command. Raises ValueError for what is none, and AdapterFailed."""
        line = command_line(command)
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            with trio.move_on_after(_END_SECONDS):
                await self._has_ended.wait()
            raise AdapterFailed(self.trouble or "it does not read its commands any more") from error

    async def read(self) -> None:
        """Take in its reports until it ends."""
        assert self._process.stdout is not None
        buffered = b""
        async for data in self._process.stdout:
            *lines, buffered = (buffered + data).split(b"\n")
            for line in filter(None, map(bytes.strip, lines)):
                self._take(line)
            if len(buffered) > _MAX_LINE_BYTES:
                self.trouble = self.trouble or "it wrote a line without end"
            self.news.unpark_all()
        with trio.move_on_after(_END_SECONDS):
            await self._process.wait()
            await self._has_said_all.wait()  # who looks for the reason looks there, too
        self.trouble = self.trouble or f"it has ended (exit code {self._process.returncode})"
        self._has_ended.set()
        self.news.unpark_all()

    async def read_errors(self) -> None:
        """Keep the end of what it writes to stderr."""
        assert self._process.stderr is not None
        async for data in self._process.stderr:
            self._errors = (self._errors + data)[-_ERROR_BYTES:]
        self._has_said_all.set()

    async def stop(self) -> None:
        """End the process: by the end of its input, and where that does not help, by force."""
        process = self._process
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            with trio.move_on_after(_END_SECONDS):
                await process.wait()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    @property
    def errors(self) -> str:
        """The end of what it wrote to stderr."""
        return self._errors.decode("utf-8", "replace")

    async def last_lines(self) -> tuple[str, ...]:
        """Of stderr, once it has been stopped; what it has started may hold that open, and is not waited for."""
        with trio.move_on_after(_END_SECONDS):
            await self._has_said_all.wait()
        return tuple(self.errors.strip().splitlines()[-_ERROR_LINES:])

    def _take(self, line: bytes) -> None:
        try:
            report = read_report(line)
        except ValueError as error:
            self.trouble = self.trouble or f"{error}: {line[:200].decode('utf-8', 'replace')}"
            return
        if report["event"] == "wrong":
            self.trouble = self.trouble or report["message"]
        self._streams.setdefault(_stream(report), deque()).append(report)

    # Its reports

    async def hear(
        self, pattern: dict[str, Any], captures: Captures, check: Callable[[], None] = lambda: None
    ) -> Reported:
        """The next report of the stream that the pattern names. `check` raises where waiting is in vain.

        Raises AdapterFailed, and Unexpected for another report.
        """
        stream = _stream(pattern)
        while True:
            waiting = self._streams.get(stream, deque())
            while waiting:
                report = waiting.popleft()
                problem = mismatch(pattern, report, captures)
                if problem is None:
                    return report
                if not is_optional(report):
                    raise Unexpected(report, problem)
            check()
            if self.trouble:
                raise AdapterFailed(self.trouble)
            await self.news.park()

    def left_over(self) -> list[Reported]:
        """Reports that nobody asked for and that are not optional."""
        return [report for waiting in self._streams.values() for report in waiting if not is_optional(report)]

    def all_reports(self) -> list[Reported]:
        """All that nobody has asked for."""
        return [report for waiting in self._streams.values() for report in waiting]

    async def reset(self) -> None:
        """End a scenario. Raises AdapterFailed."""
        if self.trouble:
            raise AdapterFailed(self.trouble)
        await self.tell({"command": "reset"})
        while not self._streams.get(("", "reset")):
            if self.trouble:
                raise AdapterFailed(self.trouble)
            await self.news.park()
        self._streams.clear()


class Unexpected(Exception):
    """Another report came than the one that was waited for."""

    def __init__(self, report: Reported, problem: str) -> None:
        super().__init__(problem)
        self.report = report


def _stream(report: dict[str, Any]) -> tuple[str, str]:
    if "subscription" in report and report["event"] != "position":
        return "subscription", report["subscription"]
    if "ref" in report:
        return "ref", report["ref"]
    return "", report["event"]


async def start(command: Sequence[str], news: trio.lowlevel.ParkingLot, nursery: trio.Nursery) -> Adapter:
    """Start an adapter; greet it next. Raises AdapterFailed. The caller calls `stop`."""
    try:
        process = await trio.lowlevel.open_process(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise AdapterFailed(f"{command[0]}: {error.strerror or error}") from error
    adapter = Adapter(process, news)
    nursery.start_soon(adapter.read)
    nursery.start_soon(adapter.read_errors)
    return adapter

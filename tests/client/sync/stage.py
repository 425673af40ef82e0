"""What blocking tests stand on: brokers that run in a thread of their own, and programs that run as processes."""

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import trio
from trio.lowlevel import TrioToken

from tests.client.broker import Scene, playing
from tests.client.line import cuttable_line

PATIENCE_SECONDS: Final = 60.0

Value = TypeVar("Value")


@contextmanager
def in_a_thread(make: Callable[[], AbstractAsyncContextManager[Value]]) -> Iterator[Value]:
    """An async context manager, entered and left on a trio loop beside the test. Its errors are the test's."""
    entered: SimpleQueue[tuple[Value, trio.Event, TrioToken] | None] = SimpleQueue()
    errors: list[BaseException] = []

    async def stay() -> None:
        async with make() as value:
            leave = trio.Event()
            entered.put((value, leave, trio.lowlevel.current_trio_token()))
            await leave.wait()

    def run() -> None:
        try:
            trio.run(stay)
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)
            entered.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    begun = entered.get(timeout=PATIENCE_SECONDS)
    if begun is None:
        raise errors[0]
    value, leave, token = begun
    try:
        yield value
    finally:
        if thread.is_alive():
            with suppress(trio.RunFinishedError):  # it has failed; see `errors`
                token.run_sync_soon(leave.set)
            thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@contextmanager
def stage(*scenes: Scene) -> Iterator[str]:
    """The URL of a scripted broker; all of its scenes must be played."""
    with in_a_thread(lambda: playing(*scenes)) as url:
        yield url


@contextmanager
def cuttable(port: int) -> Iterator[tuple[Callable[[], None], str]]:
    """A line to the broker at `port`: what cuts it, and the URL to dial."""

    @asynccontextmanager
    async def line() -> AsyncIterator[tuple[Callable[[], None], str]]:
        async with cuttable_line(port) as (line, url):
            token = trio.lowlevel.current_trio_token()
            yield lambda: trio.from_thread.run_sync(line.cut, trio_token=token), url

    with in_a_thread(line) as found:
        yield found


@contextmanager
def threads(*functions: Callable[[], object]) -> Iterator[None]:
    """Run these beside the block; they must all have returned at its end. Their errors are the test's."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    running = [threading.Thread(target=guarded, args=[each], daemon=True) for each in functions]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join(PATIENCE_SECONDS)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in running)


def program(source: str, *arguments: str) -> subprocess.Popen[str]:
    """Python code as a process. What it writes to stderr, beside what a test expects, is a complaint."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def played(source: str, *arguments: str) -> list[str]:
    """The lines that a program prints; it must end well and without complaint."""
    process = program(source, *arguments)
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, ""), err
    return out.splitlines()


def data(messages: Any, count: int) -> list[Any]:
    """The payloads of so many messages."""
    return [messages.get(timeout=PATIENCE_SECONDS).data for _ in range(count)]

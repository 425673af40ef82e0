"""What the client asks of an event loop: the seam between its one `async def` code and trio or asyncio.

Knows neither of them; `trio_runtime` and `asyncio_runtime` do, each natively. The surprising decision: there is no
exception of a loop in here. What must happen when a task is cancelled stands in `finally`, which both have.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from math import inf
from ssl import SSLContext
from types import TracebackType
from typing import Any, Protocol, Self


class Lot(Protocol):
    """Where tasks wait until something has changed. All are woken, and each looks for itself."""

    async def park(self) -> None:
        """Wait for the next `unpark_all`."""

    def unpark_all(self) -> object:
        """Wake all who wait. No checkpoint."""

    def __bool__(self) -> bool:
        """Whether anybody waits."""


class Event(Protocol):
    """Something that happens once."""

    def set(self) -> None:
        """It has happened. No checkpoint."""

    async def wait(self) -> object:
        """Until it has happened."""


class Scope(Protocol):
    """A block that ends early, and without an error, when its deadline comes or somebody cancels it.

    Both calls do nothing before the block is entered and after it was left.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool: ...

    def move_to(self, deadline: float) -> None:
        """End it at that time instead."""

    def cancel(self) -> None:
        """End it now."""


class Tasks(Protocol):
    """Tasks that end before whoever started them does. One of them that fails is a bug, raised by `join`."""

    async def open(self) -> None:
        """Once, before all else."""

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Begin one."""

    def cancel(self) -> None:
        """End all of them."""

    async def join(self) -> None:
        """Wait until all have ended. Who is cancelled meanwhile cancels them, and still waits."""


class Transport(Protocol):
    """An open WebSocket. One task may receive, one may send."""

    async def receive(self) -> str | bytes:
        """The next message. Raises TransportEnded."""

    async def send(self, text: str) -> None:
        """Write one text message. Cancelled midway, all that is left is to leave. Raises TransportEnded."""

    async def close(self, seconds: float) -> None:
        """Say goodbye behind what is being sent; drop the connection when the peer does not answer in time."""


class TransportEnded(Exception):
    """The WebSocket is over: its close code (1006 = it just ended) and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class HandshakeRefused(Exception):
    """An HTTP answer in the WebSocket's place, and the pause that it asked for, or 0 (SPEC 1.1)."""

    def __init__(self, status: int, after_ms: int) -> None:
        super().__init__(f"the broker answered the WebSocket handshake with HTTP {status}")
        self.after_ms = after_ms


class Runtime(Protocol):
    """One event loop's way of doing these. Without state, so that clients can be made before there is a loop."""

    def now(self) -> float:
        """Seconds of the loop's clock."""

    async def checkpoint(self) -> None:
        """Let others run, and be cancelled."""

    def lot(self) -> Lot:
        """A new one."""

    def event(self) -> Event:
        """A new one."""

    def scope(self, deadline: float = inf) -> Scope:
        """A new one."""

    def tasks(self) -> Tasks:
        """A new one."""

    def open_transport(
        self, url: str, max_receive_bytes: int, ssl_context: SSLContext | None
    ) -> AbstractAsyncContextManager[Transport]:
        """Dial `url`, in the form that `backoff.websocket_url` gives it. The caller bounds the time.

        Any Exception, or a group of them, may come out: what a peer sends during the handshake makes the libraries
        underneath raise more than they document. On leaving, the connection is gone, whatever state it was in.
        """


_RETRY_DIGITS = 9  # of what may be any number


def asked_ms(retry_after: str) -> int:
    """The pause that `Retry-After: SECONDS` asks for; 0 for its other form, and for what is neither."""
    is_number = retry_after.isascii() and retry_after.isdigit()
    return int(retry_after[:_RETRY_DIGITS]) * 1000 if is_number else 0

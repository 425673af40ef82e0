"""The asyncio face of the client: all that `import triode` offers, on asyncio (the extra `asyncio`, or `server`).

    async with triode.asyncio.connect("ws://127.0.0.1:7400") as client:
        await client.publish("rooms/42/chat", {"text": "hello"})

Knows which runtime it is; all else is the same code, and the same records and errors, as in the other faces. The
surprising decision: its client can do without `async with`, because web frameworks begin and end in different
tasks.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Self

from triode import (
    BadTopic,
    CaughtUp,
    Complaint,
    ConnectionClosed,
    ConnectionRefused,
    Deliveries,
    Delivery,
    DeliveryLost,
    DeliveryRefused,
    Draft,
    Event,
    Events,
    Expired,
    Gap,
    HandshakesRefused,
    HeldBack,
    HistoryPage,
    HistoryRefused,
    Hop,
    Item,
    Joined,
    Left,
    Member,
    Message,
    Messages,
    Notice,
    OutcomeUnknown,
    Position,
    Presence,
    PresenceRefused,
    Published,
    PublishManyFailed,
    PublishRefused,
    QueueFull,
    Raw,
    Receipt,
    Refused,
    State,
    StateChanged,
    SubscriptionEnded,
    Traced,
    TriodeError,
)

try:
    from triode.asyncio_runtime import AsyncioRuntime
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("triode.asyncio needs websockets: pip install 'triode[asyncio]'") from error
from triode.client import Client as _Client
from triode.composing import Encode
from triode.driver import Token
from triode.options import Options
from triode.will import Will

__all__ = [
    "BadTopic",
    "CaughtUp",
    "Client",
    "Complaint",
    "ConnectionClosed",
    "ConnectionRefused",
    "Deliveries",
    "Delivery",
    "DeliveryLost",
    "DeliveryRefused",
    "Draft",
    "Event",
    "Events",
    "Expired",
    "Gap",
    "HandshakesRefused",
    "HeldBack",
    "HistoryPage",
    "HistoryRefused",
    "Hop",
    "Item",
    "Joined",
    "Left",
    "Member",
    "Message",
    "Messages",
    "Notice",
    "Options",
    "OutcomeUnknown",
    "Position",
    "Presence",
    "PresenceRefused",
    "PublishManyFailed",
    "PublishRefused",
    "Published",
    "QueueFull",
    "Raw",
    "Receipt",
    "Refused",
    "State",
    "StateChanged",
    "SubscriptionEnded",
    "Traced",
    "TriodeError",
    "Will",
    "connect",
]


class Client(_Client):
    """As `triode.Client`, and without a block: `await client.open()`, and `await client.aclose()` at the end."""

    async def open(self) -> Self:
        """What entering the block does; raises the same. trio has no such thing: tasks live in blocks there."""
        return await self.__aenter__()

    async def aclose(self) -> None:
        """What leaving the block does. Any number of times, and from any task; cancelled, it closes at once."""
        await self.__aexit__(None, None, None)


def connect(
    url: str | Iterable[str],
    *,
    token: Token = "",
    name: str = "",
    wait_seconds: float = 30.0,
    ssl_context: ssl.SSLContext | None = None,
    will: Will | None = None,
    encode: Encode | None = None,
    **limits: float,
) -> Client:
    """A client on the event loop of asyncio that it is entered in; everything else is as in `triode.connect`."""
    options = Options(**limits)  # type: ignore[arg-type]  # counts given as int arrive as int
    asked = token if isinstance(token, str) else _told_apart(token)
    return Client(AsyncioRuntime(), url, asked, name, wait_seconds, ssl_context, options, will, encode)


def _told_apart(token: Callable[[], Awaitable[str]]) -> Token:
    """A function that waits for a task which somebody cancels has failed; nobody has cancelled the client."""

    async def fetch() -> str:
        try:
            return await token()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("the function that fetches a token was cancelled") from None

    return fetch

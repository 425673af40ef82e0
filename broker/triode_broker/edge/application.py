"""What the edge asks of others: an application per WebSocket connection, and routes for plain HTTP.

Interfaces live with their consumer; the broker's application is `core.session.Session`, the conformance tests put
an echo in its place. The one surprise: an application is called and never calls back; it answers by putting bytes
into the outbox it was made with, and ends its connection through `outbox.connection.close`.
"""

from collections.abc import Callable
from typing import Protocol

from triode_broker.core.outbox import Outbox


class Application(Protocol):
    """One WebSocket connection's other half. Calls run to their end; none may block.

    Every call but `detach` may raise `core.errors.Disconnect` to end the connection with a code; any other
    exception is a bug: it is logged once, and this connection closes with 4101.
    """

    @property
    def is_connected(self) -> bool:
        """Whether the client has introduced itself; until then its time and its bytes are short."""

    def receive_text(self, text: str, now_ms: int) -> None:
        """A whole text message. Not called while the outbox is over its bound (G6)."""

    def receive_binary(self, data: bytes, now_ms: int) -> None:
        """A whole binary message."""

    def room(self, now_ms: int) -> None:
        """The outbox `wants_room` and has drained to half; called until it wants none any more, once per turn.

        Noticed after a write of this outbox: whoever sets `wants_room` puts something, or knows that some waits.
        """

    def keepalive(self, now_ms: int) -> None:
        """Every `ping_ms`: time to put a ping."""

    def detach(self) -> None:
        """The connection takes no more output. Called exactly once, also when the edge itself ends."""


#: Makes the application of a connection that was just upgraded.
Accept = Callable[[Outbox], Application]

#: request target, query included → status, content type, body. Serves GET and HEAD.
Route = Callable[[str], tuple[int, str, bytes]]


class Nobody:
    """The application of a connection that has none, not yet or no more."""

    is_connected = False

    def receive_text(self, text: str, now_ms: int) -> None:
        """Nobody listens."""

    def receive_binary(self, data: bytes, now_ms: int) -> None:
        """Nobody listens."""

    def room(self, now_ms: int) -> None:
        """Nobody has more to say."""

    def keepalive(self, now_ms: int) -> None:
        """Nobody needs to be kept alive."""

    def detach(self) -> None:
        """Nobody leaves."""

"""What the edge asks of others: an application per WebSocket connection, routes and services for plain HTTP.

Interfaces live with their consumer; the broker's application is `core.session.Session`, the conformance tests put
an echo in its place. The one surprise: an application is called and never calls back; it answers by putting bytes
into the outbox it was made with, and ends its connection through `outbox.connection.close`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox

if TYPE_CHECKING:
    from triode_broker.edge.exchange import Exchange


class Application(Protocol):
    """One WebSocket connection's other half. Calls run to their end; none may block.

    Every call but `detach` may raise `core.errors.Disconnect` to end the connection with a code; any other
    exception is a bug: it is logged once, and this connection closes with 4101.
    """

    @property
    def is_connected(self) -> bool:
        """Whether the client has introduced itself; until then its time and its bytes are short."""

    @property
    def is_answered(self) -> bool:
        """Whether nothing that it took in still waits for its answer; then a drain may close it."""

    def receive_text(self, text: str, now_ms: int) -> None:
        """A whole text message. Not called while the outbox is over its bound (G6)."""

    def receive_binary(self, data: bytes, now_ms: int) -> None:
        """A whole binary message."""

    def room(self, now_ms: int) -> None:
        """The outbox `wants_room` and has drained to half; called until it wants none any more, once per turn.

        Noticed after a write of this outbox: whoever sets `wants_room` puts something, or knows that some waits;
        or calls `outbox.connection.wake`, which sets it too.
        """

    def keepalive(self, now_ms: int) -> None:
        """Every `ping_ms`: time to put a ping."""

    def detach(self) -> None:
        """The connection takes no more output. Called exactly once, also when the edge itself ends."""


class Feeding(Protocol):
    """Who feeds an HTTP answer that goes on: so much of an `Application`, called as it is."""

    @property
    def is_answered(self) -> bool:
        """Whether a drain may end it."""

    def room(self, now_ms: int) -> None:
        """The outbox `wants_room` and has drained to half."""

    def keepalive(self, now_ms: int) -> None:
        """Every `ping_ms`."""

    def detach(self) -> None:
        """The connection takes no more output."""


class Guest(Protocol):
    """What services keep with a connection from one request to the next."""

    def leave(self) -> None:
        """The connection is gone, or there is another one. Called once; must not raise."""


class Crowd(Protocol):
    """Who keeps order among those who want to connect; the broker's is `core.admission.Admission`."""

    @property
    def is_full(self) -> bool:
        """Whether nobody who comes now has a chance: told so by HTTP, before there is a WebSocket."""

    def later_ms(self) -> int:
        """When the next one who is sent away may come back, from now: another time for each."""


#: Makes the application of a connection that was just upgraded, of whom so much is known.
Accept = Callable[[Outbox, Arrival], Application]

#: request target, query included → status, content type, body. Serves GET and HEAD.
Route = Callable[[str], tuple[int, str, bytes]]

#: Is told of a request, and answers it later. Must not raise.
Service = Callable[["Exchange"], None]


class Nobody:
    """The application of a connection that has none, not yet or no more."""

    is_connected = False
    is_answered = True

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


class NoCrowd:
    """Nobody keeps order: all may come in, and who cannot for want of room comes back soon."""

    is_full = False

    def later_ms(self) -> int:
        """In a second."""
        return 1_000


NO_CROWD: Final[Crowd] = NoCrowd()

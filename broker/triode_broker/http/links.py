"""Links: sessions of our own clients over HTTP, where no WebSocket opens (SPEC 12.4).

Knows sessions and streams, nothing of paths. The surprising decision: a link is not a protocol of its own. Its
stream carries the texts that a WebSocket would, its requests bring the others, and the session behind it cannot
tell the difference. So there is nothing that works over the one and not over the other.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from typing import Any, Final, Protocol

import attrs
import trio
from triode_protocol.errors import CloseCode

from triode_broker.core.errors import Disconnect
from triode_broker.core.node import Node
from triode_broker.core.session import Session
from triode_broker.http.event_frames import one_line
from triode_broker.http.exchange import Stream

#: A link over which nothing was said for so many pings has no client any more (SPEC 1.15).
MAX_SILENT_PINGS: Final = 2
#: Requests of one link that wait for the one before them.
MAX_WAITING: Final = 4
_OPENING: Final = b'{"link":'
_BYE: Final = b'{"type":"bye"'


def link_frame(payload: bytes) -> bytes:
    """A packet as an event, the same for all links: the message of a WebSocket. What is ours has another name."""
    if payload.startswith(_OPENING):
        return b"event: link\ndata: " + payload + b"\n\n"
    event = b"data: " + one_line(payload) + b"\n\n"
    return event + b"event: close\ndata: " + payload + b"\n\n" if payload.startswith(_BYE) else event


class Gone(Exception):
    """There is no such link, or not any more."""


class Misplaced(Exception):
    """A text is not the next one: one before it is missing."""


class Busy(Exception):
    """Too many texts of one link at once."""


@attrs.frozen
class Owner:
    """Who has opened a link: whoever else knows its name cannot speak on it."""

    origin: str  # of the page; "": no page
    credential: str  # a digest of what the head of the request and its connection had, "": nothing

    @classmethod
    def of(cls, origin: str, token: str, certificate: Sequence[str] = ()) -> "Owner":
        """Of a request. What it has itself is nobody's business here."""
        had = "\n".join([token, *certificate])
        return cls(origin, sha256(had.encode()).hexdigest() if had else "")

    def is_same(self, other: "Owner") -> bool:
        """In a time that says nothing of the digest."""
        return self.origin == other.origin and hmac.compare_digest(self.credential, other.credential)


class Link:
    """One session; `http.exchange.Application` of the stream that carries what it says."""

    def __init__(self, links: "Links", name: str, owner: Owner, session: Session, stream: Stream) -> None:
        self.name = name
        self.owner = owner
        self.session = session
        self.stream = stream
        self._links = links
        self._turn = trio.Lock()
        self._count = 0  # texts that were served behind the first
        self._early_bytes = 0  # before it was connected
        self._silent_pings = 0

    # Called by the edge

    @property
    def is_answered(self) -> bool:
        """As the session says."""
        return self.session.is_answered

    def room(self, now_ms: int) -> None:
        """As for the session."""
        self.session.room(now_ms)

    def keepalive(self, now_ms: int) -> None:
        """A ping, or the end where the ones before were not answered: the stream alone shows no life."""
        if self._silent_pings >= MAX_SILENT_PINGS:
            self.close(CloseCode.PING_TIMEOUT)
            return
        self._silent_pings += 1
        self.session.keepalive(now_ms)

    def detach(self) -> None:
        """The stream is gone, and the link with it."""
        self._links.by_name.pop(self.name, None)
        self.session.detach()

    # Called by operations

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """Say goodbye when the turn ends."""
        self.stream.outbox.connection.close(code, reconnect_after_ms)

    async def take(self, number: int, text: str, *, waits: bool) -> None:
        """Serve the next text, when those before are served and there is room for answers (G6).

        One that was served already is not served again: a proxy may have repeated the request. Raises Gone,
        Misplaced, Busy; without `waits` Busy wherever it would have to wait.
        """
        if not waits and (self._turn.locked() or self.stream.outbox.is_over):
            raise Busy
        if self._turn.statistics().tasks_waiting >= MAX_WAITING:
            raise Busy
        async with self._turn:
            await self.stream.room()
            if self._links.by_name.get(self.name) is not self or self.stream.close_code:
                raise Gone
            if number == self._count:
                return
            if number != self._count + 1:
                self.close(CloseCode.PROTOCOL)
                self._links.flush()
                raise Misplaced
            self._count = number
            self.serve(text)

    def serve(self, text: str) -> None:
        """What a WebSocket would do with it (S2: not much before `connect`)."""
        session, links = self.session, self._links
        self._silent_pings = 0
        if not session.is_connected:
            self._early_bytes += len(text)
        if self._early_bytes > links.node.limits.max_before_connect_bytes and not session.is_connected:
            self.close(CloseCode.PROTOCOL)
        else:
            with links.turn():
                self._call(session.receive_text, text)
                links.flush()
            return
        links.flush()

    async def enter(self) -> None:
        """Wait until it is connected, as long as that may take; beyond, or without, it ends."""
        with trio.move_on_after(self._links.node.limits.connect_timeout_ms / 1000):
            while not self.session.is_connected and not self.stream.close_code:
                await self.stream.woken()
                self._call(self.session.room)
                self._links.flush()
        if not self.session.is_connected:
            self.close(CloseCode.CONNECT_TIMEOUT)
            self._links.flush()

    def _call(self, serve: Callable[..., None], *values: Any) -> None:
        """The link's barrier (S1)."""
        try:
            serve(*values, self._links.now_ms())
        except Disconnect as end:
            self.close(end.code, end.reconnect_after_ms)
        except Exception as error:
            self._links.log.error("link_failed", exc_info=error)
            self.close(CloseCode.INTERNAL)


class Elsewhere(Protocol):
    """The other nodes of the cluster."""

    async def ask(self, node: str, method: str, parameters: Mapping[str, Any]) -> Any:
        """What another node answers. Raises Refused, or ValueError for what it says cannot be asked."""


@attrs.define(eq=False)
class Links:
    """The links of one node. As many as there are streams: those are bounded."""

    node: Node
    now_ms: Callable[[], int]  # the wall clock; asking begins a turn
    flush: Callable[[], None]  # ends every turn that has entered the core
    log: Any
    turn: Callable[[], AbstractContextManager[None]] = nullcontext  # as for `Desk`
    by_name: dict[str, Link] = attrs.field(init=False, factory=dict)

    def open(self, owner: Owner, session: Session, stream: Stream) -> Link:
        """A new one; its name is told to its client as the first event and cannot be guessed (S28)."""
        link = Link(self, f"{self.node.random_id()}.{self.node.name}", owner, session, stream)
        self.by_name[link.name] = link
        stream.outbox.put(b'{"link":"%b"}' % link.name.encode())
        return link

    def knows(self, name: str, owner: Owner) -> bool:
        """Whether there is one, and it is theirs."""
        link = self.by_name.get(name)
        return link is not None and link.owner.is_same(owner)

    async def take(self, name: str, owner: Owner, number: int, text: str, *, waits: bool) -> None:
        """The next text of a link. Raises Gone, also to whoever has not opened it; Misplaced, Busy."""
        if not self.knows(name, owner):
            raise Gone
        await self.by_name[name].take(number, text, waits=waits)

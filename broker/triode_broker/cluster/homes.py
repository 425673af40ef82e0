"""Homes: the way of a client's packets to the home of a durable subscription or group, and back (cluster.md).

At the home each connection of another node's client is a `Visitor`: a session of the core behind an outbox whose
items travel as `Tell`; so every rule of acknowledged subscriptions holds there as for a client of its own. At the
node that the client is connected to it is an `Away` of the core with a `Way` to each home. Requests go on the
link that the client's node has dialled, answers come back on it. Numbers of attachments are never used twice.

The surprising decision: what a visitor was sent still counts as being in its outbox until the client's own outbox
has room for it (`Took`). So a slow client stalls at the home exactly as one that is connected there, and between
the two nodes there is never more than one small outbox for each attachment.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName

from triode_broker.cluster.forwarded import Flushing
from triode_broker.cluster.frames import Attach, Detach, Frame, Tell, Took
from triode_broker.cluster.questions import Link
from triode_broker.core.awaiting import RETRY_QUEUE_MS
from triode_broker.core.away import Away, unreached
from triode_broker.core.errors import Disconnect
from triode_broker.core.identity import BEHIND_A_NODE, Identity
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.session import Session
from triode_broker.core.shard import Shard

#: What one attachment may have on its way to the client; half of it is where deliveries stop.
VISITOR_BYTES: Final = 262_144
#: What a client said that waits at the home until it takes what it is sent; beyond, it is sent away.
MAX_LATE_BYTES: Final = 1_048_576


class Ways:
    """All attachments to one home, over one link; at the node that the clients are connected to."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.by_number: dict[int, Way] = {}
        self._by_away: dict[Away, Way] = {}

    def of(self, away: Away) -> "Way | None":
        """That connection's."""
        return self._by_away.get(away)

    def add(self, number: int, away: Away) -> "Way":
        """A new one."""
        way = self.by_number[number] = self._by_away[away] = Way(self, number, away)
        who = away.identity
        self.link.put(Attach(number, away.connection_id, who.user, who.tenant))
        return way

    def drop(self, way: "Way") -> None:
        """Nothing that is said on it is heard any more."""
        del self.by_number[way.number], self._by_away[way.away]


class Way:
    """The attachment of one connection to one home. `core.away.Attachment`."""

    __slots__ = ("_ways", "away", "number")

    def __init__(self, ways: Ways, number: int, away: Away) -> None:
        self._ways = ways
        self.number = number
        self.away = away

    def tell(self, packet: bytes, *, is_last: bool = False) -> None:
        """Send a packet of the client. Raises Refused."""
        if self._ways.link.is_full and not is_last:
            message = "the link to the home of this name is full"
            raise Refused(ErrorName.OVERLOADED, message, retry_after_ms=RETRY_QUEUE_MS)
        self._ways.link.put(Tell(self.number, [packet]))

    def took(self, size: int) -> None:
        """The client's outbox has room."""
        self._ways.link.put(Took(self.number, size))

    def detach(self, code: int) -> None:
        """The client's connection has ended."""
        self._ways.drop(self)
        self._ways.link.put(Detach(self.number, code))


class Visitor:
    """The attachment at the home: stands where the core expects a connection."""

    __slots__ = (
        "_among",
        "_dirty",
        "_late_bytes",
        "_link",
        "_now_ms",
        "_number",
        "close_code",
        "outbox",
        "session",
    )

    def __init__(
        self,
        link: Link,
        frame: Attach,
        among: "dict[int, Visitor]",
        node: Node,
        dirty: list[Flushing],
        now_ms: Callable[[], int],
    ) -> None:
        """`among`: the visitors of that link, by number."""
        self._link = link
        self._number = frame.number
        self._among = among
        among[frame.number] = self
        self._dirty = dirty
        self._now_ms = now_ms
        self._late_bytes = 0
        self.close_code = 0
        self.outbox = Outbox(self, _Bell(self), bytes, min(VISITOR_BYTES, node.limits.max_outbox_bytes))
        self.session = Session(node, self.outbox)
        self.session.attend(frame.connection, Identity(frame.user, frame.tenant, method=BEHIND_A_NODE))

    # `interfaces.Connection`

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """Send it away, at the end of the turn; its client then asks again."""
        if not self.close_code:
            self.close_code = code
            self.ring()

    def wake(self) -> None:
        """Have it go on in a turn of its own."""
        self.outbox.wants_room = True
        self.ring()

    def ring(self) -> None:
        """There is something to be said at the end of the turn."""
        self._dirty.append(self)

    # What the client's node says

    def told(self, frame: Tell) -> None:
        """Packets of the client."""
        self._late_bytes = self._late_bytes + sum(map(len, frame.packets)) if self.outbox.is_over else 0
        if self._late_bytes > MAX_LATE_BYTES:
            self.close(CloseCode.SLOW_CONSUMER)
        for packet in frame.packets:
            if not self.close_code:
                self._enter(partial(self.session.receive_text, packet.decode(), self._now_ms()))

    def took(self, frame: Took) -> None:
        """So much has got on; never more than was sent, whatever the other node says."""
        self.outbox.size -= min(frame.bytes, self.outbox.size)
        self._go_on()

    def _go_on(self) -> None:
        if self.outbox.wants_room and self.outbox.has_room and not self.close_code:
            self._enter(partial(self.session.room, self._now_ms()))

    def _enter(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Disconnect as disconnect:
            self.close(disconnect.code)

    def leave(self, code: int) -> None:
        """It is here no more; its deliveries come again."""
        self._among.pop(self._number, None)
        self.close_code = self.close_code or code
        self.session.detach()

    # What is said to it

    def flush(self) -> None:
        """Send what waits; its bytes go on counting. `forwarded.Flushing`."""
        if self.outbox.is_closed:
            return
        if self.outbox.items and not self._link.is_full:
            items, self.outbox.items = self.outbox.items, []
            self._link.put(Tell(self._number, items))
        if self.close_code:
            self._link.put(Detach(self._number, self.close_code))
            self.leave(self.close_code)
        else:
            self._go_on()


class _Bell(list[Outbox]):
    """Stands where an outbox expects the list of those that have something: rings instead."""

    def __init__(self, visitor: Visitor) -> None:
        super().__init__()
        self._visitor = visitor

    def append(self, outbox: Outbox) -> None:
        """It has its first item."""
        self._visitor.ring()


class Homes:
    """All attachments of one node: of its clients to other homes (`core.away.Homes`), and its visitors."""

    def __init__(
        self,
        node: Node,
        link_to: Callable[[Shard], Link | None],
        now_ms: Callable[[], int],
        dirty: list[Flushing],
    ) -> None:
        """`link_to`: the link that asks the owner of a shard, None where it is not reached."""
        self._node = node
        self._link_to = link_to
        self._now_ms = now_ms
        self._dirty = dirty
        self._last_number = 0
        self._ways: dict[Link, Ways] = {}
        self._visitors: dict[Link, dict[int, Visitor]] = {}

    def received(self, link: Link, frame: Frame, *, is_home: bool) -> None:
        """One of the frames of FRAMES; `is_home`: it comes from the node that asks. Raises ValueError."""
        take = (HOME_HANDLERS if is_home else CLIENT_HANDLERS).get(type(frame))
        if take is None:
            raise ValueError("a frame of the other role")
        take(self, link, frame)

    def closed(self, link: Link, *, is_ending: bool = False) -> None:
        """It is gone: homes are lost, and so are visitors; if this node ends they leave in good order."""
        if (ways := self._ways.pop(link, None)) is not None:
            for way in list(ways.by_number.values()):
                ways.drop(way)
                way.away.lost(way)
        for visitor in list(self._visitors.pop(link, {}).values()):
            visitor.leave(CloseCode.SHUTDOWN if is_ending else 0)

    def tick(self) -> None:
        """Several times a second: links that were full may have room."""
        for visitor in self._all_visitors():
            if visitor.outbox.items:
                visitor.flush()

    def end(self, code: int) -> None:
        """This node ends: visitors leave in good order."""
        for visitor in self._all_visitors():
            visitor.close(code)
            visitor.flush()

    def _all_visitors(self) -> "list[Visitor]":
        return [visitor for visitors in self._visitors.values() for visitor in visitors.values()]

    # At the client's node

    def attach(self, home: Shard, away: Away) -> Way:
        """`core.away.Homes`."""
        link = self._link_to(home)
        if link is None:
            raise unreached(home)
        ways = self._ways.setdefault(link, Ways(link))
        if (known := ways.of(away)) is not None:
            return known
        self._last_number += 1
        return ways.add(self._last_number, away)

    def _way(self, link: Link, number: int) -> Way | None:
        ways = self._ways.get(link)
        return None if ways is None else ways.by_number.get(number)

    def _take_said(self, link: Link, frame: Tell) -> None:
        if (way := self._way(link, frame.number)) is not None:
            way.away.said(way, frame.packets)

    def _take_sent_away(self, link: Link, frame: Detach) -> None:
        if (way := self._way(link, frame.number)) is not None:
            self._ways[link].drop(way)
            way.away.lost(way)

    # At the home

    def _take_attach(self, link: Link, frame: Attach) -> None:
        visitors = self._visitors.setdefault(link, {})
        if frame.number in visitors:
            raise ValueError("the number of an attachment is used twice")
        Visitor(link, frame, visitors, self._node, self._dirty, self._now_ms)

    def _take_tell(self, link: Link, frame: Tell) -> None:
        if (visitor := self._visitors.get(link, {}).get(frame.number)) is not None:
            visitor.told(frame)

    def _take_took(self, link: Link, frame: Took) -> None:
        if (visitor := self._visitors.get(link, {}).get(frame.number)) is not None:
            visitor.took(frame)

    def _take_detach(self, link: Link, frame: Detach) -> None:
        if (visitor := self._visitors.get(link, {}).get(frame.number)) is not None:
            visitor.leave(frame.code)


#: What the client's node says to the home, and what the home says.
HOME_HANDLERS: Final[dict[type[Frame], Callable[[Homes, Link, Any], None]]] = {
    Attach: Homes._take_attach,
    Tell: Homes._take_tell,
    Took: Homes._take_took,
    Detach: Homes._take_detach,
}
CLIENT_HANDLERS: Final[dict[type[Frame], Callable[[Homes, Link, Any], None]]] = {
    Tell: Homes._take_said,
    Detach: Homes._take_sent_away,
}
FRAMES: Final = tuple(HOME_HANDLERS)

"""What all connections of one edge share: limits, the queues they enter, and the counters they add to.

A record without behaviour of its own, so that a connection needs no way back to the reactor. Surprising: `now` is
written here once per tick and read by whoever needs the time; nobody asks a clock.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import attrs

from triode_broker.config import Limits
from triode_broker.core.outbox import Outbox
from triode_broker.edge.addresses import Addresses
from triode_broker.edge.application import Accept, Crowd, Route, Service
from triode_broker.edge.complaints import Complaints
from triode_broker.edge.deadlines import Deadlines
from triode_broker.edge.deflate import Deflating
from triode_broker.edge.door import Door
from triode_broker.edge.frames import Unmasking, text_frame
from triode_broker.edge.head import Refusal, Request, check_method, check_no_body
from triode_broker.edge.poller import Poller
from triode_broker.printable import escape, shorten
from triode_broker.this_machine import is_this_machine

if TYPE_CHECKING:
    from triode_broker.edge.connection import Connection
    from triode_broker.edge.conversation import Conversation
    from triode_broker.edge.wire import Wire

#: A connection is looked at so often between two pings: bounds how late its silence is noticed.
LOOKS_PER_PING: Final = 4
_SHOWN_CHARACTERS: Final = 120  # of an origin, in the log


@attrs.frozen
class Statistics:
    """What the edge has done since it was made, and what it holds now."""

    connections: int
    newcomers: int  # of these: have not got through `connect` yet
    accepted: int
    refused: int  # answered with an HTTP error, or not at all for want of room
    upgraded: int
    requests: int  # of HTTP, but for those that came as the first of their connection and ended it
    frames_in: int
    bytes_in: int
    bytes_out: int
    closes: Mapping[int, int]  # WebSocket connections ended, by close code; 1006 = without any


@attrs.define(eq=False)
class Shared:
    """One per edge."""

    limits: Limits
    poller: Poller
    accept: Accept
    routes: Mapping[str, Route]
    websocket_path: str
    unmasking: Unmasking
    crowd: Crowd
    door: Door
    log: Any
    services: Mapping[str, Service]  # by path; of one that ends with a slash all that is below
    flush: Callable[[], None]  # ends a turn that was not one of the edge's

    plain_bytes: int = attrs.field(init=False)  # larger frames are not plain
    addresses: Addresses = attrs.field(init=False)
    complaints: Complaints = attrs.field(init=False)
    deflating: Deflating = attrs.field(init=False)
    connections: "dict[int, Connection | Conversation]" = attrs.field(init=False, factory=dict)  # by descriptor
    dirty: list[Outbox] = attrs.field(init=False, factory=list)  # to be written at the end of the tick
    leaving: "list[Wire]" = attrs.field(init=False, factory=list)  # to be closed then
    nowhere: Outbox = attrs.field(init=False)  # of connections that have none
    now: float = attrs.field(init=False, default=0.0)  # monotonic seconds, of this tick
    newcomers: int = attrs.field(init=False, default=0)  # connections that have not got through `connect`
    reopens_at: float | None = attrs.field(init=False, default=None)  # no more WebSockets: the node is drained
    awake_since: float = attrs.field(init=False, default=0.0)  # nobody's silence counts from before

    connect_deadlines: "Deadlines[Connection]" = attrs.field(init=False)
    look_deadlines: "Deadlines[Connection]" = attrs.field(init=False)
    drain_deadlines: "Deadlines[Connection]" = attrs.field(init=False)
    close_deadlines: "Deadlines[Wire]" = attrs.field(init=False)
    exchange_deadlines: "Deadlines[Conversation]" = attrs.field(init=False)

    accepted: int = attrs.field(init=False, default=0)
    refused: int = attrs.field(init=False, default=0)
    upgraded: int = attrs.field(init=False, default=0)
    requests: int = attrs.field(init=False, default=0)
    frames_in: int = attrs.field(init=False, default=0)
    bytes_in: int = attrs.field(init=False, default=0)
    bytes_out: int = attrs.field(init=False, default=0)
    closes: Counter[int] = attrs.field(init=False, factory=Counter)

    def __attrs_post_init__(self) -> None:
        limits = self.limits
        self.plain_bytes = min(limits.max_frame_bytes, self.unmasking.max_bytes)
        self.addresses = Addresses(limits, self._is_exempt)
        self.complaints = Complaints(self.log.warning)
        self.deflating = Deflating(limits.min_compressed_bytes)
        self.nowhere = Outbox(None, [], text_frame, limits.max_outbox_bytes)
        self.connect_deadlines = Deadlines(limits.connect_timeout_ms / 1000)
        self.look_deadlines = Deadlines(limits.ping_ms / 1000 / LOOKS_PER_PING)
        self.drain_deadlines = Deadlines(limits.drain_timeout_ms / 1000)
        self.close_deadlines = Deadlines(limits.close_timeout_ms / 1000)
        self.exchange_deadlines = Deadlines(_look_seconds(limits))

    def _is_exempt(self, address: str) -> bool:
        return is_this_machine(address) or address in self.door.front.proxies

    def limits_changed(self) -> None:
        """`limits` holds others: what was derived from them follows, for connections that are open too."""
        limits = self.limits
        self.addresses.limits_changed()
        self.deflating.min_bytes = limits.min_compressed_bytes
        self.connect_deadlines.retime(limits.connect_timeout_ms / 1000)
        self.drain_deadlines.retime(limits.drain_timeout_ms / 1000)
        self.close_deadlines.retime(limits.close_timeout_ms / 1000)
        self.exchange_deadlines.retime(_look_seconds(limits))
        for connection in self.connections.values():
            connection.bound_outbox(limits.max_outbox_bytes)

    def share_turns(self, other: "Shared") -> None:
        """What is put for connections of either edge is sent when a turn of either ends."""
        other.dirty, other.leaving = self.dirty, self.leaving

    def check_open(self) -> None:
        """Whether one more WebSocket may begin. Raises Refusal."""
        if self.reopens_at is not None:
            raise come_back("This server is being taken out of service.", (self.reopens_at - self.now) * 1000)
        if self.crowd.is_full:
            raise come_back("Too many clients are connecting.", self.crowd.later_ms())

    def service(self, path: str) -> Service | None:
        """Whoever serves a path; None: nobody, there may be a page."""
        found = self.services.get(path)
        if found is None and (slash := path.find("/", 1)) > 0:
            found = self.services.get(path[: slash + 1])
        return found

    def complain_of_origin(self, request: Request) -> None:
        """A page that may not connect wants to."""
        shown = shorten(escape(request.headers.get(b"origin", b"").decode("ascii")), _SHOWN_CHARACTERS)
        advice = "to let pages of this origin connect, list it in the setting origins, and restart the broker"
        self.complaints.say("origin_refused", self.now, origin=shown, advice=advice)

    def page(self, request: Request) -> tuple[int, str, bytes]:
        """What a page answers. Raises Refusal."""
        check_no_body(request)
        route = self.routes.get(request.path)
        if route is None:
            raise Refusal(404, f"There is nothing at {request.path}.")
        check_method(request, ("GET", "HEAD"))
        return route(request.target)

    def statistics(self) -> Statistics:
        """The counters as they stand."""
        return Statistics(
            len(self.connections),
            self.newcomers,
            self.accepted,
            self.refused,
            self.upgraded,
            self.requests,
            self.frames_in,
            self.bytes_in,
            self.bytes_out,
            dict(self.closes),
        )


def _look_seconds(limits: Limits) -> float:
    """Between two looks at a connection that speaks HTTP: a quarter of the shortest of its times."""
    shortest = min(limits.http_idle_ms, limits.http_body_ms, limits.connect_timeout_ms, limits.drain_timeout_ms)
    return min(shortest, limits.ping_ms) / 1000 / LOOKS_PER_PING


def come_back(text: str, after_ms: float) -> Refusal:
    """503, and when to try again: in a second at the earliest, which is the unit of `Retry-After`."""
    return Refusal(503, text, [("Retry-After", str(max(ceil(after_ms / 1000), 1)))])

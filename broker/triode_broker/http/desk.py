"""Desk: what operations work with, made by the composition root, one per node.

A record. Who adds operations that need something else of the node adds a field here; it has a default, so that a
table can be tried without it.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs

from triode_broker.core.node import Node
from triode_broker.http.exchange import Request
from triode_broker.http.links import Elsewhere, Links
from triode_broker.http.visitor import Visitor, Visitors


@attrs.define(eq=False)
class Desk:
    """One per node."""

    node: Node
    now_ms: Callable[[], int]  # the wall clock; asking begins a turn
    flush: Callable[[], None]  # ends every turn that has entered the core
    log: Any
    #: What operators may ask, by the names of administration calls.
    calls: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[object]]] = attrs.field(factory=dict)
    give_ticket: Callable[[str], str] | None = None  # to a tenant; on the administration listener
    is_open_here: bool = False  # nobody is asked who they are, and nobody but this machine reaches it
    elsewhere: Elsewhere | None = None  # the other nodes, where there are any
    #: Around what publishes, and waits for nothing: it is counted as a turn of the reactor.
    turn: Callable[[], AbstractContextManager[None]] = nullcontext
    links: Links = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.links = Links(self.node, self.now_ms, self.flush, self.log, self.turn)

    async def visitor(self, request: Request) -> Visitor:
        """The session of whoever sends this, let in: the same for the next requests of its connection.

        Raises Refused, Problem.
        """
        guest = request.line.guest
        if not isinstance(guest, Visitors):
            guest = request.line.guest = Visitors()
        return await guest.find(self.node, request.arrival, request.line, self.now_ms)

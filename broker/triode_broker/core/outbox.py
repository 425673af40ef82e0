"""Outbox: what waits to be sent to one connection, bounded in bytes.

Knows bytes and their size, nothing of sockets or subscriptions. The surprising decision: it decides nothing. The
router refuses a message that would pass the bound *before* putting it in (G7); replies and state packets always go
in (G6), because the edge stops reading from a connection whose outbox is over its bound.

`items` are wire-ready for the way this connection is written: whole WebSocket frames, or, where the client offered
`batch`, bare payloads that the edge joins into array frames.
"""

from collections.abc import Callable
from typing import Any


class Outbox:
    """Encoded packets waiting for one connection.

    `dirty` is the reactor's list: an outbox enters it with its first item and is written at the end of the tick.
    While `is_blocked` (the socket takes no more) it does not enter: the edge writes it when there is room again.
    """

    __slots__ = (
        "connection",
        "dirty",
        "frame",
        "is_batch",
        "is_blocked",
        "is_closed",
        "items",
        "limit",
        "looks_left",
        "questions",
        "size",
        "wants_room",
    )

    def __init__(
        self, connection: Any, dirty: "list[Outbox]", frame: Callable[[bytes], bytes], limit: int
    ) -> None:
        self.connection = connection  # the edge's, opaque here
        self.dirty = dirty
        self.frame = frame  # payload → item; pure
        self.limit = limit  # max_outbox_bytes
        self.items: list[bytes] = []
        self.size = 0  # bytes in `items` and of what the edge took but could not send yet
        self.is_batch = False
        self.is_blocked = False
        self.is_closed = False  # its connection is gone: nobody is given anything there any more
        self.wants_room = False  # the session has more to say once size ≤ limit / 2
        self.questions = 0  # asked of logs for this connection and not answered yet
        self.looks_left = 0  # records that its catch-ups may look at before they ask for another turn

    def put(self, payload: bytes) -> None:
        """Append one encoded packet, whatever the size: for replies and state packets (G6)."""
        if not self.items and not self.is_blocked:
            self.dirty.append(self)
        item = self.frame(payload)
        self.items.append(item)
        self.size += len(item)

    def hold_payloads(self) -> None:
        """From now on items are bare payloads: the client offered `batch`, and the edge joins them into arrays."""
        self.is_batch = True
        self.frame = bytes

    @property
    def is_over(self) -> bool:
        """Whether the bound is passed: the edge then reads nothing from this connection."""
        return self.size > self.limit

    @property
    def has_room(self) -> bool:
        """Whether it has drained to half: what was refused may return. Never again once it is closed."""
        return self.size * 2 <= self.limit and not self.is_closed

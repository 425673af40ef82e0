"""Reads, of history and presence: asked, asked again after a reconnect (they change nothing), answered or not.

Knows packets and time.
"""

from math import inf
from typing import Any

from attrs import define
from triode_protocol import packets

from triode.errors import Expired, HistoryRefused, PresenceRefused, QueueFull, TriodeError
from triode.options import Options
from triode.outgoing import Outgoing
from triode.records import HistoryPage, Presence
from triode.subscriptions import decode_member, decode_message


@define(eq=False)
class Read:
    """One request. Done once `result` is set; `waiter` is the front's to use."""

    packet: packets.HistoryRequest | packets.PresenceRequest
    expires_at: float
    result: HistoryPage | Presence | TriodeError | None = None
    waiter: Any = None


class Reader:
    """The unanswered requests of one client: at most `max_requests`."""

    def __init__(self, options: Options, outgoing: Outgoing, finished: list[Any]) -> None:
        self._options = options
        self._outgoing = outgoing
        self._finished = finished
        self._reads: dict[int, Read] = {}  # in the order of asking, so of deadlines
        self._is_attached = False

    def add(self, packet: packets.HistoryRequest | packets.PresenceRequest, now: float) -> Read:
        """Ask. Raises QueueFull."""
        if len(self._reads) >= self._options.max_requests:
            raise QueueFull(f"{len(self._reads)} requests are waiting for their answers")
        packet.id = self._outgoing.next_id()
        read = Read(packet, now + self._options.request_timeout_seconds)
        self._reads[packet.id] = read
        if self._is_attached:
            self._outgoing.put(packet)
        return read

    def abandon(self, read: Read) -> None:
        """Nobody waits any more."""
        self._reads.pop(read.packet.id, None)

    def attach(self) -> None:
        """A connection is open: ask again."""
        self._is_attached = True
        for read in self._reads.values():
            self._outgoing.put(read.packet)

    def detach(self) -> None:
        """The connection is gone."""
        self._is_attached = False

    def answered(self, packet: packets.History) -> None:
        """The page; an unknown id is ignored. Raises Malformed."""
        messages = tuple(decode_message(raw) for raw in packet.messages)
        if read := self._reads.pop(packet.id, None):
            self._finish(read, HistoryPage(messages, packet.complete, packet.after))

    def present(self, packet: packets.Presence) -> None:
        """The members; an unknown id is ignored. Raises Malformed."""
        members = tuple(decode_member(raw) for raw in packet.members)
        if read := self._reads.pop(packet.id, None):
            self._finish(read, Presence(packet.topic, members, packet.complete))

    def refused(self, packet: packets.Error) -> bool:
        """The broker refused it. False: it is none of ours. A program decides itself whether to read again."""
        read = self._reads.pop(packet.id, None)
        if read is None:
            return False
        kind = HistoryRefused if isinstance(read.packet, packets.HistoryRequest) else PresenceRefused
        error = kind(
            packet.name,
            packet.message,
            field=packet.field,
            retry=packet.retry,
            retry_after_ms=packet.retry_after_ms,
        )
        self._finish(read, error)
        return True

    def close(self, error: TriodeError) -> None:
        """The client is closed."""
        self.detach()
        for read in self._reads.values():
            self._finish(read, error)
        self._reads.clear()

    def deadline(self) -> float:
        """When the oldest times out."""
        for oldest in self._reads.values():
            return oldest.expires_at
        return inf

    def tick(self, now: float) -> None:
        """End what has waited too long."""
        while now >= self.deadline():
            oldest = self._reads.pop(next(iter(self._reads)))
            self._finish(oldest, Expired("no answer to the request in time"))

    def _finish(self, read: Read, result: HistoryPage | Presence | TriodeError) -> None:
        read.result = result
        self._finished.append(read)

"""Draining: the way out of service that clients hardly notice, and whether the node is ready for any.

Order: not ready; drain_delay_ms later, so that whoever asks for readiness has heard of it, no new WebSocket, a
notice to everybody, then a goodbye to each, spread over a window, with the other nodes to go to; what serves the
node ends behind that (server.py). In that window shards in memory are handed over. Knows sessions and the edge,
no signals and no files. The surprising decision: without other nodes the window is short, and everybody is told to
come back after its end. They can only come back to this node's next life, and the sooner it begins the better.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import attrs
import trio
from triode_protocol.packets import Notice

from triode_broker.core.node import Node
from triode_broker.edge.reactor import Edge, Farewell

MAX_URLS: Final = 8  # of one `bye`: clients look at no more
_TOLD_PER_TURN: Final = 256

#: Says why the node had better get no clients, or "" where it knows no reason.
Reason = Callable[[], str]


def nowhere() -> Sequence[str]:
    """The client URLs of the other nodes, where there are none."""
    return ()


async def nothing() -> None:
    """There is nothing to hand over, or nobody who would take it."""


@attrs.define(eq=False)
class Draining:
    """One per node; `run` waits until `begin` is called, from wherever the wish comes."""

    node: Node
    edge: Edge
    random: Callable[[], float]  # uniform in [0, 1)
    log: Any
    other_urls: Callable[[], Sequence[str]] = nowhere  # where this node's clients may go; may be set later
    hand_over: Callable[[], Awaitable[None]] = nothing  # what others go on with; may be set later
    is_begun: bool = False
    _begun: trio.Event = attrs.field(factory=trio.Event)
    _closed: trio.Event = attrs.field(factory=trio.Event)  # nobody new comes in
    _ends_at: float = 0.0  # trio's clock
    _told: int = 0

    def begin(self, seconds: float | None = None) -> float:
        """Take no more clients, send those there are away within so long (None: as configured); that time.

        Again: only a time that is named counts, from now.
        """
        is_named = seconds is not None
        if not self.is_begun or is_named:
            seconds = self._window_seconds() if seconds is None else seconds
            self._ends_at = trio.current_time() + seconds
            if is_named or not self.node.limits.drain_delay_ms:
                self._close_doors()
            else:
                self._ends_at += self.node.limits.drain_delay_ms / 1000
        if not self.is_begun:
            self.is_begun = True
            self._begun.set()
            self.log.info("draining", sessions=len(self.node.sessions), seconds=seconds)
        return max(self._ends_at - trio.current_time(), 0.0)

    async def run(self) -> None:
        """Wait for `begin`, then until everybody has been told to go and everything is handed over."""
        await self._begun.wait()
        with trio.move_on_after(self.node.limits.drain_delay_ms / 1000):
            await self._closed.wait()
        self._close_doors()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.hand_over)
            await self._announce()
            await self.edge.drain(lambda: self._ends_at, self._farewell)

    def _close_doors(self) -> None:
        self.edge.close_doors(self._ends_at)
        self._closed.set()

    def reason(self) -> str:
        """For readiness."""
        return "draining" if self.is_begun else ""

    def _window_seconds(self) -> float:
        limits = self.node.limits
        alone_ms = min(limits.drain_alone_ms, limits.drain_window_ms)
        return (limits.drain_window_ms if self.other_urls() else alone_ms) / 1000

    async def _announce(self) -> None:
        notice = Notice(draining=True)
        sessions = list(self.node.sessions.values())
        for start in range(0, len(sessions), _TOLD_PER_TURN):
            for session in sessions[start : start + _TOLD_PER_TURN]:
                session.answer(notice)
            self.edge.flush()
            await trio.lowlevel.checkpoint()

    def _farewell(self) -> Farewell:
        """A client takes the URLs in their order, so each gets them in another one."""
        spread_ms = self.node.limits.drain_reconnect_ms * self.random()
        urls = list(self.other_urls())
        if not urls:
            left_ms = max(self._ends_at - trio.current_time(), 0.0) * 1000
            return int(left_ms + self.node.limits.drain_reconnect_ms / 2 + spread_ms), ()
        self._told += 1
        first = self._told % len(urls)
        return int(spread_ms), (urls[first:] + urls[:first])[:MAX_URLS]


class Readiness:
    """Whether the node takes clients; every part that may be a reason against it adds its question."""

    def __init__(self, *reasons: Reason) -> None:
        self.reasons = list(reasons)
        self.has_started = False  # once, and for good

    def started(self) -> None:
        """All that serves clients is up."""
        self.has_started = True

    def unready(self) -> list[str]:
        """Why not; empty: it does."""
        starting = [] if self.has_started else ["starting"]
        return starting + [words for reason in self.reasons if (words := reason())]

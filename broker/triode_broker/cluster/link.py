"""A link: an open connection to another node over which frames go both ways, in order, until it is closed.

Knows frames as bytes and life signs, not what they are about: that is the sink's. `put` only appends; one task
sends, one receives, one pings, and the one that receives never sends. The surprising decision: `close` tells
the sink at once, from within the call, so that whatever comes after it (a newer link of the same node) finds
the old one over: what it had not read is discarded (`accept_superseded_link`). `put` alone, which is called in
the middle of everything, never does: a link that it finds too full is told to be closed in a later turn.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, cast

import trio
from attrs import frozen

from triode_broker.cluster.carrier import Carrier, Ended
from triode_broker.cluster.frames import AnyFrame, Frame, Heard, Ping, Pong, decode, encode, lacking
from triode_broker.cluster.hello import UNREADABLE, Identity
from triode_broker.cluster.outgoing import Outgoing
from triode_broker.config import Limits
from triode_broker.printable import escape, shorten

#: Of one WebSocket message, where single frames are not larger.
MESSAGE_BYTES: Final = 1_048_576
#: For the other end to close as well.
GOODBYE_SECONDS: Final = 1.0
#: Pings that may be without an answer: the way there is not measured by older ones.
MAX_UNANSWERED: Final = 16
#: How much of what a remote said stands in a line of the log.
MAX_LOGGED_CHARACTERS: Final = 200

# Why a link was closed
LOST: Final = "lost"  # the connection is gone, or the other node has closed it; the log says in which words
SILENT: Final = "silent"
SUPERSEDED: Final = "superseded"
BAD_FRAME: Final = "bad_frame"
OUTBOX_FULL: Final = "outbox_full"
TOO_BIG: Final = "too_big"
FAILED: Final = "failed"  # a bug of this node: the log has the traceback
STOPPED: Final = "stopped"


class Sink(Protocol):
    """Who is told of links, from one task at a time; may put and close from within each call.

    Whatever it raises closes the link that was spoken of, with a traceback in the log.
    """

    def opened(self, link: "Link") -> None:
        """Frames can be put; none was received yet."""

    def received(self, link: "Link", frames: list[AnyFrame]) -> None:
        """One message's frames, in the order in which they were put."""

    def closed(self, link: "Link", reason: str) -> None:
        """Nothing more comes of it. Once per link, before another one of that node and direction is opened."""


@frozen
class LinkSettings:
    """What all links of a node have in common."""

    limits: Limits
    steady_ms: Callable[[], int]
    heard: Callable[[], dict[str, Heard]]  # what this node's pings say
    log: Any
    learn: Callable[[str], None]  # where pings say that other nodes are


def _nothing() -> None:
    """Nobody waits."""


class Link:
    """One of the two links of a pair. The node that has dialled asks, the other one answers."""

    def __init__(
        self,
        carrier: Carrier,
        peer: Identity,
        protocol: int,
        *,
        is_dialler: bool,
        received: Callable[["Link", list[AnyFrame]], None],
        closed: Callable[["Link", str], None],
        settings: LinkSettings,
    ) -> None:
        self.peer = peer
        self.protocol = protocol  # the version that both speak
        self._lacking = lacking(protocol)
        self.is_dialler = is_dialler  # whether this node is
        self.is_open = True
        self.heard_ms = settings.steady_ms()  # when the last complete message came
        self.rtt_ms = math.nan  # smoothed; not a number until the first answer
        self.sent_messages = self.sent_bytes = 0
        self.received_messages = self.received_bytes = 0
        self.over = trio.Event()  # set once it is closed
        self._carrier = carrier
        self._received = received
        self.drained: Callable[[], None] = _nothing  # what waits to be put: called when a message has been sent
        self._closed = closed
        self._settings = settings
        self._max_bytes = settings.limits.max_peer_outbox_bytes
        self._scope = trio.CancelScope()
        self._outgoing = Outgoing()
        self._sending_bytes = 0  # taken, and not handed to the socket yet
        self._wake = trio.Event()
        self._is_idle = False  # the task that sends waits for it
        self._serial = 0
        self._pinged: dict[int, float] = {}
        self._doom = STOPPED  # the reason, where it is closed in a later turn
        self._detail = ""

    @property
    def outbox_bytes(self) -> int:
        """Roughly what waits here for the socket."""
        return self._outgoing.bytes + self._sending_bytes

    @property
    def is_full(self) -> bool:
        """Whether streams to this peer are to stop. Requests and answers still go in, until it is closed."""
        return self._outgoing.bytes + self._sending_bytes > self._max_bytes

    def has(self, kind: type[Frame]) -> bool:
        """Whether frames of this kind may be put: the version of this link has them."""
        return kind not in self._lacking

    def put(self, frame: Frame) -> None:
        """Send, in order; what is put in one turn travels together. On a closed link nothing happens.

        A kind that the link does not have is dropped, with an error in the log: sent, it would cost the link, time
        and again, as long as the peer is not upgraded.
        """
        if not self.is_open:
            return
        if self._lacking and type(frame) in self._lacking:
            self._settings.log.error(
                "frame_above_protocol", node=self.peer.node, frame=type(frame).__name__, protocol=self.protocol
            )
            return
        if self._outgoing.put(frame) + self._sending_bytes > 2 * self._max_bytes:
            self._end_later(OUTBOX_FULL)
        if self._is_idle:
            self._is_idle = False
            self._wake.set()

    def close(self, reason: str, detail: str = "") -> None:
        """End it; the sink is told before this returns, unless it knows. Frames that wait are dropped."""
        if self.over.is_set():
            return
        self.over.set()
        self._end_later(reason)
        self._detail = detail
        self._outgoing.clear()
        try:
            self._closed(self, reason)
        except Exception:
            self._settings.log.exception("peer_link_failed", node=self.peer.node, reason="closed")

    @property
    def detail(self) -> str:
        """More about why it was closed, fit for a log."""
        return shorten(escape(self._detail), MAX_LOGGED_CHARACTERS)

    def _end_later(self, reason: str) -> None:
        self.is_open = False
        self._doom = reason
        self._scope.cancel()

    # Run by whoever has opened it

    async def run(self) -> None:
        """Until it is closed. The one barrier: nothing that happens on it is raised, but cancellation."""
        try:
            await self._run()
        finally:
            self.close(self._doom)
        if not self._sending_bytes:  # else half a message may stand in front
            await self._say_goodbye()

    async def _run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive)
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._ping)
        except* Ended as group:
            self.close(LOST, str(group.exceptions[0]))
        except* Exception:
            self._settings.log.exception("peer_link_failed", node=self.peer.node)
            self.close(FAILED)

    async def _say_goodbye(self) -> None:
        with trio.move_on_after(GOODBYE_SECONDS), suppress(Ended):
            await self._carrier.close(self._doom)

    async def _receive(self) -> None:
        while True:
            data = await self._carrier.receive()
            if not self.is_open:  # a message that was handed over before the cancellation
                return
            self.received_messages += 1
            self.received_bytes += len(data)
            try:
                frames = decode(data)
            except UNREADABLE as error:
                self.close(BAD_FRAME, str(error))
                return
            self.heard_ms = self._settings.steady_ms()
            for frame in frames:
                kind = type(frame)
                if kind is Ping:
                    self._take_ping(cast("Ping", frame))
                elif kind is Pong:
                    self._take_pong(frame.serial)  # type: ignore[union-attr]  # said by `kind`
            if self.is_open:  # answering may have been too much
                self._received(self, frames)

    async def _send(self) -> None:
        while True:
            if not self._outgoing:
                self._wake = trio.Event()
                self._is_idle = True
                await self._wake.wait()
            frames, self._sending_bytes = self._outgoing.take(MESSAGE_BYTES)
            for message in self._encoded(frames):
                await self._carrier.send(message)
                self.sent_messages += 1
                self.sent_bytes += len(message)
            self._sending_bytes = 0
            self.drained()

    def _encoded(self, frames: Sequence[Frame]) -> list[bytes]:
        """As messages that the other node takes, where estimates were wrong more than one."""
        message = encode(frames)
        if len(message) <= self._settings.limits.max_peer_message_bytes:
            return [message]
        if len(frames) == 1:
            self.close(TOO_BIG, f"{type(frames[0]).__name__} of {len(message)} bytes")
            return []
        middle = len(frames) // 2
        return self._encoded(frames[:middle]) + self._encoded(frames[middle:])

    # Life signs

    async def _ping(self) -> None:
        limits = self._settings.limits
        while True:
            left_ms = self.heard_ms + limits.peer_silent_ms - self._settings.steady_ms()
            if left_ms <= 0:
                self.close(SILENT)
                return
            self._serial += 1
            self._pinged[self._serial] = trio.current_time()
            self._pinged.pop(self._serial - MAX_UNANSWERED, None)
            self.put(Ping(self._serial, self._settings.heard()))
            await trio.sleep(min(limits.peer_ping_ms, left_ms) / 1000)

    def _take_ping(self, ping: Ping) -> None:
        self.put(Pong(ping.serial))
        for heard in ping.heard.values():
            if heard.url:
                self._settings.learn(heard.url)

    def _take_pong(self, serial: int) -> None:
        sent = self._pinged.pop(serial, None)
        if sent is None:
            return
        for older in [number for number in self._pinged if number < serial]:
            del self._pinged[older]
        sample = (trio.current_time() - sent) * 1000
        self.rtt_ms = sample if math.isnan(self.rtt_ms) else self.rtt_ms + (sample - self.rtt_ms) / 8

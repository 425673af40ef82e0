"""The slow path: wsproto, made for one unusual thing and dropped when that is over.

Unusual are fragments, control frames, binary messages, and all that is wrong. Knows bytes and budgets, no sockets.
The surprising decision: wsproto never sees more than one frame at a time, because it cannot be asked where it
stands; so this module reads the lengths itself, and can say when the fast path may take over again. One wsproto
object is 1.7 KiB: never one per idle connection.

S4: since the last complete message a client may send `max_fragments` frames with `max_frame_bytes` in them, empty
ones count. What a frame announces is judged before anything of it is kept.
"""

from collections.abc import Sequence

import attrs
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension

from triode_broker.config import Limits
from triode_broker.edge.deflate import Inflation
from triode_broker.edge.frames import TOO_BIG, extent


@attrs.frozen
class Failure(Event):
    """The client broke the rules of WebSocket: close with this code, nothing more is read."""

    code: int
    reason: str


class Unusual:
    """Everything from one unusual frame to the next place where a plain one may begin."""

    __slots__ = ("_bytes", "_frames", "_in_message", "_limits", "_message", "_wsproto", "left")

    def __init__(self, limits: Limits, max_inflated_bytes: int = 0) -> None:
        """`max_inflated_bytes`: of a compressed message; 0 = there are none."""
        extensions: list[Extension] = [Inflation(max_inflated_bytes)] if max_inflated_bytes else []
        self._wsproto = Connection(ConnectionType.SERVER, extensions)
        self._limits = limits
        self._frames = 0  # of the unfinished message
        self._bytes = 0  # announced by them
        self._in_message = False
        self._message = bytearray()  # what has come of it; text as bytes: a str for each fragment is 60 bytes
        self.left = 0  # bytes of the present frame that have not been read

    @property
    def is_over(self) -> bool:
        """Between messages and between frames."""
        return self.left == 0 and not self._in_message

    def read(self, data: bytes | bytearray) -> tuple[int, Sequence[Event]]:
        """Take from the front of `data`, at most to the end of one frame.

        Returns how many bytes were taken (0: more must come first) and what they amount to: TextMessage and
        BytesMessage (whole), Ping, Pong, CloseConnection (the client's), Failure.
        """
        if self.left == 0:
            bounds = extent(data)
            if bounds is None:
                return 0, ()
            failure = self._admit(data[0], bounds.payload_bytes)
            if failure is not None:
                return 0, (failure,)
            self.left = sum(bounds)
        piece = bytes(data[: self.left])
        self.left -= len(piece)
        self._wsproto.receive_data(piece)
        events: list[Event] = []
        for event in self._wsproto.events():
            self._collect(event, events)
        return len(piece), events

    def _admit(self, first: int, payload_bytes: int) -> Failure | None:
        if first & 15 > 2:
            return None  # a control frame; longer than 125 bytes wsproto refuses it
        self._frames += 1
        self._bytes += payload_bytes
        if self._bytes > self._limits.max_frame_bytes:
            return Failure(TOO_BIG, f"a message has at most {self._limits.max_frame_bytes} bytes")
        if self._frames > self._limits.max_fragments:
            return Failure(TOO_BIG, f"a message has at most {self._limits.max_fragments} fragments")
        self._in_message = first < 128
        return None

    def _collect(self, event: Event, events: list[Event]) -> None:
        match event:
            case TextMessage():
                self._message += event.data.encode()
                if event.message_finished:
                    events.append(TextMessage(self._message.decode()))
            case BytesMessage():
                self._message += event.data
                if event.message_finished:
                    events.append(BytesMessage(bytes(self._message)))
            case CloseConnection() if self._wsproto.state is ConnectionState.OPEN:
                # wsproto's way to say that the bytes are wrong; a true close changes its state.
                events.append(Failure(int(event.code), event.reason or ""))
            case Ping() | Pong() | CloseConnection():
                events.append(event)

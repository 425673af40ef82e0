"""What waits to be sent to one peer: frames in order, their bytes counted, rows of one log put together.

Pure. Knows the shapes of frames, because it says roughly how many bytes each will take: exact figures would
cost an encoding, and all that hangs on them is a bound. The surprising decision: in an unbroken row of
`Deliver`s (or of `Forward`s, or of `Answered`s) those of one log (or shard) become one frame, even if others
stand between them: across logs there is no order to keep, and the peer then handles a frame per log and not one
per message.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from triode_broker.cluster.frames import (
    Answered,
    AnyFrame,
    Call,
    Deliver,
    Forward,
    Forwarded,
    HandOver,
    Interest,
    Members,
    Older,
    Reply,
    Rows,
    Table,
    Tell,
    Watch,
)
from triode_broker.core.record import Record

#: Of a frame, or a row in it, beside its texts: numbers, lengths. Generous.
_SMALL: Final = 64
#: A frame is not joined to any more once the row has so many bytes.
_MAX_JOINED_BYTES: Final = 262_144


class Outgoing:
    """The frames of one link that are not handed to its socket yet."""

    __slots__ = ("_frames", "_joined_bytes", "_kind", "_open", "_sizes", "bytes")

    def __init__(self) -> None:
        self.bytes = 0  # estimated, of all that waits
        self._frames: list[AnyFrame] = []
        self._sizes: list[int] = []  # of each
        self._kind: type[Any] | None = None  # of the row at the end that still grows
        self._open: dict[str, int] = {}  # where its frames stand, by log or shard; ours, so that they may grow
        self._joined_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, frame: Any) -> None:
        """Append. The frame, and the lists in it, stay the caller's."""
        kind = type(frame)
        size = _SIZES.get(kind, _small)(frame)
        self.bytes += size
        join = _JOINS.get(kind)
        if join is None:
            self._kind = None
        else:
            self._joined_bytes += size
            if kind is not self._kind or self._joined_bytes > _MAX_JOINED_BYTES:
                self._kind = kind
                self._open.clear()
                self._joined_bytes = size
            key = frame.log if kind is Deliver else frame.shard
            at = self._open.get(key)
            if at is not None and join(self._frames[at], frame):
                self._sizes[at] += size
                return
            self._open[key] = len(self._frames)
            frame = _COPIES[kind](frame)
        self._frames.append(frame)
        self._sizes.append(size)

    def take(self, max_bytes: int) -> tuple[list[AnyFrame], int]:
        """The oldest frames, of about so many bytes together but at least one, and what they counted for."""
        self._kind = None
        if self.bytes <= max_bytes:
            frames, size = self._frames, self.bytes
            self.clear()
            return frames, size
        sizes = self._sizes
        count, size = 1, sizes[0]
        while count < len(sizes) and size + sizes[count] <= max_bytes:
            size += sizes[count]
            count += 1
        frames = self._frames[:count]
        del self._frames[:count], sizes[:count]
        self.bytes -= size
        return frames, size

    def clear(self) -> None:
        """Forget all."""
        self._frames, self._sizes, self.bytes = [], [], 0
        self._kind = None


def _join_deliver(grown: Any, frame: Any) -> bool:
    if grown.records[-1].pos != frame.prev:
        return False
    grown.records += frame.records
    return True


def _join_forward(grown: Any, frame: Any) -> bool:
    grown.rows += frame.rows
    grown.answered = frame.answered
    return True


def _join_answered(grown: Any, frame: Any) -> bool:
    grown.answers += frame.answers
    grown.refusals += frame.refusals
    return True


_JOINS: Final[dict[type[Any], Callable[[Any, Any], bool]]] = {
    Deliver: _join_deliver,
    Forward: _join_forward,
    Answered: _join_answered,
}
_COPIES: Final[dict[type[Any], Callable[[Any], Any]]] = {
    Deliver: lambda frame: Deliver(frame.log, frame.prev, [*frame.records]),
    Forward: lambda frame: Forward(frame.shard, frame.answered, [*frame.rows]),
    Answered: lambda frame: Answered(frame.shard, [*frame.answers], [*frame.refusals]),
}


def _small(frame: object) -> int:
    return _SMALL


def _records(frame: Any) -> int:
    records: list[Record] = frame.records
    if len(records) == 1:  # a stream's usual frame
        return len(records[0].payload) + 2 * _SMALL
    return _SMALL * (1 + len(records)) + sum([len(record.payload) for record in records])


def _forwards(frame: Forward) -> int:
    return _SMALL + sum([_forwarded(row) for row in frame.rows])


def _forwarded(row: Forwarded) -> int:
    return 3 * _SMALL + len(row.data) + len(row.b64) + (sum(map(len, row.headers.values())) if row.headers else 0)


def _answers(frame: Answered) -> int:
    return _SMALL * (1 + len(frame.answers) + 4 * len(frame.refusals))


def _texts(texts: Iterable[str] | Iterable[bytes]) -> int:
    return sum([len(text) + 8 for text in texts])


_SIZES: Final[dict[type[Any], Callable[[Any], int]]] = {
    Deliver: _records,
    Rows: _records,
    Older: _records,
    HandOver: lambda frame: _records(frame) + 2 * _SMALL * (len(frame.counters) + 2 * len(frame.ids)),
    Forward: _forwards,
    Answered: _answers,
    Call: lambda frame: _SMALL + len(frame.params),
    Reply: lambda frame: _SMALL + len(frame.result) + len(frame.message),
    Table: lambda frame: _SMALL * (1 + 2 * len(frame.entries)),
    Interest: lambda frame: _SMALL + _texts(frame.filters),
    Watch: lambda frame: _SMALL + _texts(frame.filters),
    Tell: lambda frame: _SMALL + _texts(frame.packets),
    Members: lambda frame: _SMALL + sum([_SMALL + _texts(texts) for texts in frame.topics.values()]),
}

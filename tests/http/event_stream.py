"""What an EventSource makes of the bytes of a stream, by the letter of WHATWG HTML 9.2.6; for tests."""

from collections.abc import Iterator
from typing import Any

import attrs
import msgspec


@attrs.frozen
class Event:
    """One event, or, with type "", what only moved the last id or the time of return."""

    type: str
    data: str
    id: str  # the last one, at this event
    retry: int

    @property
    def packet(self) -> Any:
        """What its data says."""
        return msgspec.json.decode(self.data)


def read_events(data: bytes, last_id: str = "") -> Iterator[Event]:
    """The events in whole blocks of a stream."""
    type, lines, retry = "", list[str](), 0
    for line in data.decode().split("\n")[:-1]:
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield Event((type or "message") if lines else "", "\n".join(lines), last_id, retry)
            type, lines, retry = "", [], 0
        elif name == "data":
            lines.append(value)
        elif name == "event":
            type = value
        elif name == "id":
            last_id = value
        elif name == "retry":
            retry = int(value)
        else:
            assert colon, line
            assert name == "", line

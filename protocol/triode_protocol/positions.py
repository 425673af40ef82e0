"""Positions: a map {log: pos} and its text form for URLs and `Last-Event-ID` (SPEC 2).

`log` names one life of a sequence and is opaque to clients; `pos` is a message's place in it, from 1 on.
A 0 in a position means "before the first message".
"""

import re
from collections.abc import Mapping

MAX_INTEGER = 2**53 - 1  # what a JavaScript number holds exactly
MAX_LOG_CHARACTERS = 32

_LOG = re.compile(rf"[a-z0-9-]{{1,{MAX_LOG_CHARACTERS}}}")
_POS = re.compile(r"0|[1-9][0-9]{0,15}")


def is_log(name: str) -> bool:
    """Whether `name` has the form of a log's name."""
    return _LOG.fullmatch(name) is not None


def to_text(position: Mapping[str, int]) -> str:
    """The position as `log.pos` joined by `~`, in order of log names; an empty position is ""."""
    return "~".join(f"{log}.{pos}" for log, pos in sorted(position.items()))


def from_text(text: str) -> dict[str, int]:
    """The position that `to_text` wrote, its parts in any order. Raises ValueError on anything else."""
    position: dict[str, int] = {}
    for part in text.split("~") if text else ():
        log, _, pos = part.partition(".")
        if not is_log(log) or not _POS.fullmatch(pos):
            raise ValueError(f"not a position: {part!r} is not log.pos")
        if int(pos) > MAX_INTEGER or log in position:
            raise ValueError(f"not a position: {part!r} is out of range or repeated")
        position[log] = int(pos)
    return position

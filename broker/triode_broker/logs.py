"""The broker's log: builds the one logger that everything gets handed.

Knows structlog and the two log settings, nothing of what is logged. The surprising decision: nothing global is
configured. The logger is bound once and passed to constructors, because a disabled call through structlog's
module proxy costs 0.8 µs and through a bound logger 0.07; and two brokers in one process keep two logs. A level
is changed while the broker runs by exchanging the methods of the one class that all loggers of a log are of,
wherever they are kept and whatever was bound to them: so a disabled call is still an empty function, and costs
what it did.

S27: events are constant, what came from outside stands only in values, and no value can forge or break a line. A
line that cannot be written (closed pipe, full disk) is dropped: logging must not end the broker (S1).
"""

import json
import math
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger

from triode_broker.config import Config
from triode_broker.printable import escape, shorten

MAX_VALUE_CHARACTERS = 2_000  # of one value; tracebacks are ours and stay whole
_OURS = ("timestamp", "level", "event", "exception")

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]
#: Methods that a level takes away. Those above only look at it: parts of the broker keep `log.warning` itself.
_QUIETED: Final = ("debug", "info")


def make_logger(config: Config, stream: TextIO | None = None) -> FilteringBoundLogger:
    """A bound logger that writes to `stream` (stderr), one line per event.

    Levels below `config.log_level` cost next to nothing. `log_format` auto: for people on a terminal, else JSON.
    Values are cut at MAX_VALUE_CHARACTERS.
    """
    stream = stream if stream is not None else sys.stderr
    loudness = Loudness(stream)
    logger = structlog.wrap_logger(
        _Lines(stream),
        processors=[
            loudness.let_by,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            loudness.as_line,
        ],
        wrapper_class=loudness.loggers,
    )
    loudness.configure(config.log_level, config.log_format)
    return cast("FilteringBoundLogger", logger.bind())


class Loudness:
    """How much one log writes, and in which form: of all its loggers, at any time. They have it as `loudness`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_console = False
        #: The class of all loggers of this log, and of no others.
        self.loggers: Any = type("Logger", (structlog.make_filtering_bound_logger("debug"),), {"loudness": self})
        self.configured: Level = "info"
        self.level: Level = "info"  # in force

    def configure(self, level: Level, format: Format) -> None:
        """As the settings have it; what was set for a while is over."""
        self._is_console = format == "console" or (format == "auto" and self._stream.isatty())
        self.configured = level
        self.set(level)

    def set(self, level: Level) -> None:
        """From the next line on, until it is set or configured again."""
        self.level = level
        of_level = structlog.make_filtering_bound_logger(level)
        for name in _QUIETED:
            setattr(self.loggers, name, getattr(of_level, name))

    def let_by(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Leave out what the level leaves out, however it was called."""
        if _NUMBERS[method] < _NUMBERS[self.level]:
            raise structlog.DropEvent
        return event

    def as_line(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        """The last thing that is done to an event."""
        return (_console_line if self._is_console else _json_line)(logger, method, event)


_NUMBERS: Final = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "critical": 50, "fatal": 50}


class _Lines:
    """Writes ready lines; counts what it could not write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = 0

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.lost += 1

    debug = info = warning = error = critical = exception = log = msg


def _json_line(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    line: dict[str, Any] = {name: _plain(event[name]) for name in _OURS if name in event and name != "exception"}
    for key, value in event.items():
        if key not in _OURS:
            line[_text(key)] = _plain(value)
    if "exception" in event:
        line["exception"] = _without_surrogates(str(event["exception"]))
    # DEL is the one control character that JSON lets through.
    return json.dumps(line, ensure_ascii=True).replace("\x7f", "\\u007f")


def _console_line(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    moment = str(event["timestamp"])[11:23]
    words = [moment, f"{event['level']:<7}", escape(str(event["event"]))]
    words += [f"{escape(str(key))}={_console_value(value)}" for key, value in event.items() if key not in _OURS]
    lines = ["  ".join(words)]
    if "exception" in event:  # every line is marked as a continuation: none can pass for an event
        lines += [f"  | {escape(line)}" for line in str(event["exception"]).split("\n")]
    return "\n".join(lines)


def _console_value(value: object) -> str:
    plain = _plain(value)
    if isinstance(plain, str):
        is_word = plain.isascii() and plain.isprintable() and not set(plain) & set(" =\"'")
        return plain if plain and is_word else escape(json.dumps(plain, ensure_ascii=False))
    return escape(json.dumps(plain, ensure_ascii=False))


def _plain(value: object, depth: int = 0) -> Any:
    """The value as JSON can say it; whatever it is, this does not fail."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < 3 and isinstance(value, Mapping):
        return {_text(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if depth < 3 and isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, depth + 1) for inner in value]
    return _text(value)


def _text(value: object) -> str:
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001  # a broken __str__ must not break the log
        text = f"<{type(value).__name__} whose text failed: {type(error).__name__}>"
    return shorten(_without_surrogates(text), MAX_VALUE_CHARACTERS)


def _without_surrogates(text: str) -> str:
    """Lone surrogates as visible escapes: strict JSON readers refuse the real ones."""
    return text.encode("utf-8", "backslashreplace").decode()

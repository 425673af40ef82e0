"""The log's level, changed for a while by an operator, and back by itself.

A part of the composition root. The surprising decision: the time is the process's, not the caller's. Whoever has
asked for debug lines and goes away has not left a broker behind that fills its disk.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, get_args

import attrs
import trio

from triode_broker.admin.listener import BadCall
from triode_broker.logs import Format, Level, Loudness

LEVELS: Final = get_args(Level)
#: How long a level may be asked for; without a time it stays until it is set again, or configured otherwise.
MAX_SECONDS: Final = 86_400.0


@attrs.define(eq=False)
class LogLevel:
    """Of one process; where its log is not one of `logs`, there is nothing to set."""

    loudness: Loudness | None
    log: Any
    _ends: float = math.inf  # trio's clock
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def configure(self, level: Level, format: Format) -> None:
        """The settings say so; what was asked for is over."""
        if self.loudness is not None:
            self.loudness.configure(level, format)
            self._end_at(math.inf)

    async def call(self, parameters: Mapping[str, Any]) -> object:
        """`log_level`: what it is; with `level` ("" = as configured) it is set, with `seconds` for so long."""
        loudness = self._own()
        level, seconds = parameters.get("level"), parameters.get("seconds")
        if level is None and seconds is not None:
            raise BadCall("seconds: of which level? name it")
        if level is not None:
            self._set(loudness, level, seconds)
        left = self._ends - trio.current_time()
        return {
            "level": loudness.level,
            "configured": loudness.configured,
            "seconds": None if left == math.inf else max(round(left, 3), 0.0),
        }

    def _set(self, loudness: Loudness, level: object, seconds: object) -> None:
        if level != "" and level not in LEVELS:
            raise BadCall(f"level: {', '.join(LEVELS)}, or nothing for the one that is configured")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and 0 < float(str(seconds)) <= MAX_SECONDS):
            raise BadCall(f"seconds: a number above 0, at most {MAX_SECONDS:g}")
        chosen: Level = loudness.configured if level == "" else next(one for one in LEVELS if one == level)
        self.log.warning("log_level_set", to=chosen, before=loudness.level, seconds=seconds)
        loudness.set(chosen)
        is_for_a_while = seconds is not None and level != ""
        self._end_at(trio.current_time() + float(str(seconds)) if is_for_a_while else math.inf)

    def _own(self) -> Loudness:
        if self.loudness is None:
            raise BadCall("the log of this broker belongs to the program that it is a part of")
        return self.loudness

    def _end_at(self, time: float) -> None:
        self._ends = time
        self._changed.set()

    async def run(self) -> None:
        """Go back to the configured level when it is time, until cancelled."""
        while True:
            self._changed = trio.Event()
            with trio.move_on_at(self._ends):
                await self._changed.wait()
                continue
            self._end_at(math.inf)
            if self.loudness is not None:
                self.loudness.set(self.loudness.configured)
                self.log.warning("log_level_set", to=self.loudness.level, reason="the time is over")

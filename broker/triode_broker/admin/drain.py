"""The administration calls that take a node out of service: `drain` begins it, `drain.end` lasts until the end.

Knows what a drain needs to be told, not how it goes. The surprising decision: `drain.end` has no answer. Its
connection ends when the node has let go of its port and files, and nothing that could still answer knows that.
"""

from collections.abc import Callable, Mapping
from typing import Any

import trio

from triode_broker.admin.listener import BadCall, Call

MAX_SECONDS = 3_600.0


def drain_calls(begin: Callable[[float | None], float], connections: Callable[[], int]) -> dict[str, Call]:
    """What the socket offers. `begin`: the window in seconds, None = as configured → how long it takes."""

    async def drain(parameters: Mapping[str, Any]) -> object:
        seconds = parameters.get("seconds")
        if seconds is not None and not (isinstance(seconds, int | float) and 0 <= seconds <= MAX_SECONDS):
            raise BadCall(f"seconds: a number from 0 to {MAX_SECONDS:g}")
        count = connections()
        return {"connections": count, "seconds": round(begin(seconds), 3)}

    async def end(parameters: Mapping[str, Any]) -> object:
        await trio.sleep_forever()

    return {"drain": drain, "drain.end": end}

"""Both ends of `serve --workers N`: the parent of the processes, and the way one of them hears from its parent.

Knows the pipes of `workers.parent`, and of the server a broker's `drain` and `reloading` alone. The surprising
decision: a worker is `triode serve` once more, told by a flag that no help shows to read its settings from stdin.
So whatever can go wrong while serving is told in the same words.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.workers.parent import Drain, End, Lines, NotReloaded, Reload, Reread, Up, as_line
from triode_broker.workers.plan import Start

#: -P: a worker imports nothing from the directory it happens to be started in.
COMMAND: Final = (sys.executable, "-P", "-m", "triode_broker.cli", "serve", "--as-worker")
_STDIN: Final = 0
#: For a parent that reads a file and tells its workers.
PATIENCE_SECONDS: Final = 10.0
_MAX_START_BYTES: Final = 1_048_576


def read_start() -> Start:
    """What this worker is to be. Raises Failure where nobody says it."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _MAX_START_BYTES:
        piece = os.read(_STDIN, 65_536)  # its parent says nothing more until this worker serves
        if not piece:
            break
        line += piece
    try:
        return msgspec.json.decode(line, type=Start)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Failure(ExitCode.USAGE, "--as-worker is for the processes that --workers starts") from error


class Upwards:
    """What a worker and its parent tell each other while it serves."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._told = trio.Event()  # what came of the last rereading

    def announce(self, urls: list[str]) -> None:
        """This worker serves."""
        _tell(Up(urls))

    async def _ask_parent(self) -> None:
        """Have it read the settings again. Returns when it has told this worker what came of it."""
        if self._told.is_set():
            self._told = trio.Event()
        _tell(Reread())
        with trio.move_on_after(PATIENCE_SECONDS) as waiting:
            await self._told.wait()
        if waiting.cancelled_caught:
            raise Refused(ErrorName.UNAVAILABLE, "the parent of this worker has not answered: see its log")

    async def attend(self, broker: Any) -> None:
        """Pass on a drain, in both directions, take in other rules, and end when the parent has."""
        begin: Callable[[float | None], float] = broker.drain

        def drain(seconds: float | None) -> float:
            left = begin(seconds)
            _tell(Drain(seconds))  # as it was asked for: a time that is named would cut drain_delay_ms short
            return left

        broker.drain = drain
        broker.reloading.ask_parent = self._ask_parent
        async with trio.lowlevel.FdStream(os.dup(_STDIN)) as stream:
            async for said in Lines(stream).records():
                if isinstance(said, Drain):
                    begin(said.seconds)
                elif isinstance(said, Reload):
                    broker.reloading.renew()
                    broker.reloading.reload(said.put_into(broker.reloading.config), said.need_a_restart)
                    self._told.set()
                elif isinstance(said, NotReloaded):
                    broker.reloading.failed(said.reason)
                    self._told.set()
                elif isinstance(said, End):
                    signal.raise_signal(signal.SIGINT)
        self._log.error("parent_gone")
        signal.raise_signal(signal.SIGINT)


def _tell(record: msgspec.Struct) -> None:
    with suppress(Failure, BrokenPipeError):  # the parent has gone, which stdin says too
        say(as_line(record).decode())

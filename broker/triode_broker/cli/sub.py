"""`triode sub`: the messages of some filters as lines on stdout.

Knows the client library and a descriptor. The surprising decision: lines are written by a thread, all that wait in
one write. A reader that stalls (`| less`) then stops this program's output and not its connection; what it does
not take, the broker keeps, and a gap says so where it could not.
"""

import argparse
import os
import re
import select
import sys
import time
from collections.abc import Callable, Mapping

import trio
import triode
from triode.client import From
from triode_protocol.topics import is_wildcard

from triode_broker.cli.connecting import (
    CONNECT_SECONDS,
    connected,
    explain,
    failures_in_words,
    make_client,
    tell_changes,
    url,
)
from triode_broker.cli.display import as_json, as_text
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.running import run_trio
from triode_broker.cli.screen import Screen
from triode_broker.cli.streams import failures_of

STDOUT = 1
MAX_LAST = 10_000  # as the protocol allows
MAX_WAITING_LINES = 1_000  # for the one who reads stdout; then messages wait in the client, then at the broker
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Print messages until there are enough, time is up, or nobody reads. Raises Failure."""
    start = parse_start(arguments.start, time.time_ns() // 1_000_000)
    if isinstance(start, Mapping) and "last" in start and any(map(is_wildcard, filter(None, arguments.filters))):
        raise Failure(ExitCode.USAGE, "--from last:N is for exact topics; `last` alone is for any filter")
    address = url(arguments, environ)
    patience = min(CONNECT_SECONDS, arguments.timeout or CONNECT_SECONDS)
    client = make_client(arguments, environ, patience)
    output = Output(arguments.count, as_json if arguments.json else as_text)

    async def main() -> ExitCode:
        deadline = trio.current_time() + (arguments.timeout or float("inf"))
        async with connected(client, address, patience):
            ended = await listen(client, arguments.filters, start, output, address, deadline)
        if arguments.count is not None and output.is_short:
            return ExitCode.TIMEOUT
        return ExitCode.REFUSED if ended else ExitCode.OK

    return run_trio(main)


def parse_start(text: str, now_ms: int) -> From:
    """What --from says. `now_ms`: this machine's clock, for durations. Raises Failure."""
    if text in ("new", "last", "earliest"):
        return text  # type: ignore[return-value]  # one of the three literals
    if (found := re.fullmatch(r"last:([1-9][0-9]{0,4})", text, re.ASCII)) and int(found[1]) <= MAX_LAST:
        return {"last": int(found[1])}
    if found := re.fullmatch(r"since:([0-9]{1,15})(ms|s|m|h|d|)", text, re.ASCII):
        number, unit = int(found[1]), found[2]
        return {"since": number if not unit else max(0, now_ms - number * _UNIT_MS[unit])}
    allowed = (
        f"new, last, earliest, last:N (N from 1 to {MAX_LAST}), "
        "since:90s (ms, s, m, h, d) or since:MS (since 1970)"
    )
    raise Failure(ExitCode.USAGE, f"--from {text}: allowed is {allowed}")


async def listen(
    client: triode.Client, filters: list[str], start: From, output: "Output", address: str, deadline: float
) -> list[str]:
    """Print what the filters match until `output` has enough or time is up.

    Returns which filters were taken away meanwhile. Raises Failure where one is refused, or none is left.
    """
    screen, ended = Screen(), list[str]()

    async def follow_one(filter: str) -> None:
        failure = await follow(client, filter, start, output, screen, address)
        ended.append(filter)
        if len(ended) == len(filters):
            raise failure
        screen.tell(f"{failure}; the others go on")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_changes, client.events(), screen)
        nursery.start_soon(output.finish_at, deadline)
        for one in filters:
            nursery.start_soon(follow_one, one)
        await output.write_lines()
        nursery.cancel_scope.cancel()
    return ended


async def follow(
    client: triode.Client, filter: str, start: From, output: "Output", screen: Screen, address: str
) -> Failure:
    """Hand the messages of one filter to `output`, and tell of gaps, until it is taken away, and why.

    Raises Failure where it never was open: that is a mistake to be told, not something to live with.
    """
    was_open = False

    def tell_gap(gap: triode.Gap) -> None:
        where = f"{gap.topic}: " if gap.topic else f"{filter}: "
        numbers = f", offsets {gap.from_offset} to {gap.to_offset}" if gap.to_offset else ""
        screen.tell(f"{where}messages are missing here ({gap.reason}{numbers})")

    with failures_in_words(address):
        try:
            async with client.subscribe(filter, from_=start, on_gap=tell_gap) as messages:
                try:
                    while True:
                        await output.put(await anext(messages))
                finally:
                    was_open = bool(messages.position)
        except triode.SubscriptionEnded as error:
            failure = Failure(ExitCode.REFUSED, f"{filter}: {explain(error, address)}")
            if not was_open:
                raise failure from error
    return failure


class Output:
    """Lines on their way to stdout, and how many are still wanted."""

    def __init__(
        self, count: int | None, render: Callable[[triode.Message], str], descriptor: int = STDOUT
    ) -> None:
        self._missing = count if count is not None else sys.maxsize
        self.is_short = False  # time was up before there were enough
        self._render = render
        self._descriptor = descriptor
        self._lines: list[str] = []
        self._arrivals = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    async def put(self, message: triode.Message) -> None:
        """Queue one line, unless there are enough; waits while the reader is far behind."""
        if self._missing > 0:
            self._missing -= 1
            self._lines.append(self._render(message) + "\n")
            self._arrivals.unpark_all()
        while len(self._lines) >= MAX_WAITING_LINES:
            await self._room.park()

    async def finish_at(self, deadline: float) -> None:
        """Want no more lines once it is so late."""
        await trio.sleep_until(deadline)
        self.is_short = self._missing > 0
        self._missing = 0
        self._arrivals.unpark_all()

    async def write_lines(self) -> None:
        """Write what is queued, at once, until there are enough lines or nobody reads them."""
        while self._lines or self._missing > 0:
            if not self._lines:
                await self._arrivals.park()
                continue
            text = "".join(self._lines).encode()
            self._lines.clear()
            self._room.unpark_all()
            try:
                with failures_of("stdout"):
                    await trio.to_thread.run_sync(write_all, self._descriptor, text, abandon_on_cancel=True)
            except BrokenPipeError:
                return


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, also to a descriptor that another program has made non-blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])

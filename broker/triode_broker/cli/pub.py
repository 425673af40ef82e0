"""`triode pub`: one message, or every line of stdin while they come.

Knows the client library and its receipts. The surprising decision: two tasks with a bounded queue of receipts
between them. One hands lines to the client in order and waits for no answer, the other takes the answers in that
order: the window stays full on a fast pipe, and on a slow one (`tail -f`) a refusal is told at once.
"""

import argparse
import math
import os
import stat
import sys
from collections import Counter
from collections.abc import Mapping
from typing import TypedDict

import msgspec
import trio
import triode
from attrs import frozen
from triode_protocol.positions import to_text
from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, check_topic

from triode_broker.cli.connecting import (
    CONNECT_SECONDS,
    OF_TOKENS,
    connected,
    explain,
    failures_in_words,
    make_client,
    tell_changes,
    url,
)
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.lines import MAX_LINE_BYTES, Line, LineCutter, read_chunk
from triode_broker.cli.running import run_trio
from triode_broker.cli.screen import Screen
from triode_broker.cli.streams import drop_stdout, failures_of, say

STDIN = 0
# Lines handed to the client and not answered: as many as a broker allows by default, refilled at half. With more,
# the window would always be full, every answer would let one line out, and each would cost a frame of its own.
MAX_UNANSWERED = 256
MAX_TOLD = 10  # refused lines that are told one by one; the rest is counted


class BadLine(ValueError):
    """A line that cannot be sent, and why."""


class Keywords(TypedDict):
    """The arguments of `triode.Client.publish` that a command sets."""

    topic: str
    data: object
    key: str
    headers: dict[str, str]


@frozen
class Template:
    """What every message of one command has in common."""

    topic: str
    key: str
    headers: dict[str, str]
    is_json: bool

    def message(self, data: object) -> "Keywords":
        """What `publish` and its relatives take."""
        return {"topic": self.topic, "data": data, "key": self.key, "headers": self.headers}

    def payload(self, text: bytes) -> object:
        """The data to send: JSON as it stands, or text. Raises BadLine."""
        if not self.is_json:
            return text.decode("utf-8", "replace")
        try:
            return msgspec.json.decode(text.decode(), type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadLine(f"not JSON: {error}") from error


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Publish. Raises Failure."""
    template = Template(arguments.topic, arguments.key, headers(arguments.header), arguments.json)
    address = url(arguments, environ)
    is_stream = arguments.data == "-"
    with failures_in_words(address):
        check_topic(template.topic, HARD_MAX_LEVELS, HARD_MAX_BYTES)
    patience = arguments.timeout or (math.inf if is_stream else CONNECT_SECONDS)
    client = make_client(arguments, environ, patience, patience)

    async def main() -> ExitCode:
        is_acknowledged, stream = not arguments.no_ack, None
        async with connected(client, address, patience):
            if is_stream:
                is_verbose = arguments.verbose
                stream = Stream(client, template, address, is_acknowledged=is_acknowledged, is_verbose=is_verbose)
                await stream.run()
            else:
                await publish_one(client, template, arguments.data, is_acknowledged=is_acknowledged)
        return await stream.verdict() if stream is not None else ExitCode.OK

    return run_trio(main)


def headers(given: list[str]) -> dict[str, str]:
    """Headers from NAME=VALUE. Raises Failure."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or name in found:
            raise Failure(ExitCode.USAGE, f"--header {text}: allowed is NAME=VALUE, each name once")
        found[name] = value
    return found


async def publish_one(client: triode.Client, template: Template, text: str, *, is_acknowledged: bool) -> None:
    """Publish DATA; print where it went."""
    try:
        message = template.message(template.payload(os.fsencode(text)))
    except BadLine as error:
        raise Failure(ExitCode.USAGE, f"DATA is {error}") from error
    if is_acknowledged:
        say(f"{as_words(await client.publish(**message))}\n")
    else:
        await client.send(**message)


def as_words(place: triode.Published) -> str:
    """A position as `--from` and other programs take it, and what else is known of the message."""
    duplicate = " duplicate" if place.duplicate else ""
    return f"{to_text(place.position)} offset {place.offset} {place.level}{duplicate}"


Answers = trio.MemoryReceiveChannel[tuple[int, triode.Receipt]]
Questions = trio.MemorySendChannel[tuple[int, triode.Receipt]]


class Stream:
    """Publishes the lines of stdin until it ends, and counts how each of them ended."""

    def __init__(
        self, client: triode.Client, template: Template, address: str, *, is_acknowledged: bool, is_verbose: bool
    ) -> None:
        self._client = client
        self._template = template
        self._address = address
        self._is_acknowledged = is_acknowledged
        self._is_verbose = is_verbose
        self._screen = Screen()
        state = os.fstat(STDIN)
        self._input_bytes = state.st_size if stat.S_ISREG(state.st_mode) else 0  # 0: nobody knows, as of a pipe
        self._read = 0  # lines
        self._read_bytes = 0
        self._ends: Counter[ExitCode] = Counter()
        self._unanswered = 0
        self._complaints = 0
        self._room = trio.lowlevel.ParkingLot()  # left when half of MAX_UNANSWERED are answered

    async def run(self) -> None:
        """Until stdin has ended. Raises Failure where nothing can be sent any more."""
        self._events = self._client.events()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell_changes, self._events, self._screen, self._complain)
                if not sys.stdin.isatty():  # else it would run into what is being typed
                    nursery.start_soon(self._screen.show_progress, self._progress)
                await self._work()
                nursery.cancel_scope.cancel()
        except BaseException:
            if self._read > self._ends.total():
                self._screen.tell(f"ended early: {self._progress()}, which may or may not be stored")
            raise

    async def verdict(self) -> ExitCode:
        """The exit code of all lines together, once the client is closed: until then complaints may come."""
        async for event in self._events:
            if isinstance(event, triode.Complaint) and event.name not in OF_TOKENS:
                self._complain(event)
        worst = max((code for code, count in self._ends.items() if count), default=ExitCode.OK)
        done = "published" if self._is_acknowledged else "sent"
        if worst is not ExitCode.OK or self._complaints:
            self._screen.tell(f"{self._read} lines read, {self._ends[ExitCode.OK]} {done}")
        if self._complaints:
            times = f"{self._complaints} times" if self._complaints > 1 else "once"
            how = "without --no-ack they wait and go out again"
            self._screen.tell(f"of these the broker has refused some, {times} one or many: {how}")
            worst = max(worst, ExitCode.REFUSED)
        return worst

    def _complain(self, complaint: triode.Complaint) -> None:
        """Of a line that nobody waits for: which one it was, and how many with it, is not said."""
        self._complaints += 1
        if self._complaints <= MAX_TOLD:
            self._screen.tell(f"the broker refused a message: {complaint.name}: {complaint.message}")
        if self._complaints == MAX_TOLD:
            self._screen.tell("further refusals are only counted")

    def _progress(self) -> str:
        waiting = self._read - self._ends.total()
        share = (
            f"{min(100, 100 * self._read_bytes // self._input_bytes)} % of the input, "
            if self._input_bytes
            else ""
        )
        return f"{share}{self._read} lines read, {self._ends[ExitCode.OK]} published, {waiting} on their way"

    async def _work(self) -> None:
        questions, answers = trio.open_memory_channel[tuple[int, triode.Receipt]](MAX_UNANSWERED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_answers, answers)
            async with questions:
                cutter, chunk = LineCutter(), b"not the end"
                while chunk:
                    with failures_of("stdin"):
                        chunk = await read_chunk(STDIN)
                    for line in cutter.feed(chunk):
                        await self._hand_over(line, questions)

    async def _hand_over(self, line: Line, questions: Questions) -> None:
        self._read = line.number
        self._read_bytes += len(line.content) + 1
        try:
            if line.is_cut:
                raise BadLine(f"longer than {MAX_LINE_BYTES} bytes")
            if self._template.is_json and not line.content.strip():
                self._ends[ExitCode.OK] += 1  # a blank line between JSON lines is none
                return
            data = self._template.payload(line.content)
        except BadLine as error:
            self._count_failure(line.number, Failure(ExitCode.FAILURE, str(error)))
            return
        with failures_in_words(self._address):
            if self._is_acknowledged:
                questions.send_nowait((line.number, await self._queue(data)))  # its bound is the one of _queue
            else:
                await self._send(data)
                self._ends[ExitCode.OK] += 1

    async def _queue(self, data: object) -> triode.Receipt:
        """Hand over to the client. No checkpoint while there is room, so that lines leave together."""
        if self._unanswered >= MAX_UNANSWERED:
            await self._room.park()
        while True:
            try:
                receipt = self._client.publish_nowait(**self._template.message(data))
            except triode.QueueFull:  # of long lines: its bytes are bounded too
                await self._room.park()
            else:
                self._unanswered += 1
                return receipt

    async def _send(self, data: object) -> None:
        """The same without acknowledgement; waits for a connection where there is none."""
        while True:
            events = self._client.events()
            try:
                return await self._client.send(**self._template.message(data))
            except triode.QueueFull:
                async for event in events:
                    if isinstance(event, triode.StateChanged) and event.state is triode.State.CONNECTED:
                        break

    async def _take_answers(self, answers: Answers) -> None:
        async for number, receipt in answers:
            try:
                place = await receipt.wait()
            except triode.ConnectionClosed as error:
                raise explain(error, self._address) from error
            except triode.TriodeError as error:
                self._count_failure(number, explain(error, self._address))
            else:
                self._ends[ExitCode.OK] += 1
                if self._is_verbose:
                    self._print(place)
            self._unanswered -= 1
            if self._unanswered <= MAX_UNANSWERED // 2:
                self._room.unpark_all()

    def _print(self, place: triode.Published) -> None:
        try:
            say(f"{as_words(place)}\n")
        except BrokenPipeError as error:  # as `| head` ends: but here lines are lost with it, so it is a failure
            drop_stdout()
            raise Failure(ExitCode.FAILURE, "stdout: nobody reads it any more") from error

    def _count_failure(self, number: int, failure: Failure) -> None:
        self._ends[failure.code] += 1
        told = self._ends.total() - self._ends[ExitCode.OK]
        if told <= MAX_TOLD:
            self._screen.tell(f"line {number}: {failure}")
        if told == MAX_TOLD:
            self._screen.tell("further lines that are not published are only counted")

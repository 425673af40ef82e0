"""The parent: starts the workers, starts again those that end, and ends them all.

A worker reads what it is to be from its stdin, a line (an argument would show the secret), and lines of its stdin
and stdout are what is said between them later on. It ends when its stdin does: so no worker outlives its parent,
however that died. Told to end, the parent passes it on in lines too: who sends a signal to all processes at once,
as systemd does, would else have sent each worker two, and the second cuts the drain short. Knows nothing of what a
worker serves.

The surprising decision: a worker that gives up by itself before it has ever served ends everything. Its settings
or files are wrong, it has said so, and trying again would only say it again. Later on none of its ends does.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from subprocess import PIPE
from typing import Any, Final

import msgspec
import trio
from attrs import define, field
from msgspec import Struct

from triode_broker.config import Config
from triode_broker.config.effects import effect_of, names, put, value_of
from triode_broker.hangup import Terminal
from triode_broker.rereading import need_a_restart, taken
from triode_broker.workers.plan import Start, without_one_time_settings

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 5.0
#: A worker that lived so long starts again as if it had never ended.
LONG_LIFE_SECONDS: Final = 60.0
#: What workers get to end in good order, beyond the window over which they send their clients away.
END_SECONDS: Final = 60.0
MAX_LINE_BYTES: Final = 1_048_576  # rules may be long
#: How a process ends that is told to before it has got to minding signals.
EARLY_ENDS: Final = frozenset({-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT})


class Up(Struct, frozen=True, tag=True):
    """A worker serves."""

    urls: list[str]


class Drain(Struct, frozen=True, tag=True):
    """To the parent: this worker was asked to drain, over so long. To a worker: do so too; None: as configured."""

    seconds: float | None = None


class End(Struct, frozen=True, tag=True):
    """To a worker: no drain, or no more of it."""


class Reread(Struct, frozen=True, tag=True):
    """To the parent: an operator asks this worker for the settings to be read again, for all of the host."""


class Reload(Struct, frozen=True, tag=True):
    """To a worker: the host's settings are these from now on (`reloading`)."""

    config: Config  # the host's
    need_a_restart: list[str] = []  # settings of the host that wait
    before: tuple[str, ...] = ()  # its seeds until now; a worker has others besides

    @classmethod
    def of(cls, config: Config, in_force: Config) -> "Reload":
        """What settings that were read again say, as far as they can be taken."""
        return cls(taken(in_force, config), need_a_restart(in_force, config), in_force.seeds)

    def put_into(self, config: Config) -> Config:
        """A worker's settings with these in them, as far as they are not its own."""
        changes = {name: value_of(self.config, name) for name in names(Config) if effect_of(name) != "restart"}
        others = [seed for seed in config.seeds if seed not in (*self.before, *self.config.seeds)]
        mine: Config = put(config, {**changes, "seeds": (*self.config.seeds, *others)})
        return mine


class NotReloaded(Struct, frozen=True, tag=True):
    """To a worker: settings were read again, and cannot be used."""

    reason: str


Line = Up | Drain | End | Reread | Reload | NotReloaded


@define
class Delays:
    """How long to wait before a worker starts again: longer each time, until one has lived for long."""

    _next: float = FIRST_DELAY_SECONDS

    def after(self, lived_seconds: float) -> float:
        """The wait after a life of so long."""
        if lived_seconds >= LONG_LIFE_SECONDS:
            self._next = FIRST_DELAY_SECONDS
        delay = self._next
        self._next = min(2 * delay, LONGEST_DELAY_SECONDS)
        return delay


class Lines:
    """Both directions of a pipe's ends, a record a line; what is no record of ours is passed over."""

    def __init__(self, received: trio.abc.ReceiveStream) -> None:
        self._received = received
        self._rest = b""

    async def next(self) -> bytes | None:
        """A line, or None at the end."""
        while b"\n" not in self._rest:
            try:
                piece = await self._received.receive_some()
            except trio.BrokenResourceError:
                return None
            if not piece:
                return None
            self._rest = self._rest[-MAX_LINE_BYTES:] + piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def records(self) -> AsyncIterator[Line]:
        """What comes, until the end."""
        while (line := await self.next()) is not None:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                yield msgspec.json.decode(line, type=Line)


def as_line(record: Struct) -> bytes:
    """What `Lines` reads."""
    return msgspec.json.encode(record) + b"\n"


@define(eq=False)
class Life:
    """One process of a worker."""

    process: trio.Process
    is_up: bool = False
    owed: list[Reload | NotReloaded] = field(factory=list)  # to be told once it serves, in this order
    _is_telling: bool = False

    def tell(self, wish: Drain | End) -> None:
        """How it is to end; one that does not serve yet has nobody to send away."""
        if not self.is_up:
            self.kill(signal.SIGTERM)
        else:
            assert isinstance(self.process.stdin, trio.lowlevel.FdStream)
            with suppress(OSError):  # it has ended, which is seen elsewhere
                os.write(self.process.stdin.fileno(), as_line(wish))

    async def pay(self) -> None:
        """Tell it of other rules than it was started with, or why there are none: one after the other."""
        if not self.is_up or self._is_telling:
            return
        assert self.process.stdin is not None
        self._is_telling = True
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it has ended, which is seen elsewhere
            while self.owed:
                await self.process.stdin.send_all(as_line(self.owed.pop(0)))
        self._is_telling = False

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, if there is still somebody to get it."""
        if self.process.returncode is None:
            self.process.send_signal(number)


@define(eq=False)
class Parent:
    """All workers of a host; `run` once."""

    starts: Sequence[Start]
    command: Sequence[str]  # of a worker; its name is added
    log: Any
    announce: Callable[[list[str]], None]  # called with the URLs once all serve for the first time
    reread: Callable[[], Config] | None = None  # the settings, on SIGHUP; ValueError: what is wrong with them
    config: Config = field(factory=Config)  # the host's, in force
    _last: Reload | NotReloaded | None = None  # what came of the last SIGHUP
    _telling: trio.Nursery = field(init=False)  # of workers that take their time to listen
    _lives: dict[int, Life] = field(factory=dict)
    _urls: dict[int, list[str]] = field(factory=dict)  # of workers that have served
    _stopping: trio.Event = field(factory=trio.Event)
    _wish: Drain | End = field(factory=Drain)  # of those who are stopping it
    _patient_until: float = 0.0
    _code: int = 0

    async def run(self) -> int:
        """Until a signal or a drain, then until all workers have ended; exit code 0 if all did in good order."""
        async with trio.open_nursery() as nursery:
            self._telling = nursery
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                nursery.start_soon(self._obey, signals)
                nursery.start_soon(self._lose_patience)
                async with trio.open_nursery() as workers:
                    for number in range(len(self.starts)):
                        workers.start_soon(self._keep, number)
                nursery.cancel_scope.cancel()
        self.log.info("workers_stopped", exit_code=self._code)
        return self._code

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        """SIGTERM drains the workers, another or SIGINT ends them at once, one more kills them; SIGHUP reloads."""
        terminal = Terminal()
        async for number in signals:
            if number == signal.SIGHUP and terminal.is_gone:
                self._stop(End())
                continue
            self.log.info("signal", name=signal.Signals(number).name)
            if number == signal.SIGHUP:
                self._reload()
            elif not self._stopping.is_set():
                self._stop(Drain() if number == signal.SIGTERM else End())
            elif isinstance(self._wish, Drain):
                self._stop(End())
            else:
                self._kill()

    def _reload(self) -> None:
        """Each worker judges for itself whether it can use what was read; so does one that starts later."""
        if self.reread is None:
            return
        wish: Reload | NotReloaded
        try:
            wish = Reload.of(self.reread(), self.config)
            self.config = wish.config
        except ValueError as error:
            self.log.error("settings_not_reloaded", reason=str(error))
            wish = NotReloaded(str(error))
        else:
            self.starts = [Start(wish.put_into(start.config), start.worker) for start in self.starts]
        self._last = wish
        for life in self._lives.values():
            life.owed.append(wish)
            self._telling.start_soon(life.pay)

    def _stop(self, wish: Drain | End) -> None:
        """All workers, in good order; none starts again."""
        self._wish = wish
        seconds = wish.seconds if isinstance(wish, Drain) else 0.0
        if seconds is None:
            limits = self.starts[0].config.limits
            seconds = (limits.drain_delay_ms + limits.drain_window_ms) / 1000
        self._patient_until = max(self._patient_until, trio.current_time() + seconds + END_SECONDS)
        self._stopping.set()
        for life in self._lives.values():
            life.tell(wish)

    def _kill(self) -> None:
        for life in self._lives.values():
            life.kill()

    async def _lose_patience(self) -> None:
        await self._stopping.wait()
        while (seconds := self._patient_until - trio.current_time()) > 0:  # noqa: ASYNC110  # it may be put off
            await trio.sleep(seconds)
        self.log.error("workers_killed", workers=[self._name(number) for number in self._lives])
        self._kill()

    async def _keep(self, number: int) -> None:
        """One worker, over all its lives."""
        delays = Delays()
        while not self._stopping.is_set():
            began = trio.current_time()
            try:
                self._judge(number, await self._live(number))
            except OSError as error:  # no room for one more process; maybe later
                self.log.error("worker_not_started", node=self._name(number), reason=str(error))
            if not self._stopping.is_set():
                delay = delays.after(trio.current_time() - began)
                self.log.info("worker_restarts", node=self._name(number), seconds=delay)
                with trio.move_on_after(delay):
                    await self._stopping.wait()

    def _judge(self, number: int, life: Life) -> None:
        """What its end means for the others, and for the exit code."""
        code = life.process.returncode or 0
        was_cut_short = code in EARLY_ENDS and not life.is_up
        if not self._stopping.is_set():
            self.log.warning("worker_ended", node=self._name(number), pid=life.process.pid, **_how(code))
            if code > 0 and number not in self._urls and not was_cut_short:
                self._code = code
                self._stop(End())
        elif code != 0 and not was_cut_short:
            self._code = self._code or 1
            self.log.error("worker_ended", node=self._name(number), pid=life.process.pid, **_how(code))

    async def _live(self, number: int) -> Life:
        """One process, from its start to its end."""
        process = await trio.lowlevel.open_process([*self.command, self._name(number)], stdin=PIPE, stdout=PIPE)
        life = self._lives[number] = Life(process, owed=[] if self._last is None else [self._last])
        start = self.starts[number]  # as they are now: what is read from here on is owed
        if number in self._urls:
            start = without_one_time_settings(start)
        self.log.info("worker_starts", node=self._name(number), pid=process.pid)
        try:
            if self._stopping.is_set():
                life.tell(self._wish)
            await _tell(process, start)
            await self._listen(number, life)
            await process.wait()
        finally:
            del self._lives[number]
            await _bury(process)
        return life

    async def _listen(self, number: int, life: Life) -> None:
        assert life.process.stdout is not None
        async for said in Lines(life.process.stdout).records():
            if isinstance(said, Up):
                life.is_up = True
                self._telling.start_soon(life.pay)
                self._is_up(number, said.urls)
            elif isinstance(said, Drain):
                self.log.info("workers_drain", seconds=said.seconds)
                self._stop(said)
            elif isinstance(said, Reread):
                self._reload()

    def _is_up(self, number: int, urls: list[str]) -> None:
        is_first = len(self._urls) < len(self.starts)
        self._urls[number] = urls
        if is_first and len(self._urls) == len(self.starts):
            self.log.info("workers_up", workers=len(self.starts), urls=self._urls[0])
            self.announce(self._urls[0])

    def _name(self, number: int) -> str:
        return self.starts[number].config.node


def _how(code: int) -> dict[str, object]:
    """How a process ended, for the log."""
    named = {known.value: known.name for known in signal.Signals}
    return {"exit_code": code} if code >= 0 else {"signal": named.get(-code, str(-code))}


async def _tell(process: trio.Process, start: Start) -> None:
    assert process.stdin is not None
    with suppress(trio.BrokenResourceError):  # it has ended, which is seen elsewhere
        await process.stdin.send_all(as_line(start))


async def _bury(process: trio.Process) -> None:
    """Leave nothing of it: it has ended, or the parent itself is failing."""
    with trio.CancelScope(shield=True):
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            await trio.aclose_forcefully(pipe)
        with trio.move_on_after(END_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()

"""Plays one scenario: the script's steps against one client, step by step, until the end or the first fault.

Knows the stage and the adapter, not how results are shown. The surprising decision: a fault of the client is told
at the step that was being played when it was seen, because that is where its author reads on; the conversation
says when it happened.
"""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import trio
from attrs import define, field

from triode_broker.conformance import steps
from triode_broker.conformance.adapter import Adapter, AdapterFailed, Unexpected
from triode_broker.conformance.completing import complete, connected
from triode_broker.conformance.patterns import Captures, Unknown, fill_in, mismatch
from triode_broker.conformance.stage import Arrival, Line, Stage, completed

_ALWAYS_ALLOWED: Final = frozenset({"ping", "pong"})  # signs of life; pings are answered by the line itself


class Failed(Exception):
    """The client did not do what the step asks for."""


@define
class Failure:
    """What went wrong, for people."""

    step: int  # from 1; 0: not in a step
    wanted: str
    reason: str
    conversation: list[tuple[str, str]]


@define(eq=False)
class Player:
    """One scenario and one client. `patience_seconds`: for each step."""

    scenario: steps.Scenario
    adapter: Adapter
    patience_seconds: float
    conversation: list[tuple[str, str]] = field(factory=list)
    _stage: Stage = field(init=False)
    _captures: Captures = field(factory=dict, init=False)
    _allowed: list[steps.Pattern] = field(factory=list, init=False)
    _line: Line | None = field(default=None, init=False)
    _last: dict[str, Any] = field(factory=dict, init=False)  # the packet that was expected last
    _last_at: str = field(default="", init=False)
    _number: int = field(default=0, init=False)

    async def play(self) -> Failure | None:
        """Play it; None: all is well. Afterwards the adapter is to be reset. Raises AdapterFailed only then."""
        script = self.scenario.script()
        wanted = ""
        async with trio.open_nursery() as nursery:
            self._stage = Stage(self.adapter.news, self._note, nursery)
            await self._stage.listen(self.scenario.servers())
            self._captures.update({f"url_{name}": url for name, url in self._stage.urls.items()})
            try:
                for self._number, step in enumerate(script, 1):
                    wanted = _in_words(step)
                    await self._bounded(step)
                self._number, wanted = 0, "nothing more"
                self._check_end()
            except (Failed, AdapterFailed, Unknown, ValueError) as failed:
                reason = self._fault() or str(failed)
                return Failure(self._number, wanted, reason, list(self.conversation))
            finally:
                await self._reset()
                nursery.cancel_scope.cancel()
        return None

    async def _reset(self) -> None:
        """The client goes away while its broker is still there to close with it."""
        self._stage.end()
        with trio.move_on_after(self.patience_seconds) as waiting:
            with suppress(AdapterFailed):  # `trouble` tells
                await self.adapter.reset()
        if waiting.cancelled_caught:
            self.adapter.trouble = f"`reset` was not answered within {self.patience_seconds:g} s"

    async def _bounded(self, step: steps.Step) -> None:
        with trio.move_on_after(self.patience_seconds):
            await _PLAYS[type(step)](self, step)
            if fault := self._fault():
                raise Failed(fault)
            return
        raise Failed(f"nothing of the kind came within {self.patience_seconds:g} s{self._instead()}")

    def _instead(self) -> str:
        """What did come and was not asked for."""
        waiting = [*(self._line.inbox if self._line else ()), *self.adapter.all_reports()]
        return f"; unread: {', '.join(map(_short, waiting))}" if waiting else ""

    def _fault(self) -> str:
        """What a client must never do, and this one did."""
        if self.adapter.trouble:
            errors = self.adapter.errors.strip()
            return f"the adapter: {self.adapter.trouble}" + (f"\n{errors}" if errors else "")
        return self._stage.fault

    def _note(self, who: str, what: str) -> None:
        self.conversation.append((who, what))

    # The program

    async def _do(self, step: steps.Do) -> None:
        command = fill_in(step.do, self._captures)
        if command.get("command") == "connect":
            command.setdefault("urls", [self._stage.urls["a"]])
        self._note("program", json.dumps(command, ensure_ascii=False))
        await self.adapter.tell(command)

    async def _report(self, step: steps.Report) -> None:
        try:
            wanted = _named(step.report, self._captures)
            report = await self.adapter.hear(wanted, self._captures, self._check)
        except Unexpected as other:
            self._note("told", _short(other.report))
            raise Failed(f"{other}; the program was told {_short(other.report)}") from other
        self._note("told", json.dumps(report, ensure_ascii=False))

    # Connections

    async def _arrival(self, at: str) -> Arrival:
        arrivals = self._stage.arrivals
        while True:
            while arrivals and arrivals[0].valve.has_ended:  # the runner was slow, and the client has given up
                arrivals.popleft()
            if arrivals:
                break
            self._check()
            await self.adapter.news.park()
        arrival = arrivals.popleft()
        if arrival.fault:
            raise Failed(arrival.fault)
        if not self._is_at(arrival.at, at):
            raise Failed(f"the client dials server {arrival.at}, not {at}")
        self._last_at = arrival.at
        return arrival

    def _is_at(self, actual: str, wanted: str) -> bool:
        match wanted:
            case "any":
                return True
            case "other":
                return actual != self._last_at
            case "same":
                return actual == self._last_at
        return actual == wanted

    def _check(self) -> None:
        if fault := self._fault():
            raise Failed(fault)

    async def _open(self, step: steps.Open | steps.Accept) -> Line:
        line = await self._stage.accept(await self._arrival(step.at))
        if line is None:
            raise Failed("the client has dropped the connection before its handshake was answered")
        self._line = line
        return line

    async def _accept(self, step: steps.Accept) -> None:
        line = await self._open(step)
        connect = await self._packet({"type": "connect", **step.connect})
        packet = connected({"connection": line.name, **fill_in(step.accept, self._captures)})
        if "id" in connect:
            packet["id"] = connect["id"]
        await line.send(packet)

    async def _refuse(self, step: steps.Refuse) -> None:
        await self._stage.refuse(await self._arrival(step.at), step.refuse, step.headers, step.body)

    async def _hang(self, step: steps.Hang) -> None:
        await self._arrival(step.at)

    async def _blurt(self, step: steps.Blurt) -> None:
        await self._stage.blurt(await self._arrival(step.at), step.blurt)

    @property
    def _connection(self) -> Line:
        if self._line is None:
            raise ValueError("the scenario has no connection yet")
        return self._line

    async def _bye(self, step: steps.Bye) -> None:
        packet = complete({"type": "bye", **fill_in(step.bye, self._captures)})
        await self._connection.send(packet)
        self._connection.close_soon(packet["code"])

    async def _close(self, step: steps.CloseWith) -> None:
        self._note("broker", f"(closes with {step.close})")
        self._connection.close_soon(step.close)

    async def _cut(self, step: steps.Cut) -> None:
        self._note("broker", "(the line is cut)")
        self._connection.valve.cut()

    async def _freeze(self, step: steps.Freeze) -> None:
        self._note("broker", "(the connection is half open)")
        self._connection.valve.freeze()

    async def _dribble(self, step: steps.Dribble) -> None:
        self._connection.valve.piece_bytes = step.dribble

    async def _gone(self, step: steps.Gone) -> None:
        line = self._connection
        while not line.code:
            self._check()
            await self.adapter.news.park()
        if step.code and line.code != step.code:
            raise Failed(f"the client ends the connection with {line.code}, not {step.code}")

    # Packets

    async def _expect(self, step: steps.Expect) -> None:
        packet = await self._packet(step.expect)
        if step.as_:
            self._captures[step.as_] = packet

    async def _expect_all(self, step: steps.ExpectAll) -> None:
        missing = dict(enumerate(step.expect_all))
        while missing:
            packet = await self._next_packet(list(missing.values()))
            reasons = {number: mismatch(pattern, packet, self._captures) for number, pattern in missing.items()}
            found = next((number for number, reason in reasons.items() if reason is None), None)
            if found is None:
                raise Failed(f"{'; or '.join(filter(None, reasons.values()))}; came: {_short(packet)}")
            del missing[found]
            if step.as_:
                self._captures[step.as_[found]] = packet

    async def _packet(self, pattern: steps.Pattern) -> dict[str, Any]:
        packet = await self._next_packet([pattern])
        if reason := mismatch(pattern, packet, self._captures):
            raise Failed(f"{reason}; came: {_short(packet)}")
        self._last = packet
        return packet

    async def _next_packet(self, patterns: list[steps.Pattern]) -> dict[str, Any]:
        """The next packet that one of the patterns fits, or that nothing allows."""
        line = self._connection
        while True:
            while line.inbox:
                packet = line.inbox.popleft()
                if any(mismatch(each, packet, dict(self._captures)) is None for each in patterns):
                    return packet
                if not self._is_allowed(packet):
                    return packet
            self._check()
            if line.code:
                raise Failed(f"the client has ended the connection ({line.code})")
            await self.adapter.news.park()

    def _is_allowed(self, packet: dict[str, Any]) -> bool:
        is_sign_of_life = packet["type"] in _ALWAYS_ALLOWED
        return is_sign_of_life or any(
            mismatch(each, packet, dict(self._captures)) is None for each in self._allowed
        )

    async def _allow(self, step: steps.Allow) -> None:
        self._allowed = step.allow

    async def _answer(self, step: steps.Answer) -> None:
        asked = self._captures[step.to] if step.to else self._last
        copied = {name: asked[name] for name in ("id", "sub") if name in asked}
        if step.answer.get("type") == "presence":
            copied["topic"] = asked["topic"]
        await self._connection.send(complete({**copied, **fill_in(step.answer, self._captures)}))

    async def _send(self, step: steps.Send) -> None:
        packets = step.send if isinstance(step.send, list) else [step.send]
        for packet in completed(fill_in(packets, self._captures)):
            await self._connection.send(packet)

    async def _send_together(self, step: steps.SendTogether) -> None:
        packets = completed(fill_in(step.send_together, self._captures))
        if self._connection.takes_arrays:
            await self._connection.send(*packets)
            return
        for packet in packets:
            await self._connection.send(packet)

    async def _send_text(self, step: steps.SendText) -> None:
        await self._connection.send_message(step.send_text)

    async def _send_binary(self, step: steps.SendBinary) -> None:
        await self._connection.send_message(bytes.fromhex(step.send_binary))

    # Nothing

    async def _quiet(self, step: steps.Quiet) -> None:
        with trio.move_on_after(step.quiet / 1000):
            while True:
                self._check_end()
                await self.adapter.news.park()

    def _check_end(self) -> None:
        """Nothing is there that nobody has asked for."""
        self._check()
        if left := self.adapter.left_over():
            raise Failed(f"the program was told what it should not be: {', '.join(map(_short, left))}")
        if self._stage.arrivals:
            raise Failed(f"the client dials server {self._stage.arrivals[0].at}, and should not")
        packets = self._line.inbox if self._line else ()
        if unread := [packet for packet in packets if not self._is_allowed(packet)]:
            raise Failed(f"the client sent what nobody expects: {', '.join(map(_short, unread))}")


_PLAYS: Final[dict[type[steps.Step], Callable[[Player, Any], Awaitable[Any]]]] = {
    steps.Do: Player._do,
    steps.Report: Player._report,
    steps.Accept: Player._accept,
    steps.Open: Player._open,
    steps.Refuse: Player._refuse,
    steps.Hang: Player._hang,
    steps.Blurt: Player._blurt,
    steps.Expect: Player._expect,
    steps.ExpectAll: Player._expect_all,
    steps.Allow: Player._allow,
    steps.Answer: Player._answer,
    steps.Send: Player._send,
    steps.SendTogether: Player._send_together,
    steps.SendText: Player._send_text,
    steps.SendBinary: Player._send_binary,
    steps.Dribble: Player._dribble,
    steps.Bye: Player._bye,
    steps.CloseWith: Player._close,
    steps.Cut: Player._cut,
    steps.Freeze: Player._freeze,
    steps.Gone: Player._gone,
    steps.Quiet: Player._quiet,
}


def _named(pattern: steps.Pattern, captures: Captures) -> steps.Pattern:
    """The pattern, whose stream may be named by a capture."""
    named = {name: value for name, value in pattern.items() if name in ("subscription", "ref")}
    return {**pattern, **fill_in(named, captures)}


def _in_words(step: steps.Step) -> str:
    verb = next(verb for verb, kind in steps.STEPS.items() if isinstance(step, kind))
    value = getattr(step, verb)
    return verb if value is True else f"{verb} {json.dumps(value, ensure_ascii=False)}"


def _short(packet: dict[str, Any]) -> str:
    text = json.dumps(packet, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}…"

"""Reads the transcripts of SPEC.md and plays them to a broker.

Knows the notation of appendix A and nothing of the protocol but `connect`. Surprising: what the client sends goes
out as the text it is, so that a transcript can show text that is not JSON.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

import attrs
import trio
from trio_websocket import ConnectionClosed

from tests.spec.broker import RunningBroker
from tests.spec.client import RawClient

SPEC = Path(__file__).parents[2] / "SPEC.md"

_BLOCK = re.compile(r"^### (A\.\d+) (.+)\n\n\*Shows\* (.+)\.\n\n```transcript\n((?:.*\n)*?)```", re.MULTILINE)
_LINE = re.compile(r"([CSB])(\d*): +(.*)")
_PLACEHOLDER = re.compile(r'"\$(\w+)"')


@attrs.frozen
class Step:
    """One line: who (`C`, `C2`, `S`, `S2`, `B`) and what."""

    kind: str
    who: str
    text: str


@attrs.frozen
class Transcript:
    """One block of appendix A."""

    number: str
    title: str
    shows: tuple[str, ...]
    steps: tuple[Step, ...]


def read_transcripts() -> list[Transcript]:
    """All transcripts of SPEC.md. Raises ValueError for one that breaks the notation."""
    text = SPEC.read_text(encoding="utf-8")
    found = [
        Transcript(number, title, tuple(shows.split(", ")), tuple(_steps(body)))
        for number, title, shows, body in _BLOCK.findall(text)
    ]
    if len(found) != text.count("```transcript"):
        raise ValueError("a transcript without its heading or without its list of clauses")
    return found


def _steps(body: str) -> list[Step]:
    steps: list[Step] = []
    for line in body.splitlines():
        if line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise ValueError(f"not a line of a transcript: {line!r}")
        kind, who, text = parts.groups()
        if steps and kind == "S" and steps[-1].kind == "S" and not _is_whole(steps[-1].text):
            steps[-1] = Step(kind, who, steps[-1].text + text)
        else:
            steps.append(Step(kind, who, text))
    return steps


def _is_whole(text: str) -> bool:
    if text.startswith("("):
        return True
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Names:
    """What the placeholders stand for."""

    def __init__(self) -> None:
        self._bound: dict[str, Any] = {}

    def forget(self, name: str) -> None:
        """The name stands for something new."""
        self._bound.pop(name, None)

    def fill(self, text: str) -> str:
        """Text to send, with placeholders replaced."""
        return _PLACEHOLDER.sub(lambda match: json.dumps(self._bound[match[1]]), text)

    def match(self, wanted: Any, given: Any) -> bool:
        """Whether a value is as it should be; binds what is bound for the first time."""
        if isinstance(wanted, str) and wanted.startswith("$"):
            return wanted == "$any" or self._bound.setdefault(wanted[1:], given) == given
        if isinstance(wanted, dict) and isinstance(given, dict):
            return self._match_objects(wanted, given)
        if isinstance(wanted, list) and isinstance(given, list):
            return len(wanted) == len(given) and all(map(self.match, wanted, given))
        return type(wanted) is type(given) and bool(wanted == given)

    def _match_objects(self, wanted: dict[str, Any], given: dict[str, Any]) -> bool:
        if len(wanted) != len(given):
            return False
        rest = dict(given)
        for name, value in sorted(wanted.items(), key=lambda item: item[0].startswith("$")):
            key = self._bound.get(name[1:], next(iter(rest))) if name.startswith("$") else name
            if key not in rest or not self.match(value, rest.pop(key)):
                return False
            if name.startswith("$"):
                self._bound[name[1:]] = key
        return True


class Play:
    """One performance of a transcript."""

    def __init__(self, broker: RunningBroker, transcripts: list[Transcript], data: Path) -> None:
        self._broker = broker
        by_number = {transcript.number: transcript.steps for transcript in transcripts}
        self._first_in_memory = (by_number["A.1"][1], by_number["A.1"][4])
        self._first_on_disk = (by_number["A.32"][2], by_number["A.32"][3])
        self._connect, self._connected = self._first_in_memory
        self._data = data  # an empty directory
        self._names = Names()
        self._clients: dict[str, RawClient] = {}

    async def run(self, transcript: Transcript) -> None:
        """Play every line, then see that no open client has been told anything more."""
        steps = transcript.steps
        settings = {}
        if steps[0].kind == "B" and steps[0].text.startswith("{"):
            settings = json.loads(steps[0].text.replace('"$data"', json.dumps(str(self._data))))
        if "data" in settings:
            self._connect, self._connected = self._first_on_disk
        await self._broker.start(**settings)
        for step in steps[1 if settings else 0 :]:
            await self._play(step)
        for client in self._clients.values():
            await client.has_nothing_more()

    async def _play(self, step: Step) -> None:
        if step.kind == "B":
            await self._command(step.text)
        elif step.kind == "C":
            await self._send(step)
        elif step.text.startswith("(close "):
            assert await self._clients[step.who].closed() == int(step.text[7:-1])
            left = self._clients.pop(step.who)
            assert not left.packets, left.packets
        else:
            await self._expect(step)

    async def _command(self, text: str) -> None:
        if text == "(restart)":
            await self._broker.restart()
            return
        assert text == "(a moment)"
        end = time.time_ns() + 2_000_000
        while time.time_ns() < end:
            await trio.lowlevel.checkpoint()

    async def _send(self, step: Step) -> None:
        if step.text in ("(open)", "(connect)"):
            self._clients[step.who] = await self._broker.open()
            if step.text == "(connect)":
                await self._play(Step("C", step.who, self._connect.text))
                name = f"c{step.who or 1}"
                self._names.forget(name)
                connected = self._connected.text.replace("$c1", f"${name}")
                await self._play(Step("S", step.who, connected))
        elif step.text == "(cut)":
            await self._clients.pop(step.who).cut()
        elif step.text.startswith("(close "):
            await self._clients[step.who].close(int(step.text[7:-1]))
        else:
            await self._clients[step.who].send_text(self._names.fill(step.text))

    async def _expect(self, step: Step) -> None:
        client = self._clients[step.who]
        wanted = json.loads(step.text)
        try:
            given = json.loads(await client.receive_text())
        except ConnectionClosed as closed:
            raise AssertionError(f"closed with {closed.reason} in place of {step.text}") from None
        assert self._names.match(wanted, given), f"wanted {step.text}\ngot    {json.dumps(given)}"

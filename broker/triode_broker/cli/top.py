"""`triode top`: what a broker does, live: rates, latencies, nodes, links, topics, slow connections, names, disks.

Asks, waits, shows. The surprising decision: a broker that does not answer is shown and asked again, for as long as
the command runs, since whoever watches a broker wants to see it come back; only the first look has to succeed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import msgspec

from triode_broker.cli.asking import asked
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.keyboard import keyboard
from triode_broker.cli.operator_arguments import SORTS
from triode_broker.cli.streams import say
from triode_broker.cli.top_rates import Look, look, picture
from triode_broker.printable import escape
from triode_broker.release import install

#: Of text that goes to no terminal, where COLUMNS does not say it.
PLAIN_WIDTH: Final = 120
KEYS: Final = dict(zip("psbn", SORTS, strict=True))
ENDS: Final = ("q", "\x03", "\x1b")


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Look until told to stop. Raises Failure."""
    top = Top(asked(arguments, environ).call, arguments)
    if arguments.once or arguments.json or not sys.stdout.isatty():
        return top.print_pictures(1 if arguments.once else arguments.count, plain_width(environ))
    return top.show(arguments.count)


def drawing() -> Any:
    """The part that draws. Raises Failure, with what to do, where its library is not installed."""
    try:
        return import_module("triode_broker.cli.top_screen")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "rich":
            raise
        raise Failure(ExitCode.USAGE, f"triode top needs rich: {install('cli')}") from None


def plain_width(environ: Mapping[str, str]) -> int:
    """Of text."""
    columns = environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdigit() and 0 < len(columns) < 5 else PLAIN_WIDTH


class Top:
    """Two looks at a time."""

    def __init__(self, call: Callable[..., Any], arguments: argparse.Namespace) -> None:
        self._call = call
        self._interval: float = arguments.interval
        self._limit: int = arguments.limit
        self._is_json: bool = arguments.json
        self._sort: str = arguments.sort
        self._before: Look | None = None
        self._now: Look | None = None
        self._note = ""
        self._drawing = drawing()

    def _look(self) -> None:
        """Once more. Raises Failure only where there has never been an answer."""
        try:
            found = look(self._call, self._limit)
        except Failure as failure:
            if self._now is None:
                raise
            self._note = f"{failure}; trying again"
            return
        self._before, self._now, self._note = self._now or found, found, ""

    def _picture(self) -> dict[str, Any]:
        assert self._before is not None
        assert self._now is not None
        return picture(self._before, self._now, self._sort, self._limit)

    def print_pictures(self, count: int | None, width: int) -> ExitCode:
        """As text, or one JSON object a line. Raises Failure."""
        self._look()
        printed = 0
        while count is None or printed < count:
            time.sleep(self._interval)
            self._look()
            if self._note and count == 1:
                raise Failure(ExitCode.TIMEOUT, self._note.removesuffix("; trying again"))
            say(self._as_text(width))
            printed += 1
        return ExitCode.OK

    def _as_text(self, width: int) -> str:
        if self._is_json:
            note = {"note": self._note} if self._note else {}
            return escape(msgspec.json.encode({**self._picture(), **note}).decode()) + "\n"
        return f"{self._drawing.as_text(self._picture(), width, self._note)}\n"

    def show(self, count: int | None) -> ExitCode:
        """Live. Raises Failure."""
        self._look()
        shown, next_look = 0, time.monotonic()
        with keyboard() as keys, self._drawing.live() as update:
            while count is None or shown < count:
                if time.monotonic() >= next_look:
                    self._look()
                    next_look = time.monotonic() + self._interval
                    shown += 1
                order = f"topics by {self._sort}; keys: p published, s subscribers, b bytes, n name, q quit"
                update(self._picture(), self._note, order)
                key = keys.wait(next_look - time.monotonic())
                if key in ENDS:
                    break
                self._sort = KEYS.get(key, self._sort)
        return ExitCode.OK

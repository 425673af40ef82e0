"""`triode tail`: follow what a client says and is told, or the messages of a filter, on all nodes.

Knows the administration calls by name and what they answer. The surprising decision: it ends what it has begun,
also at Ctrl-C, though the broker would forget it by itself: nobody is followed for longer than is looked at.
"""

import argparse
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from triode_broker.cli.asking import Asked, asked
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.screen import Screen
from triode_broker.cli.streams import say
from triode_broker.printable import escape

WAIT_MS: Final = 5_000
SIGNS: Final = {"says": "→", "told": "←"}


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Until told to stop. Raises Failure."""
    broker = asked(arguments, environ)
    given = {name: getattr(arguments, name) for name in ("topic", "user", "connection", "tenant")}
    what = {name: value for name, value in given.items() if value is not None}
    begun = broker.call("tail.open", **what, payloads=arguments.payloads)
    _warn(begun["unanswered"], set())
    tap = begun["tap"]
    try:
        _follow(broker, tap, arguments)
    finally:
        with suppress(Failure):
            broker.call("tail.close", tap=tap)
    return ExitCode.OK


def _follow(broker: Asked, tap: str, arguments: argparse.Namespace) -> None:
    shown, warned = 0, set[str]()
    while True:
        answer = broker.call("tail.read", tap=tap, wait_ms=WAIT_MS)
        _warn(answer["unanswered"], warned)
        if answer["lost"]:
            Screen().tell(f"{answer['lost']} events were lost: more happened than was read")
        for event in answer["events"]:
            say(_json_line(event) if arguments.json else f"{escape(as_line(event))}\n")
            shown += 1
            if shown == arguments.count:
                return


def _warn(unanswered: list[str], warned: set[str]) -> None:
    """Once for each node, until it answers again."""
    if new := sorted(set(unanswered) - warned):
        Screen().tell(f"no answer from {', '.join(new)}: what happens there is missing")
    warned.clear()
    warned.update(unanswered)


def _json_line(event: Mapping[str, Any]) -> str:
    return escape(msgspec.json.encode(event).decode()) + "\n"


def as_line(event: Mapping[str, Any]) -> str:
    """For people; not escaped yet."""
    at = event["at_ms"]
    clock = time.strftime("%H:%M:%S", time.localtime(at // 1000)) + f".{at % 1000:03d}"
    facts = dict(event)
    for name in ("at_ms", "node", "event"):
        facts.pop(name, None)
    if (what := event["event"]) in SIGNS:
        packet = facts.pop("packet")
        who = f"{event['connection']} {event['user'] or '-'}"
        kind = packet.pop("type", "?")
        return f"{clock} {event['node']} {who} {SIGNS[what]} {kind} {_words(packet)}".rstrip()
    return f"{clock} {event['node']} {what} {_words(facts)}".rstrip()


def _words(facts: Mapping[str, Any]) -> str:
    """Text as it is, anything else as JSON."""
    return " ".join(
        f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in facts.items()
        if value != ""
    )

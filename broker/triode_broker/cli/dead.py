"""`triode dead`: the dead letters of a running broker: look at them, publish them again, forget them.

Knows the administration calls by name and what they answer, as `subs` does.
"""

import argparse
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec

from triode_broker.cli.administration import Node, node
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import ago, as_json, letters, now_ms, of_tenant, table, tell_unanswered, with_tenants
from triode_broker.printable import escape, shorten

MAX_SHOWN_CHARACTERS = 60  # of the data in a table


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """One action on one node. Raises Failure."""
    if arguments.action == "drop" and bool(arguments.pos) == arguments.all:
        raise Failure(ExitCode.USAGE, "which ones? --pos POS (see `triode dead list`), or --all")
    broker = node(arguments, environ)
    answer = _ask(broker, arguments)
    if arguments.json:
        say(as_json(answer))
    elif arguments.action != "list":
        done = "published again" if arguments.action == "retry" else "dropped"
        say(f"{_counted(answer['count'])} {done}\n")
    else:
        say(_as_letters(answer, now_ms()) if arguments.name else _as_names(answer))
    if arguments.action != "list":
        _tell_refused(answer)
    tell_unanswered(answer)
    return ExitCode.OK


def _ask(broker: Node, arguments: argparse.Namespace) -> Any:
    if arguments.action == "list":
        return broker.call("dead.list", name=arguments.name, limit=arguments.limit, **of_tenant(arguments))
    name, positions = arguments.name, arguments.pos
    return broker.call(f"dead.{arguments.action}", name=name, positions=positions, **of_tenant(arguments))


def _tell_refused(answer: Any) -> None:
    """Raises Failure where something was left."""
    problems = [f"the letter at {one['pos']} stays: {escape(one['message'])}" for one in answer["refused"]]
    if answer["stopped"]:
        problems.append(f"the others stay: {escape(answer['stopped'])}")
    if problems:
        raise Failure(ExitCode.REFUSED, "\n  ".join(problems))


def _counted(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _as_names(answer: Any) -> str:
    if not answer["names"] and not answer["unanswered"]:
        return "no dead letters\n"
    rows = [(one["name"], letters(one["count"]), one["home"]) for one in answer["names"]]
    return table(*with_tenants(("NAME", "DEAD LETTERS", "HOME"), rows, answer["names"]))


def _as_letters(answer: Any, now: int) -> str:
    if not answer["letters"]:
        return "no dead letters\n"
    rows = [
        (
            one["pos"],
            one["reason"],
            one["attempts"],
            ago(one["at_ms"], now),
            one["topic"],
            f"{one['log']}.{one['source_pos']}",
            one["key"] or "-",
            _content(one),
        )
        for one in answer["letters"]
    ]
    head = ("POS", "REASON", "ATTEMPTS", "WHEN", "TOPIC", "PLACE", "KEY", "DATA")
    more = "there are more: --limit N shows more, --json shows whole messages\n" if answer["more"] else ""
    return table(head, rows) + more


def _content(letter: Any) -> str:
    if letter.get("deletes"):
        return "(deletes its key)"
    if "b64" in letter:
        return f"({len(b64decode(letter['b64']))} bytes)"
    return shorten(msgspec.json.encode(letter["data"]).decode(), MAX_SHOWN_CHARACTERS)

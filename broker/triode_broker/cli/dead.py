"""`triode dead`: the dead letters of a running broker: look at them, publish them again, forget them.

Knows the administration calls by name and what they answer, as `subs` does.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import msgspec

from triode_broker.cli.administration import Node, node
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import ago, now_ms, table
from triode_broker.printable import escape, shorten

MAX_SHOWN_CHARACTERS = 60  # of the data in a table


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """One action on one node. Raises Failure."""
    if arguments.action == "drop" and not arguments.pos and not arguments.all:
        raise Failure(ExitCode.USAGE, "which ones? --pos POS (see `triode dead list`), or --all")
    broker = node(arguments, environ)
    answer = _ask(broker, arguments)
    if arguments.json:
        say(escape(msgspec.json.format(msgspec.json.encode(answer)).decode(), keep="\n") + "\n")
    elif arguments.action != "list":
        done = "published again" if arguments.action == "retry" else "dropped"
        say(f"{answer['count']} dead letter{'' if answer['count'] == 1 else 's'} {done}\n")
    else:
        say(_as_letters(answer) if arguments.name else _as_names(answer))
    return ExitCode.OK


def _ask(broker: Node, arguments: argparse.Namespace) -> Any:
    if arguments.action == "list":
        return broker.call("dead.list", name=arguments.name, limit=arguments.limit)
    return broker.call(f"dead.{arguments.action}", name=arguments.name, positions=arguments.pos)


def _as_names(answer: Any) -> str:
    if not answer:
        return "no dead letters\n"
    return table(("NAME", "DEAD LETTERS"), [(one["name"], one["count"]) for one in answer])


def _as_letters(answer: Any) -> str:
    if not answer:
        return "no dead letters\n"
    now = now_ms()
    rows = [
        (
            one["pos"],
            one["reason"],
            one["attempts"],
            f"{one['topic']} {one['log']}.{one['source_pos']}",
            ago(one["at_ms"], now),
            shorten(msgspec.json.encode(one["data"]).decode(), MAX_SHOWN_CHARACTERS),
        )
        for one in answer
    ]
    return table(("POS", "REASON", "ATTEMPTS", "FROM", "SINCE", "DATA"), rows)

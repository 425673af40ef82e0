"""`triode connections`: who is connected, on all nodes.

Knows the administration call by name and what it answers.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from triode_broker.cli.client_answers import ask, check_answered
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.streams import say
from triode_broker.cli.subs import ago, as_json, now_ms, table

_HEAD = ("CONNECTION", "NODE", "USER", "TENANT", "HOW", "TOKEN", "KEY", "ADDRESS", "SINCE", "SUBS", "REFUSED")


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """List some. Raises Failure."""
    answer = ask("connections", arguments, environ, limit=arguments.limit, after=arguments.after)
    say(as_json(answer) if arguments.json else as_text(answer, now_ms()))
    check_answered(answer, "not all connections are listed")
    return ExitCode.OK


def as_text(answer: Any, now: int) -> str:
    """For people."""
    rows = [
        (
            one["connection"],
            one["node"],
            one["user"] or "-",
            one["tenant"] or "-",
            one["method"],
            one["token"] or "-",
            one["key"] or "-",
            one["address"] or "-",
            ago(one["since_ms"], now),
            one["subscriptions"],
            one.get("refused", "-"),  # a node of an older version does not say
        )
        for one in answer["connections"]
    ]
    if not rows:
        return "no connections\n"
    last = answer["connections"][-1]["connection"]
    more = f"there are more: --after {last}, or a greater --limit\n" if answer["more"] else ""
    return table(_HEAD, rows) + more

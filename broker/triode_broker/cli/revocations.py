"""`triode revocations`: what is revoked.

Knows the administration call by name and what it answers.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from triode_broker.cli.client_answers import ask, when
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json, table


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """List them. Raises Failure."""
    answer = ask("revocations", arguments, environ)
    say(as_json(answer) if arguments.json else as_text(answer))
    return ExitCode.OK


def as_text(answer: Any) -> str:
    """For people."""
    rows = [
        (
            one["kind"],
            one["value"],
            one["tenant"] or "-",
            when(one["at_ms"]),
            when(one["until_ms"]),
            "all" if one["also_new"] or one["kind"] != "user" else "issued before",
        )
        for one in answer["revocations"]
    ]
    return table(("KIND", "VALUE", "TENANT", "SINCE", "UNTIL", "REFUSES"), rows) or "nothing is revoked\n"

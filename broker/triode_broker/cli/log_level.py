"""`triode log-level`: what a broker's log holds, and changing that while it runs.

Knows the administration call by name and what it answers.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from triode_broker.cli.administration import node
from triode_broker.cli.client_answers import check_answered
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Show or set it. Raises Failure."""
    wanted: dict[str, object] = {}
    if arguments.level is not None:
        wanted["level"] = "" if arguments.level == "configured" else arguments.level
    if arguments.seconds:  # 0: for ever
        if not wanted.get("level"):
            raise Failure(ExitCode.USAGE, "--for is of a level: debug, info, warning or error")
        wanted["seconds"] = arguments.seconds
    answer = node(arguments, environ).call("log_level", cluster=arguments.cluster, **wanted)
    nodes = sorted(answer["nodes"].items())
    say(as_json(answer) if arguments.json else "".join(f"{name}: {_words(one)}\n" for name, one in nodes))
    check_answered(answer, "its log goes on as before")
    return ExitCode.OK


def _words(one: Mapping[str, Any]) -> str:
    if one["level"] == one["configured"]:
        return str(one["level"])
    until = "" if one["seconds"] is None else f", for {one['seconds']:.0f} s more"
    return f"{one['level']} (configured: {one['configured']}{until})"

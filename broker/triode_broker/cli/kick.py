"""`triode kick`: close connections now, on all nodes, and withdraw nothing.

Knows the administration call by name and what it answers.
"""

import argparse
from collections.abc import Mapping

from triode_broker.cli.client_answers import WHOM, ask, check_answered, connections
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Kick some. Raises Failure."""
    if all(getattr(arguments, name) is None for name in WHOM):
        raise Failure(ExitCode.USAGE, "kick whom? --user, --tenant, --token, --key, --connection or --address")
    answer = ask("kick", arguments, environ, come_back=arguments.come_back)
    say(as_json(answer) if arguments.json else f"{connections(answer['closed'])} closed\n")
    check_answered(answer, "who is connected there still is; kick again when `triode cluster` shows it")
    return ExitCode.OK

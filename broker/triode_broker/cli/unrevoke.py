"""`triode unrevoke`: take a revocation back, on all nodes.

Knows the administration call by name and what it answers.
"""

import argparse
from collections.abc import Mapping

from triode_broker.cli.client_answers import ask, check_answered, named, tell_kept
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Take one back. Raises Failure."""
    if sum(getattr(arguments, name) is not None for name in ("user", "token", "key")) != 1:
        raise Failure(ExitCode.USAGE, "unrevoke what? one of --user, --token and --key")
    answer = ask("unrevoke", arguments, environ)
    say(as_json(answer) if arguments.json else f"{named(answer['unrevoked'])} is not revoked any more\n")
    tell_kept(answer)
    check_answered(answer, "it still refuses there until another node reaches it")
    return ExitCode.OK

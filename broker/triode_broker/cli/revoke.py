"""`triode revoke`: withdraw a user's credentials, a token or a key, on all nodes.

Knows the administration call by name and what it answers.
"""

import argparse
from collections.abc import Mapping

from triode_broker.cli.client_answers import ask, check_answered, connections, named, tell_kept, when
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json

_MISSED = "it holds there as soon as another node reaches it, before it lets anybody in again"


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Revoke one thing. Raises Failure."""
    given = [name for name in ("user", "token", "key", "connection") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise Failure(ExitCode.USAGE, "revoke what? one of --user, --token, --key and --connection")
    also_new = arguments.also_new or None
    answer = ask("revoke", arguments, environ, seconds=arguments.seconds, also_new=also_new)
    if arguments.json:
        say(as_json(answer))
    else:
        entry, closed = answer["revoked"], connections(answer["closed"])
        until = f"until {when(entry['until_ms'])}" if entry["until_ms"] else "for ever"
        say(f"{named(entry)} is revoked {until}: {closed} closed\n")
    tell_kept(answer)
    check_answered(answer, _MISSED)
    return ExitCode.OK

"""`triode revoke`: withdraw a user's credentials, a token or a key, on all nodes.

Knows the administration calls by name and what they answer. The surprising decision: a user's connections are
looked at beforehand, for a second at most. What they came in with may outlast the revocation, and afterwards they
are gone.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Thread
from typing import Any

from triode_broker.cli.client_answers import ask, check_answered, connections, named, tell_kept, when
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.screen import Screen
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json

_LOOKED_AT = 1_000
_LOOK_SECONDS = 1.0  # a node that hangs must not put off what is urgent
_MISSED = "it holds there as soon as another node reaches it, before it lets anybody in again"


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Revoke one thing. Raises Failure."""
    given = [name for name in ("user", "token", "key", "connection") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise Failure(ExitCode.USAGE, "revoke what? one of --user, --token, --key and --connection")
    also_new = arguments.also_new or None
    seen = _look(arguments, environ) if arguments.user is not None and arguments.seconds is None else []
    answer = ask("revoke", arguments, environ, seconds=arguments.seconds, also_new=also_new)
    if arguments.json:
        say(as_json(answer))
    else:
        entry, closed = answer["revoked"], connections(answer["closed"])
        until = f"until {when(entry['until_ms'])}" if entry["until_ms"] else "for ever"
        say(f"{named(entry)} is revoked {until}: {closed} closed\n")
    for line in outlasting(seen):
        Screen().tell(line)
    tell_kept(answer)
    check_answered(answer, _MISSED)
    return ExitCode.OK


def _look(arguments: argparse.Namespace, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """A user's connections, as many as can be had in time."""
    found: list[dict[str, Any]] = []

    def look() -> None:
        with suppress(Failure):  # told by the call that counts
            found.extend(ask("connections", arguments, environ, limit=_LOOKED_AT)["connections"])

    thread = Thread(target=look, daemon=True)
    thread.start()
    thread.join(_LOOK_SECONDS)
    return found


def outlasting(seen: list[dict[str, Any]]) -> Iterator[str]:
    """What is good for longer than a user's revocation, which ends when no token can be good any more."""
    for key in sorted({one["key"] for one in seen if one["key"]}):
        yield f"API key {key} is good again after that: triode revoke --key {key}, or --for ever with this command"
    if any(one["method"] == "certificate" for one in seen):
        yield "a certificate of this user may be good again after that: --for ever with this command"

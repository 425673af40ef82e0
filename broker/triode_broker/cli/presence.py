"""`triode presence`: who is on a topic now.

Knows the client library. The surprising decision: it is a member nowhere itself, so looking changes nothing; and a
list that may lack somebody is printed nevertheless, with a word on stderr.
"""

import argparse
from collections.abc import Mapping

import msgspec
import triode

from triode_broker.cli.connecting import CONNECT_SECONDS, connected, failures_in_words, make_client, url
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.running import run_trio
from triode_broker.cli.screen import Screen
from triode_broker.cli.streams import say
from triode_broker.printable import escape


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Ask once and print a line for each. Raises Failure."""
    address = url(arguments, environ)
    patience = arguments.timeout or CONNECT_SECONDS
    client = make_client(arguments, environ, patience)
    render = as_json if arguments.json else as_text

    async def main() -> ExitCode:
        async with connected(client, address, patience):
            with failures_in_words(address):
                present = await client.presence(arguments.topic)
        say("".join(render(member) + "\n" for member in present.members))
        if not present.complete:
            Screen().tell("there may be more: a node has not answered, or they are too many for one answer")
        return ExitCode.OK

    return run_trio(main)


def as_text(member: triode.Member) -> str:
    """`id state`, with the user in between where there is one."""
    parts = [member.id, *filter(None, [member.user]), _json(member.state)]
    return escape(" ".join(parts))


def as_json(member: triode.Member) -> str:
    """One JSON object on one line."""
    fields = {"id": member.id, "user": member.user, "state": member.state}
    return escape(_json({name: value for name, value in fields.items() if name != "user" or value}))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()

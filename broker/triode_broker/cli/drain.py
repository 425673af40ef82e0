"""`triode drain`: take a running broker out of service, and wait until it has ended.

Knows the administration calls by name. The surprising decision: interrupted, it leaves the broker draining; what
was begun is not taken back.
"""

import argparse
from collections.abc import Mapping

import msgspec

from triode_broker.cli.administration import node
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.streams import say

#: What may come behind the window: the last answers of stores and clients, the closing of files.
END_SECONDS = 60.0


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Drain one node. Raises Failure."""
    broker = node(arguments, environ)
    begun = broker.call("drain", seconds=arguments.seconds)
    broker.outlast("drain.end", begun["seconds"] + END_SECONDS)
    if arguments.json:
        say(msgspec.json.encode(begun).decode() + "\n")
    else:
        count = begun["connections"]
        say(f"drained: {count} connection{'' if count == 1 else 's'} sent away\n")
    return ExitCode.OK

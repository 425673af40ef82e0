"""`triode metrics`: what Prometheus would be told of a node, from its administration socket.

Knows the call and prints what it answers. The surprising decision: the text is made by the broker and not here, so
that it is the same page byte for byte as a scrape's, and the command needs no extra.
"""

import argparse
from collections.abc import Mapping

from triode_broker.cli.administration import node
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Ask once. Raises Failure."""
    asked = node(arguments, environ)
    if arguments.json:
        say(as_json(asked.call("figures")))
    else:
        say(asked.call("metrics")["text"])
    return ExitCode.OK

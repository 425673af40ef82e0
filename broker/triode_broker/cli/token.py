"""`triode token`: sign tokens, look into them, and look after API keys, all without a broker.

Knows which module does what; the surprising decisions stand there.
"""

import argparse
from collections.abc import Mapping

from triode_broker.cli import token_inspection, token_keys, token_making
from triode_broker.cli.exit_codes import ExitCode


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """One action. Raises Failure."""
    match arguments.action:
        case "create":
            return token_making.create(arguments, environ)
        case "inspect":
            return token_inspection.inspect(arguments, environ)
        case "key":
            return token_keys.run(arguments, environ)
        case "generate-secret":
            return token_making.generate_secret(arguments)
        case _:
            return token_making.generate_key(arguments)
